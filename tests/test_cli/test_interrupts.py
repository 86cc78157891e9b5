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

from session_manager_plugin.cli.mfa import keyboard_interrupts

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


def test_a_question_without_echo_is_interrupted_by_an_exception() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt), keyboard_interrupts():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)
