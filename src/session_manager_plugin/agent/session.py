"""One session as the gateway sees it: its token, the client's websocket if there is one, the agent, and how
it ended.

It relays between the two ends and adds what the service adds: ``pause_publication`` for the agent while the
client is away and ``start_publication`` when it is back, ``channel_closed`` for both at the end. A new
websocket takes the place of the one before it. The agent starts when the client first comes, so that a
session may wait for its client as long as it takes somebody to paste a command.

What goes wrong on purpose (``faults.py``) is chosen when the session is made: without faults messages go straight from
one end to the other. A test may also disturb a session at any moment: ``disconnect``, ``stall``, ``withhold_pongs``,
``refuse_websocket``, ``refuse_resume``, ``expire_token``.
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Literal, Protocol

from session_manager_plugin.agent.agent import Agent, AgentSettings
from session_manager_plugin.agent.documents import SessionType
from session_manager_plugin.agent.faults import NO_FAULTS, FaultCounts, Faults, Message, check_cut_code
from session_manager_plugin.agent.faulty_path import FaultyPath
from session_manager_plugin.agent.limits import NO_LIMITS, Limits, LimitWatch
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
    ENDED = "ended by the service"
    """The service ended it, with a text for the client: a time limit, or ``Sandbox.end_session``."""
    CLOSED = "closed"
    """The sandbox was closed."""


class ClientLink(Protocol):
    """The client's websocket, as a session uses it."""

    def send(self, messages: Sequence[Message]) -> None:
        """Write binary messages."""
        ...

    def close(self, code: int) -> None:
        """Close the websocket behind what was written."""
        ...

    def cut(self, code: int | None) -> None:
        """End the websocket as a fault does; see ``Faults.cut_code``."""
        ...

    def set_stalled(self, stalled: bool) -> None:
        """Whether nothing is read from the client any more."""
        ...


