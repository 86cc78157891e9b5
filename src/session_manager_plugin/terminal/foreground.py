"""Job control: a job that needs the terminal while another one has it is stopped until it gets it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

SIGNALS_FIRST = 0.1
"""Seconds between being continued and the next stop. A shell's `kill %1` sends SIGTERM and SIGCONT to a stopped job,
and the event loop has to see the first of them before the job stops again."""


def in_background(fd: int) -> bool:
    """Whether `fd` is our controlling terminal and belongs to another job at this moment."""
    try:
        return os.tcgetpgrp(fd) not in (0, os.getpgrp())  # 0: the group is outside our namespace, or a pty's master
    except OSError:
        return False  # no terminal of ours, or none any more


class ForegroundWait:
    """Stops the whole job as often as needed until it is in the foreground of the terminal `fd`.

    The kernel does the same to a job that sets the terminal's modes from the background. But it restarts that system
    call when the job is continued, and stops the job again before the event loop has seen any other signal: SIGTERM,
    SIGINT and SIGHUP would be ignored for ever.
    """

    def __init__(self, fd: int, returned: Callable[[], None]) -> None:
        """`returned` is called when the terminal can be taken, or when no shell would continue a stopped job."""
        self._fd = fd
        self._returned = returned
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> bool:
        """Whether `returned` is still to be called."""
        return self._timer is not None

    def start(self) -> None:
        """Stop soon; signals that arrived together with SIGCONT are handled first."""
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
        """Stop no more, and do not call `returned`. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop(self) -> None:
        if not in_background(self._fd):
            self._finish()
            return
        os.kill(0, signal.SIGTTOU)
        # Continued, which SIGCONT tells; or never stopped, because the signal is ignored or the group is orphaned.
        self._arm(self._finish)

    def _finish(self) -> None:
        self.cancel()
        self._returned()

    def _arm(self, callback: Callable[[], None]) -> None:
        self.cancel()
        self._timer = asyncio.get_running_loop().call_later(SIGNALS_FIRST, callback)
