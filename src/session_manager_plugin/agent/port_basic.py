"""A forwarded port with one connection at a time and its raw bytes: for ssh, and for clients or agents without smux.

The destination is dialled at once, before any input. States::

    DIALLING    input waits
    CONNECTED   bytes flow in both directions
    IDLE        the connection has ended; the next input dials again (type LocalPortForwarding only)
    ENDED       input is ignored; data that was read from the destination is still sent

The client ends the connection with the flag DisconnectToPort. As with the official agent, the client is not notified
when the destination ends it. For other types than LocalPortForwarding (ssh), both end the session.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from enum import Enum, auto

from session_manager_plugin.agent.destination import Destination, DialledConnection
from session_manager_plugin.agent.program import (
    MESSAGE_DELAY,
    OutputMessage,
    OutputSignal,
    ProgramError,
    to_messages,
)
from session_manager_plugin.protocol.events import DataReceived
from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE, Flag, PayloadType
from session_manager_plugin.utils.logging import get_logger

READ_HIGH_WATER = 64 * 1024
"""Bytes of unsent output above which the destination is not read."""
READ_LOW_WATER = 16 * 1024
WORKER_DIED = (
    "document process failed unexpectedly: ipc messaging received timeout signal , "
    "check [ssm-document-worker]/[ssm-session-worker] log for crash reason"
)
"""The official agent's text for a session whose worker process has died."""

_LOGGER = get_logger(__name__)
_DISCONNECT = Flag.DISCONNECT_TO_PORT.serialize()
_TERMINATE = Flag.TERMINATE_SESSION.serialize()


class _State(Enum):
    DIALLING = auto()
    CONNECTED = auto()
    IDLE = auto()
    ENDED = auto()


class BasicPort:
    """See the module docstring, and ``SessionProgram``.

    ``reconnects``: the type is LocalPortForwarding. ``knows_terminate``: the agent's version supports the flag
    TerminateSession. ``dies_when_refused`` is the quirk ``REFUSED_PORT_DIES``.
    """

    start_delay = 0.0
    message_delay = MESSAGE_DELAY
    pid = 0

    def __init__(
        self,
        destination: Destination,
        *,
        reconnects: bool,
        knows_terminate: bool,
        dies_when_refused: bool = False,
        on_output: Callable[[], None],
        on_input_taken: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._destination = destination
        self._reconnects = reconnects
        self._knows_terminate = knows_terminate
        self._dies_when_refused = dies_when_refused
        self._on_input_taken = on_input_taken
        self._signal = OutputSignal(on_output, self._has_output)
        self._state = _State.IDLE
        self._connection = DialledConnection(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._output: deque[bytes] = deque()
        self.output_size = 0
        self.failure: str | None = None
        self.terminated = False

    def start(self) -> None:
        """Dial the destination."""
        self._open(self._resolve_and_dial)

    def _open(self, dial: Callable[[DialledConnection], Coroutine[None, None, None]]) -> None:
        self._state = _State.DIALLING
        self._connection = DialledConnection(self)
        task = self._loop.create_task(dial(self._connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resolve_and_dial(self, connection: DialledConnection) -> None:
        try:
            await self._destination.resolve()
        except ProgramError as error:
            self._end(str(error))
        else:
            await self._dial(connection)
            if self._dies_when_refused and self._state is _State.ENDED and self.failure:
                self.failure = WORKER_DIED

    async def _dial(self, connection: DialledConnection) -> None:
        try:
            await self._destination.dial(connection)
        except OSError as error:
            self._end(f"Unable to connect to specified port: {error}")
        else:
            if connection is self._connection and self._state is _State.DIALLING:
                self._state = _State.CONNECTED
            self._offer_input()

    # Input.

    @property
    def takes_input(self) -> bool:
        """Whether the destination accepts more data, or can be dialled."""
        return self._state is not _State.DIALLING and not (self._state is _State.CONNECTED and self._connection.slow)

    def _offer_input(self) -> None:
        if self.takes_input:
            self._on_input_taken()

    def receive(self, data: DataReceived) -> None:
        """Send bytes to the destination, dialling it if needed; obey flags."""
        if self._state is _State.ENDED:
            return
        if data.payload_type == PayloadType.OUTPUT:
            if self._state is _State.IDLE:
                self._open(self._dial)
            self._connection.write(data.payloads)
        elif data.payload_type == PayloadType.FLAG:
            for flag in data.payloads:
                self._obey(flag)

    def _obey(self, flag: bytes | bytearray) -> None:
        if flag == _TERMINATE and self._knows_terminate:
            self._forget_output()
            self.terminated = True
            self._end(None)
        elif flag == _DISCONNECT and self._state is not _State.IDLE:
            self._forget_output()  # the client's connection is closed
            self._connection.close()
            self._disconnected("")

    # Callbacks of the connection.

    def destination_sent(self, connection: DialledConnection, data: bytes) -> None:
        """Queue ``data``; see ``ConnectionOwner``."""
        self._output.append(data)
        self.output_size += len(data)
        if self.output_size > READ_HIGH_WATER:
            connection.set_reading(False)
        self._signal.notify()

    def destination_caught_up(self, connection: DialledConnection) -> None:
        """See ``ConnectionOwner``."""
        self._offer_input()

    def destination_closed(self, connection: DialledConnection, error: Exception | None) -> None:
        """See ``ConnectionOwner``."""
        if connection is self._connection and self._state in (_State.DIALLING, _State.CONNECTED):
            if error is not None:
                _LOGGER.info("the connection to the destination broke: %s", error)
            self._disconnected(None if error is None else "")

    def _disconnected(self, failure: str | None) -> None:
        if self._reconnects:
            self._state = _State.IDLE
            self._loop.call_soon(self._offer_input)  # not from within ``receive``
        else:
            self._end(failure)

    # Output.

    def _has_output(self) -> bool:
        return bool(self._output) or self._state is _State.ENDED

    @property
    def ended(self) -> bool:
        """Whether the session has ended and all data from the destination has been read."""
        return self._state is _State.ENDED and not self._output

    def set_reading(self, wanted: bool) -> None:
        """See ``SessionProgram``."""
        self._signal.set_reading(wanted)

    def read(self, limit: int) -> list[OutputMessage]:
        """See ``SessionProgram``."""
        room = limit * MAX_PAYLOAD_SIZE
        chunks = []
        while self._output and room > 0:
            chunk = self._output.popleft()
            if len(chunk) > room:
                self._output.appendleft(chunk[room:])
                chunk = chunk[:room]
            chunks.append(chunk)
            room -= len(chunk)
            self.output_size -= len(chunk)
        if self.output_size <= READ_LOW_WATER:
            self._connection.set_reading(True)
        return to_messages(PayloadType.OUTPUT, b"".join(chunks))

    def _forget_output(self) -> None:
        self._output.clear()
        self.output_size = 0

    # The end.

    def _end(self, failure: str | None) -> None:
        self._state = _State.ENDED
        self.failure = failure
        self._signal.notify()

    async def close(self) -> None:
        """Abort the connection; see ``SessionProgram``."""
        self._state = _State.ENDED
        self._signal.set_reading(False)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        await self._destination.close()
