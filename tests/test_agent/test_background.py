"""The sandbox for tests that run no event loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.background import BackgroundSandbox
from session_manager_plugin.agent.session import EndReason
from tests.support.raw_client import RawClient


def test_a_session_from_a_program_without_a_loop() -> None:
    async def use(stream_url: str, token: str | None) -> str:
        async with RawClient() as client:
            await client.open(stream_url, token)
            return await client.until_closed()

    with BackgroundSandbox() as background:
        started = background.start_session("AWS-StartInteractiveCommand", {"command": ["echo hello"]})
        assert background.wait_ended(started.session_id, 0.01) is None
        assert asyncio.run(use(started.stream_url, started.token)) == ""
        assert background.wait_ended(started.session_id, 10) is EndReason.EXITED


def test_a_session_is_disturbed_in_the_sandboxs_thread() -> None:
    with BackgroundSandbox() as background:
        started = background.start_session()
        assert background.apply(lambda sandbox: sandbox.session(started.session_id).disconnect()) is False
        with pytest.raises(KeyError):
            background.apply(lambda sandbox: sandbox.session("user-0123"))


def test_a_port_that_is_taken_is_an_error() -> None:
    with BackgroundSandbox() as first, pytest.raises(OSError, match=str(first.sandbox.port)):
        BackgroundSandbox(Sandbox(port=first.sandbox.port)).__enter__()


def test_the_fixture_serves_other_test_suites(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(
        "def test_theirs(smp_sandbox):\n"
        "    started = smp_sandbox.start_session()\n"
        "    assert started.session_id in smp_sandbox.sandbox.sessions\n"
        "    assert smp_sandbox.sandbox.environment['AWS_REGION'] == 'us-east-1'\n"
    )
    plugin = "session_manager_plugin.agent.pytest_plugin"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", plugin, "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout
