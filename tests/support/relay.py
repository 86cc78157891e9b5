"""A TCP relay between two processes, with the faults of a link: cut, reset, stall, half-open, refusal, delay, throttle.

In a test's own process::

    async with Relay(sandbox.port) as relay:
        sandbox.stream_port = relay.port    # so that stream URLs lead through the relay
        relay.stall()

As a child process, which shares no event loop with what it stands between::

    python -m tests.support.relay --target PORT [--seed N] [--cut-every BYTES] …

It says ``listening PORT`` on stdout, takes commands on stdin, one a line, and answers each by ``ok …`` when it is done,
or ``error …``; the end of stdin ends it. ``RelayProcess`` is the other end of that. The commands are the methods and
settings of ``Relay``: ``cut``, ``reset``, ``stall``, ``release``, ``half-open``, ``refuse``, ``swallow``, ``accept``,
``delay SECONDS``, ``throttle BYTES``, ``cut-every BYTES``, ``counts``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import re
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from tests.support.waiting import DEADLINE

ROOT = Path(__file__).parents[2]
FINISH_TIMEOUT = 0.5
"""Seconds that the ends have to answer a FIN."""

CHUNK_SIZE = 64 * 1024
"""Bytes read at a time."""
MAX_CHUNKS = 256
"""Chunks on the way in one direction, while they are delayed; then nothing more is read."""

HowCut = Literal["fin", "reset"]


class Newcomers(Enum):
    """What becomes of a new connection."""

    JOINED = auto()
    """It is joined to the target."""
    REFUSED = auto()
    """Nobody listens: the kernel refuses it."""
    SWALLOWED = auto()
    """It is opened, what comes is read and goes nowhere, and nothing ever answers."""


@dataclass
class RelayCounts:
    """``joined``: connections that were joined to the target; ``cut``: those that the relay ended; and the bytes that
    it forwarded each way."""

    joined: int = 0
    cut: int = 0
    to_target: int = 0
    to_client: int = 0


class Relay:
    """Listens on 127.0.0.1 while the context is entered, on ``port``, or on a free one when it is 0, and joins each
    connection to ``target_port`` of 127.0.0.1. Everything may be changed at any time:

    ``delay``: seconds every byte takes longer, each way. ``throttle``: bytes per second and direction, 0 for no limit.
    ``cut_every``: a connection, if it is opened from then on, is ended when about this many bytes have passed it, both
    ways together: each has a limit of its own between half and one and a half times as many, drawn in their order from
    ``seed``; 0 for never. ``cut_how``: cleanly, by a FIN to both ends, or by a RST. What exceeds the limit is lost, but
    the other direction goes on for ``cut_linger`` seconds, as it does on a long link: else a burst that is sent again
    after each cut would never get its answer.
    """

    def __init__(
        self,
        target_port: int,
        *,
        port: int = 0,
        seed: int = 0,
        delay: float = 0.0,
        throttle: int = 0,
        cut_every: int = 0,
        cut_how: HowCut = "reset",
        cut_linger: float = 0.02,
    ) -> None:
        self.target_port = target_port
        self.port = port
        self.delay = delay
        self.throttle = throttle
        self.cut_every = cut_every
        self.cut_how: HowCut = cut_how
        self.cut_linger = cut_linger
        self.newcomers = Newcomers.JOINED
        self.counts = RelayCounts()
        self.connections: set[RelayedConnection] = set()
        self.running = asyncio.Event()
        self.running.set()
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, stream_url: str) -> str:
        """``stream_url`` with the relay's port in the place of its own."""
        return re.sub(r"(?<=^ws://127\.0\.0\.1:)\d+", str(self.port), stream_url)

    # The connections there are.

    def cut(self) -> None:
        """End them cleanly: a FIN to both ends, behind what was forwarded."""
        self._end("fin")

    def reset(self) -> None:
        """End them with a RST to both ends."""
        self._end("reset")

    def _end(self, how: HowCut) -> None:
        for connection in list(self.connections):
            connection.end(how)

    def stall(self) -> None:
        """Read and forward nothing any more, on new connections either. They stay, and what is sent piles up."""
        self.running.clear()

    def release(self) -> None:
        """End a stall; nothing was lost."""
        self.running.set()

    def half_open(self) -> None:
        """Swallow everything that comes from now on, from either end. The connections stay open, nobody is told of
        anything, not even that the other end has closed; there is no way back but their end."""
        for connection in list(self.connections):
            connection.swallows = True

    # New connections.

    async def accept(self) -> None:
        """Join new connections to the target, as in the beginning."""
        self.newcomers = Newcomers.JOINED
        if self._server is None:
            await self._listen()

    async def swallow(self) -> None:
        """Open new connections, take what comes and never answer."""
        await self.accept()
        self.newcomers = Newcomers.SWALLOWED

    async def refuse(self) -> None:
        """Do not listen: the kernel refuses new connections."""
        self.newcomers = Newcomers.REFUSED
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, limit=CHUNK_SIZE)
        self.port = self._server.sockets[0].getsockname()[1]

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(End(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: End) -> None:
        limit = self.cut_every * (0.5 + self._random.random()) if self.cut_every else math.inf
        swallows = self.newcomers is Newcomers.SWALLOWED
        target = client
        try:
            if not swallows:
                streams = await asyncio.open_connection("127.0.0.1", self.target_port, limit=CHUNK_SIZE)
                target = End(*streams)
                self.counts.joined += 1
        except OSError:
            client.reset()
            return
        except asyncio.CancelledError:
            client.writer.transport.abort()
            raise
        connection = RelayedConnection(self, client, target, limit, swallows=swallows)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)
            for end in {client, target}:
                await end.close()


