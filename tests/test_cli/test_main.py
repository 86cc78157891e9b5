"""The command group: what it prints, what it costs, how the program ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest
from click.testing import CliRunner

from session_manager_plugin import PLUGIN_VERSION, __version__
from session_manager_plugin.cli import main
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.exit_status import ExitStatus, Signalled, exit_of
from session_manager_plugin.cli.main import COMMANDS
from session_manager_plugin.errors import (
    AccessDenied,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    InvalidURL,
    NotConnected,
    Refused,
    RemoteProtocolError,
    SessionEnded,
    TerminalGone,
    TimedOut,
    UsageError,
)
from tests.support.waiting import DEADLINE
from tests.test_cli.conftest import SandboxThread, Smp, ended

SMP = [sys.executable, "-m", "session_manager_plugin"]


def test_version() -> None:
    result = CliRunner().invoke(main.smp, ["--version"])
    assert result.output == f"smp {__version__} (session-manager-plugin {PLUGIN_VERSION})\n"


def test_version_as_a_command_suggests_the_option(smp: Smp) -> None:
    assert "Did you mean smp --version?" in smp("version").err


@pytest.mark.parametrize(("arguments", "missing"), [([], "SOURCE..."), (["a"], "DESTINATION")])
def test_a_copy_names_the_argument_that_is_missing(smp: Smp, arguments: list[str], missing: str) -> None:
    result = smp("cp", *arguments)
    assert result.status == 2
    assert f"Missing argument '{missing}'" in result.err


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help_lists_the_commands(arguments: list[str]) -> None:
    result = CliRunner().invoke(main.smp, arguments)
    assert result.exit_code == 0
    assert all(f"  {name} " in result.output for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_examples_and_the_common_options(name: str) -> None:
    result = CliRunner().invoke(main.smp, [name, "-h", "--all"])
    assert result.exit_code == 0
    assert re.search(rf"(?m)^Examples:\n(  .*\n)*  .*smp {name}", result.output)
    for option in ("-v, --verbose", "-q, --quiet", "--log-file", "--log-format", "--color", "-h, --help"):
        assert option in result.output
    # It has to be readable where nothing but ASCII is.
    assert result.output.isascii()


def test_help_says_that_a_token_on_the_command_line_is_visible() -> None:
    result = CliRunner().invoke(main.smp, ["connect", "--help", "--all"])
    assert "other users of this machine can see it" in " ".join(result.output.split())


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["--nonsense"], ["demo", "--port"], ["sandbox", "--port", "70000"]]
)
def test_what_is_unknown_is_a_usage_error(smp: Smp, arguments: list[str]) -> None:
    run = smp(*arguments)
    assert (run.status, run.out) == (2, b"")
    assert run.err.startswith("smp: ")
    assert run.err.count("\n") == 1


def test_nobody_reads_the_help() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as unread:
        run = subprocess.run([*SMP, "--help"], stdout=unread, stderr=subprocess.PIPE, check=False, timeout=60)
    assert (run.returncode, run.stderr) == (-13, b"")


def test_version_and_help_import_little() -> None:
    program = (
        "import sys; from session_manager_plugin.cli.main import main; main(['--help']); "
        "sys.stderr.write(' '.join(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(run.stderr.split())
    assert "click" in loaded
    assert not loaded & {"websockets", "rich", "prompt_toolkit", "botocore", "cryptography"}


def test_a_session_in_a_pipe_imports_no_terminal_library_and_no_sdk(sandbox: SandboxThread) -> None:
    """It would cost a third of a second, and memory for as long as the session lasts."""
    started = sandbox.start("true")
    arguments = ["connect", "--url", started.url, "--token", started.token]
    program = (
        "import sys; from session_manager_plugin.cli.main import main; "
        "status = main(sys.argv[1:]); sys.stderr.write(' '.join(sys.modules)); sys.exit(status)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    loaded = set(run.stderr.split())
    assert "websockets" in loaded
    assert not loaded & {"rich", "prompt_toolkit", "botocore"}


# The table from exception to status.


@pytest.mark.parametrize(
    ("error", "status", "number"),
    [
        (UsageError("?"), 2, None),
        (InvalidURL("?"), 2, None),
        (ConfigurationError("!"), 255, None),
        (ConnectError("!"), 255, None),
        (Refused("!", status=403), 255, None),
        (NotConnected("!"), 255, None),
        (ConnectionLost("!"), 255, None),
        (TimedOut("!", seconds=1), 255, None),
        (SessionEnded("!", output="!"), 255, None),
        (AccessDenied("!"), 255, None),
        (RemoteProtocolError("!"), 255, None),
        (ZeroDivisionError("!"), 255, None),
        (TerminalGone("!"), 129, 1),
        (KeyboardInterrupt(), 130, 2),
        (BrokenPipeError(), 141, 13),
        (Signalled(15), 143, 15),
    ],
)
def test_status_of_an_error(error: BaseException, status: int, number: int | None) -> None:
    end = exit_of(error)
    assert (end.status, end.signal, end.failed) == (status, number, True)


def test_the_statuses_are_those_of_the_contract() -> None:
    assert {status.name: int(status) for status in ExitStatus} == {
        "SUCCESS": 0,
        "CHECK_FAILED": 1,
        "USAGE": 2,
        "TIMED_OUT": 124,
        "INTERRUPTED": 130,
        "FAILURE": 255,
    }


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- 2>&-"])
def test_closed_standard_streams(sandbox: SandboxThread, closed: str) -> None:
    """Only the session's output is missed by somebody: where it is lost the status says so."""
    started = sandbox.start("echo hello")
    command = [*SMP, "connect", "--url", started.url, "--token", started.token]
    run = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command], capture_output=True, check=False, timeout=60, input=b""
    )
    if closed == ">&-":
        assert (run.returncode, run.stderr) == (255, b"smp: standard output: Bad file descriptor\n")
        return
    told = b"" if "2>&-" in closed else ended(started.session_id).encode()
    assert (run.returncode, run.stdout, run.stderr) == (0, b"hello\r\n", told)


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ("cp - web-1:file", 255, "standard input: Bad file descriptor"),
        (
            "exec --via shell web-1 -- tee file",
            2,
            "standard input is closed: redirect it from /dev/null, or from what the command is to read",
        ),
    ],
)
def test_a_closed_standard_input_is_not_an_empty_one(arguments: str, status: int, sentence: str) -> None:
    """It would empty the file on the target. No request is sent: there are no credentials."""
    run = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *SMP, *arguments.split()], capture_output=True, check=False, timeout=60
    )
    assert (run.returncode, run.stderr.decode()) == (status, f"smp: {sentence}\n")


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_help_and_version_on_a_closed_output(option: str) -> None:
    run = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *SMP, option], capture_output=True, check=False, timeout=60
    )
    assert (run.returncode, run.stderr) == (255, b"smp: standard output: Bad file descriptor\n")


