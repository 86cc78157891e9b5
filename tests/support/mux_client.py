"""The client's side of a multiplexed port session: ``MuxSession(Role.CLIENT)`` over a ``RawClient``."""

from __future__ import annotations

import asyncio

from session_manager_plugin.protocol.events import DataReceived
from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE, PayloadType
from session_manager_plugin.protocol.role import Role
from session_manager_plugin.protocol.smux import (
    SEND_HIGH_WATER,
    MuxFailed,
    MuxSession,
    StreamData,
    StreamFinished,
)
from tests.support.raw_client import RawClient


class MuxClient(RawClient):
    """A client whose output is smux. A stream's bytes are read and counted as read when they come, unless it is in
    ``not_reading``; ``finished`` holds the streams that the far end has closed."""

    def __init__(self, *, version: str = "1.3.0.0", keepalive: bool = False) -> None:
        super().__init__(version=version, handshake_required=True)
        self.mux = MuxSession(Role.CLIENT, keepalive=keepalive, now=self._loop.time())
        self.streams: dict[int, bytearray] = {}
        self.finished: set[int] = set()
        self.not_reading: set[int] = set()
        self.mux_failure: MuxFailed | None = None
        self._flushing = asyncio.Lock()

    async def open_stream(self) -> int:
        """Open a stream and send its SYN."""
        stream_id = self.mux.open_stream()
        self.streams[stream_id] = bytearray()
        await self.flush()
        return stream_id

    async def write(self, stream_id: int, data: bytes) -> None:
        """Send all of ``data`` on a stream, as fast as the window opens."""
        for start in range(0, len(data), SEND_HIGH_WATER):
            self.mux.send_data(stream_id, data[start : start + SEND_HIGH_WATER])
            await self.flush()

    async def close_stream(self, stream_id: int) -> None:
        """Close a stream."""
        self.mux.close_stream(stream_id)
        await self.flush()

    async def read(self, stream_id: int, size: int) -> bytes:
        """The next ``size`` bytes of a stream."""
        await self.until_buffered(stream_id, size)
        buffer = self.streams[stream_id]
        taken = bytes(buffer[:size])
        del buffer[:size]
        return taken

    async def until_buffered(self, stream_id: int, size: int) -> None:
        """Return when at least ``size`` bytes of a stream wait to be taken."""
        await self.until(lambda: len(self.streams[stream_id]) >= size)

    async def until_finished(self, stream_id: int) -> bytes:
        """What a stream still has, once the far end has closed it; then this end closes it too."""
        await self.until(lambda: stream_id in self.finished)
        await self.close_stream(stream_id)
        return bytes(self.streams.pop(stream_id))

    async def flush(self) -> None:
        """Send all that smux has to send."""
        async with self._flushing:
            while self.mux.send_pending:
                await self.until(lambda: self.connection.send_capacity > 0)
                data = self.mux.data_to_send(self.connection.send_capacity * MAX_PAYLOAD_SIZE)
                for start in range(0, len(data), MAX_PAYLOAD_SIZE):
                    payload = data[start : start + MAX_PAYLOAD_SIZE]
                    self.connection.send_data(PayloadType.OUTPUT, payload, self._loop.time())
                await self._send_due()

    def take_output(self, event: DataReceived) -> None:
        """smux's bytes have come."""
        for payload in event.payloads:
            self.mux.receive_data(payload, self._loop.time())
        while (mux_event := self.mux.next_event()) is not None:
            match mux_event:
                case StreamData(stream_id=stream_id):
                    data = mux_event.data
                    self.streams[stream_id] += data
                    if stream_id not in self.not_reading:
                        self.mux.consumed(stream_id, len(data))
                case StreamFinished(stream_id=stream_id):
                    self.finished.add(stream_id)
                case MuxFailed():
                    self.mux_failure = mux_event
