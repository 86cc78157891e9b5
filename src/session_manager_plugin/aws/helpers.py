"""Credential processes (``credential_process`` of a profile), which are killed at the end of the program.

Each runs in a session of its own, so that it cannot prompt at the terminal and receives no signals from it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar


class HelperPrograms:
    """Starts helper programs, in any thread, and kills those that still run."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # ``end`` may be called by a signal handler
        self._running: list[subprocess.Popen[bytes]] = []
        self._over = False

    def start(
        self, command: Sequence[str], *, stdout: int | None = None, stderr: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program without input and terminal. Raises ``OSError``, also after ``end``."""
        with self._lock:
            if self._over:
                raise OSError("the program is ending")
            helper = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
            )
            self._running = [each for each in self._running if each.returncode is None]
            self._running.append(helper)
        return helper

    def end(self) -> None:
        """Kill the running programs and their children, without waiting, and refuse to start others. Idempotent."""
        with self._lock:
            self._over = True
            for helper in self._running:
                if helper.poll() is None:
                    _kill(helper)


def _kill(helper: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(helper.pid, signal.SIGKILL)
        else:
            helper.kill()


_CURRENT: ContextVar[HelperPrograms | None] = ContextVar("helper programs", default=None)


def current_helpers() -> HelperPrograms:
    """Return the ``HelperPrograms`` of the enclosing ``ended_helpers``; without one, a new object."""
    return _CURRENT.get() or HelperPrograms()


@contextlib.contextmanager
def ended_helpers() -> Iterator[HelperPrograms]:
    """At the end of the block, kill the helper programs started in it, or in its tasks and threads."""
    helpers = HelperPrograms()
    token = _CURRENT.set(helpers)
    try:
        yield helpers
    finally:
        _CURRENT.reset(token)
        helpers.end()
