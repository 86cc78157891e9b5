"""No log, message or traceback of any command holds a token, a key or a password, whether it succeeds or fails."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.key_service import LocalKeyService
from session_manager_plugin.agent.session import SandboxSession
from session_manager_plugin.session.protocols import DataKey
from tests.e2e.conftest import BIN
from tests.support.waiting import DEADLINE

PROXY_PASSWORD = "a-password-of-a-proxy"
COMMANDS = {
    "start": ["start", "web-1", "--status", "off"],
    "exec": ["exec", "web-1", "--", "echo", "hi"],
    "exec in a shell": ["exec", "web-1", "--via", "shell", "--", "echo", "hi"],
    "exec on two": ["exec", "web-1", "web-2", "--", "echo", "hi"],
    "exec by Run Command": ["exec", "web-1", "web-2", "--via", "send-command", "--", "echo", "hi"],
    "forward": ["forward", "web-1", "-L", "0:80"],
    "cp": ["cp", "file", "web-1:{there}"],
    "probe": ["probe", "web-1", "--count", "1"],
    "ssh-proxy": ["ssh-proxy", "web-1"],
    "ssh-config": ["ssh-config", "--all"],
    "ls": ["ls"],
    "ls --sessions": ["ls", "--sessions"],
    "kill": ["kill", "--mine"],
    "connect": ["connect", "--target", "local"],
    "plugin": [],
}


class Secrets:
    """What nothing may show."""

    def __init__(self) -> None:
        self.values: list[str] = [PROXY_PASSWORD]

    def assert_absent(self, text: str) -> None:
        """In no spelling."""
        for secret in self.values:
            for spelling in {secret, json.dumps(secret)[1:-1], quote(secret), quote(secret, "")}:
                assert spelling not in text


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Secrets:
    """The tokens that are issued, and the data keys, are added to it."""
    found = Secrets()
    issue_token, generate = SandboxSession.issue_token, LocalKeyService.generate_data_key

    def record_token(session: SandboxSession) -> str:
        found.values.append(issue_token(session))
        return found.values[-1]

    def record_key(service: LocalKeyService, key_id: str, size: int, context: Mapping[str, str]) -> DataKey:
        data_key = generate(service, key_id, size, context)
        found.values += [base64.b64encode(data_key.plaintext).decode(), data_key.plaintext.hex()]
        return data_key

    monkeypatch.setattr(SandboxSession, "issue_token", record_token)
    monkeypatch.setattr(LocalKeyService, "generate_data_key", record_key)
    return found


async def run(sandbox: Sandbox, secrets: Secrets, directory: Path, name: str, variables: dict[str, str]) -> str:
    """Run a command of ``COMMANDS`` with everything logged; return all that it has written."""
    environment = {
        "PATH": str(BIN),
        "HOME": str(directory),
        "AWS_EC2_METADATA_DISABLED": "true",
        "SMP_LOG_FILE": str(directory / "log"),
        "HTTPS_PROXY": f"http://user:{PROXY_PASSWORD}@127.0.0.1:9",
        "AWS_ENDPOINT_URL": sandbox.endpoint_url,
        **sandbox.environment,
        **variables,
    }
    secrets.values += [sandbox.secret_access_key, sandbox.session_token]
    (directory / "file").write_text("x" * 5000)
    command, *arguments = [part.format(there=directory / "there") for part in COMMANDS[name] or ["plugin"]]
    program = [str(BIN / "smp"), command, "-vv", *arguments]
    if name in ("connect", "plugin"):
        started = await sandbox.start_session()
        url, token = f"{started.stream_url}&token={started.token}", started.token or ""
        program += ["--url", url]
        environment["SMP_TOKEN"] = token
        if name == "plugin":
            response = {"SessionId": started.session_id, "StreamUrl": url, "TokenValue": token}
            environment["AWS_SSM_START_SESSION_RESPONSE"] = json.dumps(response)
            request = json.dumps({"Target": "local"})
            program = [str(BIN / "session-manager-plugin"), "AWS_SSM_START_SESSION_RESPONSE", "us-east-1"]
            program += ["StartSession", "", request, sandbox.endpoint_url]
    process = await asyncio.create_subprocess_exec(
        *program, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment, cwd=directory
    )
    async with asyncio.timeout(DEADLINE):
        if name == "forward":
            assert process.stderr is not None
            errors = b""
            while not process.stderr.at_eof() and b"listening on" not in errors:
                errors += await process.stderr.readline()
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        else:
            errors = b""
        typed = b"exit\n" if name in ("start", "connect", "plugin") else b""
        output, more = await process.communicate(typed)
    log = directory / "log"
    return (output + errors + more).decode(errors="replace") + (log.read_text() if log.exists() else "")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(kms=True, require_signature=True) as running:
        yield running


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_command_that_works(sandbox: Sandbox, secrets: Secrets, tmp_path: Path, name: str) -> None:
    told = await run(sandbox, secrets, tmp_path, name, {})
    assert "botocore.credentials" in told or name == "plugin"
    assert "internal error" not in told
    secrets.assert_absent(told)


@pytest.mark.parametrize("name", ["start", "exec", "exec on two", "forward", "cp", "probe", "ssh-proxy", "connect"])
async def test_a_command_whose_key_is_wrong(sandbox: Sandbox, secrets: Secrets, tmp_path: Path, name: str) -> None:
    wrong = "a-secret-key-that-is-wrong"
    secrets.values.append(wrong)
    secrets.assert_absent(await run(sandbox, secrets, tmp_path, name, {"AWS_SECRET_ACCESS_KEY": wrong}))


@pytest.mark.parametrize("name", ["start", "plugin"])
async def test_a_session_that_ends_with_a_traceback(
    sandbox: Sandbox, secrets: Secrets, tmp_path: Path, name: str
) -> None:
    """The key service denies the data key."""
    assert sandbox.key_service is not None
    sandbox.key_service.denied = True
    told = await run(sandbox, secrets, tmp_path, name, {})
    assert "kms:GenerateDataKey" in told
    secrets.assert_absent(told)
