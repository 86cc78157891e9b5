"""Many short connections through one forwarded port, with few descriptors to have."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
from asyncio.subprocess import DEVNULL, PIPE

from session_manager_plugin.agent import Sandbox
from tests.e2e.test_connect import connect
from tests.support.stream_server import stream_server
from tests.support.waiting import wait_until

CONNECTIONS = 300
LANES = 60
SOFT_LIMIT, HARD_LIMIT = 24, 48


class Destination:
    """Answers on each connection, from ``answering`` on, and waits for its end."""

    def __init__(self) -> None:
        self.answering = asyncio.Event()
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        with contextlib.suppress(ConnectionError):
            while await reader.read(100):
                await self.answering.wait()
                writer.write(b"answer")
        self.open -= 1
        writer.close()


def limit_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_LIMIT, HARD_LIMIT))


async def test_short_connections_leave_nothing_open(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """Each is over when its program has closed it, so that few descriptors serve many. It is said once that some have
    to wait."""
    destination = Destination()
    async with stream_server(destination.serve, backlog=CONNECTIONS) as remote:
        parameters = {"portNumber": [str(remote)], "localPortNumber": ["0"]}
        started = await sandbox.start_session("AWS-StartPortForwardingSession", parameters)
        process = await asyncio.create_subprocess_exec(
            *connect(started), stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, env=environment, preexec_fn=limit_descriptors
        )
        assert process.stderr is not None
        try:
            line = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
            match = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
            assert match is not None, line
            lanes = asyncio.Semaphore(LANES)

            async def exchange(port: int) -> bytes:
                async with lanes:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(b"request")
                    answer = await reader.readexactly(6)
                    writer.close()
                    return answer

            exchanges = asyncio.gather(*(exchange(int(match[1])) for _ in range(CONNECTIONS)))
            line = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
            assert "cannot accept further connections for now: Too many open files" in line
            assert len(os.listdir(f"/proc/{process.pid}/fd")) > SOFT_LIMIT
            destination.answering.set()
            async with asyncio.timeout(60):
                assert await exchanges == [b"answer"] * CONNECTIONS
            await wait_until(lambda: destination.open == 0)
            process.send_signal(signal.SIGINT)
            errors = (await asyncio.wait_for(process.stderr.read(), 60)).decode()
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert "Too many open files" not in errors
