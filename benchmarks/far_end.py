"""The far end: gateway and agent in one, as fast as can be, in a process of its own.

What it does on a connection is said by the session id in the URL, `SCENARIO` or `SCENARIO-NUMBER`…; `SCENARIOS` lists
them. `FarEnd` is the process as its user sees it.

Everything that a real session needs is there: the handshake (by the package's own core in the agent's role), an
acknowledgement for each stream message, pongs. What comes thousands of times a second is ready-made or made without the
package.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import re
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from hashlib import sha1
from types import TracebackType
from typing import ClassVar, cast

from benchmarks import wire
from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.sandbox import TARGET
from session_manager_plugin.protocol.crypto import encryption_context
from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.protocol.events import DataKeyRequired, DataReceived, SessionFailed, SessionReady
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.protocol.role import Role
from session_manager_plugin.protocol.smux import FIN, HEADER, HEADER_SIZE, MAX_FRAME_DATA, PSH, SYN, VERSION

AGENT_VERSION = "3.3.987.0"
PROMPT = b"$ "
DONE = b"@@@"
"""Printed when everything has come; nothing else that is printed has such characters."""
LINES = b"".join(b"%06d a line of some log file with a few words in it, and no colours\r\n" % n for n in range(2000))
COLOURED_LINES = b"".join(
    b"\x1b[0m\x1b[01;34mdirectory-%d\x1b[0m  \x1b[01;32mprogram-%d.sh\x1b[0m  notes-%d.txt  letter-%d.txt\r\n"
    % (n, n, n, n)
    for n in range(2000)
)
PACE = 0.0015
"""Seconds between two messages of the official agent: it rests a millisecond after each."""
SMALL = 200
"""Bytes of payload up to which a frame is looked at while output pours out: sizes and flags are smaller,
acknowledgements larger."""


def pieces(data: bytes) -> list[bytes]:
    """`data` in payloads of the full size."""
    return [data[start : start + wire.PAYLOAD_SIZE] for start in range(0, len(data), wire.PAYLOAD_SIZE)]


def frames(block: bytes) -> Iterator[bytes]:
    """The frames that a block of `wire.output_blocks` consists of."""
    position = 0
    while position < len(block):
        end = position + 4 + int.from_bytes(block[position + 2 : position + 4], "big")
        yield block[position:end]
        position = end


def pace(peer: Peer, writes: Iterator[Callable[[], None]], then: Callable[[], None] = lambda: None) -> None:
    """Make the writes one by one, `PACE` seconds apart, until the connection closes; a thread keeps the time, since the
    loop's is too coarse."""
    loop = asyncio.get_running_loop()

    def work() -> None:
        due_at = time.perf_counter()
        for write in writes:
            if peer.transport.is_closing():
                return
            loop.call_soon_threadsafe(write)
            due_at += PACE
            time.sleep(max(0.0, due_at - time.perf_counter()))
        loop.call_soon_threadsafe(then)

    threading.Thread(target=work, daemon=True).start()


def paced_frames(peer: Peer, blocks: Iterator[bytes]) -> Iterator[Callable[[], None]]:
    """Return the writes of single frames of the blocks, for `pace`."""
    return (partial(peer.transport.write, frame) for block in blocks for frame in frames(block))


