"""How many messages a second the data channel moves, and what that costs, next to a client that does the bare minimum.

Run it from an environment that has the package installed::

    python benchmarks/messages.py                   # both directions, both clients
    python -m cProfile -s tottime benchmarks/messages.py receive --client channel --rounds 1

The far end is a process of its own that does next to nothing per message, so it is not what is measured. To
``receive``, it sends ready-made stream messages in large writes and counts the acknowledgements. To ``send``, it
takes stream messages and answers each with a ready-made acknowledgement, all of one read in one write.

The bare client drives the sans-I/O protocol of the websockets library from an asyncio protocol. It has no session: no
handshake, no order, no retransmission, no timers. It reads or writes the message header, computes the digest, and
acknowledges or counts acknowledgements; the window it keeps is the data channel's largest.

CPU time is that of the client's process, user and system together. A MB is a million bytes of payload.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import struct
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha1, sha256
from types import TracebackType
from typing import Self, cast

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from session_manager_plugin.communicator import SessionDataChannel, create_websocket_config

DEADLINE = 300.0
"""Seconds after which a measurement has failed."""
PAYLOAD_SIZE = 1024
WINDOW = 1024
MESSAGE_ID = bytes(range(16))
HEADER = struct.Struct(">I32sIQqQ16s32sII")
STREAM = {"receive": b"output_stream_data".ljust(32), "send": b"input_stream_data".ljust(32)}
ACKNOWLEDGE = b"acknowledge".ljust(32)
ACKNOWLEDGEMENT = (
    '{"AcknowledgedMessageType":"%s","AcknowledgedMessageId":"00010203-0405-4607-8809-0a0b0c0d0e0f",'
    '"AcknowledgedMessageSequenceNumber":%d,"IsSequentialMessage":true}'
)
ACKNOWLEDGED_NUMBER = re.compile(rb'"AcknowledgedMessageSequenceNumber":(\d+)')


def message(message_type: bytes, number: int, payload_type: int, payload: bytes) -> bytes:
    """One message of the data channel."""
    digest = sha256(payload).digest()
    return HEADER.pack(116, message_type, 1, 1, number, 0, MESSAGE_ID, digest, payload_type, len(payload)) + payload


def acknowledgement(acknowledged: str, number: int) -> bytes:
    """The acknowledgement of a stream message."""
    return message(ACKNOWLEDGE, 0, 0, (ACKNOWLEDGEMENT % (acknowledged, number)).encode())


def stream_message(direction: str, number: int) -> bytes:
    """A stream message with a payload of the full size."""
    return message(STREAM[direction], number, 1, b"%016d" % number * (PAYLOAD_SIZE // 16))


# The far end.


class FarEnd(asyncio.Protocol):
    """The server's side of one websocket, without a library: frames are of the lengths that occur here."""

    def __init__(self, direction: str, ready_made: list[bytes]) -> None:
        self._direction = direction
        self._ready_made = ready_made
        self._buffer = bytearray()
        self._opened = False
        self._position = 0
        self._writing = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(4 * 1024 * 1024)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._opened and not self._open():
            return
        numbers = self._stream_numbers()
        if self._direction == "send" and numbers:
            self._transport.write(b"".join([self._ready_made[number] for number in numbers]))

    def _open(self) -> bool:
        """Answer the request; what follows at once is a stream message, which makes a client ready."""
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        match = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
        assert match is not None
        accept = b64encode(sha1(match[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self._buffer = rest
        self._opened = True
        if self._direction == "send":
            self._transport.write(frame(message(STREAM["receive"], 0, 1, b"$ ")))
        return True

    def _stream_numbers(self) -> list[int]:
        """The sequence numbers of the stream messages that have come; other frames are only skipped."""
        buffer = self._buffer
        numbers = []
        position = 0
        while len(buffer) >= position + 8:
            length = buffer[position + 1] & 0x7F
            start = position + 6
            if length == 126:
                length = (buffer[position + 2] << 8) | buffer[position + 3]
                start = position + 8
            if len(buffer) < start + length:
                break
            if buffer[position] == 0x81:
                asyncio.get_running_loop().call_soon(self._flood)
            elif buffer[position] == 0x88:
                self._transport.close()
            elif length >= 1000:
                mask = buffer[start - 4 : start]
                masked = buffer[start + 52 : start + 56]
                numbers.append(int.from_bytes(masked, "big") ^ int.from_bytes(mask, "big"))
            position = start + length
        del buffer[:position]
        return numbers

    def _flood(self) -> None:
        """The token has come: send everything, as fast as it is taken."""
        while self._direction == "receive" and self._writing and self._position < len(self._ready_made):
            self._transport.write(self._ready_made[self._position])
            self._position += 1

    def pause_writing(self) -> None:
        self._writing = False

    def resume_writing(self) -> None:
        self._writing = True
        self._flood()


def frame(payload: bytes) -> bytes:
    """A binary websocket frame of a server."""
    if len(payload) < 126:
        return bytes([0x82, len(payload)]) + payload
    return b"\x82\x7e" + len(payload).to_bytes(2, "big") + payload


async def serve(direction: str, count: int) -> None:
    """Be the far end, for one connection after the other, until killed."""
    if direction == "receive":
        frames = [frame(stream_message(direction, number)) for number in range(count)]
        ready_made = [b"".join(frames[first : first + 256]) for first in range(0, count, 256)]
    else:
        ready_made = [frame(acknowledgement("input_stream_data", number)) for number in range(count)]
    server = await asyncio.get_running_loop().create_server(lambda: FarEnd(direction, ready_made), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class FarEndProcess(AbstractContextManager["FarEndProcess"]):
    """A far end in a process of its own; ``url`` is where."""

    def __init__(self, direction: str, count: int) -> None:
        command = [sys.executable, __file__, direction, "--messages", str(count), "--far-end"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = f"ws://127.0.0.1:{int(self._process.stdout.readline())}/v1/data-channel/benchmark"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


# The clients. Each moves so many messages; opening and closing the connection is not measured.


@dataclass
class Clock:
    """Wall and CPU time, in seconds since any moment."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Self:
        """This moment."""
        return cls(time.perf_counter(), time.process_time())


class BareClient(asyncio.Protocol):
    """The least that a client can do with the library's protocol."""

    def __init__(self, url: str, direction: str, count: int) -> None:
        self._protocol = ClientProtocol(parse_uri(url), max_size=2**20)
        self._direction = direction
        self._count = count
        self._sent = 0
        self._done = 0
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._protocol.send_request(self._protocol.connect())
        self._write()

    def data_received(self, data: bytes) -> None:
        protocol = self._protocol
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Response):
                protocol.send_text(b"{}")
                self.opened.set_result(None)
            elif isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                if self._direction == "receive":
                    self._acknowledge(event.data)
                else:
                    self._acknowledged(event.data)
        if self._direction == "send":
            self._send()
        self._write()
        if self._done == self._count and not self.finished.done():
            self.finished.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.opened, self.finished):
            if not future.done():
                future.set_exception(exc or ConnectionResetError("the far end is gone"))

    def _acknowledge(self, data: bytes | bytearray | memoryview) -> None:
        fields = HEADER.unpack_from(data)
        if sha256(data[120:]).digest() != fields[7]:
            raise ValueError("wrong digest")
        self._protocol.send_binary(acknowledgement("output_stream_data", fields[4]))
        self._done += 1

    def _send(self) -> None:
        last = min(self._count, self._done + WINDOW)
        for number in range(self._sent, last):
            self._protocol.send_binary(stream_message("send", number))
        self._sent = max(self._sent, last)

    def _acknowledged(self, data: bytes | bytearray | memoryview) -> None:
        fields = HEADER.unpack_from(data)
        payload = data[120:]
        if sha256(payload).digest() != fields[7]:
            raise ValueError("wrong digest")
        if ACKNOWLEDGED_NUMBER.search(payload):
            self._done += 1

    def _write(self) -> None:
        self._transport.write(b"".join(self._protocol.data_to_send()))


async def bare(url: str, direction: str, count: int) -> tuple[Clock, Clock]:
    """The baseline."""
    target = parse_uri(url)
    transport, client = await asyncio.get_running_loop().create_connection(
        lambda: BareClient(url, direction, count), target.host, target.port
    )
    await client.opened
    start = Clock.now()
    await client.finished
    end = Clock.now()
    transport.close()
    return start, end


async def channel(url: str, direction: str, count: int) -> tuple[Clock, Clock]:
    """What the package's users have."""
    data_channel = SessionDataChannel(create_websocket_config(url, "a token", ping_interval=0))
    finished = asyncio.get_running_loop().create_future()
    missing = count * PAYLOAD_SIZE

    def take(data: bytes) -> None:
        nonlocal missing
        missing -= len(data)
        if not missing:
            finished.set_result(None)

    data_channel.set_input_handler(take)
    if not await data_channel.open():
        raise data_channel.last_error or AssertionError
    start = Clock.now()
    if direction == "receive":
        ended = asyncio.ensure_future(data_channel.ended())
        await asyncio.wait({finished, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise ConnectionResetError("the far end is gone")
        ended.cancel()
    else:
        await data_channel.ready()
        piece = b"".join(b"%016d" % number * (PAYLOAD_SIZE // 16) for number in range(64))
        for first in range(0, count, 64):
            await data_channel.send_input_data(piece[: (count - first) * PAYLOAD_SIZE])
        await data_channel.drain()
    end = Clock.now()
    await data_channel.close()
    return start, end


CLIENTS: dict[str, Callable[[str, str, int], Awaitable[tuple[Clock, Clock]]]] = {"bare": bare, "channel": channel}


@dataclass
class Result:
    """One measurement."""

    messages_per_second: float
    cpu_seconds_per_mb: float


async def measure(client: str, url: str, direction: str, count: int) -> Result:
    """Move ``count`` messages once."""
    async with asyncio.timeout(DEADLINE):
        start, end = await CLIENTS[client](url, direction, count)
    return Result(count / (end.wall - start.wall), (end.cpu - start.cpu) / (count * PAYLOAD_SIZE / 1e6))


def report(direction: str, clients: list[str], count: int, rounds: int) -> None:
    """Measure one direction and print each client's best; they take turns. What else the machine does only slows."""
    results: dict[str, list[Result]] = {client: [] for client in clients}
    with FarEndProcess(direction, count) as far_end:
        for _ in range(rounds):
            for client in clients:
                results[client].append(asyncio.run(measure(client, far_end.url, direction, count)))
    rates, costs = {}, {}
    for client in clients:
        rates[client] = max(result.messages_per_second for result in results[client])
        costs[client] = min(result.cpu_seconds_per_mb for result in results[client])
        print(f"{direction:8} {client:8} {rates[client]:10,.0f} messages/s {costs[client] * 1000:8.2f} CPU ms/MB")
    if len(clients) > 1:
        rate, cost = rates["channel"] / rates["bare"], costs["channel"] / costs["bare"]
        print(f"{direction:8} ratio    {rate:10.2f} of the rate  {cost:8.2f} times the CPU")


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("direction", nargs="?", choices=["receive", "send"], help="one direction only")
    parser.add_argument("--client", choices=sorted(CLIENTS), help="one client only")
    parser.add_argument("--messages", type=int, default=50_000, metavar="N", help="in each measurement")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="measurements; the best is printed")
    parser.add_argument("--far-end", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.far_end:
        asyncio.run(serve(arguments.direction, arguments.messages))
        return
    clients = [arguments.client] if arguments.client else list(CLIENTS)
    for direction in [arguments.direction] if arguments.direction else ["receive", "send"]:
        report(direction, clients, arguments.messages, arguments.rounds)


if __name__ == "__main__":
    main()