class End:
    """One socket of a connection through the relay."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def reset(self) -> None:
        """Close it with a RST."""
        with contextlib.suppress(OSError):  # it may be closed already
            connection: socket.socket = self.writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def finish(self) -> None:
        """Send a FIN; give the other side the time to answer it, since closing earlier might send a RST."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            if not self.writer.is_closing():
                self.writer.write_eof()
            async with asyncio.timeout(FINISH_TIMEOUT):
                while await self.reader.read(CHUNK_SIZE):
                    pass

    async def close(self) -> None:
        """Have it closed, whatever state it is in."""
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class RelayedConnection:
    """One connection through the relay, with the bytes that may pass it."""

    def __init__(self, relay: Relay, client: End, target: End, limit: float, *, swallows: bool) -> None:
        self.swallows = swallows
        self._relay = relay
        self._client = client
        self._target = target
        self._left = limit
        self._over: End | None = None
        self._ended: asyncio.Future[HowCut] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Forward until both ends are done, or it is ended."""
        client, target = self._client, self._target
        ways = [(client, target), (target, client)] if client is not target else [(client, client)]
        forwarding = asyncio.gather(*(self._forward(source, sink) for source, sink in ways))
        try:
            awaited: set[asyncio.Future[Any]] = {forwarding, self._ended}
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            forwarding.cancel()
            (outcome,) = await asyncio.gather(forwarding, return_exceptions=True)
        how = self._ended.result() if self._ended.done() else "reset" if isinstance(outcome, Exception) else "fin"
        if how == "reset":
            client.reset()
            target.reset()
        else:
            await asyncio.gather(client.finish(), target.finish())

    def end(self, how: HowCut) -> None:
        """End it."""
        if not self._ended.done():
            self._relay.counts.cut += 1
            self._ended.set_result(how)

    async def _forward(self, source: End, sink: End) -> None:
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MAX_CHUNKS)
        writing = asyncio.create_task(self._write(on_the_way, sink))
        try:
            await self._read(source, on_the_way)
            await writing
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _read(self, source: End, on_the_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop, relay = asyncio.get_running_loop(), self._relay
        data = b"anything"
        while data:
            await relay.running.wait()
            try:
                data = await source.reader.read(CHUNK_SIZE)
            except ConnectionError:
                if not self.swallows:
                    raise
                data = b""
            if self.swallows:
                if not data:
                    await self._ended  # nobody is told
                continue
            await on_the_way.put((loop.time() + relay.delay, data))

    async def _write(self, on_the_way: asyncio.Queue[tuple[float, bytes]], sink: End) -> None:
        loop, relay = asyncio.get_running_loop(), self._relay
        while True:
            due_at, data = await on_the_way.get()
            await asyncio.sleep(due_at - loop.time())
            if not data and not self.swallows:
                await relay.running.wait()
                sink.writer.write_eof()
                return
            while data and not self.swallows:
                await relay.running.wait()
                size = max(1, relay.throttle // 50) if relay.throttle else CHUNK_SIZE
                await self._pass(data[:size], sink)
                data = data[size:]

    async def _pass(self, data: bytes, sink: End) -> None:
        counts, throttle = self._relay.counts, self._relay.throttle
        data = self._within_limit(data, sink)
        if sink is self._target:
            counts.to_target += len(data)
        else:
            counts.to_client += len(data)
        sink.writer.write(data)
        await sink.writer.drain()
        if throttle:
            await asyncio.sleep(len(data) / throttle)

    def _within_limit(self, data: bytes, sink: End) -> bytes:
        """What of ``data`` passes; from the limit on, nothing more in the direction in which it was reached."""
        if self._over is not None:
            return b"" if sink is self._over else data
        if len(data) < self._left:
            self._left -= len(data)
            return data
        self._over = sink
        asyncio.get_running_loop().call_later(self._relay.cut_linger, self.end, self._relay.cut_how)
        return data[: int(self._left)]


class RelayProcess:
    """A `Relay` in a process of its own while the context is entered; ``options`` are those of its command line."""

    def __init__(self, target_port: int, *options: str) -> None:
        self._argv = [sys.executable, "-m", "tests.support.relay", "--target", str(target_port), *options]
        self._process: asyncio.subprocess.Process
        self.port = 0

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT
        )
        self.port = int((await self._line()).removeprefix("listening "))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await asyncio.wait_for(self._process.wait(), DEADLINE)

    async def command(self, line: str) -> str:
        """Have it do something; gives what it says. Raises ``ValueError`` for a line that it does not understand."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        verdict, _, text = (await self._line()).partition(" ")
        if verdict != "ok":
            raise ValueError(text)
        return text

    async def _line(self) -> str:
        assert self._process.stdout is not None
        return (await asyncio.wait_for(self._process.stdout.readline(), DEADLINE)).decode().rstrip("\n")


