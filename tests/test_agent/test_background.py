"""The sandbox for tests that run no event loop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from session_manager_plugin.agent import Faults, Inventory, Sandbox
from session_manager_plugin.agent.background import BackgroundSandbox
from session_manager_plugin.agent.inventory import Instance
from session_manager_plugin.agent.session import EndReason
from session_manager_plugin.errors import ApiError
from tests.support.other_project import run_pytest
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


def test_everything_is_on_the_background_sandbox_itself() -> None:
    with BackgroundSandbox() as background:
        assert background.environment["AWS_ENDPOINT_URL"] == background.endpoint_url
        assert background.region == "us-east-1"
        background.inventory = Inventory(instances=(Instance(id="i-1"),))
        background.faults = Faults(tokens_reusable=True)
        started = background.start_session(target="i-1")
        assert list(background.sessions) == [started.session_id]
        assert background.disconnect(started.session_id) is False
        background.end_session(started.session_id, "enough")
        assert background.wait_ended(started.session_id, 10) is EndReason.ENDED
        with pytest.raises(ApiError):
            background.start_session(target="i-2")
        assert background.faults.tokens_reusable
        assert background.inventory.instances[0].id == "i-1"


@pytest.mark.slow
def test_the_fixture_serves_other_test_suites(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(
        "import pytest\n"
        "def test_theirs(session_manager):\n"
        "    started = session_manager.start_session()\n"
        "    assert started.session_id in session_manager.sessions\n"
        "    assert session_manager.environment['AWS_REGION'] == 'us-east-1'\n"
        "@pytest.mark.session_manager(targets=['i-1'], tls=True)\n"
        "def test_settings(session_manager):\n"
        "    assert session_manager.endpoint_url.startswith('https://')\n"
        "    assert session_manager.sandbox.targets == ('i-1',)\n"
    )
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["session_manager_plugin.agent.pytest_plugin"]\n')
    result = run_pytest(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 passed" in result.stdout
