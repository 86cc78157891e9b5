"""A forwarded port with many connections at once: smux streams on one side, TCP connections on the other.

For each stream that the client opens the destination is dialled, one at a time as in the official agent. States of a
stream::

    waiting     the destination is being dialled; received data is kept and counts as unread for smux
    joined      bytes flow in both directions
    finishing   the client has closed the stream; its data is written to the destination, then both are closed

When the destination closes, or cannot be reached (then a Flag is sent first), the stream is closed at once: the data
read from the destination is sent, then FIN.

All buffers are bounded: a destination is not read while its stream has more than ``SEND_HIGH_WATER`` bytes queued. When
a slow destination has used up smux's budget for unread data, no input is accepted, which stops all streams: smux
version 1 has no flow control per stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

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
from session_manager_plugin.protocol.role import Role
from session_manager_plugin.protocol.smux import (
    SEND_HIGH_WATER,
    MuxEvent,
    MuxFailed,
    MuxSession,
    StreamData,
    StreamFinished,
    StreamOpened,
    StreamWritable,
)
from session_manager_plugin.utils.logging import get_logger

ACCEPT_BACKLOG = 1024
"""Streams that may wait to be dialled; with more no input is accepted. The official agent's smux has the same limit."""

_LOGGER = get_logger(__name__)
_TERMINATE = Flag.TERMINATE_SESSION.serialize()
_CONNECT_ERROR = OutputMessage(PayloadType.FLAG, Flag.CONNECT_TO_PORT_ERROR.serialize())


class _StreamConnection(DialledConnection):
    """The connection of one stream. ``unread`` are the bytes written to it that smux still counts as unread."""

    def __init__(self, owner: MuxPort, stream_id: int) -> None:
        super().__init__(owner)
        self.stream_id = stream_id
        self.joined = False
        self.unread = 0


