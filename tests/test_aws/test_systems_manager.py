"""StartSession, ResumeSession and TerminateSession, by the real botocore against the sandbox's API."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import sys
import threading
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.default_inventory import DEFAULT_INVENTORY
from session_manager_plugin.agent.inventory import Permissions
from session_manager_plugin.agent.session import EndReason
from session_manager_plugin.aws import systems_manager
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.systems_manager import SystemsManager
from session_manager_plugin.errors import AccessDenied
from tests.support.raw_server import Peer, RawServer, http_answer, read_request
from tests.support.sandbox_credentials import use_credentials
from tests.support.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.usefixtures("clean_environment")


def manager(**settings: str) -> SystemsManager:
    """Calls with ``AwsSettings``."""
    return SystemsManager(AwsSettings(**settings))


async def test_a_session_is_terminated(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox() as sandbox:
        use_credentials(sandbox, monkeypatch)
        started = await sandbox.start_session()
        await manager(region="us-east-1", endpoint_url=sandbox.endpoint_url).try_to_terminate(started.session_id)
        session = sandbox.session(started.session_id)
        assert session.ended.is_set()
        assert session.end_reason is EndReason.TERMINATED


async def test_the_endpoint_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox() as sandbox:
        use_credentials(sandbox, monkeypatch)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", sandbox.endpoint_url)
        started = await sandbox.start_session()
        await manager(region="eu-west-1").try_to_terminate(started.session_id)
        assert sandbox.session(started.session_id).end_reason is EndReason.TERMINATED


async def test_the_credentials_of_a_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with Sandbox() as sandbox:
        keys = f"aws_access_key_id = {sandbox.access_key_id}\naws_secret_access_key = {sandbox.secret_access_key}\n"
        (tmp_path / "config").write_text(f"[profile work]\nregion = eu-west-1\n{keys}")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        started = await sandbox.start_session()
        await manager(profile="work", endpoint_url=sandbox.endpoint_url).try_to_terminate(started.session_id)
        assert sandbox.session(started.session_id).end_reason is EndReason.TERMINATED


async def test_a_failure_is_logged_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with Sandbox() as sandbox:
        use_credentials(sandbox, monkeypatch)
        with caplog.at_level(logging.INFO, "session_manager_plugin"):
            await manager(region="us-east-1", endpoint_url=sandbox.endpoint_url).try_to_terminate("nobody-1")
    assert "session nobody-1 could not be terminated: " in caplog.text
    assert "DoesNotExistException" in caplog.text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"region": "us-east-1"}, "TerminateSession failed: there are no AWS credentials"),
        ({"profile": "nobody"}, "TerminateSession failed: The config profile (nobody) could not be found"),
    ],
)
async def test_what_is_missing_is_logged(
    caplog: pytest.LogCaptureFixture, options: dict[str, str], reason: str
) -> None:
    with caplog.at_level(logging.INFO, "session_manager_plugin"):
        await manager(**options).try_to_terminate("alice-1")
    assert f"session alice-1 could not be terminated: {reason}" in caplog.text


async def test_an_endpoint_that_is_no_url_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAXXXXXXXXXXXXXXXX")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with caplog.at_level(logging.INFO, "session_manager_plugin"):
        await manager(region="us-east-1", endpoint_url="nonsense").try_to_terminate("alice-1")
    assert "TerminateSession failed: Invalid endpoint: nonsense" in caplog.text


async def busy(peer: Peer) -> None:
    """Answers 503."""
    await read_request(peer.reader)
    peer.write(http_answer(503))
    peer.end()


CONTAINER = (
    "ecs:shop_0a1b2c3d4e5f60718293a4b5c6d7e8f9_0a1b2c3d4e5f60718293a4b5c6d7e8f9-0265927825"  # of DEFAULT_INVENTORY
)


@pytest.mark.parametrize(
    ("denied", "reason", "document"),
    [
        ((), "", "AmazonECS-ExecuteInteractiveCommand"),
        (("ecs:ExecuteCommand",), "", "SSM-SessionManagerRunShell"),
        (("ecs:DescribeTasks",), "", "SSM-SessionManagerRunShell"),
        ((), "disk full", "SSM-SessionManagerRunShell"),
    ],
)
async def test_a_shell_in_a_container_is_ecs_exec_where_that_is_possible(
    monkeypatch: pytest.MonkeyPatch, denied: tuple[str, ...], reason: str, document: str
) -> None:
    inventory = dataclasses.replace(DEFAULT_INVENTORY, permissions=Permissions(denied=denied))
    async with Sandbox(inventory=inventory) as sandbox:
        use_credentials(sandbox, monkeypatch)
        starter = manager(region="us-east-1", endpoint_url=sandbox.endpoint_url)
        started = await starter.start_session(CONTAINER, reason=reason)
        session = sandbox.session(started.session_id)
        assert (session.target, session.document) == (CONTAINER, document)
        await starter.terminate_session(started.session_id)


async def test_a_container_in_which_no_session_may_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    denied = Permissions(denied=("ecs:ExecuteCommand", "ssm:StartSession"))
    async with Sandbox(inventory=dataclasses.replace(DEFAULT_INVENTORY, permissions=denied)) as sandbox:
        use_credentials(sandbox, monkeypatch)
        with pytest.raises(AccessDenied, match="needs ecs:ExecuteCommand on"):
            await manager(region="us-east-1", endpoint_url=sandbox.endpoint_url).start_session(CONTAINER)


async def test_a_start_that_is_throttled_says_so_once_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    started = json.dumps({"SessionId": "alice-1", "TokenValue": "token", "StreamUrl": "wss://localhost/"}).encode()
    throttled = b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'
    answers = iter([http_answer(400, body=throttled), http_answer(200, body=started)])

    async def api(peer: Peer) -> None:
        await read_request(peer.reader)
        peer.write(next(answers))
        peer.end()

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAXXXXXXXXXXXXXXXX")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    sentences: list[str] = []
    async with RawServer(api) as server:
        settings = AwsSettings("us-east-1", endpoint_url=f"http://127.0.0.1:{server.port}")
        session = await SystemsManager(settings, throttled=sentences.append).start_session("i-0123456789abcdef0")
    assert session.session_id == "alice-1"
    assert sentences == ["AWS throttles StartSession; trying again, for up to a minute"]


async def test_a_start_that_is_cancelled_between_two_attempts_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = 0

    async def api(peer: Peer) -> None:
        nonlocal requests
        requests += 1
        await read_request(peer.reader)
        peer.write(http_answer(400, body=b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'))
        peer.end()

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAXXXXXXXXXXXXXXXX")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setattr(systems_manager, "LEAVE_TIMEOUT", 3600.0)
    throttled = asyncio.Event()
    async with asyncio.timeout(DEADLINE), RawServer(api) as server:
        settings = AwsSettings("us-east-1", endpoint_url=f"http://127.0.0.1:{server.port}")
        starter = SystemsManager(settings, throttled=lambda _sentence: throttled.set())
        starting = asyncio.ensure_future(starter.start_session("i-0123456789abcdef0"))
        await throttled.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await wait_until(lambda: not any(thread.name == "aws" for thread in threading.enumerate()))
    assert requests == 1


async def test_there_is_no_second_try(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAXXXXXXXXXXXXXXXX")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    async with RawServer(busy) as api:
        with caplog.at_level(logging.INFO, "session_manager_plugin"):
            await manager(region="us-east-1", endpoint_url=f"http://127.0.0.1:{api.port}").try_to_terminate("alice-1")
        assert api.connections == 1
    assert "could not be terminated" in caplog.text


async def test_a_profile_that_would_ask_for_a_code_asks_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config").write_text(
        "[profile base]\naws_access_key_id = AKIAXXXXXXXXXXXXXXXX\naws_secret_access_key = x\n"
        "[profile work]\nregion = eu-west-1\nsource_profile = base\n"
        "role_arn = arn:aws:iam::123456789012:role/x\nmfa_serial = arn:aws:iam::123456789012:mfa/me\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with caplog.at_level(logging.INFO, "session_manager_plugin"):
        await asyncio.wait_for(manager(profile="work").try_to_terminate("alice-1"), DEADLINE)
    assert "the profile needs an MFA code of arn:aws:iam::123456789012:mfa/me; run smp ls --profile work" in caplog.text


async def test_a_helper_program_gets_no_terminal_and_no_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with Sandbox() as sandbox:
        keys = {
            "Version": 1,
            "AccessKeyId": sandbox.access_key_id,
            "SecretAccessKey": sandbox.secret_access_key,
        }
        helper = tmp_path / "helper.py"
        helper.write_text(
            "import json, os, sys\nassert sys.stdin.read() == ''\nassert os.getsid(0) == os.getpid()\n"
            f"print(json.dumps({keys!r}))\n"
        )
        (tmp_path / "config").write_text(
            f"[profile work]\nregion = eu-west-1\ncredential_process = {sys.executable} {helper}\n"
        )
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        started = await sandbox.start_session()
        await manager(profile="work", endpoint_url=sandbox.endpoint_url).try_to_terminate(started.session_id)
        assert sandbox.session(started.session_id).end_reason is EndReason.TERMINATED
