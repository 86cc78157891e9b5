"""One session in the gateway: its token, the client's websocket if connected, the agent, and how the session ended.

Relays messages between client and agent, and adds those of the service: ``pause_publication`` to the agent when the
client is away, ``start_publication`` when it is back, ``channel_closed`` to both at the end. A new websocket replaces
the previous one. The agent starts when the client connects for the first time, which may be long after StartSession.

The faults (``faults.py``) are fixed when the session is created; without faults messages are passed on directly. A test
may also disturb a session at any time: ``disconnect``, ``stall``, ``withhold_pongs``, ``refuse_websocket``,
``refuse_resume``, ``expire_token``.
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
    """Why a session has ended."""

    EXITED = "exited"
    """Its program has ended."""
    FAILED = "failed"
    """It could not begin or continue. The reason is in ``output``, if the official agent sends one."""
    TERMINATED = "terminated"
    """TerminateSession was called."""
    ENDED = "ended by the service"
    """The service has ended it, with a text for the client: a time limit, or ``Sandbox.end_session``."""
    CLOSED = "closed"
    """The sandbox was closed."""


class ClientLink(Protocol):
    """The methods of the client's websocket that a session uses."""

    def send(self, messages: Sequence[Message]) -> None:
        """Send binary messages."""
        ...

    def close(self, code: int) -> None:
        """Close the websocket after writing what is queued."""
        ...

    def cut(self, code: int | None) -> None:
        """End the websocket as a fault does; see ``Faults.cut_code``."""
        ...

    def set_stalled(self, stalled: bool) -> None:
        """Stop or resume reading from the client."""
        ...


class SandboxSession:
    """See the module docstring.

    Events: ``connected`` is set while a client is attached, ``disconnected`` while none is, ``ended`` once the session
    has ended. Then ``end_reason`` is the reason and ``output`` the text of the client's ``channel_closed``.
    ``agent_state`` is the last state that the agent has reported. ``seed`` is the session's own part of the seed of its
    ``faults``. ``owner`` (an ARN), ``reason`` and ``access_type`` are returned by DescribeSessions. ``websockets``
    counts the websockets opened with a valid token.

    May be set at any time: ``withhold_pongs``, whether pings of the client stay unanswered; ``refuse_websocket``, how
    many further websockets are refused once the first was opened; ``refuse_resume``, how many further ResumeSession
    calls fail.
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
        self.pong_delay = faults.pong_delay
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
        self.agent = Agent(
            session_id,
            target,
            session_type,
            properties,
            settings,
            deliver=self._relay_to_client,
            finished=self._agent_finished,
        )
        self._path: FaultyPath | None = None
        self._to_agent: Callable[[Sequence[Message]], None] = self.agent.receive
        self._to_client: Callable[[Sequence[Message]], None] = self._send_to_client
        if faults.in_transit:
            self._path = FaultyPath(
                faults,
                f"{faults.seed} {seed}",
                to_client=self._send_to_client,
                to_agent=self.agent.receive,
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
        """Whether TerminateSession has ended it."""
        return self.end_reason is EndReason.TERMINATED

    @property
    def program_pid(self) -> int:
        """The process id of the session's program; 0 before its start, and if it is not a process."""
        return self.agent.program_pid

    # Tokens.

    def issue_token(self) -> str:
        """Return a new token, valid for one websocket. The previous token becomes void."""
        self._token = secrets.token_urlsafe(_TOKEN_BYTES)
        register_secret(self._token, owner=self)
        return self._token

    def expire_token(self) -> None:
        """Void the client's token. Only ResumeSession returns a valid one."""
        self._token = None

    def admit_websocket(self) -> bool:
        """Whether a new websocket may open, before its token is checked. Returns False for those that
        ``refuse_websocket`` counts, and while there is no valid token."""
        if self.websockets and self.refuse_websocket:
            self.refuse_websocket -= 1
            return False
        return self._token is not None or self._faults.void_token == "close"

    def take_token(self, token: str) -> bool:
        """Whether ``token`` is valid. Unless tokens are reusable, it becomes void."""
        # JSON text may contain lone surrogates.
        given = token.encode(errors="surrogatepass")
        if self._token is None or not hmac.compare_digest(given, self._token.encode()):
            return False
        if not self._faults.tokens_reusable:
            self._token = None
        return True

    # The client's websocket.

    def attach(self, link: ClientLink) -> None:
        """Use ``link`` as the client's websocket from now on."""
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
        self._logger.info("session %s: the client has connected", self.session_id)
        if self._started:
            self.agent.receive([self._publication(ClientMessageType.START_PUBLICATION)])
        else:
            self._started = True
            self._limit_watch.start()
            self.agent.start()

    def detach(self, link: ClientLink) -> None:
        """Handle the loss of ``link``. Ignored if another websocket has replaced it."""
        if link is not self._link:
            return
        self._link = None
        self._congested = self._stalled = False
        if self._path is not None:
            self._path.lost()
        self.connected.clear()
        self.disconnected.set()
        self._logger.info("session %s: the client has disconnected", self.session_id)
        self.agent.receive([self._publication(ClientMessageType.PAUSE_PUBLICATION)])
        self.agent.set_congested(False)

    def receive(self, link: ClientLink, messages: Sequence[bytes | bytearray]) -> None:
        """Receive all binary messages of one read from the client."""
        if link is self._link:
            self._to_agent(messages)

    def set_congested(self, link: ClientLink, congested: bool) -> None:
        """Note whether the socket of ``link`` is congested."""
        if link is self._link:
            self._congested = congested
            self.agent.set_congested(congested or self._stalled)

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
        """Cut the client's websocket; the session continues, and may be resumed. Returns False if no client is
        attached.

        ``code`` None resets the TCP connection, 1006 closes it without a close frame, any other is sent in a close
        frame. Raises ``ValueError`` for an invalid code.
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
        """Make the client's websocket stay open without transferring anything, pongs included, until ``stall(False)``
        or the session's end. A new websocket is not stalled. Returns False if no client is attached.
        """
        if self._link is None:
            return False
        self._stalled = stalled
        self.agent.set_congested(stalled or self._congested)
        self._link.set_stalled(stalled)
        return True

    @property
    def fault_counts(self) -> FaultCounts:
        """The faults so far, cuts by ``disconnect`` included."""
        counts = FaultCounts(cuts=self._cuts)
        return counts if self._path is None else counts + self._path.counts

    # The end.

    def terminate(self, reason: EndReason = EndReason.TERMINATED, output: str = "") -> None:
        """End the session at both ends. Does nothing if it has ended already."""
        if self.ended.is_set():
            return
        self._end(reason, output)
        self.agent.receive([self._channel_closed("")])

    async def wait_closed(self) -> None:
        """Wait until no process and no socket of the session is left. Call ``terminate`` first."""
        await self.agent.close()

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
"""Returns the session with this id, or None."""
