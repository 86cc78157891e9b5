"""`smp start` next to the AWS CLI: from the command to the prompt, with the same sandbox."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from benchmarks.client import PROGRAMS, SMP, Client
from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.background import BackgroundSandbox

PROMPT = b"the prompt"
"""What the far end's shell prints when it begins."""
TARGET = "i-0123456789abcdef0"


def aws_clis() -> dict[str, str]:
    """The paths of the AWS CLIs by version (``aws-cli/2.9.19``): those of ``SMP_TEST_AWS_V1`` and ``_V2``, or
    else ``aws`` of the PATH."""
    named = [os.environ.get(f"SMP_TEST_AWS_{version}") for version in ("V1", "V2")]
    paths = [path for path in named if path] or [path for path in [shutil.which("aws")] if path]
    return {subprocess.check_output([path, "--version"], text=True).split()[0]: path for path in paths}


class ColdStart(AbstractContextManager["ColdStart"]):
    """Starts sessions with one sandbox, one after the other."""

    def __init__(self) -> None:
        self._background = BackgroundSandbox(
            Sandbox(targets=[TARGET], shell=f"sh -c 'printf \"{PROMPT.decode()}\"; exec cat'")
        )
        self._home = tempfile.TemporaryDirectory()

    def __enter__(self) -> Self:
        self._background.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._background.__exit__(exc_type, exc, traceback)
        self._home.cleanup()

    def medians(self, clis: Mapping[str, str], rounds: int) -> dict[str, float]:
        """The median of the seconds to the prompt: of ``smp start`` as ``smp``, and of each AWS CLI with our plugin.

        They take turns, so that a busy machine slows them alike. A round before the first one is not counted.
        """
        endpoint = ("--endpoint-url", self._background.endpoint_url)
        commands = {"smp": [SMP, "start", TARGET, *endpoint]}
        for name, path in clis.items():
            commands[name] = [path, "ssm", "start-session", "--target", TARGET, *endpoint]
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, command in commands.items():
                taken = self._seconds_to_prompt(command)
                if number:
                    seconds[name].append(taken)
        return {name: statistics.median(each) for name, each in seconds.items()}

    def _seconds_to_prompt(self, command: Sequence[str]) -> float:
        variables = {
            **self._background.environment,
            "AWS_EC2_METADATA_DISABLED": "true",
            "HOME": self._home.name,
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        }
        start = time.perf_counter()
        with Client(command, variables, terminal=True) as client:
            client.read_until(PROMPT)
            seconds = time.perf_counter() - start
            client.terminate()
        return seconds
