"""The agent's end of one session: ``SessionEndpoint(Role.AGENT)``, the session's program and one timer.

The agent and the gateway exchange, in memory, the binary messages that a real agent would send over a websocket.
Every stimulus ends in ``_pump``. States::

    OPENING    the handshake is in progress, if there is one
    RUNNING    the program runs
    DRAINING   the program has ended, and its last output waits for acknowledgements (``closing.py``); skipped if the
               client has ended the session
    ENDED      the result was reported; nothing is sent or received

Output is read from the program only while it can be sent: not while the window is full, the client is away or its
socket is congested. A program that writes more has to wait, as on any slow terminal.

For input that is not enough: the core acknowledges a message when it accepts it, so input that the program does not
read would accumulate here without limit. While the program accepts no input, further input messages are therefore
withheld from the core and not acknowledged, which stops the sender at its window. Acknowledgements are not withheld,
so output continues (a program that echoes its input needs that). Messages beyond ``MAX_WITHHELD_SIZE`` are dropped,
and the sender sends them again.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal, cast

from session_manager_plugin.agent.closing import LimitedClosing, PatientClosing
from session_manager_plugin.agent.command import CommandOutputSeparate, CommandOutputTogether
from session_manager_plugin.agent.documents import SessionType
from session_manager_plugin.agent.key_service import LocalKeyService
from session_manager_plugin.agent.limits import Timer, Timers
from session_manager_plugin.agent.official_sending import OldestOnlySender
from session_manager_plugin.agent.official_text import OfficialText
from session_manager_plugin.agent.program import ERROR_HEADING, ProgramError, SessionProgram
from session_manager_plugin.agent.programs import ProgramMaker
from session_manager_plugin.agent.quirks import Quirk
from session_manager_plugin.errors import ApiError, EncryptionError
from session_manager_plugin.protocol.crypto import encryption_context
from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.protocol.events import (
    ChannelClosedReceived,
    DataKeyRequired,
    DataReceived,
    Event,
    MessageRejected,
    PublicationPaused,
    PublicationStarted,
    SessionFailed,
    SessionReady,
)
from session_manager_plugin.protocol.messages import ClientMessageType, PayloadType
from session_manager_plugin.protocol.role import Role
from session_manager_plugin.utils.logging import get_logger

Pace = Literal["real", "fast"]
"""``real`` sleeps like the official agent, before the first output and after messages, depending on the session
type."""
MAX_WITHHELD_SIZE = 4 * 1024 * 1024
"""Bytes of withheld messages: more than our client's window, so that our client never has to send them again."""

