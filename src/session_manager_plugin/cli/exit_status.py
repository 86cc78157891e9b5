"""Exit statuses, and the table from exceptions to statuses."""

from __future__ import annotations

import os
import signal
from enum import IntEnum
from typing import NamedTuple, NoReturn

from session_manager_plugin.errors import CommandTimedOut, TerminalGone, UsageError
from session_manager_plugin.session.outcome import SIGNAL_BASE, Outcome, signal_name

HANG_UP = getattr(signal, "SIGHUP", 1)
"""SIGHUP, which is absent on Windows."""
_SIGPIPE = getattr(signal, "SIGPIPE", 13)


class ExitStatus(IntEnum):
    """The exit statuses."""

    SUCCESS = 0
    CHECK_FAILED = 1
    """A check of a probe failed."""
    USAGE = 2
    TIMED_OUT = 124
    """A command has exceeded its time limit; as in timeout(1)."""
    INTERRUPTED = SIGNAL_BASE + signal.SIGINT
    FAILURE = 255
    """This side has failed, or the far end has closed the session with an error text; as in ssh."""


class Signalled(Exception):
    """A signal has ended the program, which has cleaned up; signal ``number`` is to be raised again.

    The text continues a sentence: "… was ended by SIGTERM".
    """

    def __init__(self, number: int, reason: str = "") -> None:
        super().__init__(reason or f"by {signal_name(number)}")
        self.number = number
        self.is_told = False
        """Whether the user has been told of it in a sentence."""

    def explain(self, reason: str) -> None:
        """Set the reason, if it becomes known after the signal."""
        self.args = (reason,)


class Exit(NamedTuple):
    """The end of a program: with a status, or by the default action of a signal, so that the caller sees the signal."""

    status: int
    """The exit status; for a signal, the status that a shell reports."""
    signal: int | None = None
    failed: bool = False
    """Whether our side has failed, so that the status is not that of a remote command."""


def by_signal(number: int) -> Exit:
    """Return the ``Exit`` for signal ``number``."""
    return Exit(SIGNAL_BASE + number, number, failed=True)


_EXITS: tuple[tuple[type[BaseException], Exit], ...] = (
    (UsageError, Exit(ExitStatus.USAGE, failed=True)),
    (CommandTimedOut, Exit(ExitStatus.TIMED_OUT, failed=True)),
    (KeyboardInterrupt, by_signal(signal.SIGINT)),
    (BrokenPipeError, by_signal(_SIGPIPE)),
    (TerminalGone, by_signal(HANG_UP)),
    (BaseException, Exit(ExitStatus.FAILURE, failed=True)),
)
"""The first matching row applies."""


def exit_of(error: BaseException) -> Exit:
    """Return the ``Exit`` of a program that ``error`` has ended."""
    if isinstance(error, Signalled):
        return by_signal(error.number)
    return next(end for kind, end in _EXITS if isinstance(error, kind))


def exit_of_outcome(outcome: Outcome) -> Exit:
    """Return the ``Exit`` of a program after its session: the remote's status unless something has failed."""
    if outcome.error is not None:
        return exit_of(outcome.error)
    if outcome.incomplete or (outcome.text and outcome.status is None):
        return Exit(ExitStatus.FAILURE, failed=True)
    return Exit(outcome.status or ExitStatus.SUCCESS)


def die_of(number: int) -> NoReturn:
    """End this process by the default action of a signal."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(SIGNAL_BASE + number)  # process 1 of a container has no default actions
