"""Job control: stopping a job that needs the terminal until it is in the foreground."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

SIGNALS_FIRST = 0.1
"""Seconds between SIGCONT and the next stop. A shell's ``kill %1`` sends SIGTERM and SIGCONT to a stopped job, and the
event loop has to handle the SIGTERM before the job stops again."""


def in_background(fd: int) -> bool:
    """Whether ``fd`` is our controlling terminal and another job is in its foreground now."""
    try:
        return os.tcgetpgrp(fd) not in (0, os.getpgrp())  # 0: the group is outside our namespace, or a pty's master
    except OSError:
        return False  # not our controlling terminal, or hung up


class ForegroundWait:
    """Stops the whole job, repeatedly if needed, until it is in the foreground of the terminal ``fd``.

    The kernel also stops a job that sets the terminal's modes from the background. But it restarts that system call
    when the job is continued, and stops the job again before the event loop has handled any other signal: SIGTERM,
    SIGINT and SIGHUP would have no effect.
    """

    def __init__(self, fd: int, returned: Callable[[], None]) -> None:
        """``returned`` is called when the job is in the foreground, or when no shell would continue a stopped job."""
        self._fd = fd
        self._returned = returned
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> bool:
        """Whether ``returned`` is still to be called."""
        return self._timer is not None

    def start(self) -> None:
        """Stop the job, after signals that arrived together with SIGCONT are handled."""
        self._arm(self._stop)

    def continued(self) -> None:
        """Call this on SIGCONT."""
        if not self.waiting:
            return
        if in_background(self._fd):
            self.start()
        else:
            self._finish()

    def cancel(self) -> None:
        """Do not stop the job again, and do not call ``returned``. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop(self) -> None:
        if not in_background(self._fd):
            self._finish()
            return
        os.kill(0, signal.SIGTTOU)
        # Either the job was continued (``continued`` is called), or it was never stopped, because the signal is ignored
        # or the process group is orphaned.
        self._arm(self._finish)

    def _finish(self) -> None:
        self.cancel()
        self._returned()

    def _arm(self, callback: Callable[[], None]) -> None:
        self.cancel()
        self._timer = asyncio.get_running_loop().call_later(SIGNALS_FIRST, callback)
