"""How fast a forwarded port is, and what that costs, next to the goals.

Run it from an environment that has the package installed, on Linux (CPU time and memory are read from /proc)::

    python benchmarks/forwarding.py                              # everything
    python benchmarks/forwarding.py download upload --mib 512    # some of it
    python benchmarks/forwarding.py download --profile client    # and where the client's time goes

Four processes, on one machine::

    this one     connects to the forwarded port, and measures
    client       the package's session, with a listener on a free port
    agent        the package's sandbox, which connects to the far end
    far end      sends, takes or echoes what it is asked to, with next to no work

The agent is as much Python as the client, and its work is the same: where its share of a core is near 1 and the
client's is not, the figure is the agent's. Where cores are few, all four share them. CPU time is user and system
together; "each" is each MB, echo or connection. A MB is a million bytes, a MiB 2^20. Only echoes are compared with what
was sent; of transfers the bytes are counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import os
import pstats
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.library import connect
from session_manager_plugin.session.listener import listen_on_port
from session_manager_plugin.terminal.console import Console

DEADLINE = 300.0
"""Seconds without any progress after which a measurement has failed."""
MIB = 2**20
BLOCK = bytes(range(256)) * 1024
REQUEST = struct.Struct(">cQ")
"""What the far end is to do, and with how many bytes."""
SEND, TAKE, ECHO = b"s", b"t", b"e"
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


# The far end.


class FarEnd(asyncio.Protocol):
    """One connection: does what its first bytes, a `REQUEST`, ask for."""

    def __init__(self) -> None:
        self._head = b""
        self._task = b""
        self._left = 0
        self._writing = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._task:
            self._head += data
            if len(self._head) < REQUEST.size:
                return
            self._task, self._left = REQUEST.unpack_from(self._head)
            data = self._head[REQUEST.size :]
        if self._task == ECHO:
            self._transport.write(data)
        elif self._task == TAKE:
            self._left -= len(data)
            if not self._left:
                self._transport.write(b".")
        else:
            self._send()

    def _send(self) -> None:
        while self._writing and self._left:
            size = min(self._left, len(BLOCK))
            self._left -= size
            self._transport.write(BLOCK if size == len(BLOCK) else BLOCK[:size])

    def pause_writing(self) -> None:
        self._writing = False

    def resume_writing(self) -> None:
        self._writing = True
        if self._task == SEND:
            self._send()


async def be_far_end() -> None:
    """Print the port and serve until killed."""
    server = await asyncio.get_running_loop().create_server(FarEnd, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# The agent and the client.


async def be_agent(port: str) -> None:
    """Start a session that forwards `port`, print its URL and token, and serve it until killed."""
    async with Sandbox() as sandbox:
        started = await sandbox.start_session("AWS-StartPortForwardingSession", {"portNumber": [port]})
        print(started.stream_url, started.token, flush=True)
        await until_terminated()


async def be_client(url: str, token: str) -> None:
    """Forward a free port, print it, and go on until killed."""
    listener = listen_on_port(0)
    async with connect(url, token) as session:
        print(listener.port, flush=True)
        running = asyncio.ensure_future(session.run(Console(), listener=listener))
        terminated = asyncio.ensure_future(until_terminated())
        await asyncio.wait({running, terminated}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def until_terminated() -> None:
    """Wait for SIGTERM."""
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    await terminated.wait()


ROLES: dict[str, Callable[..., Coroutine[None, None, None]]] = {
    "far-end": be_far_end,
    "agent": be_agent,
    "client": be_client,
}


def play(role: str, *, profile: bool) -> None:
    """Be one of the processes, with the arguments on the first line of stdin; with ``profile`` say on stderr, at the
    end, where the time went."""
    arguments = sys.stdin.readline().split()
    if not profile:
        asyncio.run(ROLES[role](*arguments))
        return
    profiler = cProfile.Profile()
    profiler.runcall(asyncio.run, ROLES[role](*arguments))
    pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(30)


class Process(AbstractContextManager["Process"]):
    """One of the others; ``answer`` is the line that it printed when it was ready."""

    def __init__(self, role: str, *arguments: str, profile: bool = False) -> None:
        command = [sys.executable, __file__, "--play", role]
        if profile:
            command += ["--profile", role]
        # In a session of its own, since Ctrl-C is for this process, which ends the others.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(arguments) + "\n")  # not as arguments: one is a token
        self._process.stdin.flush()
        self.answer = self._process.stdout.readline().split()
        if not self.answer:
            raise ChildProcessError(f"the {role} did not start")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=20)
        finally:
            self._process.kill()

    @property
    def cpu(self) -> float:
        """CPU seconds it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def memory(self, field: str) -> float:
        """MiB of it: ``VmRSS`` for what is resident now, ``VmHWM`` for the most that ever was."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith(f"{field}:"))
        return int(line.split()[1]) / 1024


# Measuring.


@dataclass
class Cost:
    """What something took: wall seconds, and CPU seconds of client and agent."""

    wall: float
    client: float
    agent: float


class Bench:
    """The three processes, and what can be done with the forwarded port."""

    def __init__(self, client: Process, agent: Process) -> None:
        self.client, self.agent = client, agent
        self._port = int(client.answer[0])

    @contextlib.contextmanager
    def measured(self) -> Iterator[Cost]:
        """The cost of the block; complete when it has ended."""
        cost = Cost(0.0, 0.0, 0.0)
        start = Cost(time.perf_counter(), self.client.cpu, self.agent.cpu)
        yield cost
        cost.wall = time.perf_counter() - start.wall
        cost.client, cost.agent = self.client.cpu - start.client, self.agent.cpu - start.agent

    def open(self, task: bytes, size: int) -> socket.socket:
        """Connect and send a request."""
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=DEADLINE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(REQUEST.pack(task, size))
        return connection

    def download(self, size: int) -> None:
        """Have so many bytes sent."""
        buffer = bytearray(MIB)
        with self.open(SEND, size) as connection:
            while size:
                received = connection.recv_into(buffer, min(size, len(buffer)))
                if not received:
                    raise ConnectionResetError(f"{size} bytes are missing")
                size -= received

    def upload(self, size: int) -> None:
        """Send so many bytes, and wait until they have arrived."""
        with self.open(TAKE, size) as connection:
            while size:
                size -= connection.send(BLOCK[:size] if size < len(BLOCK) else BLOCK)
            if connection.recv(1) != b".":
                raise ConnectionResetError("not everything arrived")

    def echo(self, count: int) -> list[float]:
        """Send a byte and wait for it, so many times over one connection; gives the seconds that each took."""
        took = []
        with self.open(ECHO, 0) as connection:
            for number in range(count):
                byte = bytes([number & 0xFF])
                start = time.perf_counter()
                connection.sendall(byte)
                if connection.recv(2) != byte:
                    raise ConnectionResetError("the echo is wrong")
                took.append(time.perf_counter() - start)
        return took


def at_once(count: int, work: Callable[[], object]) -> None:
    """Do something so many times at once. Raises what the first that failed has raised."""
    failures: list[Exception] = []

    def guarded() -> None:
        try:
            work()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def row(name: str, figure: str, goal: str = "", cost: Cost | None = None, units: float = 0.0) -> None:
    """Print a line of the table. ``units`` is how many MB, echoes or connections the cost is for."""
    shares = each = ""
    if cost is not None:
        shares = f"{cost.client / cost.wall:6.2f} {cost.agent / cost.wall:6.2f}"
        each = f"{cost.client / units * 1000:8.2f} {cost.agent / units * 1000:8.2f}"
    print(f"{name:26} {figure:>15}  {goal:12} {shares:13} {each}".rstrip(), flush=True)


def bulk(bench: Bench, name: str, transfer: Callable[[int], None], streams: int, mib: int, goal: str) -> None:
    """Move ``mib`` MiB over ``streams`` connections at once."""
    each = mib * MIB // streams
    with bench.measured() as cost:
        at_once(streams, lambda: transfer(each))
    mb = each * streams / 1e6
    row(f"{name}, {streams} stream{'s' if streams > 1 else ''}", f"{mb / cost.wall:.1f} MB/s", goal, cost, mb)


def measure_download(bench: Bench, arguments: argparse.Namespace) -> None:
    """From the far end, over one connection and over eight."""
    for streams in (1, 8):
        bulk(bench, "download", bench.download, streams, arguments.mib, ">= 40")


def measure_upload(bench: Bench, arguments: argparse.Namespace) -> None:
    """To the far end, over one connection and over eight."""
    for streams in (1, 8):
        bulk(bench, "upload", bench.upload, streams, arguments.mib, ">= 20")


def measure_echo(bench: Bench, arguments: argparse.Namespace) -> None:
    """One byte there and back, nothing else going on."""
    bench.echo(100)
    with bench.measured() as cost:
        took = bench.echo(arguments.echoes)
    percentiles = statistics.quantiles(took, n=100)
    row("1-byte echo, p50", f"{percentiles[49] * 1000:.2f} ms", "<= 1.0", cost, len(took))
    row("1-byte echo, p99", f"{percentiles[98] * 1000:.2f} ms")


def measure_connections(bench: Bench, arguments: argparse.Namespace) -> None:
    """Connect, have a byte echoed, close: one after the other, and by eight at once."""
    for lanes in (1, 8):
        each = arguments.connections // lanes

        def connect_often(each: int = each) -> None:
            for _ in range(each):
                bench.echo(1)

        with bench.measured() as cost:
            at_once(lanes, connect_often)
        row(f"new connections, by {lanes}", f"{each * lanes / cost.wall:.0f} /s", ">= 600", cost, each * lanes)


def measure_many(bench: Bench, arguments: argparse.Namespace) -> None:
    """64 connections that are open at once: all of them have bytes echoed, then all of them download."""
    echoes = max(1, arguments.echoes // 64)
    everybody = threading.Barrier(64)

    def echo() -> None:
        everybody.wait(DEADLINE)
        bench.echo(echoes)

    with bench.measured() as cost:
        at_once(64, echo)
    row("64 at once, 1-byte echoes", f"{64 * echoes / cost.wall:.0f} /s", "none fails", cost, 64 * echoes)
    bulk(bench, "download", bench.download, 64, arguments.mib, "none fails")


def measure_memory(bench: Bench, arguments: argparse.Namespace) -> None:
    """The client's memory when 64 MiB have been downloaded, and when all of it has."""
    bench.download(64 * MIB)
    before = bench.client.memory("VmRSS")
    rest = int(arguments.gib * 1024) - 64
    if rest > 0:
        bench.download(rest * MIB)
    row("client's RSS, 64 MiB", f"{before:.1f} MiB")
    row(f"client's RSS, {arguments.gib:g} GiB", f"{bench.client.memory('VmRSS'):.1f} MiB", "flat")
    row("client's peak RSS", f"{bench.client.memory('VmHWM'):.1f} MiB")


