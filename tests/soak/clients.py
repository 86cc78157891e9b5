"""Our client as a process of its own, watched while it works."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shlex
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.api import StartedSession
from tests.soak.exchange import READY, blocks, digest
from tests.support.programs import PATIENCE

SMP = Path(sys.executable).with_name("smp")
PYTHON_OF_THE_FAR_END = shlex.join([sys.executable, "-I", "-S", str(Path(__file__).with_name("exchange.py"))])


class Client:
    """A running ``smp connect`` with pipes."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.errors = bytearray()
        self._reading = asyncio.ensure_future(self._read_errors())

    async def _read_errors(self) -> None:
        assert self.process.stderr is not None
        while data := await self.process.stderr.read(65536):
            self.errors += data

    @property
    def resident(self) -> int:
        """Bytes of memory in use."""
        return self._of_status("VmRSS")

    @property
    def most_resident(self) -> int:
        """The same at its highest."""
        return self._of_status("VmHWM")

    def _of_status(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        assert match is not None
        return int(match[1]) * 1024

    async def write(self, size: int, seed: int) -> None:
        """Send a stream to its standard input, as fast as it takes it."""
        stdin = self.process.stdin
        assert stdin is not None
        for block in blocks(size, seed):
            stdin.write(block)
            await stdin.drain()

    async def read(self, size: int) -> str:
        """Take so many bytes from its standard output; gives their hash."""
        assert self.process.stdout is not None
        hashed = hashlib.sha256()
        while size:
            data = await self.process.stdout.read(min(size, 65536))
            assert data, f"the output ended {size} bytes too early: {self.errors.decode()}"
            hashed.update(data)
            size -= len(data)
        return hashed.hexdigest()

    async def read_until_ready(self) -> None:
        """Skip what comes before the remote program is ready."""
        assert self.process.stdout is not None
        await self.process.stdout.readuntil(READY)

    async def ended(self) -> tuple[int, bytes]:
        """Wait for its end; gives its exit status and the rest of its output."""
        assert self.process.stdout is not None
        rest = await self.process.stdout.read()
        status = await self.process.wait()
        await self._reading
        return status, rest


@contextlib.asynccontextmanager
async def connected(sandbox: Sandbox, started: StartedSession, *options: str) -> AsyncIterator[Client]:
    """``smp connect`` to a session of ``sandbox``, killed in the end if it still runs."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "PYTHONPATH": PATIENCE,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SMP_TOKEN": started.token or "",
        **sandbox.environment,
    }
    arguments = ["--url", started.stream_url, "--endpoint-url", sandbox.endpoint_url, "--target", "local", *options]
    process = await asyncio.create_subprocess_exec(
        SMP, "connect", *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment, limit=1024 * 1024
    )
    try:
        yield Client(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class ExchangeServer:
    """Each connection to ``port`` sends ``size`` bytes, takes as many, and is closed then.

    The seed of what it takes is the number that comes first, eight bytes; what it sends has that one plus 1000.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.port = 0
        self.digests: dict[int, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> ExchangeServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            seed = int.from_bytes(await reader.readexactly(8), "big")
            sending = asyncio.ensure_future(send(writer, self.size, seed + 1000))
            self.digests[seed] = await receive(reader, self.size)
            await sending
        finally:
            self._tasks.discard(task)
            writer.close()

    def complete(self, seeds: range) -> bool:
        """Whether everything came as it was sent."""
        return self.digests == {seed: digest(self.size, seed) for seed in seeds}


async def send(writer: asyncio.StreamWriter, size: int, seed: int) -> None:
    """Send a stream."""
    for block in blocks(size, seed):
        writer.write(block)
        await writer.drain()


async def receive(reader: asyncio.StreamReader, size: int) -> str:
    """Take so many bytes; gives their hash."""
    hashed = hashlib.sha256()
    while size:
        data = await reader.read(min(size, 65536))
        assert data, f"the connection ended {size} bytes too early"
        hashed.update(data)
        size -= len(data)
    return hashed.hexdigest()
