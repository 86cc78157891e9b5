"""Everything arrives, once and in order, over a link as on a train: cut every 300 KB, and with 5% of the messages and
acknowledgements dropped, 5% duplicated, 5% reordered, both ways at once.

4 MB each way and session type; ``SMP_SOAK_MB`` says otherwise (``make soak``: 100).
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.faults import Faults, MessageFaults
from session_manager_plugin.agent.session import EndReason
from tests.soak.clients import (
    PYTHON_OF_THE_FAR_END,
    Client,
    ExchangeServer,
    connected,
    receive,
    send,
)
from tests.soak.exchange import digest
from tests.support.relay import Relay
from tests.support.waiting import wait_until

MEGABYTES = int(os.environ.get("SMP_SOAK_MB", "4"))
SIZE = MEGABYTES * 1_000_000
DEADLINE = 60.0 + 20.0 * MEGABYTES
LOSSY = MessageFaults(drop=0.05, duplicate=0.05, reorder=0.05)
FAULTS = Faults(to_client=LOSSY, to_agent=LOSSY, cut_every=300_000, seed=4)
MEMORY_LIMIT = 80_000_000
"""Bytes: a client that has resumed has botocore loaded."""
GROWTH_LIMIT = 4_000_000
STREAMS = 16

pytestmark = pytest.mark.timeout(DEADLINE + 30)


class Soak:
    """What is looked at in every run, and told at its end."""

    def __init__(self, sandbox: Sandbox, client: Client, session_id: str) -> None:
        self._session = sandbox.session(session_id)
        self._client = client
        self._memory: list[int] = []
        self._began_at = time.monotonic()

    async def __aenter__(self) -> Soak:
        self._watching = asyncio.ensure_future(self._watch())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._watching.cancel()

    async def _watch(self) -> None:
        while True:
            self._memory.append(self._client.resident)
            await asyncio.sleep(0.25)

    def check(self, name: str) -> None:
        """Faults have happened, the link was lost and brought back, and the memory did not grow with what passed."""
        self._watching.cancel()
        lasted = time.monotonic() - self._began_at
        counts = self._session.fault_counts
        # Both directions pass, and some of it more than once.
        assert counts.cuts >= SIZE // 300_000
        assert min(counts.dropped, counts.duplicated, counts.reordered) > SIZE // 1024 // 50
        assert self._session.websockets > counts.cuts // 2
        assert max(self._memory) < MEMORY_LIMIT
        settled = self._memory[len(self._memory) // 4 :]
        half = len(settled) // 2
        if half:
            assert max(settled[half:]) < max(settled[:half]) + GROWTH_LIMIT
        print(
            f"\n{name}: {MEGABYTES} MB each way in {lasted:.0f} s ({2 * MEGABYTES / lasted:.2f} MB/s), "
            f"{counts.cuts} cuts, {counts.dropped} dropped, {counts.duplicated} duplicated, "
            f"{counts.reordered} reordered, peak {max(self._memory) / 1e6:.1f} MB"
        )


@pytest.fixture(params=[False, True], ids=["clear", "encrypted"])
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    async with Sandbox(faults=FAULTS, kms=request.param) as running:
        yield running


async def test_a_shell(sandbox: Sandbox) -> None:
    command = f"{PYTHON_OF_THE_FAR_END} {SIZE} 1001"
    started = await sandbox.start_session("AWS-StartInteractiveCommand", {"command": [command]})
    async with asyncio.timeout(DEADLINE), connected(sandbox, started) as client:
        async with Soak(sandbox, client, started.session_id) as soak:
            await client.read_until_ready()
            writing = asyncio.ensure_future(client.write(SIZE, 1))
            assert await client.read(SIZE) == digest(SIZE, 1001)
            await writing
            status, rest = await client.ended()
            soak.check("shell" if sandbox.key_service is None else "encrypted shell")
        assert rest.decode() == digest(SIZE, 1)
        assert status == 0, client.errors.decode()
    assert sandbox.session(started.session_id).end_reason is EndReason.EXITED


@pytest.fixture
async def clear_sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(faults=FAULTS) as running:
        yield running


async def test_standard_input_and_output(clear_sandbox: Sandbox) -> None:
    sandbox = clear_sandbox
    async with asyncio.timeout(DEADLINE), ExchangeServer(SIZE) as server:
        started = await sandbox.start_session("AWS-StartSSHSession", {"portNumber": [str(server.port)]})
        async with connected(sandbox, started) as client, Soak(sandbox, client, started.session_id) as soak:
            assert client.process.stdin is not None
            client.process.stdin.write((1).to_bytes(8, "big"))
            writing = asyncio.ensure_future(client.write(SIZE, 1))
            assert await client.read(SIZE) == digest(SIZE, 1001)
            await writing
            status, rest = await client.ended()
            soak.check("stdio")
        assert (status, rest) == (0, b""), client.errors.decode()
        assert server.complete(range(1, 2))


async def test_sixteen_connections_through_a_forwarded_port(clear_sandbox: Sandbox) -> None:
    sandbox = clear_sandbox
    share = SIZE // STREAMS

    async def exchange(port: int, seed: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(seed.to_bytes(8, "big"))
        sending = asyncio.ensure_future(send(writer, share, seed))
        received = await receive(reader, share)
        await sending
        writer.close()
        return received

    async with asyncio.timeout(DEADLINE), ExchangeServer(share) as server:
        parameters = {"portNumber": [str(server.port)], "localPortNumber": ["0"]}
        started = await sandbox.start_session("AWS-StartPortForwardingSession", parameters)
        async with connected(sandbox, started) as client, Soak(sandbox, client, started.session_id) as soak:
            await wait_until(lambda: b"listening on" in client.errors)
            match = re.search(rb"listening on 127\.0\.0\.1:(\d+)", client.errors)
            assert match is not None
            port = int(match[1])
            digests = await asyncio.gather(*(exchange(port, seed) for seed in range(1, STREAMS + 1)))
            soak.check("mux, 16 streams")
            client.process.terminate()
            await client.ended()
        assert digests == [digest(share, seed + 1000) for seed in range(1, STREAMS + 1)]
        assert server.complete(range(1, STREAMS + 1))


async def test_a_link_that_a_relay_cuts() -> None:
    """The cut is made by neither end: bytes are lost in both sockets' buffers, acknowledgements with them."""
    async with (
        asyncio.timeout(DEADLINE),
        ExchangeServer(SIZE) as server,
        Sandbox() as sandbox,
        Relay(sandbox.port, seed=3, cut_every=300_000) as relay,
    ):
        sandbox.stream_port = relay.port
        started = await sandbox.start_session("AWS-StartSSHSession", {"portNumber": [str(server.port)]})
        async with connected(sandbox, started) as client:
            assert client.process.stdin is not None
            client.process.stdin.write((1).to_bytes(8, "big"))
            writing = asyncio.ensure_future(client.write(SIZE, 1))
            began_at = time.monotonic()
            assert await client.read(SIZE) == digest(SIZE, 1001)
            await writing
            status, rest = await client.ended()
            print(f"\nstdio, cut by a relay: {time.monotonic() - began_at:.0f} s, {relay.counts.cut} cuts")
        assert (status, rest) == (0, b""), client.errors.decode()
        assert server.complete(range(1, 2))
        assert relay.counts.cut >= 2 * SIZE // 300_000
