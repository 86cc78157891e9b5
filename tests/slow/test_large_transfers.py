"""Large amounts each way, through the sandbox's sessions and through a forwarded port with an agent in memory."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from tests.support.forwarding import mux, use_small_buffers
from tests.support.mux_client import MuxClient
from tests.support.port_agent import Destination, Sink, Source
from tests.support.raw_client import RawClient
from tests.support.tcp_server import TcpServer
from tests.support.waiting import wait_until

SIZE = 20 * 1024 * 1024
FORWARDING = "AWS-StartPortForwardingSession"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox with its defaults."""
    async with Sandbox() as running:
        yield running


async def open_port(sandbox: Sandbox, client: RawClient | MuxClient, port: int, document: str = FORWARDING) -> None:
    """Start a port session and open it."""
    started = await sandbox.start_session(document, {"portNumber": [str(port)]})
    await client.open(started.stream_url, started.token)


async def test_20_mib_of_output_arrive_exactly(sandbox: Sandbox, tmp_path: Path) -> None:
    data = random.Random(3).randbytes(SIZE)
    file = tmp_path / "data"
    file.write_bytes(data)
    async with RawClient() as client:
        command = {"command": [f"stty raw -echo; cat {file}"]}
        started = await sandbox.start_session("AWS-StartInteractiveCommand", command)
        await client.open(started.stream_url, started.token)
        assert await client.until_closed() == ""
        assert hashlib.sha256(client.output).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("document", ["AWS-StartSSHSession", FORWARDING])
async def test_20_mib_each_way_without_smux(sandbox: Sandbox, document: str) -> None:
    data = random.Random(8).randbytes(SIZE)
    async with TcpServer(echoes=True) as server, RawClient(version="1.1.69.0") as client:
        await open_port(sandbox, client, server.port, document)
        sending = asyncio.create_task(client.send_input(data))
        echoed = await client.read_exactly(SIZE)
        await sending
        assert hashlib.sha256(echoed).digest() == hashlib.sha256(data).digest()
        assert server.peers[0].received == data


async def test_20_mib_from_the_destination(sandbox: Sandbox) -> None:
    data = random.Random(2).randbytes(SIZE)
    async with TcpServer(greeting=data, hangs_up=True) as server, MuxClient() as client:
        await open_port(sandbox, client, server.port)
        received = await client.until_finished(await client.open_stream())
        assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


async def test_20_mib_to_the_destination(sandbox: Sandbox) -> None:
    data = random.Random(3).randbytes(SIZE)
    async with TcpServer() as server, MuxClient() as client:
        await open_port(sandbox, client, server.port)
        stream = await client.open_stream()
        await client.write(stream, data)
        await client.close_stream(stream)
        peer = await server.accepted(0)
        await wait_until(lambda: peer.at_end)
        assert hashlib.sha256(peer.received).digest() == hashlib.sha256(data).digest()


async def test_memory_stays_flat_whatever_goes_through_a_forwarded_port(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_buffers(monkeypatch)
    size = 12 * 1024 * 1024
    piece = random.Random(1).randbytes(1 << 18)
    down = hashlib.sha256()
    sink = Sink()
    destinations: list[Destination] = [Source(size, piece), sink]
    async with mux(lambda: destinations.pop(0)) as (forwarding, agent):
        reader, writer = await forwarding.connect()
        received = 0
        gc.collect()
        tracemalloc.start()
        try:
            while data := await reader.read(1 << 16):
                received += len(data)
                down.update(data)

            reader, writer = await forwarding.connect()
            for _ in range(size // len(piece)):
                writer.write(piece)
                await writer.drain()
            await agent.until(lambda: sink.size == size)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert received == size
    assert down.digest() == hashlib.sha256(piece * (size // len(piece))).digest()
    # Two windows of 1 MiB, at both ends, and a stream's unread data; not the 12 MiB that went through.
    assert peak < 11 * 1024 * 1024
