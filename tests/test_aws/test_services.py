"""TerminateSession, by the real botocore against the sandbox's API."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import botocore.session
import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.session import EndReason
from session_manager_plugin.aws.services import create_session, terminate_session
from tests.support.raw_server import Peer, RawServer, http_answer, read_request

DEADLINE = 20.0


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials or settings of whoever runs the tests."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def use_sandbox(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have botocore find the sandbox's credentials."""
    for name, value in sandbox.environment.items():
        monkeypatch.setenv(name, value)


async def test_a_session_is_terminated(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox() as sandbox:
        use_sandbox(sandbox, monkeypatch)
        started = await sandbox.start_session()
        await terminate_session(started.session_id, region="us-east-1", endpoint_url=sandbox.endpoint_url)
        session = sandbox.session(started.session_id)
        assert session.ended.is_set()
        assert session.end_reason is EndReason.TERMINATED


async def test_the_endpoint_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox() as sandbox:
        use_sandbox(sandbox, monkeypatch)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", sandbox.endpoint_url)
        started = await sandbox.start_session()
        await terminate_session(started.session_id, region="eu-west-1")
        assert sandbox.session(started.session_id).end_reason is EndReason.TERMINATED


async def test_the_credentials_of_a_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with Sandbox() as sandbox:
        keys = f"aws_access_key_id = {sandbox.access_key_id}\naws_secret_access_key = {sandbox.secret_access_key}\n"
        (tmp_path / "config").write_text(f"[profile work]\nregion = eu-west-1\n{keys}")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        started = await sandbox.start_session()
        await terminate_session(started.session_id, profile="work", endpoint_url=sandbox.endpoint_url)
        assert sandbox.session(started.session_id).end_reason is EndReason.TERMINATED


async def test_a_failure_is_logged_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with Sandbox() as sandbox:
        use_sandbox(sandbox, monkeypatch)
        with caplog.at_level(logging.INFO, "session_manager_plugin"):
            await terminate_session("nobody-1", region="us-east-1", endpoint_url=sandbox.endpoint_url)
    assert "session nobody-1 could not be terminated: " in caplog.text
    assert "DoesNotExistException" in caplog.text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"region": "us-east-1"}, "Unable to locate credentials"),
        ({"profile": "nobody"}, "The config profile (nobody) could not be found"),
        ({"endpoint_url": "nonsense", "region": "us-east-1"}, "Invalid endpoint: nonsense"),
    ],
)
async def test_what_is_missing_is_logged(
    caplog: pytest.LogCaptureFixture, options: dict[str, str], reason: str
) -> None:
    with caplog.at_level(logging.INFO, "session_manager_plugin"):
        await terminate_session("alice-1", **options)
    assert f"session alice-1 could not be terminated: {reason}" in caplog.text


async def busy(peer: Peer) -> None:
    """Answers 503."""
    await read_request(peer.reader)
    peer.write(http_answer(503))
    peer.end()


async def test_there_is_no_second_try(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAXXXXXXXXXXXXXXXX")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    async with RawServer(busy) as api:
        with caplog.at_level(logging.INFO, "session_manager_plugin"):
            await terminate_session("alice-1", region="us-east-1", endpoint_url=f"http://127.0.0.1:{api.port}")
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
        await asyncio.wait_for(terminate_session("alice-1", profile="work"), DEADLINE)
    assert "the profile asks for something (Enter MFA code" in caplog.text


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
        await terminate_session(started.session_id, profile="work", endpoint_url=sandbox.endpoint_url)
        assert sandbox.session(started.session_id).end_reason is EndReason.TERMINATED


@pytest.mark.parametrize("service", ["kms", "ssm", "sts", "sso", "sso-oidc"])
@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "cn-north-1", "us-gov-west-1", "a-region-nobody-knows-1"])
def test_the_addresses_are_botocores_though_most_are_forgotten(service: str, region: str) -> None:
    """The addresses of all services take 6 MB; what is left must give the same for those that are called."""
    ours, everything = create_session(None), botocore.session.Session()
    assert len(ours.get_available_services()) == len(everything.get_available_services())
    clients = [session.create_client(service, region_name=region) for session in (ours, everything)]
    urls, regions = ([getattr(client.meta, fact) for client in clients] for fact in ("endpoint_url", "region_name"))
    assert urls[0] == urls[1]
    assert regions[0] == regions[1]
    for client in clients:
        client.close()
