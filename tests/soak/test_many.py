"""Two hundred sessions in one process, each over a link of its own that loses things and is cut."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.faults import Faults, MessageFaults

LOSSY = MessageFaults(drop=0.05, duplicate=0.05, reorder=0.05)
SESSIONS = 200
SIZE = 8_000
CUT_EVERY = 7_000
DEADLINE = 240.0
PER_SESSION_LIMIT = 400_000
"""Bytes of memory."""

pytestmark = pytest.mark.timeout(DEADLINE + 30)


async def echo(url: str, token: str, endpoint_url: str, seed: int) -> bool:
    """Open a session with a program that echoes, send it bytes, and tell whether the same came back."""
    from session_manager_plugin.aws.session_services import SessionServices
    from session_manager_plugin.aws.settings import AwsSettings
    from session_manager_plugin.library import LinkOptions, connect

    session_id = url.partition("/data-channel/")[2].partition("?")[0]
    resumer = SessionServices(AwsSettings("us-east-1", endpoint_url=endpoint_url), session_id, "")
    data = bytes(random.Random(seed).choices(b"abcdefghijklmnopqrstuvwxyz", k=SIZE))
    received = bytearray()
    async with connect(url, token, link=LinkOptions(keepalive=0), resume_service=resumer) as session:
        while b"ready" not in received:
            received += await session.read()
        received.clear()
        typing = asyncio.ensure_future(session.write(data))
        while len(received) < SIZE:
            received += await session.read()
        await typing
        return received == data


async def sessions_of(count: int) -> dict[str, int]:
    """In a process of its own: as many sessions at once as lines come on standard input; tells how it went."""
    import re
    from pathlib import Path

    lines = [line.split() for line in sys.stdin.read().splitlines()]

    def resident() -> int:
        match = re.search(r"^VmRSS:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
        assert match is not None
        return int(match[1]) * 1024

    # One first, so that everything is loaded that any of them needs.
    right = int(await echo(*lines[0], seed=0))  # type: ignore[misc]
    gc.collect()
    before = resident()
    results = await asyncio.gather(*(echo(*line, seed=seed) for seed, line in enumerate(lines[1 : count + 1], 1)))  # type: ignore[misc]
    return {"right": right + sum(results), "grown": resident() - before}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    faults = Faults(to_client=LOSSY, to_agent=LOSSY, cut_every=CUT_EVERY, seed=2)
    # 200 Python processes at the far end would measure the machine; the shell's own tools are enough for an echo.
    async with Sandbox(faults=faults, shell="sh -c 'stty raw -echo; printf ready; exec cat'") as running:
        yield running


async def run(sandbox: Sandbox, count: int) -> dict[str, int]:
    """That many sessions, and one before."""
    lines = []
    for _ in range(count + 1):
        started = await sandbox.start_session()
        lines.append(f"{started.stream_url} {started.token} {sandbox.endpoint_url}\n")
    code = (
        "import asyncio, json\n"
        "from tests.soak.test_many import sessions_of\n"
        f"print(json.dumps(asyncio.run(sessions_of({count}))))\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={**sandbox.environment, "PATH": "/usr/bin"},
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate("".join(lines).encode()), DEADLINE)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, errors.decode()
    result: dict[str, int] = json.loads(output)
    return result


async def test_two_hundred_sessions_at_once(sandbox: Sandbox) -> None:
    result = await run(sandbox, SESSIONS)
    assert result["right"] == SESSIONS + 1
    assert result["grown"] < SESSIONS * PER_SESSION_LIMIT
    sessions = list(sandbox.sessions.values())
    assert sum(session.fault_counts.cuts for session in sessions) >= SESSIONS
    print(f"\n{SESSIONS} sessions: {result['grown'] / SESSIONS / 1024:.0f} KiB each")
