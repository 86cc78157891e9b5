"""The command lines that start this program again."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from session_manager_plugin.cli.environment import Environment


def own_command(environment: Environment) -> list[str]:
    """Return the command for this program in another terminal: its name if PATH finds it, otherwise its path."""
    script = os.path.abspath(sys.argv[0])
    if os.path.basename(script) == "__main__.py":
        return [sys.executable, "-m", "session_manager_plugin"]
    found = shutil.which(os.path.basename(script), path=environment.variables.get("PATH"))
    if found is not None and os.path.realpath(found) == os.path.realpath(script):
        return [os.path.basename(script)]
    return [script]


def typed_command(environment: Environment) -> str:
    """Return the command for this program in the same directory, with a relative path if it was started with one."""
    command = own_command(environment)
    return sys.argv[0] if command == [os.path.abspath(sys.argv[0])] else " ".join(command)


def absolute_command() -> list[str]:
    """Return the command that runs this program from any directory, whatever PATH is there."""
    script = shutil.which(sys.argv[0])
    if script is not None and Path(script).stem == "smp":
        return [os.path.abspath(script)]
    return [sys.executable, "-P", "-m", "session_manager_plugin"]  # -P: no module of the current directory