class Peer(asyncio.Protocol):
    """The server's side of one websocket."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.session_id = ""
        self._buffer = bytearray()
        self._scenario: Scenario | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(4 * 1024 * 1024)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._scenario is None:
            self._open()
            return
        messages = []
        for head, payload in wire.take_frames(self._buffer, self._scenario.largest_read):
            if head == wire.BINARY:
                messages.append(payload)
            elif head == wire.TEXT:
                self._scenario.begin()
            elif head == wire.PING:
                self.transport.write(wire.frame(payload, wire.PONG))
            elif head == wire.CLOSE:
                self.transport.write(wire.frame(payload, wire.CLOSE))
                self.transport.close()
        if messages:
            self._scenario.receive(messages)

    def _open(self) -> None:
        """Answer the request for a websocket."""
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
        path = re.search(rb"/data-channel/([\w-]+)", head)
        assert key is not None
        assert path is not None
        accept = b64encode(sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self._buffer = rest
        self.session_id = path[1].decode()
        name, *numbers = self.session_id.split("-")
        self._scenario = SCENARIOS[name](self, *map(int, numbers))

    def pause_writing(self) -> None:
        if self._scenario is not None:
            self._scenario.writing = False

    def resume_writing(self) -> None:
        if self._scenario is not None:
            self._scenario.writing = True
            self._scenario.writable()


class Scenario:
    """One session. `numbers` are those of the session id."""

    largest_read = 1 << 20
    """Frames with more payload are skipped."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.writing = True
        self._expected = 0
        """The sequence number of the next stream message; a websocket keeps their order."""

    def begin(self) -> None:
        """The token has come."""

    def receive(self, messages: list[bytes]) -> None:
        """Messages of one read."""

    def writable(self) -> None:
        """More may be written."""

    def send(self, *messages: bytes) -> None:
        """Write messages, each in a frame."""
        self.peer.transport.write(b"".join(map(wire.frame, messages)))

    _acknowledgements: ClassVar[list[bytes]] = []

    def stream_payloads(self, messages: list[bytes]) -> list[bytes]:
        """Acknowledge the stream messages of one read; gives the data in them."""
        ready_made = self._acknowledgements
        numbers: list[int] = []
        payloads = []
        for message in messages:
            if message.startswith(wire.INPUT, 4):
                (number,) = wire.SEQUENCE_NUMBER.unpack_from(message, wire.SEQUENCE_NUMBER_OFFSET)
                numbers.append(number)
                if number < self._expected:
                    continue  # sent again: on a busy machine the acknowledgement was late
                self._expected = number + 1
                if wire.PAYLOAD_TYPE.unpack_from(message, wire.PAYLOAD_TYPE_OFFSET)[0] == PayloadType.OUTPUT:
                    payloads.append(message[wire.PAYLOAD_OFFSET :])
        if numbers:
            for number in range(len(ready_made), max(numbers) + 1):
                ready_made.append(wire.frame(wire.acknowledgement("input_stream_data", number)))
            self.peer.transport.write(b"".join([ready_made[number] for number in numbers]))
        return payloads


class Shell(Scenario):
    """`prompt`: a prompt, and nothing more. Input is acknowledged."""

    def begin(self) -> None:
        self.send(wire.message(wire.OUTPUT, 0, 1, PROMPT))

    def receive(self, messages: list[bytes]) -> None:
        self.stream_payloads(messages)


class Pour(Scenario):
    """Output as fast as it is taken, then the end of the session."""

    largest_read = SMALL

    def __init__(self, peer: Peer, count: int, first: int = 0) -> None:
        super().__init__(peer)
        self._blocks = wire.output_blocks(self.payloads(), count, first)

    def payloads(self) -> list[bytes]:
        """What is sent, in a cycle."""
        return pieces((LINES * 8)[: 512 * wire.PAYLOAD_SIZE])

    def begin(self) -> None:
        self.writable()

    def receive(self, messages: list[bytes]) -> None:
        self.stream_payloads(messages)

    def writable(self) -> None:
        while self.writing:
            block = next(self._blocks, b"")
            if not block:
                self.finish()
                return
            self.peer.transport.write(block)

    def finish(self) -> None:
        """Everything was sent."""
        self.send(wire.channel_closed())
        self.writing = False


class PourPaced(Pour):
    """`paced-N`: output as the official agent sends it, a message at a time, and the end of the session."""

    def begin(self) -> None:
        pace(self.peer, paced_frames(self.peer, self._blocks), self.finish)

    def writable(self) -> None:
        pass


