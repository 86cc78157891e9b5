"""Outages that last: what was under way when the link went goes on when it is back.

The outage lasts 8 seconds, long enough for several attempts to fail; ``SMP_SOAK_OUTAGE`` says otherwise. Ten minutes
with a clock that is a number are in ``tests/test_protocol/test_outage.py``.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import shlex
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from tests.soak.clients import PYTHON_OF_THE_FAR_END, Client, connected
from tests.soak.exchange import digest
from tests.support.programs import need
from tests.support.relay import Relay
from tests.support.servers import ssh_server
from tests.support.waiting import wait_until

OUTAGE = float(os.environ.get("SMP_SOAK_OUTAGE", "8"))
"""Seconds."""
COPY_SIZE = 8 * 1024 * 1024
THROTTLE = 4 * 1024 * 1024
"""Bytes per second, so that the outage comes in the middle of the copy."""
DEADLINE = 120.0 + 2 * OUTAGE

pytestmark = pytest.mark.timeout(DEADLINE + 30)


async def refused(relay: Relay) -> None:
    """Connections are reset, and refused from then on."""
    await relay.refuse()
    relay.reset()


async def silent(relay: Relay) -> None:
    """What is sent vanishes, on new connections too; nobody is told anything."""
    await relay.swallow()
    relay.half_open()


@pytest.mark.parametrize("fails", [refused, silent])
async def test_scp_goes_on_after_an_outage(fails: Callable[[Relay], Awaitable[None]], tmp_path: Path) -> None:
    original, there = tmp_path / "original", tmp_path / "there"
    original.write_bytes(random.Random(5).randbytes(COPY_SIZE))
    smp = Path(sys.executable).with_name("smp")
    async with (
        asyncio.timeout(DEADLINE),
        ssh_server(tmp_path) as server,
        Sandbox() as sandbox,
        Relay(sandbox.port, throttle=THROTTLE) as relay,
    ):
        sandbox.stream_port = relay.port
        started = await sandbox.start_session("AWS-StartSSHSession", {"portNumber": [str(server.port)]})
        options = ["--url", started.stream_url, "--endpoint-url", sandbox.endpoint_url, "--keepalive", "2"]
        proxy = shlex.join([str(smp), "connect", *options])
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "SMP_TOKEN": started.token or "",
            "AWS_EC2_METADATA_DISABLED": "true",
            **sandbox.environment,
        }
        copy = await asyncio.create_subprocess_exec(
            *[need("scp"), *server.options, "-o", f"ProxyCommand={proxy}", str(original), f"root@local:{there}"],
            stdin=PIPE,
            stderr=PIPE,
            env=environment,
        )
        try:
            await wait_until(lambda: relay.counts.to_target > COPY_SIZE // 4)
            await fails(relay)
            await asyncio.sleep(OUTAGE)
            assert copy.returncode is None
            await relay.accept()
            relay.reset()
            _, errors = await copy.communicate()
        finally:
            if copy.returncode is None:
                copy.kill()
        assert copy.returncode == 0, errors.decode()
        assert hashlib.sha256(there.read_bytes()).digest() == hashlib.sha256(original.read_bytes()).digest()
        # One line when it was lost, one when it was back; in the end ssh hangs up on its proxy command.
        told = [line for line in errors.decode().splitlines() if line.startswith("smp: ")]
        assert re.match(r"smp: (connection lost \d s ago; reconnecting|no answer, last contact \d+ s ago)", told[0]), (
            told
        )
        assert re.match(r"smp: connection restored after \d+ s", told[1]), told


async def test_a_process_that_is_stopped_for_longer_than_the_keepalive_goes_on() -> None:
    """As after sleep: neither end may take the silence for death."""
    size = 2_000_000
    stopped_for = 13.0  # a ping every second, ten seconds for its answer, and some more
    async with asyncio.timeout(DEADLINE), Sandbox() as sandbox:
        command = f"{PYTHON_OF_THE_FAR_END} {size} 1001"
        started = await sandbox.start_session("AWS-StartInteractiveCommand", {"command": [command]})
        async with connected(sandbox, started, "--keepalive", "1") as client:
            await client.read_until_ready()
            writing = asyncio.ensure_future(client.write(size, 1))
            reading = asyncio.ensure_future(client.read(size))
            await asyncio.sleep(0.05)
            client.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(stopped_for)
            client.process.send_signal(signal.SIGCONT)
            assert await reading == digest(size, 1001)
            await writing
            status, rest = await client.ended()
            assert (status, rest.decode()) == (0, digest(size, 1)), client.errors.decode()
            assert sandbox.session(started.session_id).websockets == 1


async def _seconds_told(client: Client, pattern: bytes) -> int:
    """Wait for a line on standard error; returns the seconds that it states, by the client's own clock."""
    await wait_until(lambda: re.search(pattern, bytes(client.errors)))
    told = re.search(pattern, bytes(client.errors))
    assert told is not None
    return int(told[1])


@pytest.mark.parametrize("document", ["AWS-StartPortForwardingSession", "AWS-StartNonInteractiveCommand"])
async def test_what_happens_to_the_link_is_told(document: str) -> None:
    """After two seconds, and those in which a busy machine does not run the client; not after the keepalive's 15."""
    parameters = {"portNumber": ["9"], "localPortNumber": ["0"]}
    if document == "AWS-StartNonInteractiveCommand":
        parameters = {"command": ["sleep 600"]}
    async with asyncio.timeout(DEADLINE), Sandbox() as sandbox, Relay(sandbox.port) as relay:
        sandbox.stream_port = relay.port
        started = await sandbox.start_session(document, parameters)
        async with connected(sandbox, started) as client:
            session = sandbox.session(started.session_id)
            await session.connected.wait()
            if document == "AWS-StartPortForwardingSession":
                await wait_until(lambda: b"listening on" in client.errors)
            else:
                await wait_until(lambda: session.program_pid)
            await refused(relay)
            assert await _seconds_told(client, rb"connection lost (\d+) s ago; reconnecting") < 15
            await relay.accept()
            await _seconds_told(client, rb"connection restored after (\d+) s")
            client.process.terminate()
            status, output = await client.ended()
        assert output == b""
        assert status == -signal.SIGTERM


async def test_a_signal_ends_a_client_whose_link_is_away() -> None:
    async with asyncio.timeout(DEADLINE), Sandbox() as sandbox, Relay(sandbox.port) as relay:
        sandbox.stream_port = relay.port
        started = await sandbox.start_session("AWS-StartPortForwardingSession", {"portNumber": ["9"]})
        async with connected(sandbox, started) as client:
            await wait_until(lambda: b"listening on" in client.errors)
            await refused(relay)
            await wait_until(lambda: b"connection lost" in client.errors)
            client.process.terminate()
            status, _ = await client.ended()
            assert status == -signal.SIGTERM
        # TerminateSession has another way than the link.
        await asyncio.wait_for(sandbox.session(started.session_id).ended.wait(), DEADLINE)
