"""Scripts of Run Command."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from session_manager_plugin.agent.scripts import run_script
from tests.support.waiting import DEADLINE, rounds, wait_until
from tests.test_agent.processes import is_alive


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8])
async def test_a_script_that_is_cancelled_while_it_is_started_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The shell runs before the event loop has connected its pipes, if the event loop is slow."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **options))
        return started[-1]

    pid_file = tmp_path / "pid"
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", start)
        running = asyncio.ensure_future(run_script(f"sleep 1000 & echo $! > {pid_file}; wait", "", {}, DEADLINE))
        await wait_until(lambda: started)
    await rounds(count)
    ends_at = time.monotonic() + DEADLINE
    while not (pid_file.exists() and pid_file.read_text().endswith("\n")):
        assert time.monotonic() < ends_at
        time.sleep(0.001)  # noqa: ASYNC251 - the event loop is to be slow
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, DEADLINE)
    await wait_until(lambda: not is_alive(int(pid_file.read_text())))
