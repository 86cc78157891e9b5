"""The agent's end of port sessions, on a ``MemoryAgent``: what the destinations do is a test's script.

``MuxAgent`` and ``BasicAgent`` do what the official agent does between the data channel and its connections to the
destination. A ``Destination`` stands for one such connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from session_manager_plugin.protocol.messages import Flag, PayloadType
from session_manager_plugin.protocol.role import Role
from session_manager_plugin.protocol.smux import (
    SEND_HIGH_WATER,
    MuxFailed,
    MuxSession,
    StreamData,
    StreamFinished,
    StreamOpened,
    StreamWritable,
)
from tests.support.memory_channel import MemoryAgent
from tests.support.waiting import Happenings


class Destination:
    """One connection of the agent to the destination. ``received`` is all that came for it."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.closed = False
        """Whether the client has closed it."""
        self.number = 0
        """Of its stream, where there are streams."""
        self.send: Callable[[bytes], None] = lambda data: None
        """Sends to the client."""
        self.finish: Callable[[], None] = lambda: None
        """The destination closes."""
        self.has_room: Callable[[], bool] = lambda: True
        """Whether more should be sent now."""

    def connected(self) -> None:
        """The connection is there."""

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        self.received += data

    def writable(self) -> None:
        """There is room again."""


class Echo(Destination):
    """Sends back what comes."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.send(data)


class Answer(Destination):
    """Sends ``answer`` once ``request`` has come whole, ``delay`` seconds later, and closes."""

    def __init__(self, request: bytes, answer: bytes, delay: float = 0.0) -> None:
        super().__init__()
        self._request = request
        self._answer = answer
        self._delay = delay

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.received == self._request:
            asyncio.get_running_loop().call_later(self._delay, self._reply)

    def _reply(self) -> None:
        if not self.closed:  # a closed connection takes nothing
            self.send(self._answer)
            self.finish()


class Source(Destination):
    """Sends ``size`` bytes as fast as they leave, and closes."""

    def __init__(self, size: int, piece: bytes = bytes(32768)) -> None:
        super().__init__()
        self._left = size
        self._piece = piece

    def connected(self) -> None:
        self.writable()

    def writable(self) -> None:
        while self._left and self.has_room() and not self.closed:
            piece = self._piece[: self._left]
            self._left -= len(piece)
            self.send(piece)
            if not self._left:
                self.finish()


class Sink(Destination):
    """Counts what comes, and keeps nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def data_received(self, data: bytes) -> None:
        self.size += len(data)


Dial = Callable[[], Destination | None]
"""Gives the next connection to the destination; None when it is refused."""


class MuxAgent(Happenings):
    """A mux session at the agent. ``destinations`` are those that were connected, by stream id."""

    def __init__(self, agent: MemoryAgent, dial: Dial, *, keepalive: bool = False) -> None:
        super().__init__()
        self.mux = MuxSession(Role.AGENT, keepalive=keepalive, now=time.monotonic())
        self.agent = agent
        self.destinations: dict[int, Destination] = {}
        self.flags: list[bytes] = []
        self.failed: Exception | None = None
        self.finished: list[int] = []
        """The streams whose FIN came from the client."""
        self._dial = dial
        self._dispatching = False
        agent.recording = False
        agent.data_handler = self._data_received
        agent.writable_handler = self.flush

    def refuse(self, stream_id: int) -> None:
        """The destination could not be connected: a flag, then the end of the stream."""
        self.agent.send(Flag.CONNECT_TO_PORT_ERROR.serialize(), PayloadType.FLAG)
        self.mux.close_stream(stream_id)

    def flush(self) -> None:
        """Send what the window takes."""
        if self._dispatching:
            return  # whoever dispatches does it
        while self.mux.send_pending and (capacity := self.agent.capacity):
            data = self.mux.data_to_send(capacity)
            if not data:
                break
            self.agent.send(data)
        self._dispatch()
        self.happened()

    def _data_received(self, payload_type: int, data: bytes) -> None:
        if payload_type == PayloadType.FLAG:
            self.flags.append(data)
        elif payload_type == PayloadType.OUTPUT:
            self.mux.receive_data(data, time.monotonic())
            self._dispatch()
            self.flush()
        self.happened()

    def _dispatch(self) -> None:
        self._dispatching = True
        while (event := self.mux.next_event()) is not None:
            if isinstance(event, StreamOpened):
                self._connect(event.stream_id)
            elif isinstance(event, StreamData):
                self.mux.consumed(event.stream_id, len(event.data))
                self.destinations[event.stream_id].data_received(event.data)
            elif isinstance(event, StreamFinished):
                # The official agent closes the destination, both ways, and its own side of the stream.
                self.finished.append(event.stream_id)
                self.destinations[event.stream_id].closed = True
                self.mux.close_stream(event.stream_id)
            elif isinstance(event, StreamWritable):
                self.destinations[event.stream_id].writable()
            elif isinstance(event, MuxFailed):
                self.failed = event.error
        self._dispatching = False

    def _connect(self, stream_id: int) -> None:
        destination = self._dial()
        if destination is None:
            self.refuse(stream_id)
            return
        self.destinations[stream_id] = destination
        destination.number = stream_id

        def send(data: bytes) -> None:
            self.mux.send_data(stream_id, data)
            asyncio.get_running_loop().call_soon(self.flush)

        def finish() -> None:
            self.mux.close_stream(stream_id)
            asyncio.get_running_loop().call_soon(self.flush)

        destination.send, destination.finish = send, finish
        destination.has_room = lambda: self.mux.send_buffered(stream_id) <= SEND_HIGH_WATER
        destination.connected()


class BasicAgent(Happenings):
    """A basic port session at the agent: one connection, made at once, and again when data comes after its end.

    ``leftovers`` are sent, one after each DisconnectToPort: what the agent had read before it closed.
    """

    def __init__(self, agent: MemoryAgent, dial: Callable[[], Destination]) -> None:
        super().__init__()
        self.agent = agent
        self.destinations: list[Destination] = []
        self.flags: list[bytes] = []
        self.leftovers: list[bytes] = []
        self._dial = dial
        agent.data_handler = self._data_received

    def connect(self) -> None:
        """Connect to the destination."""
        destination = self._dial()
        destination.send = self.agent.send
        self.destinations.append(destination)
        destination.connected()
        self.happened()

    def _data_received(self, payload_type: int, data: bytes) -> None:
        if payload_type == PayloadType.FLAG:
            self.flags.append(data)
            if data == Flag.DISCONNECT_TO_PORT.serialize():
                self.destinations[-1].closed = True
                if self.leftovers:
                    self.agent.send(self.leftovers.pop(0))
        elif payload_type == PayloadType.OUTPUT:
            if self.destinations[-1].closed:
                self.connect()
            self.destinations[-1].data_received(data)
        self.happened()