async def obey(relay: Relay, line: str) -> str:
    """Carry a line of the protocol out; gives the answer."""
    name, *values = line.split()
    actions: dict[str, Callable[[], object]] = {
        "cut": relay.cut,
        "reset": relay.reset,
        "stall": relay.stall,
        "release": relay.release,
        "half-open": relay.half_open,
        "accept": relay.accept,
        "swallow": relay.swallow,
        "refuse": relay.refuse,
    }
    settings: dict[str, Callable[[str], int | float]] = {"delay": float, "throttle": int, "cut-every": int}
    if name == "counts" and not values:
        return f"ok {json.dumps(asdict(relay.counts))}"
    if name in actions and not values:
        done = actions[name]()
        if asyncio.iscoroutine(done):
            await done
        return "ok"
    if name in settings and len(values) == 1:
        try:
            setattr(relay, name.replace("-", "_"), settings[name](values[0]))
        except ValueError:
            return f"error {name} wants a number, not {values[0]}"
        return "ok"
    return f"error there is no command {line!r}"


async def main() -> None:
    """The child process."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.relay")
    parser.add_argument("--target", type=int, required=True, metavar="PORT", dest="target_port")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--throttle", type=int, default=0, metavar="BYTES-PER-SECOND")
    parser.add_argument("--cut-every", type=int, default=0, metavar="BYTES")
    parser.add_argument("--cut-how", choices=["fin", "reset"], default="reset")
    parser.add_argument("--cut-linger", type=float, default=0.02, metavar="SECONDS")
    options = parser.parse_args()
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    async with Relay(**vars(options)) as relay:
        print(f"listening {relay.port}", flush=True)
        while line := (await commands.readline()).decode():
            if line.strip():
                print(await obey(relay, line.strip()), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