# The sandbox and the demo.


@pytest.mark.parametrize("on_path", [True, False])
def test_the_demo_in_a_pipe(smp: Smp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, on_path: bool) -> None:
    """It suggests commands as this shell finds them."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "smp"
    script.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bin/smp", "demo"])
    if on_path:
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    command = "smp" if on_path else "bin/smp"
    monkeypatch.setenv("SHELL", "/bin/sh")
    monkeypatch.setenv("SMP_TOKEN", "not-for-children")
    run = smp("demo", stdin=b"stty -echo; echo $((40+2)) ${SMP_TOKEN-none}; exit 3\n")
    assert run.status == 0
    assert b"\n42 none\r\n" in run.out
    told = "smp: this is a demo: sh here, through a local Session Manager; exit leaves it\n"
    next_steps = f"smp: next: {command} start, for your instances; {command} sandbox, for a local account\n"
    assert re.fullmatch(re.escape(told) + ended("user-[0-9a-f]+") + re.escape(next_steps), run.err)


def test_a_quiet_demo(smp: Smp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/nonexistent/shell")
    run = smp("demo", "-q", stdin=b"stty -echo; echo $0; exit\n")
    assert (run.status, run.err) == (0, "")
    assert b"\nsh\r\n" in run.out


def test_a_port_that_is_taken(smp: Smp, sandbox: SandboxThread) -> None:
    port = sandbox.endpoint_url.rpartition(":")[2]
    run = smp("sandbox", "--port", port)
    assert run.status == 255
    assert run.err == f"smp: cannot listen on 127.0.0.1:{port}: Address already in use\n"


class SandboxProcess:
    """`smp sandbox` in a process of its own; use as a context manager."""

    def __init__(self, *options: str) -> None:
        self._process = subprocess.Popen([*SMP, "sandbox", *options], stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=DEADLINE)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def lines(self, count: int) -> list[str]:
        """The first lines it prints."""
        assert self._process.stdout is not None
        return [self._process.stdout.readline() for _ in range(count)]


def paste(line: str, stdin: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line as a shell does."""
    return subprocess.run(
        ["sh", "-c", line],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **variables},
    )


