"""Encrypted sessions: botocore, the sandbox's key service and both ends of the channel, for real."""

from __future__ import annotations

from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator

import pytest

from session_manager_plugin.agent import Sandbox
from tests.e2e.conftest import BIN
from tests.support.pty_process import PtyProcess

PROMPT = r"[#$] $"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(kms=True) as running:
        yield running


async def test_a_shell_of_the_aws_cli(aws: str, sandbox: Sandbox, environment: dict[str, str]) -> None:
    argv = [aws, "ssm", "start-session", "--endpoint-url", sandbox.endpoint_url, "--target", "local"]
    async with PtyProcess(argv, env=environment) as terminal:
        await terminal.expect("Starting session with SessionId: .*This session is encrypted using AWS KMS.\r\n")
        await terminal.expect(PROMPT)
        terminal.type("echo $((40+2))\r")
        await terminal.expect(r"\r\n42\r\n.*" + PROMPT)
        terminal.type("\x04")
        assert await terminal.wait() == 0


@pytest.mark.parametrize("target", ["local", "i-somebody-else"])
async def test_a_command_of_smp_connect(sandbox: Sandbox, environment: dict[str, str], target: str) -> None:
    """The data key is bound to the session's target: for another one the agent cannot decrypt it."""
    parameters = {"command": ["sh -c 'echo out; echo err >&2; exit 3'"], "separateOutputStream": ["true"]}
    started = await sandbox.start_session("AWS-StartNonInteractiveCommand", parameters)
    argv = [str(BIN / "smp"), "connect", "--url", started.stream_url, "--token", started.token or ""]
    process = await create_subprocess_exec(
        *argv, "--target", target, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment
    )
    output, errors = await process.communicate()
    if target == "local":
        assert (output, errors, process.returncode) == (b"out\n", b"err\n", 3)
    else:
        assert output == b""
        assert b"InvalidCiphertextException" in errors
        assert process.returncode == 255


async def test_a_key_that_is_denied(sandbox: Sandbox, environment: dict[str, str]) -> None:
    assert sandbox.key_service is not None
    sandbox.key_service.denied = True
    started = await sandbox.start_session()
    argv = [str(BIN / "smp"), "connect", "--url", started.stream_url, "--token", started.token or ""]
    process = await create_subprocess_exec(
        *argv, "--target", "local", stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment
    )
    output, errors = await process.communicate()
    assert (output, process.returncode) == (b"", 255)
    assert sandbox.key_service.key_id in errors.decode()
    assert b"kms:GenerateDataKey" in errors


async def test_an_interactive_command(sandbox: Sandbox, environment: dict[str, str]) -> None:
    started = await sandbox.start_session("AWS-StartInteractiveCommand", {"command": ["stty -echo; tr a-z A-Z"]})
    argv = [str(BIN / "smp"), "connect", "--url", started.stream_url, "--token", started.token or ""]
    process = await create_subprocess_exec(
        *argv, "--target", "local", stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment
    )
    output, errors = await process.communicate(b"sealed both ways\n")
    assert output.endswith(b"SEALED BOTH WAYS\r\n")
    assert errors.decode() == f"smp: session {started.session_id} ended\n"
    assert process.returncode == 0
