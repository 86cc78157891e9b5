"""The least that a client can do: `python -m benchmarks.bare receive|send|echo URL COUNT` prints what it took.

It drives the sans-I/O protocol of the websockets library from an asyncio protocol, with one write for each read. It
has no session: no handshake, no order, no retransmission, no timers, and it delivers to nobody. It reads or writes the
message header, computes the digest, and acknowledges or counts acknowledgements; the window it keeps is the
data channel's largest.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import cast

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from benchmarks import wire

WINDOW = 1024
KEY = b"@"
_ACKNOWLEDGED_NUMBER = re.compile(rb'"AcknowledgedMessageSequenceNumber":(\d+)')


@dataclass
class Result:
    """What it took: seconds of wall clock and of CPU, and of each echo."""

    wall: float
    cpu: float
    echoes: list[float] = field(default_factory=list)


class Client(asyncio.Protocol):
    """Opens the websocket; what comes then goes to `take`, and `after_read` follows when a read is done."""

    def __init__(self, url: str, count: int) -> None:
        loop = asyncio.get_running_loop()
        self.protocol = ClientProtocol(parse_uri(url), max_size=2**20)
        self.count = count
        self.opened: asyncio.Future[None] = loop.create_future()
        self.finished: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.protocol.send_request(self.protocol.connect())
        self.write()

    def data_received(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, Frame):
                if event.opcode is Opcode.BINARY:
                    self.take(event.data)
            elif isinstance(event, Response):
                self.protocol.send_text(b"{}")
                self.opened.set_result(None)
        self.after_read()
        self.write()

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.opened, self.finished):
            if not future.done():
                future.set_exception(exc or ConnectionResetError("the far end is gone"))

    def take(self, data: bytes | bytearray | memoryview) -> None:
        """One message."""

    def after_read(self) -> None:
        """All messages of a read were taken."""

    def write(self) -> None:
        """One write of all there is."""
        self._transport.write(b"".join(self.protocol.data_to_send()))

    def close(self) -> None:
        """Cut the connection."""
        self._transport.abort()


class Receiver(Client):
    """Takes output messages, and acknowledges them."""

    def take(self, data: bytes | bytearray | memoryview) -> None:
        fields = wire.HEADER.unpack_from(data)
        if sha256(data[wire.PAYLOAD_OFFSET :]).digest() != fields[7]:
            raise ValueError("wrong digest")
        self.protocol.send_binary(wire.acknowledgement("output_stream_data", fields[4]))
        self.count -= 1
        if not self.count:
            self.finished.set_result(None)


class Sender(Client):
    """Sends input messages, with a window."""

    payload = b"0123456789abcdef" * (wire.PAYLOAD_SIZE // 16)

    def __init__(self, url: str, count: int) -> None:
        super().__init__(url, count)
        self._sent = 0
        self._acknowledged = 0

    def take(self, data: bytes | bytearray | memoryview) -> None:
        fields = wire.HEADER.unpack_from(data)
        payload = data[wire.PAYLOAD_OFFSET :]
        if sha256(payload).digest() != fields[7]:
            raise ValueError("wrong digest")
        if _ACKNOWLEDGED_NUMBER.search(payload):
            self._acknowledged += 1

    def after_read(self) -> None:
        last = min(self.count, self._acknowledged + WINDOW)
        for number in range(self._sent, last):
            self.protocol.send_binary(wire.message(wire.INPUT, number, 1, self.payload))
        self._sent = max(self._sent, last)
        if self._acknowledged == self.count and not self.finished.done():
            self.finished.set_result(None)


class Typist(Client):
    """Sends a byte, waits for it to come back, and so on."""

    def __init__(self, url: str, count: int) -> None:
        super().__init__(url, count)
        self.echoes: list[float] = []
        self._sent = 0
        self._sent_at = 0.0

    def take(self, data: bytes | bytearray | memoryview) -> None:
        fields = wire.HEADER.unpack_from(data)
        payload = data[wire.PAYLOAD_OFFSET :]
        if sha256(payload).digest() != fields[7]:
            raise ValueError("wrong digest")
        if fields[1] != wire.OUTPUT:
            return
        self.protocol.send_binary(wire.acknowledgement("output_stream_data", fields[4]))
        if payload == KEY:
            self.echoes.append(time.perf_counter() - self._sent_at)
        if len(self.echoes) == self.count:
            self.finished.set_result(None)
        else:
            self._sent_at = time.perf_counter()
            self.protocol.send_binary(wire.message(wire.INPUT, self._sent, 1, KEY))
            self._sent += 1


CLIENTS: dict[str, type[Client]] = {"receive": Receiver, "send": Sender, "echo": Typist}


async def run(what: str, url: str, count: int) -> Result:
    """Do it once; opening the connection is not measured."""
    target = parse_uri(url)
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: CLIENTS[what](url, count), target.host, target.port)
    await client.opened
    wall, cpu = time.perf_counter(), time.process_time()
    await client.finished
    result = Result(time.perf_counter() - wall, time.process_time() - cpu)
    if isinstance(client, Typist):
        result.echoes = client.echoes
    client.close()
    return result


if __name__ == "__main__":
    print(json.dumps(vars(asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3]))))))