def test_the_sandbox_for_programs() -> None:
    with SandboxProcess("--json") as sandbox:
        (line,) = sandbox.lines(1)
        facts = json.loads(line)
        assert facts["pid"] == sandbox.pid
        assert facts["region"] == "us-east-1"
        assert facts["endpoint_url"].startswith("http://127.0.0.1:")
        assert f"/v1/data-channel/{facts['session_id']}?" in facts["stream_url"]
        connect = [*SMP, "connect", "--url", facts["stream_url"], "--token", "-"]
        run = subprocess.run(
            connect, input=f"{facts['token']}\nexit\n", capture_output=True, text=True, check=False, timeout=60
        )
    assert (run.returncode, run.stderr) == (0, ended(facts["session_id"]))


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--require-signature"]])
def test_the_line_for_smp_can_be_pasted(options: list[str]) -> None:
    with SandboxProcess(*options) as sandbox:
        line = sandbox.lines(4)[3]
        assert re.search(r"SMP_TOKEN=\S+ .* connect --url ", line)
        assert " --token" not in line  # which other users can see
        run = paste(line, "stty -echo; echo $((40+2)); exit\n")
    assert run.returncode == 0
    assert re.fullmatch(ended("user-[0-9a-f]+"), run.stderr)
    assert "\n42\n" in run.stdout


@pytest.mark.slow
def test_the_line_for_smp_is_true_with_tls_and_reusable_tokens() -> None:
    with SandboxProcess("--tls", "--reusable-tokens") as sandbox:
        *_, comment, line = sandbox.lines(4)
        assert comment.endswith("as often as you like; the newest client has it)\n")
        assert " --ca-bundle " in line
        outputs = [paste(line, "stty -echo; n=$((n+1)); echo $((40+n))\n").stdout, paste(line, "exit\n").stdout]
    assert "\n41\n" in outputs[0]


@pytest.mark.slow
def test_the_line_that_lists_the_inventory_can_be_pasted(tmp_path: Path) -> None:
    inventory = tmp_path / "account.toml"
    inventory.write_text('[[instances]]\nid = "i-0123456789abcdef0"\nname = "mine"\n')
    with SandboxProcess("--inventory", str(inventory), "--start-rate", "20/s") as sandbox:
        *_, line = sandbox.lines(10)
        run = paste(line, "", XDG_CACHE_HOME=str(tmp_path))
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("i-0123456789abcdef0\tmine\t")
    assert run.stdout.count("\n") == 1


def test_the_options_of_the_sandbox_are_in_groups(capsys: pytest.CaptureFixture[str], smp: Smp) -> None:
    smp("sandbox", "--help", "--all")
    text = capsys.readouterr().out
    headings = re.findall(r"^(\w[\w ]+):$", text, re.MULTILINE)
    assert headings == ["Sandbox", "Faults", "Agent", "Service", "Output", "Examples"]
    for name in ("mangled-replacement-character", "AWS-StartPortForwardingSessionToRemoteHost", "signal-blocks-reader"):
        assert name in text  # and not wrapped at a hyphen


def test_the_lines_can_be_pasted_all_at_once(tmp_path: Path) -> None:
    """Comments are comments; the line for the AWS CLI finds our plugin, and gives it to whatever `aws` is."""
    plugin = Path(sys.executable).with_name("session-manager-plugin")
    aws = tmp_path / "aws"
    aws.write_text('#!/bin/sh\necho "$AWS_ACCESS_KEY_ID $AWS_REGION $*"; command -v session-manager-plugin\n')
    aws.chmod(0o755)
    with SandboxProcess() as sandbox:
        text = "".join(line for line in sandbox.lines(7) if " connect " not in line)
        run = paste(text, "", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert (run.returncode, run.stderr) == (0, "")
    first, second = run.stdout.splitlines()
    assert re.fullmatch(
        r"AKIA\w+ us-east-1 ssm start-session --endpoint-url http://127\.0\.0\.1:\d+ --target local", first
    )
    assert Path(second).exists()
    assert plugin.exists()


def test_environment_defaults_are_the_process() -> None:
    environment = Environment()
    assert (environment.stdin, environment.stdout, environment.stderr) == (0, 1, 2)
    assert environment.variables is os.environ
