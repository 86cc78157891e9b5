"""A link to the far end with TLS and a round-trip time, in a process of its own.

Each byte takes half of the round-trip time, each way. The first ones of a connection take a whole one more: what the
handshake of TCP would have taken, which loopback makes at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from tests.support.certificates import Authority

HOST = "localhost"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            loop.call_later(delay, writer.write, data)
    loop.call_later(delay, writer.close)


async def _join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, round_trip: float) -> None:
    """Join a connection to ``port`` of loopback."""
    inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.sleep(round_trip)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_copy(reader, inner_writer, round_trip / 2))
        tasks.create_task(_copy(inner_reader, writer, round_trip / 2))


async def _serve(port: int, round_trip: float, directory: Path) -> None:
    async def with_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _join(reader, writer, port, 0.0)

    async def with_delay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _join(reader, writer, inner_port, round_trip)

    context: ssl.SSLContext = Authority(directory).server_context(HOST)
    inner = await asyncio.start_server(with_tls, "127.0.0.1", ssl=context)
    inner_port = inner.sockets[0].getsockname()[1]
    outer = await asyncio.start_server(with_delay, "127.0.0.1")
    print(outer.sockets[0].getsockname()[1], flush=True)
    await outer.serve_forever()


class Link(AbstractContextManager["Link"]):
    """The process, in front of ``port`` of loopback; ``round_trip`` is in seconds. ``bundle`` is the file of CA
    certificates that a client trusts it with."""

    def __init__(self, port: int, round_trip: float) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.bundle = str(Path(self._directory.name, "ca.pem"))
        arguments = [sys.executable, "-m", "benchmarks.link", str(port), str(round_trip), self._directory.name]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())

    def url(self, scenario: str) -> str:
        """The stream URL of a session of the far end."""
        return f"wss://{HOST}:{self._port}/v1/data-channel/{scenario}"

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._directory.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])))
