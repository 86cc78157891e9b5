"""Commands without a terminal: stdout, stderr and the exit status, each where it belongs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from asyncio.subprocess import DEVNULL, PIPE

import pytest

from session_manager_plugin.agent import Sandbox
from tests.e2e.conftest import BIN
from tests.support.completed import completed
from tests.support.waiting import DEADLINE

DOCUMENT = "AWS-StartNonInteractiveCommand"


async def connect(
    sandbox: Sandbox, environment: dict[str, str], command: str, *, separate: bool
) -> tuple[bytes, bytes, int]:
    parameters = {"command": [command], "separateOutputStream": [str(separate).lower()]}
    started = await sandbox.start_session(DOCUMENT, parameters)
    argv = [str(BIN / "smp"), "connect", "--url", started.stream_url, "--token", started.token or ""]
    return await completed(*argv, env=environment)


@pytest.mark.parametrize("status", [0, 1, 3, 127, 255])
async def test_the_status_of_the_command(sandbox: Sandbox, environment: dict[str, str], status: int) -> None:
    """Reference defects U1, D12: the status is always 0, and everything goes to stdout."""
    command = f"sh -c 'echo out; echo err >&2; exit {status}'"
    assert await connect(sandbox, environment, command, separate=True) == (b"out\n", b"err\n", status)


async def test_a_command_that_a_signal_ends(sandbox: Sandbox, environment: dict[str, str]) -> None:
    output, errors, status = await connect(sandbox, environment, "sh -c 'echo out; kill -9 $$'", separate=True)
    assert (output, status) == (b"out\n", 255)
    assert errors == b"smp: the command was killed by a signal\n"


async def test_one_stream_for_both(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """All of it, and no status: the agent tells none."""
    command = "sh -c 'seq 50000; echo err >&2; exit 3'"
    output, errors, status = await connect(sandbox, environment, command, separate=False)
    assert output == "".join(f"{number}\n" for number in range(1, 50_001)).encode() + b"err\n"
    assert (errors, status) == (b"", 0)


@pytest.mark.parametrize(("setting", "status"), [("", 0), ("always", 255)])
async def test_the_aws_cli(aws: str, sandbox: Sandbox, environment: dict[str, str], setting: str, status: int) -> None:
    """A command that fails is a normal end for the plugin; the AWS CLI makes 255 of a status that is passed on."""
    parameters = {"command": ["sh -c 'echo out; echo err >&2; exit 3'"], "separateOutputStream": ["true"]}
    argv = [aws, "ssm", "start-session", "--endpoint-url", sandbox.endpoint_url, "--target", "local"]
    argv += ["--document-name", DOCUMENT, "--parameters", json.dumps(parameters)]
    output, errors, given = await completed(*argv, env={**environment, "SMP_EXIT_STATUS": setting})
    (session_id,) = sandbox.sessions
    starting = f"\nStarting session with SessionId: {session_id}\n"
    assert output.decode() == f"{starting}out\n\n\nExiting session with sessionId: {session_id}.\n\n"
    assert errors.startswith(b"err\n")
    assert given == status


async def test_control_c_reaches_the_command(sandbox: Sandbox, environment: dict[str, str]) -> None:
    command = "sh -c 'trap \"echo interrupted; exit 5\" INT; echo ready; while :; do sleep 0.05; done'"
    parameters = {"command": [command], "separateOutputStream": ["true"]}
    started = await sandbox.start_session(DOCUMENT, parameters)
    argv = [str(BIN / "smp"), "connect", "--url", started.stream_url, "--token", started.token or ""]
    process = await asyncio.create_subprocess_exec(*argv, stdin=DEVNULL, stdout=PIPE, env=environment)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE):
            assert await process.stdout.readline() == b"ready\n"
            process.send_signal(signal.SIGINT)
            assert await process.stdout.read() == b"interrupted\n"
            assert await process.wait() == 5
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
