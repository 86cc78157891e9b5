"""The agent's end of one session: ``Connection(Role.AGENT)``, a shell and one timer.

It is joined to the gateway in memory by binary messages, the ones a real agent would send over a websocket.
Everything that happens ends in ``_pump``::

    OPENING    the handshake is going on, if there is one
    RUNNING    the shell runs
    DRAINING   the shell has ended; its last output waits for its acknowledgements, for ``DRAIN_TIMEOUT`` at
               most, and as long as the client is away
    ENDED      the result was reported; nothing is sent or received any more

Output is read from the terminal only while it can be sent: not while the window is full, the client is away
or its socket is congested. A program that writes more waits, as on any slow terminal.

Input is different: the core acknowledges a message when it takes it, so what the terminal does not take in
time would pile up here without a limit. Above ``MAX_INPUT_SIZE`` further input messages are therefore
withheld from the core, unacknowledged, which stops the sender at its window; acknowledgements pass, so output
goes on flowing meanwhile (a program that echoes its input needs that). What exceeds ``MAX_WITHHELD_SIZE`` is
dropped, and the sender sends it again.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from session_manager_plugin.agent.documents import SessionType
from session_manager_plugin.agent.shell import Shell
from session_manager_plugin.errors import RemoteProtocolError
from session_manager_plugin.protocol.connection import Connection, Role
from session_manager_plugin.protocol.events import (
    ChannelClosedReceived,
    DataReceived,
    Event,
    MessageRejected,
    PublicationPaused,
    PublicationStarted,
    SessionFailed,
    SessionReady,
)
from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE, ClientMessageType, PayloadType
from session_manager_plugin.protocol.payloads import Size
from session_manager_plugin.utils.logging import get_logger

Pace = Literal["real", "fast"]
"""``real`` sleeps as the official agent does: before the first output, and after each message."""
REAL_START_DELAY = 1.0
REAL_MESSAGE_DELAY = 0.001
DRAIN_TIMEOUT = 2.0
"""Seconds the last output has to be acknowledged, as in the official agent."""
MAX_INPUT_SIZE = 256 * 1024
"""Bytes of input that wait for the terminal before more is withheld."""
MAX_WITHHELD_SIZE = 4 * 1024 * 1024
"""Bytes of withheld messages: more than our client's window, so that it never has to send them again."""