class PourForever(Pour):
    """`poured-N`: the same, but the session goes on."""

    def finish(self) -> None:
        self.writing = False


class PourColours(Pour):
    """The same as `ls --color` prints it."""

    def payloads(self) -> list[bytes]:
        return pieces((COLOURED_LINES * 8)[: 512 * wire.PAYLOAD_SIZE])


class Paste(Scenario):
    """`take-N`: a prompt, then takes N bytes of shell input, says `DONE`, and the session ends."""

    def __init__(self, peer: Peer, size: int) -> None:
        super().__init__(peer)
        self._left = size

    def begin(self) -> None:
        self.send(wire.message(wire.OUTPUT, 0, 1, PROMPT))

    def receive(self, messages: list[bytes]) -> None:
        self._left -= sum(map(len, self.stream_payloads(messages)))
        if self._left <= 0:
            self.send(wire.message(wire.OUTPUT, 1, 1, DONE), wire.channel_closed())


class Echo(Scenario):
    """`echo`: what is typed comes back, in one write with its acknowledgement."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer)
        self._number = 0

    def begin(self) -> None:
        self._answer(PROMPT)

    def receive(self, messages: list[bytes]) -> None:
        if typed := b"".join(self.stream_payloads(messages)):
            self._answer(typed)

    def _answer(self, data: bytes) -> None:
        self.send(wire.message(wire.OUTPUT, self._number, 1, data))
        self._number += 1


class LineEditor(Echo):
    """`editor`: the same at the prompt of a line editor, which sets bracketed paste and resets it at Enter."""

    _prompt = b"\x1b[?2004h" + PROMPT

    def begin(self) -> None:
        self._answer(b"\r")

    def _answer(self, data: bytes) -> None:
        super()._answer(data.replace(b"\r", b"\r\n\x1b[?2004l\r" + self._prompt))


class Negotiated(Scenario):
    """A session that begins with a handshake; `begun` is called when it is over, for what follows."""

    session_type = "Port"
    properties: ClassVar[dict[str, str] | None] = None
    kms_key_id = ""

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer)
        self.connection = SessionEndpoint(
            Role.AGENT, version=AGENT_VERSION, epoch=time.time() - time.monotonic(), random_bytes=os.urandom
        )
        self._negotiating = True

    def begin(self) -> None:
        now = time.monotonic()
        self.connection.connected(None, now)
        self.connection.request_handshake(self.session_type, self.properties, now, kms_key_id=self.kms_key_id)
        self.pump()

    def receive(self, messages: list[bytes]) -> None:
        if not self._negotiating:
            self.stream(messages)
            return
        for message in messages:
            self.connection.receive_message(message, time.monotonic())
        self.pump()

    def pump(self) -> None:
        """Send what the core has to send, and do what its events ask for."""
        while (event := self.connection.next_event()) is not None:
            match event:
                case SessionReady():
                    self._negotiating = False
                    self.begun()
                case DataKeyRequired():
                    keys = self.peer.sandbox.key_service
                    assert keys is not None
                    context = encryption_context(self.peer.session_id, TARGET, event.challenge)
                    self.connection.provide_data_key(
                        keys.decrypt(event.cipher_text, context, event.key_id), time.monotonic()
                    )
                case DataReceived(payload_type=PayloadType.OUTPUT):
                    self.typed(event.data)
                case SessionFailed():
                    self.peer.transport.close()
        messages = self.connection.messages_to_send(time.monotonic())
        self.send(*(message for message in messages if isinstance(message, bytes)))

    def begun(self) -> None:
        """The handshake is over; what is sent from here on has the sequence numbers from 2."""

    def stream(self, messages: list[bytes]) -> None:
        """Messages of one read, after the handshake."""

    def typed(self, data: bytes) -> None:
        """Data that the core has taken."""


class SecretEcho(Negotiated):
    """`secret`: as `echo`, encrypted; the core does all of it."""

    session_type = "Standard_Stream"

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer)
        assert peer.sandbox.key_service is not None
        self.kms_key_id = peer.sandbox.key_service.key_id

    def begun(self) -> None:
        self.typed(PROMPT)

    def stream(self, messages: list[bytes]) -> None:
        for message in messages:
            self.connection.receive_message(message, time.monotonic())
        self.pump()

    def typed(self, data: bytes) -> None:
        self.connection.send_data(PayloadType.OUTPUT, data, time.monotonic())


class Stdio(Negotiated):
    """`stdio-N`: takes N bytes for a destination, as for ssh, says `DONE`, and the session ends."""

    properties: ClassVar[dict[str, str] | None] = {"portNumber": "22"}

    def __init__(self, peer: Peer, size: int) -> None:
        super().__init__(peer)
        self._left = size

    def stream(self, messages: list[bytes]) -> None:
        self._left -= sum(map(len, self.stream_payloads(messages)))
        if self._left <= 0:
            self.send(wire.message(wire.OUTPUT, 2, 1, DONE), wire.channel_closed())


class Mux(Negotiated):
    """A multiplexed port session. What comes on each stream is told by `opened`, `data` and `finished`."""

    properties: ClassVar[dict[str, str] | None] = {
        "portNumber": "80",
        "localPortNumber": "0",
        "type": "LocalPortForwarding",
    }

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer)
        self._header = b""
        self._body_left = 0
        self._stream_id = 0
        self._number = 2

    def stream(self, messages: list[bytes]) -> None:
        data = self._header + b"".join(self.stream_payloads(messages))
        self._header = b""
        position = 0
        while position < len(data):
            if self._body_left:
                body = data[position : position + self._body_left]
                self._body_left -= len(body)
                position += len(body)
                self.data(self._stream_id, body)
            elif len(data) - position < HEADER_SIZE:
                self._header = data[position:]
                break
            else:
                _, command, length, self._stream_id = HEADER.unpack_from(data, position)
                position += HEADER_SIZE
                if command == PSH:
                    self._body_left = length
                elif command == SYN:
                    self.opened(self._stream_id)
                elif command == FIN:
                    self.finished(self._stream_id)

    def opened(self, stream_id: int) -> None:
        """A connection was made."""

    def data(self, stream_id: int, data: bytes) -> None:
        """Something came on it."""

    def finished(self, stream_id: int) -> None:
        """It was closed."""

    def send_smux(self, data: bytes) -> None:
        """Send bytes of the multiplexed stream."""
        numbers = itertools.count(self._number)
        parts = pieces(data)
        self.send(*(wire.message(wire.OUTPUT, next(numbers), 1, part) for part in parts))
        self._number += len(parts)


def smux_frame(command: int, stream_id: int, data: bytes = b"") -> bytes:
    """One frame."""
    return HEADER.pack(VERSION, command, len(data), stream_id) + data


class Download(Mux):
    """`download-S-N`: once S connections are open, N messages of data for all of them in turns, and their end.

    The frames are as the official agent makes them: of 32768 bytes, cut into messages anywhere. N is rounded up to
    whole turns.
    """

    largest_read = 1024

    def __init__(self, peer: Peer, streams: int, count: int) -> None:
        super().__init__(peer)
        self._wanted = streams
        self._count = count
        self._streams: list[int] = []
        self._blocks: Iterator[bytes] = iter(())

    def opened(self, stream_id: int) -> None:
        self._streams.append(stream_id)
        if len(self._streams) == self._wanted:
            body = (LINES * 8)[:MAX_FRAME_DATA]
            turn = b"".join(smux_frame(PSH, stream, body) for stream in self._streams)
            cycle = pieces(turn * (wire.PAYLOAD_SIZE // math.gcd(len(turn), wire.PAYLOAD_SIZE)))
            self.largest_read = SMALL
            turns = -(-self._count * wire.PAYLOAD_SIZE // len(turn))
            whole, rest = divmod(turns * len(turn), wire.PAYLOAD_SIZE)
            ending = b"".join(smux_frame(FIN, stream) for stream in self._streams)
            last = (cycle[whole % len(cycle)][:rest] if rest else b"") + ending
            self._blocks = itertools.chain(
                wire.output_blocks(cycle, whole, self._number),
                wire.output_blocks(pieces(last), len(pieces(last)), self._number + whole),
            )
            self.writable()

    def writable(self) -> None:
        while self.writing and (block := next(self._blocks, b"")):
            self.peer.transport.write(block)


class DownloadPaced(Download):
    """`pacedload-S-N`: the same as the official agent sends it, a message at a time."""

    def writable(self) -> None:
        blocks, self._blocks = self._blocks, iter(())
        pace(self.peer, paced_frames(self.peer, blocks))


class Beside(Mux):
    """`beside-N`: a byte on the first connection begins a download of N messages on it, at the pace of the official
    agent; what comes on the others is echoed at once. Each message is one frame, so that no echo waits for the rest of
    a frame."""

    _body = (LINES * 8)[: wire.PAYLOAD_SIZE - HEADER_SIZE]

    def __init__(self, peer: Peer, count: int) -> None:
        super().__init__(peer)
        self._count = count
        self._first: int | None = None

    def data(self, stream_id: int, data: bytes) -> None:
        if self._first is None:
            self._first = stream_id
            frame = smux_frame(PSH, stream_id, self._body)
            pace(self.peer, itertools.repeat(lambda: self.send_smux(frame), self._count))
        elif stream_id != self._first:
            self.send_smux(smux_frame(PSH, stream_id, data))

    def finished(self, stream_id: int) -> None:
        self.send_smux(smux_frame(FIN, stream_id))


class Upload(Mux):
    """`upload-N`: takes N bytes on all connections together, then answers on the last with its end."""

    def __init__(self, peer: Peer, size: int) -> None:
        super().__init__(peer)
        self._left = size

    def data(self, stream_id: int, data: bytes) -> None:
        self._left -= len(data)
        if self._left == 0:
            self.send_smux(smux_frame(FIN, stream_id))


class Connections(Mux):
    """`connections`: echoes on each connection, until it is closed."""

    def data(self, stream_id: int, data: bytes) -> None:
        self.send_smux(smux_frame(PSH, stream_id, data))

    def finished(self, stream_id: int) -> None:
        self.send_smux(smux_frame(FIN, stream_id))


SCENARIOS: dict[str, Callable[..., Scenario]] = {
    "prompt": Shell,
    "pour": Pour,
    "poured": PourForever,
    "paced": PourPaced,
    "pacedload": DownloadPaced,
    "colours": PourColours,
    "take": Paste,
    "echo": Echo,
    "editor": LineEditor,
    "secret": SecretEcho,
    "stdio": Stdio,
    "download": Download,
    "upload": Upload,
    "connections": Connections,
    "beside": Beside,
}


async def serve() -> None:
    """Print the port, and what gives a client access to the key service; then serve until killed."""
    async with Sandbox(kms=True) as sandbox:
        server = await asyncio.get_running_loop().create_server(lambda: Peer(sandbox), "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        for name, value in sandbox.environment.items():
            print(f"{name}={value}", flush=True)
        print(flush=True)
        await server.serve_forever()


class FarEnd(AbstractContextManager["FarEnd"]):
    """The process. `environment` gives a client access to the key service of `secret`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.far_end"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        lines = iter(self._process.stdout.readline, "\n")
        self.environment = dict(line.rstrip("\n").split("=", 1) for line in lines)
        self.pid = self._process.pid

    def url(self, scenario: str) -> str:
        """The stream URL of a session."""
        return f"ws://127.0.0.1:{self.port}/v1/data-channel/{scenario}"

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


if __name__ == "__main__":
    asyncio.run(serve())