class MuxPort:
    """See the module docstring, and ``SessionProgram``."""

    start_delay = 0.0
    message_delay = MESSAGE_DELAY
    pid = 0

    def __init__(
        self,
        destination: Destination,
        *,
        keepalive: bool,
        on_output: Callable[[], None],
        on_input_taken: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.destination = destination
        self._on_input_taken = on_input_taken
        self.mux = MuxSession(Role.AGENT, keepalive=keepalive, now=self._loop.time())
        self._signal = OutputSignal(on_output, self._has_output)
        self._connections: dict[int, _StreamConnection] = {}
        self._waiting: deque[_StreamConnection] = deque()
        self._somebody_waits = asyncio.Event()
        self._connect_errors = 0
        self._dialling: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.ended = False
        self.failure: str | None = None
        self.terminated = False

    def start(self) -> None:
        """Resolve the host and wait for streams. The destination is not dialled before the first stream."""
        self._dialling = self._loop.create_task(self._dial())
        self._arm_timer()

    # Input.

    @property
    def takes_input(self) -> bool:
        """Whether smux's budget for unread data and the backlog of streams allow more input."""
        return not self.mux.reading_paused and len(self._waiting) < ACCEPT_BACKLOG

    def receive(self, data: DataReceived) -> None:
        """Receive smux's bytes, and the flag that ends the session."""
        if self.ended:
            return
        if data.payload_type == PayloadType.OUTPUT:
            now = self._loop.time()
            for payload in data.payloads:
                self.mux.receive_data(payload, now)
            self._handle_events()
        elif data.payload_type == PayloadType.FLAG and _TERMINATE in data.payloads:
            self.terminated = True
            self._end(None)

    def _handle_events(self) -> None:
        while (event := self.mux.next_event()) is not None:
            self._handle(event)
        self._signal.notify()

    def _handle(self, event: MuxEvent) -> None:
        match event:
            case StreamData(stream_id=stream_id, pieces=pieces):
                self._forward(self._connections[stream_id], pieces)
            case StreamOpened(stream_id=stream_id):
                connection = self._connections[stream_id] = _StreamConnection(self, stream_id)
                self._waiting.append(connection)
                self._somebody_waits.set()
            case StreamFinished(stream_id=stream_id):
                # The stream is closed with its connection, so that data waiting for the destination stays counted.
                self._connections[stream_id].close()
            case StreamWritable(stream_id=stream_id):
                self._connections[stream_id].set_reading(True)
            case MuxFailed(error=error):
                _LOGGER.info("the port session has failed: %s", error)
                self._end("")

    def _forward(self, connection: _StreamConnection, pieces: list[bytes | bytearray]) -> None:
        connection.write(pieces)
        connection.unread += sum(map(len, pieces))
        self._count_as_read(connection)

    def _count_as_read(self, connection: _StreamConnection) -> None:
        if connection.joined and not connection.slow and connection.unread:
            self.mux.consumed(connection.stream_id, connection.unread)
            connection.unread = 0

    def _offer_input(self) -> None:
        if self.takes_input:
            self._on_input_taken()

    # Dialling.

    async def _dial(self) -> None:
        try:
            await self.destination.resolve()
        except ProgramError as error:
            self._end(str(error))
            return
        while True:
            while self._waiting:
                await self._dial_for(self._waiting[0])
                self._waiting.popleft()
                self._offer_input()
            self._somebody_waits.clear()
            await self._somebody_waits.wait()

    async def _dial_for(self, connection: _StreamConnection) -> None:
        try:
            await self.destination.dial(connection)
        except OSError as error:
            _LOGGER.info("stream %d: %s", connection.stream_id, error)
            self._connect_errors += 1
            self._close_stream(connection)
            self._signal.notify()
        else:
            connection.joined = True
            self._count_as_read(connection)

    # Callbacks of the connections.

    def destination_sent(self, connection: DialledConnection, data: bytes) -> None:
        """Queue ``data`` on the stream; see ``ConnectionOwner``."""
        assert isinstance(connection, _StreamConnection)
        if self.ended:
            return
        self.mux.send_data(connection.stream_id, data)
        if self.mux.send_buffered(connection.stream_id) > SEND_HIGH_WATER:
            connection.set_reading(False)
        self._signal.notify()

    def destination_caught_up(self, connection: DialledConnection) -> None:
        """Count the written data as read; see ``ConnectionOwner``."""
        assert isinstance(connection, _StreamConnection)
        self._count_as_read(connection)
        self._offer_input()

    def destination_closed(self, connection: DialledConnection, error: Exception | None) -> None:
        """Close the stream; see ``ConnectionOwner``."""
        assert isinstance(connection, _StreamConnection)
        if error is not None:
            _LOGGER.debug("stream %d: %s", connection.stream_id, error)
        self._close_stream(connection)
        if not self.ended:
            self._offer_input()
            self._signal.notify()

    def _close_stream(self, connection: _StreamConnection) -> None:
        self._connections.pop(connection.stream_id, None)
        self.mux.close_stream(connection.stream_id)

    # Output.

    def _has_output(self) -> bool:
        return self.ended or self._connect_errors > 0 or self.mux.send_pending > 0

    def set_reading(self, wanted: bool) -> None:
        """See ``SessionProgram``."""
        self._signal.set_reading(wanted)

    def read(self, limit: int) -> list[OutputMessage]:
        """See ``SessionProgram``. Flags first, then smux's bytes up to the limit."""
        flags = min(limit, self._connect_errors)
        self._connect_errors -= flags
        messages = [_CONNECT_ERROR] * flags
        if limit > flags:
            messages += to_messages(PayloadType.OUTPUT, self.mux.data_to_send((limit - flags) * MAX_PAYLOAD_SIZE))
            self._handle_events()
        return messages

    # Time.

    def _arm_timer(self) -> None:
        deadline = self.mux.next_timeout()
        self._timer = None if deadline is None else self._loop.call_at(deadline, self._timer_fired)

    def _timer_fired(self) -> None:
        self.mux.handle_timeout(self._loop.time())
        self._handle_events()
        if not self.ended:
            self._arm_timer()

    # The end.

    def _end(self, failure: str | None) -> None:
        self.ended = True
        self.failure = failure
        self._signal.notify()

    async def close(self) -> None:
        """Abort all connections; see ``SessionProgram``."""
        self.ended = True
        self._signal.set_reading(False)
        if self._timer is not None:
            self._timer.cancel()
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait([self._dialling])
        await self.destination.close()
