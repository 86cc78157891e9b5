"""One session as the gateway sees it: its token, the client's websocket if there is one, the agent, and how
it ended.

It relays between the two ends and adds what the service adds: ``pause_publication`` for the agent while the
client is away and ``start_publication`` when it is back, ``channel_closed`` for both at the end. A new
websocket takes the place of the one before it. The agent starts when the client first comes, so that a
session may wait for its client as long as it takes somebody to paste a command.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Protocol

from session_manager_plugin.agent.agent import Agent, AgentSettings
from session_manager_plugin.agent.documents import SessionType
from session_manager_plugin.agent.service_messages import channel_closed_message, publication_message
from session_manager_plugin.protocol.messages import ClientMessage, ClientMessageType
from session_manager_plugin.protocol.payloads import AgentSessionState
from session_manager_plugin.utils.logging import get_logger, register_secret

_AGENT_SESSION_STATE = ClientMessageType.AGENT_SESSION_STATE.value.encode().ljust(32)
_TOKEN_BYTES = 48


class EndReason(Enum):
    """Why a session is over."""

    EXITED = "exited"
    """Its program ended."""
    FAILED = "failed"
    """It could not begin or go on; the session's ``output`` says why, as far as the official agent does."""
    TERMINATED = "terminated"
    """TerminateSession was called."""
    CLOSED = "closed"
    """The sandbox was closed."""


class ClientLink(Protocol):
    """The client's websocket, as a session uses it."""

    def send(self, messages: Sequence[bytes]) -> None:
        """Write binary messages."""
        ...

    def close(self, code: int) -> None:
        """Close the websocket behind what was written."""
        ...


class SandboxSession:
    """See the module docstring. ``connected`` is set while a client is attached and ``disconnected`` while
    none is; ``ended`` once the session is over, for the reason ``end_reason`` and with ``output`` in the
    client's ``channel_closed``; ``agent_state`` is what the agent last reported."""

    def __init__(
        self,
        session_id: str,
        *,
        target: str,
        document: str,
        session_type: SessionType,
        properties: Mapping[str, str],
        settings: AgentSettings,
    ) -> None:
        self.session_id = session_id
        self.target = target
        self.document = document
        self.connected = asyncio.Event()
        self.disconnected = asyncio.Event()
        self.disconnected.set()
        self.ended = asyncio.Event()
        self.end_reason: EndReason | None = None
        self.output = ""
        self.agent_state = ""
        self._logger = get_logger(__name__)
        self._token: str | None = None
        self._link: ClientLink | None = None
        self._started = False
        self._agent = Agent(
            session_id,
            target,
            session_type,
            properties,
            settings,
            deliver=self._relay_to_client,
            finished=self._agent_finished,
        )

    @property
    def terminated(self) -> bool:
        """Whether TerminateSession ended it."""
        return self.end_reason is EndReason.TERMINATED

    @property
    def program_pid(self) -> int:
        """The process id of the session's program; 0 before it was started, and if it is no process."""
        return self._agent.program_pid

    # Tokens.

    def issue_token(self) -> str:
        """A new token, good for one websocket; the one before it is void."""
        self._token = secrets.token_urlsafe(_TOKEN_BYTES)
        register_secret(self._token)
        return self._token

    def take_token(self, token: str) -> bool:
        """Whether ``token`` opens a websocket now; it does so once."""
        # JSON text may hold lone surrogates.
        given = token.encode(errors="surrogatepass")
        if self._token is None or not hmac.compare_digest(given, self._token.encode()):
            return False
        self._token = None
        return True

    # The client's websocket.

    def attach(self, link: ClientLink) -> None:
        """``link`` is the client's websocket from now on."""
        if self._link is not None:
            replaced = self._link
            self.detach(replaced)
            replaced.close(1001)
        self._link = link
        self.disconnected.clear()
        self.connected.set()
        self._logger.info("session %s: the client is here", self.session_id)
        if self._started:
            self._agent.receive([self._publication(ClientMessageType.START_PUBLICATION)])
        else:
            self._started = True
            self._agent.start()

    def detach(self, link: ClientLink) -> None:
        """``link`` is gone. Nothing happens when another one has taken its place."""
        if link is not self._link:
            return
        self._link = None
        self.connected.clear()
        self.disconnected.set()
        self._logger.info("session %s: the client is away", self.session_id)
        self._agent.receive([self._publication(ClientMessageType.PAUSE_PUBLICATION)])
        self._agent.set_congested(False)

    def receive(self, link: ClientLink, messages: Sequence[bytes | bytearray]) -> None:
        """Binary messages from the client, all that came in one read."""
        if link is self._link:
            self._agent.receive(messages)

    def set_congested(self, link: ClientLink, congested: bool) -> None:
        """Whether ``link`` has more to write than its socket takes."""
        if link is self._link:
            self._agent.set_congested(congested)

    def _relay_to_client(self, messages: Sequence[bytes]) -> None:
        relayed = []
        for message in messages:
            if message.startswith(_AGENT_SESSION_STATE, 4):
                self._take_agent_state(message)
            else:
                relayed.append(message)
        if self._link is not None and relayed:
            self._link.send(relayed)

    def _take_agent_state(self, message: bytes) -> None:
        self.agent_state = AgentSessionState.from_json(ClientMessage.parse(message).payload).state

    # The end.

    def terminate(self, reason: EndReason = EndReason.TERMINATED, output: str = "") -> None:
        """End the session at both ends; nothing happens when it is over already."""
        if self.ended.is_set():
            return
        self._end(reason, output)
        self._agent.receive([self._channel_closed("")])

    async def wait_closed(self) -> None:
        """Return when no process and no socket of the session is left. Call ``terminate`` first."""
        await self._agent.close()

    def _agent_finished(self, failed: bool, output: str) -> None:
        if not self.ended.is_set():
            self._end(EndReason.FAILED if failed else EndReason.EXITED, output)

    def _end(self, reason: EndReason, output: str) -> None:
        self.end_reason, self.output = reason, output
        self._token = None
        self.ended.set()
        self._logger.info("session %s: %s", self.session_id, reason.value)
        if self._link is not None:
            link, self._link = self._link, None
            self.connected.clear()
            self.disconnected.set()
            link.send([self._channel_closed(output)])
            link.close(1000)

    def _channel_closed(self, output: str) -> bytes:
        return channel_closed_message(self.session_id, output, created_at=datetime.now(UTC), message_id=uuid.uuid4())

    def _publication(self, message_type: ClientMessageType) -> bytes:
        return publication_message(message_type, created_at=datetime.now(UTC), message_id=uuid.uuid4())


SessionLookup = Callable[[str], SandboxSession | None]
"""The session with this id, or None."""
