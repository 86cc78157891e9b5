"""A forwarded port whose standard streams are full or have no reader goes on working, and ends when it is asked to."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import signal
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator

import pytest

from session_manager_plugin.agent import Sandbox
from tests.support.ports import held_port
from tests.support.waiting import DEADLINE
from tests.test_cli.test_signals import PLUGIN, SMP, VARIABLE, end_of, environment, listens

pytestmark = pytest.mark.slow

PIPE_SIZE = 4096
REFUSALS = 200
"""Refused connections, each with a line of 60 bytes or more: together more than the pipe takes."""


class Forward:
    """A forwarded port to nothing that listens; `reading` is the end of the pipe that gets its messages."""

    def __init__(self, process: Process, reading: int) -> None:
        self.process, self.reading, self.port = process, reading, 0

    def stop_reading(self) -> None:
        """Close the end of the pipe that is read. Idempotent."""
        if self.reading >= 0:
            os.close(self.reading)
            self.reading = -1

    async def connect(self) -> None:
        """Connect once; the far end refuses, so the connection is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def forward(sandbox: Sandbox, program: str) -> AsyncIterator[tuple[Forward, str]]:
    """The forward, begun and read up to its ready line, and the session's id."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    with held_port() as port:
        parameters = {"portNumber": [str(port)], "localPortNumber": ["0"]}
        started = await sandbox.start_session("AWS-StartPortForwardingSession", parameters)
        assert started.token is not None
        if program == "plugin":
            request = {"Target": "local", "DocumentName": "AWS-StartPortForwardingSession", "Parameters": parameters}
            response = {"SessionId": started.session_id, "TokenValue": started.token, "StreamUrl": started.stream_url}
            command = [*PLUGIN, VARIABLE, sandbox.region, "StartSession", "", json.dumps(request), sandbox.endpoint_url]
            variables = environment(sandbox, **{VARIABLE: json.dumps(response)})
            streams = {"stdout": writing, "stderr": DEVNULL}
        else:
            command = [*SMP, "connect", "--url", started.stream_url, "--token", started.token]
            variables, streams = environment(), {"stdout": DEVNULL, "stderr": writing}
        process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, env=variables, **streams)  # type: ignore[arg-type]
        os.close(writing)
        running = Forward(process, reading)
        try:
            text = b""
            async with asyncio.timeout(DEADLINE):
                while (match := re.search(rb"Port (\d+) opened.*\nWaiting|on 127\.0\.0\.1:(\d+)", text)) is None:
                    text += await asyncio.to_thread(os.read, reading, 65536)
            running.port = int(match[1] or match[2])
            yield running, started.session_id
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            running.stop_reading()


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as running:
        yield running


@pytest.mark.parametrize("program", ["plugin", "smp"])
async def test_nobody_reads_the_messages(sandbox: Sandbox, program: str) -> None:
    async with asyncio.timeout(60), forward(sandbox, program) as (running, session_id):
        for _ in range(REFUSALS // 20):
            await asyncio.gather(*(running.connect() for _ in range(20)))
        running.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE):
            assert await running.process.wait() == -signal.SIGTERM
        assert not listens(running.port)
        await end_of(sandbox, session_id)


@pytest.mark.parametrize("program", ["plugin", "smp"])
async def test_the_reader_of_the_messages_has_gone(sandbox: Sandbox, program: str) -> None:
    """Every connection is served, the first one too."""
    async with asyncio.timeout(60), forward(sandbox, program) as (running, _):
        running.stop_reading()
        for _ in range(3):
            await running.connect()
        assert running.process.returncode is None
        with socket.create_connection(("127.0.0.1", running.port)):
            running.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(DEADLINE):
                assert await running.process.wait() == -signal.SIGTERM


@contextlib.asynccontextmanager
async def unread_probe() -> AsyncIterator[tuple[Process, int, socket.socket]]:
    """A probe that waits for a gateway: its process, the end of its output that is full, the connection."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    os.write(writing, b"-" * PIPE_SIZE)
    with socket.create_server(("127.0.0.1", 0)) as gateway:
        gateway.setblocking(False)
        url = f"ws://127.0.0.1:{gateway.getsockname()[1]}/v1/data-channel/alice-1"
        process = await asyncio.create_subprocess_exec(
            *SMP,
            "probe",
            "--url",
            url,
            "--token",
            "t" * 40,
            stdin=DEVNULL,
            stdout=writing,
            stderr=DEVNULL,
            env=environment(),
        )
        os.close(writing)
        try:
            loop = asyncio.get_running_loop()
            connection, _ = await asyncio.wait_for(loop.sock_accept(gateway), DEADLINE)
            with connection:
                await asyncio.wait_for(loop.sock_recv(connection, 1), DEADLINE)
                yield process, reading, connection
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            os.close(reading)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_probe_whose_report_nobody_reads_ends_when_asked_to(number: signal.Signals) -> None:
    async with unread_probe() as (process, _, _):
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), DEADLINE) == -number


async def test_a_probe_whose_report_is_read_late_prints_all_of_it() -> None:
    async with unread_probe() as (process, reading, connection):
        connection.close()
        text = b""
        while data := await asyncio.wait_for(asyncio.to_thread(os.read, reading, 65536), DEADLINE):
            text += data
        assert await process.wait() == 1
    lines = text.lstrip(b"-").decode().splitlines()
    assert "1 failed" in lines[-1]
    assert any("tcp" in line.lower() for line in lines)