MEASUREMENTS: dict[str, Callable[[Bench, argparse.Namespace], None]] = {
    "memory": measure_memory,
    "download": measure_download,
    "upload": measure_upload,
    "echo": measure_echo,
    "connections": measure_connections,
    "many": measure_many,
}
"""In this order: memory is only telling in a client that has done nothing before."""


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"only these: {', '.join(MEASUREMENTS)}")
    parser.add_argument("--mib", type=int, default=128, metavar="N", help="MiB in each transfer")
    parser.add_argument("--gib", type=float, default=1.0, metavar="N", help="GiB for the client's memory")
    parser.add_argument("--echoes", type=int, default=5_000, metavar="N")
    parser.add_argument("--connections", type=int, default=2_000, metavar="N")
    parser.add_argument("--profile", choices=["client", "agent"], help="where that process's time goes, on stderr")
    parser.add_argument("--play", choices=list(ROLES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.play:
        play(arguments.play, profile=arguments.profile is not None)
        return
    if unknown := set(arguments.what) - set(MEASUREMENTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}: choose from {', '.join(MEASUREMENTS)}")
    with (
        Process("far-end") as far_end,
        Process("agent", *far_end.answer, profile=arguments.profile == "agent") as agent,
        Process("client", *agent.answer, profile=arguments.profile == "client") as client,
    ):
        print(f"{'':56} share of a core  CPU ms each")
        print(f"{'':26} {'':>15}  {'goal':12} {'client':>6} {'agent':>6} {'client':>8} {'agent':>8}")
        bench = Bench(client, agent)
        for name, measure in MEASUREMENTS.items():
            if not arguments.what or name in arguments.what:
                measure(bench, arguments)


if __name__ == "__main__":
    main()