_MAX_BATCH = 128
"""Messages read from the program at a time, so that other sessions are not delayed."""
_INPUT_STREAM_DATA = ClientMessageType.INPUT_STREAM_DATA.value.encode().ljust(32)
_ACKNOWLEDGE = ClientMessageType.ACKNOWLEDGE.value.encode().ljust(32)


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Settings shared by all agents of a sandbox; see ``Sandbox``."""

    version: str
    handshake: bool | None
    pace: Pace
    shell: Sequence[str]
    key_service: LocalKeyService | None = None
    """Encrypts shells and commands. Port sessions are never encrypted."""
    quirks: frozenset[Quirk] = frozenset()


class AgentState(Enum):
    """See the module docstring."""

    OPENING = auto()
    RUNNING = auto()
    DRAINING = auto()
    ENDED = auto()


class Agent:
    """See the module docstring.

    Calls ``deliver`` with messages for the gateway, and ``finished`` once with the session's result: whether the
    session has failed, and the text for ``channel_closed``.
    """

    def __init__(
        self,
        session_id: str,
        target: str,
        session_type: SessionType,
        properties: Mapping[str, str],
        settings: AgentSettings,
        *,
        deliver: Callable[[Sequence[bytes]], None],
        finished: Callable[[bool, str], None],
        timers: Timers | None = None,
    ) -> None:
        """``timers`` is the event loop by default. What the program itself does takes the time of the event loop."""
        self._logger = get_logger(__name__)
        self._timers = timers or asyncio.get_running_loop()
        self._session_id = session_id
        self._target = target
        self._session_type = session_type
        self._settings = settings
        self._deliver = deliver
        self._finished = finished
        self.endpoint = SessionEndpoint(
            Role.AGENT,
            version=settings.version,
            epoch=time.time() - self._timers.time(),
            random_bytes=os.urandom,
            session_id=session_id,
            sender=OldestOnlySender() if Quirk.OLDEST_ONLY_RESEND in settings.quirks else None,
        )
        self._maker = ProgramMaker(session_type, properties, settings.version, settings.shell, settings.quirks)
        self.program: SessionProgram | None = None
        """What the session runs; None before its start."""
        mangles = Quirk.MANGLED_REPLACEMENT_CHARACTER in settings.quirks and session_type is not SessionType.PORT
        self._text: dict[int, OfficialText] = (
            {PayloadType.OUTPUT: OfficialText(), PayloadType.STDERR: OfficialText()} if mangles else {}
        )
        self.state = AgentState.OPENING
        self._congested = False
        self._resting = False
        self._withheld: deque[bytes | bytearray] = deque()
        self.withheld_size = 0
        """Bytes of input that wait until the program takes them, at most ``MAX_WITHHELD_SIZE``."""
        self._failure: str | None = None
        self._closing = LimitedClosing() if Quirk.OLDEST_ONLY_RESEND in settings.quirks else PatientClosing()
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._closing_program: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Send the agent's first message and begin, with the handshake or with the program."""
        now = self._timers.time()
        self.endpoint.connected(None, now)
        self.endpoint.send_session_state("Connected", now)
        wanted = self._settings.handshake
        keys = None if self._session_type is SessionType.PORT else self._settings.key_service
        if keys is not None or (self._session_type.requires_handshake if wanted is None else wanted):
            self.endpoint.request_handshake(
                self._session_type,
                self._maker.handshake_properties,
                now,
                kms_key_id="" if keys is None else keys.key_id,
                customer_message=self._maker.customer_message,
            )
        else:
            self.endpoint.skip_handshake()
        self._pump()

    @property
    def program_pid(self) -> int:
        """The process id of the session's program; 0 before its start, and if it is not a process."""
        return 0 if self.program is None else self.program.pid

    # Called by the gateway.

    def receive(self, messages: Iterable[bytes | bytearray]) -> None:
        """Receive all messages of one read of the client's socket."""
        if self.state is AgentState.ENDED:
            return
        now = self._timers.time()
        receive_message = self.endpoint.receive_message
        withholding = bool(self._withheld) or (self.program is not None and not self.program.takes_input)
        blocked = self._reader_blocked
        for data in messages:
            if withholding and (blocked or data[4:36] == _INPUT_STREAM_DATA):
                self._withhold(data)
            else:
                receive_message(data, now)
        self._pump()

    @property
    def _reader_blocked(self) -> bool:
        """Whether reading from the websocket waits for a command's end: the quirk ``SIGNAL_BLOCKS_READER``."""
        return isinstance(self.program, CommandOutputSeparate | CommandOutputTogether) and self.program.blocks_reader

    def set_congested(self, congested: bool) -> None:
        """Stop reading from the program, and retransmitting, while the client's socket is congested."""
        self._congested = congested
        if congested:
            if self.program is not None:
                self.program.set_reading(False)
        elif self.state is not AgentState.ENDED:
            self._pump()

    async def close(self) -> None:
        """End the program without reporting it. Returns when none of its processes and sockets is left."""
        self._end()
        if self._closing_program is not None:
            await self._closing_program

    # Called at the end of every stimulus.

    def _pump(self) -> None:
        self._dispatch_events()
        if self.state is AgentState.ENDED:
            return
        now = self._timers.time()
        if self.state is AgentState.DRAINING and (moment := self.endpoint.stalled_since) is not None:
            self._closing.waiting_since(moment)
        terminated = self.program is not None and self.program.terminated
        if self.state is AgentState.RUNNING and self.program is not None:
            if terminated:
                self._drain(None)
            else:
                self.program.set_reading(self._room > 0 and not self._congested and not self._resting)
        deadline = self._closing.deadline
        drained = self.state is AgentState.DRAINING and (
            terminated or not self.endpoint.in_flight or (deadline is not None and deadline <= now)
        )
        if drained:
            self.endpoint.send_session_state("Terminating", now)
        # Only a client sends text, its token.
        messages = cast(list[bytes], self.endpoint.messages_to_send(now))
        if self._reader_blocked:  # the official agent's blocked reader also sends no acknowledgements
            messages = [message for message in messages if message[4:36] != _ACKNOWLEDGE]
        if messages:
            self._deliver(messages)
        if drained:
            self._finish(failed=self._failure is not None, output=self._failure or "")
        else:
            self._arm_timer()

    def _dispatch_events(self) -> None:
        while self.state is not AgentState.ENDED and (event := self.endpoint.next_event()) is not None:
            self._dispatch(event)

    def _decrypt_data_key(self, required: DataKeyRequired) -> None:
        now, keys = self._timers.time(), self._settings.key_service
        assert keys is not None
        context = encryption_context(self._session_id, self._target, required.challenge)
        try:
            data_key = keys.decrypt(required.cipher_text, context, required.key_id)
        except ApiError as error:
            self.endpoint.refuse_data_key(EncryptionError(f"{error.code}: {error}"), now)
        else:
            self.endpoint.provide_data_key(data_key, now)

    def _dispatch(self, event: Event) -> None:
        match event:
            case DataReceived() if self.state is AgentState.RUNNING and self.program is not None:
                self.program.receive(event)
            case DataKeyRequired():
                self._decrypt_data_key(event)
            case SessionReady(peer_version=client_version):
                self._start_program(client_version)
            case SessionFailed(error=error):
                heading = "Encountered error while initiating handshake. "
                text = f"{heading if self.state is AgentState.OPENING else ''}{error}"
                self._finish(failed=True, output=f"{ERROR_HEADING}{text}")
            case ChannelClosedReceived():
                self._finish(failed=False, output="")
            case PublicationPaused():
                self._closing.client_left()
            case PublicationStarted():
                self._closing.client_returned(self._timers.time())
                if isinstance(self.program, CommandOutputSeparate):
                    self.program.client_returned()
            case MessageRejected(reason=reason):
                self._logger.debug("session %s: message dropped: %s", self._session_id, reason)

    def _arm_timer(self) -> None:
        """Arm the timer for the next deadline at the latest. A timer that fires too early does no harm, so it is kept
        when the deadline becomes later, as it does with every acknowledgement."""
        deadline = None if self._congested else self.endpoint.next_timeout()
        if (closing_at := self._closing.deadline) is not None:
            deadline = closing_at if deadline is None else min(deadline, closing_at)
        if deadline is None or (self._timer is not None and self._timer_at <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._timers.call_at(deadline, self._timer_fired)
        self._timer_at = deadline  # kept here, because uvloop's handle has no time if it is due at once

    def _timer_fired(self) -> None:
        self._timer = None
        if not self._congested:
            self.endpoint.handle_timeout(self._timers.time())
        self._pump()

    # The program.

    def _start_program(self, client_version: str) -> None:
        try:
            program = self._maker.make(client_version, on_output=self._read_output, on_input_taken=self._input_taken)
            self.program = program
            program.start()
        except ProgramError as error:
            self._drain(str(error))
            return
        except OSError as error:  # no temporary directory, no descriptor left
            where = f"{error.filename}: " if error.filename else ""
            self._drain(f"{ERROR_HEADING}Unable to start command: {where}{error.strerror or error}")
            return
        self.state = AgentState.RUNNING
        if self._settings.pace == "real" and program.start_delay:
            self._rest(program.start_delay)

    def _read_output(self) -> None:
        program = self.program
        if self.state is not AgentState.RUNNING or program is None:
            return
        delay = program.message_delay if self._settings.pace == "real" else 0.0
        now = self._timers.time()
        send_data, texts = self.endpoint.send_data, self._text
        for payload_type, payload in program.read(min(self._room, 1 if delay else _MAX_BATCH)):
            if payload_type in texts:
                payload = texts[payload_type].process(payload)
            if payload:
                send_data(payload_type, payload, now)
        if program.ended:
            self._drain(program.failure)
        elif delay:
            self._rest(delay)
        self._pump()

    @property
    def _room(self) -> int:
        """Return how many messages of output can be read now. Bytes held back by ``OfficialText`` may need a second
        one."""
        capacity = self.endpoint.send_capacity
        return capacity // 2 if self._text else capacity

    def _rest(self, seconds: float) -> None:
        self._resting = True
        self._timers.call_at(self._timers.time() + seconds, self._rested)

    def _rested(self) -> None:
        self._resting = False
        if self.state is not AgentState.ENDED:
            self._pump()

    def _withhold(self, data: bytes | bytearray) -> None:
        if self.withheld_size + len(data) <= MAX_WITHHELD_SIZE:
            self._withheld.append(data)
            self.withheld_size += len(data)

    def _input_taken(self) -> None:
        now = self._timers.time()
        while self._withheld and self.program is not None and self.program.takes_input:
            data = self._withheld.popleft()
            self.withheld_size -= len(data)
            self.endpoint.receive_message(data, now)
            self._dispatch_events()
        if self.state is not AgentState.ENDED:
            self._pump()

    def _forget_withheld(self) -> None:
        self._withheld.clear()
        self.withheld_size = 0

    # The end.

    def _drain(self, failure: str | None) -> None:
        self.state = AgentState.DRAINING
        self._failure = failure
        self._closing.begin(self._timers.time())
        self._forget_withheld()
        self._close_program()

    def _finish(self, *, failed: bool, output: str) -> None:
        self._end()
        self._finished(failed, output)

    def _end(self) -> None:
        self.state = AgentState.ENDED
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._forget_withheld()
        self._close_program()

    def _close_program(self) -> None:
        if self._closing_program is None and self.program is not None:
            self._closing_program = asyncio.get_running_loop().create_task(self.program.close())
