"""Real programs through `smp forward`: curl and SOCKS, psql to a database by its name, a pool of paced sessions."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.inventory import Database
from session_manager_plugin.agent.port_mux import MuxPort
from tests.e2e.test_forward import forwarding, is_over, ready_port
from tests.support.completed import completed
from tests.support.programs import need
from tests.support.servers import postgresql
from tests.support.stream_server import stream_server
from tests.support.waiting import DEADLINE


async def output_of(*argv: str, env: dict[str, str]) -> bytes:
    """What a program prints; it has to end with status 0."""
    ended = await completed(*argv, env=env)
    assert ended.status == 0, ended.errors.decode(errors="replace")
    return ended.output


async def name_host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A web server whose page is the Host of the request."""
    request = await reader.readuntil(b"\r\n\r\n")
    host = request.partition(b"Host: ")[2].partition(b"\r\n")[0]
    writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + host + b"\n")
    writer.close()


async def test_parallel_fetches_from_several_servers(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """By one curl, so that the fetches are parallel on any machine. All names of a server are served by one session."""
    curl = need("curl")
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(stream_server(name_host, host="0.0.0.0")) for _ in "12345"]
        hosts = [f"{name}:{port}" for name in ("localhost", "127.0.0.2") for port in ports]
        urls = [f"http://{host}/{number}" for number in range(5) for host in hosts]
        process = await stack.enter_async_context(forwarding(sandbox, environment, "-D", "0"))
        proxy = f"localhost:{await ready_port(process)}"
        fetch = [curl, "-sS", "--fail", "--parallel", "--parallel-immediate", "--parallel-max", "50"]
        output = await output_of(*fetch, "--socks5-hostname", proxy, *urls, env=environment)
        assert Counter(output.decode().split()) == Counter(hosts * 5)
        assert len(sandbox.sessions) == len(ports)
        process.terminate()
        await process.communicate()
        assert is_over(sandbox)


async def test_psql_to_a_database_by_its_name(sandbox: Sandbox, environment: dict[str, str]) -> None:
    psql = need("psql")
    async with postgresql() as port:
        sandbox.inventory = dataclasses.replace(
            sandbox.inventory, databases=(Database(id="orders", endpoint="127.0.0.1", port=port),)
        )
        async with forwarding(sandbox, environment, "-L", "0:rds:orders") as process:
            connection = ["-h", "127.0.0.1", "-p", str(await ready_port(process)), "-U", "postgres"]
            query = "SELECT sum(n) FROM generate_series(1, 100000) n"
            assert await output_of(psql, "-XAtq", *connection, "-c", query, env=environment) == b"5000050000\n"


async def test_a_database_that_does_not_exist(sandbox: Sandbox, environment: dict[str, str]) -> None:
    async with forwarding(sandbox, environment, "-L", "0:rds:nothing") as process:
        output, errors = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert (process.returncode, output) == (255, b"")
    assert errors.startswith(b"smp: there is no RDS instance or cluster nothing; ")
    assert not sandbox.sessions


async def test_a_cluster_by_its_name(sandbox: Sandbox, environment: dict[str, str]) -> None:
    async with forwarding(sandbox, environment, "-L", "0:rds:catalogue:1234") as process:
        await ready_port(process)
        (session,) = sandbox.sessions.values()
        assert session.document == "AWS-StartPortForwardingSession"


async def test_a_pool_carries_several_times_as_much(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight downloads, from agents that rest between two messages as the official one does, but so long that the rests
    are what takes time on any machine."""
    monkeypatch.setattr(MuxPort, "message_delay", 0.02)
    size = 25_000

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(bytes(size))
        writer.close()

    async def download(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x")
        assert len(await asyncio.wait_for(reader.read(-1), DEADLINE)) == size
        writer.close()

    seconds = {}
    async with stream_server(serve) as remote, Sandbox(pace="real") as sandbox:
        for pool in (1, 8):
            arguments = ("-L", f":{remote}", "--pool", str(pool))
            async with forwarding(sandbox, {**environment, **sandbox.environment}, *arguments) as process:
                port = await ready_port(process)
                began_at = time.monotonic()
                await asyncio.gather(*(download(port) for _ in range(8)))
                seconds[pool] = time.monotonic() - began_at
    assert seconds[8] < 0.75 * seconds[1]
