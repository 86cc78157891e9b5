"""A child process that leads a session of its own, so that it can be ended together with its descendants.

It is started with ``posix_spawn``, not ``fork``: this process may have threads (the loop's executor, a test
runner's), and after a fork in such a process only async-signal-safe code may run. That rules out Python code between
fork and exec, and with it ``pty.fork`` and ``preexec_fn``. ``posix_spawn`` can also reset every signal to its default
action, which ``subprocess`` cannot: a sandbox that a script has started in the background ignores SIGINT, and Ctrl-C
would have no effect in its sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

KILL_DELAY = 1.0
"""Seconds between SIGHUP and SIGKILL."""


class ChildProcess:
    """One process. Calls ``on_exit`` from the event loop when it has exited.

    ``pid`` is also the id of the process's session; 0 before ``start``. ``exit_code`` is None until the process has
    exited, and -N if signal N has killed it. It stays None if other code in this program has reaped the process.
    """

    def __init__(self, on_exit: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_exit = on_exit
        self._exited = asyncio.Event()
        self.pid = 0
        self.exit_code: int | None = None

    @property
    def exited(self) -> bool:
        """Whether the process was started and has exited."""
        return self._exited.is_set()

    def start(self, argv: Sequence[str], file_actions: Sequence[tuple[Any, ...]]) -> None:
        """Start the program, which is searched on PATH, in the current directory. Raises ``OSError``.

        ``file_actions`` are those of ``os.posix_spawn``.
        """
        self.pid = os.posix_spawnp(
            argv[0],
            list(argv),
            _environment(),
            file_actions=file_actions,
            setsid=True,
            setsigmask=(),
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )
        # A thread, because that works on every platform and with every event loop.
        threading.Thread(target=self._reap, name=f"wait for {self.pid}", daemon=True).start()

    def _reap(self) -> None:
        exit_code = None
        with contextlib.suppress(ChildProcessError):  # reaped by other code in this program
            exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._process_exited, exit_code)

    def _process_exited(self, exit_code: int | None) -> None:
        self.exit_code = exit_code
        self._exited.set()
        self._on_exit()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process only. Does nothing if it has exited."""
        if self.pid and not self.exited:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)

    async def end(self) -> None:
        """Send SIGHUP to every process of the session, and SIGKILL after ``KILL_DELAY`` seconds. Returns when all have
        exited.

        A process that has left the session with ``setsid`` is not ended. Without ``/proc`` background jobs get only the
        SIGHUP of their shell.
        """
        if not self.pid:
            return
        deadline = self._loop.time() + KILL_DELAY
        self._signal_session(signal.SIGHUP)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._exited.wait(), KILL_DELAY)
        if not self.exited or _session_members(self.pid):
            await asyncio.sleep(deadline - self._loop.time())
            self._signal_session(signal.SIGKILL)
        await self._exited.wait()

    def _signal_session(self, number: signal.Signals) -> None:
        if not self.exited:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)
        for pid in _session_members(self.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def _environment() -> dict[str, str]:
    """Return this process's environment, as the official agent passes it on, without variables of another terminal."""
    environment = {"LANG": "C.UTF-8", **os.environ, "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES"):
        environment.pop(name, None)
    return environment


def _session_members(session_id: int) -> list[int]:
    """Return the running processes of a session; none without Linux's ``/proc`` (proc(5), ``stat``)."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # the process has just exited
            # The name in parentheses may contain any character, so fields are counted from its end.
            state, _, _, session = stat.read_text(errors="replace").rpartition(")")[2].split()[:4]
            if int(session) == session_id and state not in "ZX":
                members.append(int(stat.parent.name))
    return members
