"""What each way of starting imports: all that it uses, and next to nothing that it does not.

Imports are most of what a start costs. Each program runs in a process of its own, to a session's end, and
tells then what it has imported.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.api import StartedSession
from tests.support.pty_process import PtyProcess

VARIABLE = "AWS_SSM_START_SESSION_RESPONSE"
PACKAGE = "session_manager_plugin."
_TELLING = """
import sys
from session_manager_plugin.cli.{module} import main
try:
    sys.exit(main())
finally:
    with open({report!r}, "w") as report:
        report.write("\\n".join(sys.modules))
"""

NEVER = {
    "botocore",
    "cryptography",
    "prompt_toolkit",
    "session_manager_plugin.agent",
    "websockets.asyncio",
    "websockets.server",
    "xml",
    "html",
    "http.client",
    "urllib.request",
    f"{PACKAGE}aws.aws_errors",
    f"{PACKAGE}aws.botocore_session",
    f"{PACKAGE}aws.kms",
    f"{PACKAGE}aws.systems_manager",
    f"{PACKAGE}communicator.certificate",
    f"{PACKAGE}communicator.connect_errors",
    f"{PACKAGE}transfer",
}
"""What no session imports by itself: what calls AWS, what encrypts, what asks, the sandbox, what explains a failure.
None of these is opened at AWS: nothing is signed, whatever credentials there are."""
SIGNING = {
    "botocore",
    "xml",
    "http.client",
    "urllib.request",
    f"{PACKAGE}aws.aws_errors",
    f"{PACKAGE}aws.botocore_session",
}
"""What a signature needs of it."""
HANDLERS = {
    f"{PACKAGE}session.{name}" for name in ("shell", "command", "port", "port_mux", "port_basic", "stdio", "listener")
}
"""What runs the types of sessions."""
LINE_CAME_BACK = r"one\r\none"
"""What `cat` makes of the line `one` that is typed at it."""
SMUX, DISPLAY = f"{PACKAGE}protocol.smux", f"{PACKAGE}terminal.display"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "modules"


def telling(module: str, report: Path) -> list[str]:
    """A program that runs `main` of `cli.MODULE` and then writes what was imported to `report`."""
    return [sys.executable, "-c", _TELLING.format(module=module, report=str(report))]


def imported(report: Path) -> set[str]:
    return set(report.read_text().split("\n"))


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Ours without settings of whoever runs the tests, and `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SMP_"))}
    return {**kept, "TERM": "xterm", "AWS_ACCESS_KEY_ID": "AKIAUNUSED", "AWS_SECRET_ACCESS_KEY": "unused", **variables}


def plugin(report: Path, started: StartedSession, document: str | None) -> tuple[list[str], dict[str, str]]:
    """The plugin as the AWS CLI starts it: arguments and environment."""
    request = {"Target": "i-0123456789abcdef0", **({"DocumentName": document} if document else {})}
    answer = {"SessionId": started.session_id, "TokenValue": started.token, "StreamUrl": started.stream_url}
    arguments = [*telling("plugin", report), VARIABLE, "us-east-1", "StartSession", "", json.dumps(request), ""]
    return arguments, environment({VARIABLE: json.dumps(answer)})


async def run_at_terminal(
    sandbox: Sandbox, started: StartedSession, arguments: Sequence[str], variables: Mapping[str, str], shown: str
) -> None:
    """Run a program at a terminal until it has `shown` something; then the far end ends the session."""
    async with PtyProcess(arguments, env=variables) as program:
        if shown == LINE_CAME_BACK:
            program.type("one\r")
        await program.expect(shown)
        sandbox.session(started.session_id).terminate()
        assert await program.wait() == 0


async def test_the_plugin_with_a_shell_at_a_terminal(report: Path) -> None:
    async with Sandbox(shell="cat") as sandbox:
        started = await sandbox.start_session()
        await run_at_terminal(sandbox, started, *plugin(report, started, None), LINE_CAME_BACK)
    modules = imported(report)
    assert not modules & {*NEVER, "click", "rich", SMUX}
    assert modules & HANDLERS <= {f"{PACKAGE}session.shell"}


async def test_the_plugin_that_signs_with_a_key_of_the_environment(report: Path) -> None:
    """The part of botocore that signs, without its sessions and clients."""
    async with Sandbox(shell="cat", require_signature=True) as sandbox:
        started = await sandbox.start_session()
        arguments, variables = plugin(report, started, None)
        await run_at_terminal(sandbox, started, arguments, {**variables, **sandbox.environment}, LINE_CAME_BACK)
    modules = imported(report)
    assert "botocore.auth" in modules
    assert not modules & {*(NEVER - SIGNING), "botocore.session", "botocore.client", "click", "rich"}


async def test_the_plugin_with_a_shell_in_a_pipe(report: Path) -> None:
    async with Sandbox(shell="cat") as sandbox:
        started = await sandbox.start_session()
        arguments, variables = plugin(report, started, None)
        program = await asyncio.create_subprocess_exec(
            *arguments, env=variables, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await program.communicate(b"typed\n")
        assert b"typed" in output
    modules = imported(report)
    assert not modules & {*NEVER, "click", "rich", SMUX, DISPLAY, f"{PACKAGE}terminal.status_line"}
    assert modules & HANDLERS == {f"{PACKAGE}session.shell"}


async def test_the_plugin_with_a_forwarded_port(report: Path) -> None:
    document = "AWS-StartPortForwardingSession"
    async with Sandbox() as sandbox:
        started = await sandbox.start_session(document, {"portNumber": ["9"]})
        await run_at_terminal(sandbox, started, *plugin(report, started, document), "Waiting for connections")
    modules = imported(report)
    assert not modules & {*NEVER, "click", "rich", DISPLAY}
    assert modules & HANDLERS == {f"{PACKAGE}session.{name}" for name in ("port", "port_mux", "listener")}


async def test_connect_with_the_bar(report: Path) -> None:
    async with Sandbox(shell="cat") as sandbox:
        started = await sandbox.start_session()
        arguments = [*telling("main", report), "connect", "--url", started.stream_url, "--status", "bar"]
        variables = environment({"SMP_TOKEN": started.token or ""})
        await run_at_terminal(sandbox, started, arguments, variables, "connected")
    modules = imported(report)
    assert not modules & {*NEVER, SMUX, "rich.console", "rich.text", f"{PACKAGE}cli.drop_in"}
    assert {"rich.style", "click"} <= modules
    assert modules & HANDLERS == {f"{PACKAGE}session.shell"}
    assert {name for name in modules if name.startswith(f"{PACKAGE}cli.commands.")} == {
        f"{PACKAGE}cli.commands.connect"
    }


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["connect", "--help"], ["probe", "--help"]])
def test_help_and_version_of_smp(arguments: list[str], report: Path) -> None:
    run = subprocess.run(
        [*telling("main", report), *arguments], env=environment({}), capture_output=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, b"")
    assert not imported(report) & {*NEVER, "rich", "websockets", "asyncio", f"{PACKAGE}protocol"}
