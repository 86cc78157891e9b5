"""What `-v` tells, where it goes, and what it never holds."""

from __future__ import annotations

import json
import re
import stat
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from tests.e2e.conftest import BIN
from tests.support.pty_process import PtyProcess

SMP = str(BIN / "smp")
TYPED = "a-password-that-is-typed"


@pytest.fixture
async def encrypted() -> AsyncIterator[Sandbox]:
    async with Sandbox(kms=True) as running:
        yield running


def look_at(log: Path) -> tuple[str, int]:
    """A log and its mode."""
    return log.read_text(), stat.S_IMODE(log.stat().st_mode)


def check_no_secret(text: str, sandbox: Sandbox, token: str) -> None:
    """Neither the token nor a key, in whatever spelling; nor what was typed."""
    for secret in (token, sandbox.secret_access_key, TYPED):
        assert secret not in text
        assert json.dumps(secret)[1:-1] not in text
    # The data key, as KMS's answer holds it.
    assert not re.search(r'Plaintext"\s*:\s*"[^*]', text)


async def test_no_secret_of_an_encrypted_session_is_told(encrypted: Sandbox, tmp_path: Path) -> None:
    """Everything asked for, botocore's words included."""
    started = await encrypted.start_session()
    assert started.token is not None
    log = tmp_path / "log"
    arguments = ["connect", "--url", f"{started.stream_url}&token={started.token}", "--token-file", "token", "--target"]
    (tmp_path / "token").write_text(started.token)
    process = await create_subprocess_exec(
        SMP,
        *arguments,
        "local",
        "-vv",
        "--log-file",
        "log",
        "--log-format",
        "json",
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        cwd=tmp_path,
        env={"PATH": str(BIN), "HOME": str(tmp_path), **encrypted.environment},
    )
    output, errors = await process.communicate(f"read -s word\n{TYPED}\necho $((40+2)); exit\n".encode())
    assert process.returncode == 0, errors
    assert b"42" in output
    told = log.read_text() + errors.decode()
    check_no_secret(told, encrypted, started.token)
    assert "token=***" in told
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert any(line["logger"] == "botocore.credentials" for line in lines)
    assert any("the key service returned a data key" in line["message"] for line in lines)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


async def test_no_secret_is_in_a_traceback(encrypted: Sandbox, tmp_path: Path) -> None:
    """Chained exceptions: botocore's refusal, ours for it, the session's end."""
    assert encrypted.key_service is not None
    encrypted.key_service.denied = True
    started = await encrypted.start_session()
    assert started.token is not None
    process = await create_subprocess_exec(
        SMP,
        "connect",
        "--url",
        f"{started.stream_url}&token={started.token}",
        "--token",
        started.token,
        "--target",
        "local",
        "-vv",
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={"PATH": str(BIN), "HOME": str(tmp_path), **encrypted.environment},
    )
    _, errors = await process.communicate()
    assert process.returncode == 255
    assert b"Traceback (most recent call last)" in errors
    assert b"The above exception was the direct cause" in errors
    check_no_secret(errors.decode(), encrypted, started.token)


async def test_the_stages_of_a_connection_are_told(sandbox: Sandbox, environment: dict[str, str]) -> None:
    started = await sandbox.start_session("AWS-StartNonInteractiveCommand", {"command": ["echo hi"]})
    argv = [SMP, "connect", "-v", "--url", started.stream_url, "--token", started.token or ""]
    process = await create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment)
    output, errors = await process.communicate()
    assert (output.split(), process.returncode) == ([b"hi"], 0)
    stages = [
        r"connecting to ws://127\.0\.0\.1:\d+/\S+",
        r"looking up 127\.0\.0\.1:\d+ and connecting to it",
        r"connected to 127\.0\.0\.1 port \d+",
        r"asking for a websocket",
        r"the websocket is open",
        r"the token is sent; waiting for the session to begin",
        r"the session has begun: type NonInteractiveCommands, agent \d+\.\S+",
        r"the far end closed the session: .*",
    ]
    pattern = r"\n(?:.*\n)*".join(rf"smp: \[\d+\.\d{{3}}\] {stage}" for stage in stages)
    assert re.search(pattern, errors.decode()), errors.decode()


async def test_no_line_gets_into_the_screen_of_a_session(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """Lines are kept until the terminal is given back; details are in the state directory."""
    started = await sandbox.start_session()
    argv = [SMP, "connect", "-vv", "--status", "off", "--url", started.stream_url, "--token", started.token or ""]
    async with PtyProcess(argv, env=environment) as terminal:
        await terminal.expect(r"everything is logged in (\S+)\r\n")
        await terminal.expect(r"[#$] $")
        terminal.type("echo be''gin; exit\r")
        await terminal.expect(r"begin\r\n")
        before = terminal.output[: terminal.output.index(b"begin\r\n")]
        await terminal.expect("the far end closed the session")
        assert await terminal.wait() == 0
    # Between the prompt and the end of the session nothing was told, though much was logged.
    _, _, in_session = before.rpartition(b"the token is sent")
    assert b"smp: [" not in in_session.partition(b"be''gin")[2]
    text, mode = look_at(Path(environment["HOME"], ".local", "state", "smp", "smp.log"))
    assert "DEBUG session_manager_plugin.communicator" in text
    assert mode == 0o600
    assert (started.token or "-") not in text


@pytest.mark.parametrize(("state", "used"), [("state", False), ("{tmp_path}/state", True)])
async def test_the_state_directory(
    sandbox: Sandbox, environment: dict[str, str], tmp_path: Path, state: str, used: bool
) -> None:
    """A relative value is ignored, as the specification has it."""
    environment["XDG_STATE_HOME"] = state.format(tmp_path=tmp_path)
    async with PtyProcess([SMP, "demo", "-vv"], env=environment) as terminal:
        expected = tmp_path / ("state" if used else ".local/state") / "smp" / "smp.log"
        match = await terminal.expect(r"everything is logged in (\S+)\r\n")
        assert match[1].decode() == str(expected)
        await terminal.expect(r"[#$] $|\$ ")
        terminal.type("exit\r")
        await terminal.wait()
    assert expected.is_file()
