"""The most memory that is ever resident, in MB (10^6 bytes)."""

from __future__ import annotations

import asyncio
import os
import socket

from benchmarks.client import DEADLINE, Client
from benchmarks.far_end import PROMPT, FarEnd
from benchmarks.throughput import FORWARDING, forwarded_port
from benchmarks.wire import PAYLOAD_SIZE
from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.sandbox import TARGET

SESSION, FLOOD = 1_000, 100_000
"""Messages of output: what somebody may have looked at, and more than a terminal takes in time."""


def shell(far_end: FarEnd, count: int = SESSION) -> float:
    """A shell with the bar that has printed so many messages and is used no more."""
    with Client.smp(far_end.url(f"poured-{count}"), "--status", "bar", terminal=True) as client:
        received = 0
        while received < count * PAYLOAD_SIZE:
            received += len(client.read())
        return client.peak_memory


def download(far_end: FarEnd, mib: int) -> float:
    """A forwarded port that so many MiB came through, on one connection."""
    with Client.plugin(far_end.url(f"download-1-{mib * 1024}"), FORWARDING) as client:
        with socket.create_connection(("127.0.0.1", forwarded_port(client)), timeout=DEADLINE) as connection:
            buffer = bytearray(1 << 20)
            while connection.recv_into(buffer):
                pass
        return client.peak_memory


def encrypted(far_end: FarEnd) -> float:
    """A shell with the bar whose data key came from KMS."""
    options = ["--status", "bar", "--target", TARGET]
    with Client.smp(far_end.url("secret"), *options, terminal=True, more=far_end.environment) as client:
        client.read_until(PROMPT)
        os.write(client.stdin, b"@")
        client.read_until(b"@")
        return client.peak_memory


def resumed() -> float:
    """A shell with the bar whose connection was cut, and which was resumed with a fresh token."""
    return asyncio.run(_resumed())


async def _resumed() -> float:
    async with Sandbox(shell="cat") as sandbox:
        started = await sandbox.start_session()
        assert started.token is not None
        more = {**sandbox.environment, "SMP_TOKEN": started.token}
        options = ["--status", "bar", "--endpoint-url", sandbox.endpoint_url]
        with Client.smp(started.stream_url, *options, terminal=True, more=more) as client:
            await _type(client, b"@before@")
            sandbox.session(started.session_id).disconnect()
            await _type(client, b"@after@")
            return client.peak_memory


async def _type(client: Client, line: bytes) -> None:
    os.write(client.stdin, line + b"\r")
    await asyncio.to_thread(client.read_until, line)