class SandboxSession:
    """See the module docstring. ``connected`` is set while a client is attached and ``disconnected`` while
    none is; ``ended`` once the session is over, for the reason ``end_reason`` and with ``output`` in the
    client's ``channel_closed``; ``agent_state`` is what the agent last reported. ``faults`` disturb it; ``seed`` is the
    part of their pattern that is the session's own. The service ends the session at its ``limits``.
    ``owner`` (an ARN), ``reason`` and ``access_type`` are what DescribeSessions says of its start.

    May be set at any time: ``withhold_pongs``, whether pings of the client stay unanswered; ``refuse_websocket`` and
    ``refuse_resume``, how many websockets, once there was one, and how many ResumeSession calls are still to be
    refused. ``websockets`` counts those that were opened with a good token.
    """

    def __init__(
        self,
        session_id: str,
        *,
        target: str,
        document: str,
        session_type: SessionType,
        properties: Mapping[str, str],
        settings: AgentSettings,
        faults: Faults = NO_FAULTS,
        seed: str = "",
        limits: Limits = NO_LIMITS,
        owner: str = "",
        reason: str = "",
        access_type: Literal["Standard", "JustInTime"] = "Standard",
    ) -> None:
        self.session_id = session_id
        self.owner = owner
        self.reason = reason
        self.access_type = access_type
        self.started_at = datetime.now(UTC)
        self.ended_at: datetime | None = None
        self.target = target
        self.document = document
        self.connected = asyncio.Event()
        self.disconnected = asyncio.Event()
        self.disconnected.set()
        self.ended = asyncio.Event()
        self.end_reason: EndReason | None = None
        self.output = ""
        self.agent_state = ""
        self.withhold_pongs = faults.withhold_pongs
        self.refuse_websocket = faults.refuse_websocket
        self.refuse_resume = faults.refuse_resume
        self.websockets = 0
        self._logger = get_logger(__name__)
        self._token: str | None = None
        self._link: ClientLink | None = None
        self._started = False
        self._faults = faults
        self._congested = self._stalled = False
        self._cuts = 0
        self._agent = Agent(
            session_id,
            target,
            session_type,
            properties,
            settings,
            deliver=self._relay_to_client,
            finished=self._agent_finished,
        )
        self._path: FaultyPath | None = None
        self._to_agent: Callable[[Sequence[Message]], None] = self._agent.receive
        self._to_client: Callable[[Sequence[Message]], None] = self._send_to_client
        if faults.in_transit:
            self._path = FaultyPath(
                faults,
                f"{faults.seed} {seed}",
                to_client=self._send_to_client,
                to_agent=self._agent.receive,
                cut=functools.partial(self.disconnect, faults.cut_code),
            )
            self._to_agent, self._to_client = self._path.from_client, self._path.from_agent
        self._limit_watch = LimitWatch(
            limits, functools.partial(self.terminate, EndReason.ENDED), asyncio.get_running_loop()
        )
        self._to_agent = self._limit_watch.watching(self._to_agent)
        self._to_client = self._limit_watch.watching(self._to_client)

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
        register_secret(self._token, owner=self)
        return self._token

    def expire_token(self) -> None:
        """Void the token in the client's hands: only ResumeSession gives one that is good."""
        self._token = None

    def admit_websocket(self) -> bool:
        """Whether a new websocket may open, whatever its token is; if not, it is one that ``refuse_websocket`` counts,
        or there is no token that it could have."""
        if self.websockets and self.refuse_websocket:
            self.refuse_websocket -= 1
            return False
        return self._token is not None or self._faults.void_token == "close"

    def take_token(self, token: str) -> bool:
        """Whether ``token`` opens a websocket now; it does so once, unless tokens are reusable."""
        # JSON text may hold lone surrogates.
        given = token.encode(errors="surrogatepass")
        if self._token is None or not hmac.compare_digest(given, self._token.encode()):
            return False
        if not self._faults.tokens_reusable:
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
        self.websockets += 1
        if self._path is not None:
            self._path.opened()
        self.disconnected.clear()
        self.connected.set()
        self._logger.info("session %s: the client is here", self.session_id)
        if self._started:
            self._agent.receive([self._publication(ClientMessageType.START_PUBLICATION)])
        else:
            self._started = True
            self._limit_watch.start()
            self._agent.start()

    def detach(self, link: ClientLink) -> None:
        """``link`` is gone. Nothing happens when another one has taken its place."""
        if link is not self._link:
            return
        self._link = None
        self._congested = self._stalled = False
        if self._path is not None:
            self._path.lost()
        self.connected.clear()
        self.disconnected.set()
        self._logger.info("session %s: the client is away", self.session_id)
        self._agent.receive([self._publication(ClientMessageType.PAUSE_PUBLICATION)])
        self._agent.set_congested(False)

    def receive(self, link: ClientLink, messages: Sequence[bytes | bytearray]) -> None:
        """Binary messages from the client, all that came in one read."""
        if link is self._link:
            self._to_agent(messages)

    def set_congested(self, link: ClientLink, congested: bool) -> None:
        """Whether ``link`` has more to write than its socket takes."""
        if link is self._link:
            self._congested = congested
            self._agent.set_congested(congested or self._stalled)

    def _relay_to_client(self, messages: Sequence[bytes]) -> None:
        relayed = []
        for message in messages:
            if message.startswith(_AGENT_SESSION_STATE, 4):
                self._take_agent_state(message)
            else:
                relayed.append(message)
        if self._link is not None and relayed:
            self._to_client(relayed)

    def _send_to_client(self, messages: Sequence[Message]) -> None:
        if self._link is not None and not self._stalled:
            self._link.send(messages)

    def _take_agent_state(self, message: bytes) -> None:
        self.agent_state = AgentSessionState.from_json(ClientMessage.parse(message).payload).state

    # Faults on demand.

    def disconnect(self, code: int | None = None) -> bool:
        """Cut the client's websocket; the session goes on, and may be resumed. False when no client is attached.

        ``code`` None resets the TCP connection, 1006 closes it without a close frame, any other is sent in a close
        frame; raises ``ValueError`` for one that cannot be.
        """
        check_cut_code(code)
        if self._link is None:
            return False
        self._cuts += 1
        self._logger.info("session %s: the websocket is cut", self.session_id)
        link = self._link
        self.detach(link)
        link.cut(code)
        return True

    def stall(self, stalled: bool = True) -> bool:
        """Have the client's websocket stay open and carry nothing any more, pongs included, until ``stall(False)``
        or the session's end. A new websocket is not stalled. False when no client is attached.
        """
        if self._link is None:
            return False
        self._stalled = stalled
        self._agent.set_congested(stalled or self._congested)
        self._link.set_stalled(stalled)
        return True

    @property
    def fault_counts(self) -> FaultCounts:
        """How often each fault happened so far, cuts on demand included."""
        counts = FaultCounts(cuts=self._cuts)
        return counts if self._path is None else counts + self._path.counts

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
        self.ended_at = datetime.now(UTC)
        self._token = None
        self._limit_watch.stop()
        self.ended.set()
        self._logger.info("session %s: %s", self.session_id, reason.value)
        if self._link is not None:
            if self._path is not None:
                self._path.flush()
                self._path.lost()
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
