"""A client as a user starts it: a process with pipes or a terminal, and what the kernel knows of its cost (Linux)."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

DEADLINE = 300.0
"""Seconds without progress after which a measurement has failed."""
PROGRAMS = Path(sys.executable).parent
SMP, PLUGIN = str(PROGRAMS / "smp"), str(PROGRAMS / "session-manager-plugin")
RESPONSE = "AWS_SSM_START_SESSION_RESPONSE"
_NOT_KEPT = ("SMP_", "AWS_", "PYTHON")


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """That of a user who has set nothing but `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_KEPT)}
    return {**kept, "TERM": "xterm-256color", **more}


class Client(AbstractContextManager["Client"]):
    """A process that runs `arguments`, on a terminal of 80×24 or between two pipes; it is killed in the end."""

    def __init__(self, arguments: Sequence[str], more: Mapping[str, str] | None = None, *, terminal: bool) -> None:
        if terminal:
            self._master, inner = pty.openpty()
            termios.tcsetwinsize(inner, (24, 80))
            tty.setraw(inner)
            self.process = subprocess.Popen(
                arguments, stdin=inner, stdout=inner, stderr=inner, env=environment(more or {}), start_new_session=True
            )
            os.close(inner)
            self.stdin = self.stdout = self._master
        else:
            self.process = subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(more or {}), bufsize=0
            )
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.stdin, self.stdout = self.process.stdin.fileno(), self.process.stdout.fileno()
        self._terminal = terminal
        self._proc = Path("/proc", str(self.process.pid))

    @classmethod
    def smp(cls, url: str, *options: str, terminal: bool, more: Mapping[str, str] | None = None) -> Self:
        """`smp connect`."""
        arguments = [SMP, "connect", "--url", url, *options]
        return cls(arguments, {"SMP_TOKEN": "token", **(more or {})}, terminal=terminal)

    @classmethod
    def plugin(
        cls,
        url: str,
        document: str,
        *,
        terminal: bool = False,
        quiet: bool = False,
        more: Mapping[str, str] | None = None,
    ) -> Self:
        """`session-manager-plugin`, as the AWS CLI starts it; with `quiet` it says nothing of itself."""
        session_id = url.rpartition("/")[2]
        response = json.dumps({"SessionId": session_id, "StreamUrl": url, "TokenValue": "token"})
        request = json.dumps({"Target": "i-0123456789abcdef0", "DocumentName": document})
        arguments = [PLUGIN, RESPONSE, "us-east-1", "StartSession", "", request, "http://127.0.0.1:9"]
        return cls(
            arguments, {RESPONSE: response, **({"SMP_QUIET": "1"} if quiet else {}), **(more or {})}, terminal=terminal
        )

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        if self._terminal:
            os.close(self._master)
        else:
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    stream.close()

    # What it prints.

    def read(self, timeout: float = DEADLINE) -> bytes:
        """What comes next on its output; b"" at the end. Raises `TimeoutError`."""
        if not select.select([self.stdout], [], [], timeout)[0]:
            raise TimeoutError(f"{self.process.args!r} prints nothing")
        try:
            return os.read(self.stdout, 1 << 20)
        except OSError:
            return b""  # a terminal that nobody has any more

    def read_until(self, expected: bytes) -> bytes:
        """All it prints, up to a read that completes `expected`. Raises `EOFError`, `TimeoutError`."""
        printed = b""
        while expected not in printed:
            data = self.read()
            if not data:
                raise EOFError(f"{self.process.args!r} has ended; it printed {printed[-500:]!r}")
            printed += data
        return printed

    def read_all(self) -> int:
        """Read to the end; gives how many bytes came."""
        size = 0
        while data := self.read():
            size += len(data)
        return size

    def wait(self) -> None:
        """Wait for its end. Raises `ChildProcessError` unless it was a normal one."""
        if self.process.wait(DEADLINE) != 0:
            raise ChildProcessError(f"{self.process.args!r} has ended with status {self.process.returncode}")

    def terminate(self) -> None:
        """End it by a signal."""
        self.process.send_signal(signal.SIGTERM)
        while self.read():
            pass
        self.process.wait(DEADLINE)

    # What it has cost so far.

    @property
    def cpu(self) -> float:
        """CPU seconds, user and system, of all threads that live."""
        return sum(int(path.read_text().split()[0]) for path in self._proc.glob("task/*/schedstat")) / 1e9

    @property
    def wake_ups(self) -> int:
        """How often it has gone to sleep and been woken."""
        return sum(self._number(path, "voluntary_ctxt_switches") for path in self._proc.glob("task/*/status"))

    @property
    def peak_memory(self) -> float:
        """The most memory that was ever resident, in MB (10^6 bytes)."""
        return self._number(self._proc / "status", "VmHWM") * 1024 / 1e6

    def _number(self, status: Path, field: str) -> int:
        (line,) = (line for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
        return int(line.split()[1])


class Stopwatch:
    """Wall clock and a client's CPU seconds between two moments."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._wall, self._cpu = time.perf_counter(), client.cpu

    def stop(self) -> tuple[float, float]:
        """Wall and CPU seconds since the beginning."""
        return time.perf_counter() - self._wall, self._client.cpu - self._cpu