_MAX_BATCH = 128
"""Messages made of one readiness of the terminal, so that other sessions get their turn."""
_INPUT_STREAM_DATA = ClientMessageType.INPUT_STREAM_DATA.value.encode().ljust(32)
_ERROR_HEADING = "\n----------ERROR-------\n"


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What all agents of a sandbox have in common; see ``Sandbox``."""

    version: str
    handshake: bool
    pace: Pace
    shell: Sequence[str]


class AgentState(Enum):
    """See the module docstring."""

    OPENING = auto()
    RUNNING = auto()
    DRAINING = auto()
    ENDED = auto()


class Agent:
    """See the module docstring.

    ``deliver`` takes messages for the gateway, ``finished`` the session's result once: the text for
    ``channel_closed``, empty after a normal end.
    """

    def __init__(
        self,
        session_id: str,
        session_type: SessionType,
        commands: str,
        settings: AgentSettings,
        *,
        deliver: Callable[[Sequence[bytes | str]], None],
        finished: Callable[[str], None],
    ) -> None:
        self._logger = get_logger(__name__)
        self._loop = asyncio.get_running_loop()
        self._session_id = session_id
        self._session_type = session_type
        self._settings = settings
        self._deliver = deliver
        self._finished = finished
        self._connection = Connection(
            Role.AGENT,
            version=settings.version,
            epoch=time.time() - self._loop.time(),
            random_bytes=os.urandom,
            session_id=session_id,
        )
        self._shell = Shell(
            ["sh", "-c", commands] if commands.strip() else settings.shell,
            on_output=self._read_output,
            on_input_taken=self._input_taken,
        )
        self.state = AgentState.OPENING
        self._congested = False
        self._resting = False
        self._withheld: deque[bytes | bytearray] = deque()
        self._withheld_size = 0
        self._drain_deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._closing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Report for work and begin: with the handshake, or with the shell."""
        now = self._loop.time()
        self._connection.connected(None, now)
        self._connection.send_session_state("Connected", now)
        if self._settings.handshake:
            self._connection.request_handshake(self._session_type, None, now)
        else:
            self._connection.skip_handshake()
        self._pump()

    @property
    def shell_pid(self) -> int:
        """The process id of the session's program; 0 before it was started."""
        return self._shell.pid

    # What the gateway calls.

    def receive(self, messages: Iterable[bytes | bytearray]) -> None:
        """Take messages from the gateway, all that one read of the client's socket brought."""
        if self.state is AgentState.ENDED:
            return
        now = self._loop.time()
        receive_message = self._connection.receive_message
        withholding = bool(self._withheld) or self._shell.input_size >= MAX_INPUT_SIZE
        for data in messages:
            if withholding and data[4:36] == _INPUT_STREAM_DATA:
                self._withhold(data)
            else:
                receive_message(data, now)
        self._pump()

    def set_congested(self, congested: bool) -> None:
        """While the client's socket takes no more, nothing is read from the shell and nothing sent again."""
        self._congested = congested
        if congested:
            self._shell.set_reading(False)
        elif self.state is not AgentState.ENDED:
            self._pump()

    async def close(self) -> None:
        """End whatever runs, without a word to anybody; returns when no process of the session is left."""
        self._end()
        if self._closing is not None:
            await self._closing

    # Every stimulus ends here.

    def _pump(self) -> None:
        self._dispatch_events()
        if self.state is AgentState.ENDED:
            return
        now = self._loop.time()
        if self.state is AgentState.RUNNING:
            self._shell.set_reading(self._connection.send_capacity > 0 and not self._congested and not self._resting)
        drained = self.state is AgentState.DRAINING and (
            not self._connection.in_flight or (self._drain_deadline is not None and self._drain_deadline <= now)
        )
        if drained:
            self._connection.send_session_state("Terminating", now)
        if messages := self._connection.messages_to_send(now):
            self._deliver(messages)
        if drained:
            self._finish("")
        else:
            self._arm_timer()

    def _dispatch_events(self) -> None:
        while self.state is not AgentState.ENDED and (event := self._connection.next_event()) is not None:
            self._dispatch(event)

    def _dispatch(self, event: Event) -> None:
        match event:
            case DataReceived() if self.state is AgentState.RUNNING:
                self._receive_data(event)
            case SessionReady():
                self._start_shell()
            case SessionFailed(error=error):
                heading = "Encountered error while initiating handshake. "
                self._fail(f"{heading if self.state is AgentState.OPENING else ''}{error}")
            case ChannelClosedReceived():
                self._finish("")
            case PublicationPaused():
                self._drain_deadline = None  # nobody is there to acknowledge anything
            case PublicationStarted():
                if self.state is AgentState.DRAINING:
                    self._drain_deadline = self._loop.time() + DRAIN_TIMEOUT
            case MessageRejected(reason=reason):
                self._logger.debug("session %s: message dropped: %s", self._session_id, reason)

    def _receive_data(self, event: DataReceived) -> None:
        if event.payload_type == PayloadType.OUTPUT:
            self._shell.write(event.data)
        elif event.payload_type == PayloadType.SIZE:
            for payload in event.payloads:
                self._resize(payload)

    def _resize(self, data: bytes | bytearray) -> None:
        try:
            size = Size.from_json(data)
        except RemoteProtocolError as error:
            self._logger.debug("session %s: %s", self._session_id, error)
        else:
            self._shell.resize(size.columns, size.rows)

    def _arm_timer(self) -> None:
        """Have the timer fire no later than the next deadline. One that fires too early does no harm, so it is
        left alone when the deadline moves away, as it does with every acknowledgement."""
        deadline = None if self._congested else self._connection.next_timeout()
        if self._drain_deadline is not None:
            deadline = self._drain_deadline if deadline is None else min(deadline, self._drain_deadline)
        if deadline is None or (self._timer is not None and self._timer_at <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._timer_fired)
        self._timer_at = deadline  # not asked of the handle: uvloop's has no time when it is due at once

    def _timer_fired(self) -> None:
        self._timer = None
        if not self._congested:
            self._connection.handle_timeout(self._loop.time())
        self._pump()

    # The shell.

    def _start_shell(self) -> None:
        try:
            self._shell.start()
        except OSError as error:
            self._fail(f"Unable to start command: {error.filename}: {error.strerror}")
            return
        self.state = AgentState.RUNNING
        if self._settings.pace == "real":
            self._rest(REAL_START_DELAY)

    def _read_output(self) -> None:
        if self.state is not AgentState.RUNNING:
            return
        real = self._settings.pace == "real"
        room = min(self._connection.send_capacity, 1 if real else _MAX_BATCH) * MAX_PAYLOAD_SIZE
        chunks = []
        while room > 0 and (chunk := self._shell.read(room)):
            chunks.append(chunk)
            room -= len(chunk)
        output = b"".join(chunks)
        now = self._loop.time()
        for start in range(0, len(output), MAX_PAYLOAD_SIZE):
            self._connection.send_data(PayloadType.OUTPUT, output[start : start + MAX_PAYLOAD_SIZE], now)
        if self._shell.at_end:
            self.state = AgentState.DRAINING
            self._drain_deadline = now + DRAIN_TIMEOUT
            self._forget_withheld()
            self._close_shell()
        elif real:
            self._rest(REAL_MESSAGE_DELAY)
        self._pump()

    def _rest(self, seconds: float) -> None:
        self._resting = True
        self._loop.call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._resting = False
        if self.state is not AgentState.ENDED:
            self._pump()

    def _withhold(self, data: bytes | bytearray) -> None:
        if self._withheld_size + len(data) <= MAX_WITHHELD_SIZE:
            self._withheld.append(data)
            self._withheld_size += len(data)

    def _input_taken(self) -> None:
        now = self._loop.time()
        while self._withheld and self._shell.input_size < MAX_INPUT_SIZE:
            data = self._withheld.popleft()
            self._withheld_size -= len(data)
            self._connection.receive_message(data, now)
            self._dispatch_events()
        if self.state is not AgentState.ENDED:
            self._pump()

    def _forget_withheld(self) -> None:
        self._withheld.clear()
        self._withheld_size = 0

    # The end.

    def _fail(self, text: str) -> None:
        self._finish(f"{_ERROR_HEADING}{text}")

    def _finish(self, output: str) -> None:
        self._end()
        self._finished(output)

    def _end(self) -> None:
        self.state = AgentState.ENDED
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._forget_withheld()
        self._close_shell()

    def _close_shell(self) -> None:
        if self._closing is None:
            self._closing = self._loop.create_task(self._shell.close())
