"""Ctrl-C before a session runs ends a program silently, by SIGINT."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from session_manager_plugin.cli.exit_status import Signalled
from session_manager_plugin.cli.raised_signals import raised_signals
from tests.support.pty_process import PtyProcess
from tests.support.waiting import wait_until

SMP = [sys.executable, "-m", "session_manager_plugin"]
PLUGIN = [sys.executable, "-c", "from session_manager_plugin.cli.plugin import main; raise SystemExit(main())"]
INTERRUPTED = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise ImportError('survived SIGINT')\n"
"""A module during whose import the user presses Ctrl-C."""


def default_action() -> None:
    """A shell that runs in the background starts its programs with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_interrupted(
    arguments: list[str], module: str, directory: Path, prepare: Callable[[], None] = default_action
) -> subprocess.CompletedProcess[str]:
    """Run a program with SIGINT during the import of ``module``."""
    Path(directory, f"{module}.py").write_text(INTERRUPTED)
    environment = {**os.environ, "PYTHONPATH": str(directory), "AWS_EC2_METADATA_DISABLED": "true"}
    return subprocess.run(
        arguments,
        env=environment,
        preexec_fn=prepare,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        ([*SMP, "ls"], "click"),  # of all commands
        ([*SMP, "ls", "--region", "eu-west-1"], "asyncio"),  # of this command
        ([*PLUGIN, "{}", "eu-west-1", "StartSession"], "asyncio"),
    ],
)
def test_ctrl_c_during_an_import(arguments: list[str], module: str, tmp_path: Path) -> None:
    run = run_interrupted(arguments, module, tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (-signal.SIGINT, "", "")


def test_the_aws_cli_starts_the_plugin_with_sigint_ignored(tmp_path: Path) -> None:
    run = run_interrupted([*PLUGIN, "{}", "eu-west-1", "StartSession"], "asyncio", tmp_path, ignored)
    assert "survived SIGINT" in run.stderr


def test_the_console_scripts_handle_ctrl_c_before_they_import_anything_else() -> None:
    root = Path(__file__).parents[2]
    assert tomllib.loads(Path(root, "pyproject.toml").read_text())["project"]["scripts"] == {
        "smp": "session_manager_plugin.__main__:main",
        "session-manager-plugin": "session_manager_plugin.cli.plugin:main",
    }


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        *((each, Signalled) for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)),
    ],
)
def test_a_question_is_ended_by_an_exception(number: signal.Signals, error: type[BaseException]) -> None:
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(error), raised_signals():
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)
        with raised_signals():
            signal.raise_signal(number)
    finally:
        signal.signal(number, before)


ASKS = {
    "MFA code": "from session_manager_plugin.cli.mfa import ask; ask('serial')",
    "Stream URL": "from session_manager_plugin.cli.main import main; raise SystemExit(main(['connect']))",
}


@pytest.mark.parametrize("question", ASKS)
async def test_a_signal_during_a_question_restores_the_terminal(question: str) -> None:
    async with PtyProcess([sys.executable, "-c", ASKS[question]], env={**os.environ, "TERM": "xterm"}) as program:
        before = program.attributes
        await program.expect(question)
        await wait_until(lambda: program.attributes != before)
        program.process.send_signal(signal.SIGTERM)
        await program.wait()
        assert program.attributes == before
