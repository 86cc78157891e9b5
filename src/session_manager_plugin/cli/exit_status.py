"""Exit statuses, and the one table from exception to status."""

from __future__ import annotations

import os
import signal
from enum import IntEnum
from typing import NoReturn

from session_manager_plugin.errors import TerminalGone, UsageError

SIGNAL_BASE = 128
"""A program that signal n ended has the status 128 + n, as a shell tells it."""
HANG_UP = getattr(signal, "SIGHUP", 1)
"""SIGHUP, which is absent on Windows."""
_SIGPIPE = getattr(signal, "SIGPIPE", 13)


class ExitStatus(IntEnum):
    """What a program says to its caller."""

    SUCCESS = 0
    CHECK_FAILED = 1
    """A probe found something that does not work."""
    USAGE = 2
    INTERRUPTED = SIGNAL_BASE + signal.SIGINT
    FAILURE = 255
    """Our side failed, or the far end closed the session with an error text; as ssh."""


class Signalled(Exception):
    """A signal asked the program to leave, and it has cleaned up; `number` is to be raised again.

    Its text continues a sentence: "… was ended by SIGTERM".
    """

    def __init__(self, number: int, reason: str = "") -> None:
        super().__init__(reason or f"by {signal_name(number)}")
        self.number = number


def signal_name(number: int) -> str:
    """`SIGTERM` for 15."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_STATUS: tuple[tuple[type[BaseException], int], ...] = (
    (UsageError, ExitStatus.USAGE),
    (KeyboardInterrupt, ExitStatus.INTERRUPTED),
    (BrokenPipeError, SIGNAL_BASE + _SIGPIPE),
    (TerminalGone, SIGNAL_BASE + HANG_UP),
    (BaseException, ExitStatus.FAILURE),
)
"""The first row that fits. A status above 128 here is a death by signal: see `signal_of`."""


def status_of(error: BaseException | None) -> int:
    """The exit status for what ended a program: an exception, or None for a normal end."""
    if error is None:
        return ExitStatus.SUCCESS
    if isinstance(error, Signalled):
        return SIGNAL_BASE + error.number
    return next(int(status) for kind, status in _STATUS if isinstance(error, kind))


def signal_of(error: BaseException | None) -> int | None:
    """The signal whose default action is to be taken at the end, so that the caller sees what happened; or None."""
    status = status_of(error)
    return status - SIGNAL_BASE if SIGNAL_BASE < status < ExitStatus.FAILURE else None


def die_of(number: int) -> NoReturn:
    """Take the default action of a signal, which ends this process."""
    signal.signal(number, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(SIGNAL_BASE + number)  # the first process of a container has no default actions
