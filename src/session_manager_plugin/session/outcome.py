"""How a session ended, as one value: created where the end is detected, and passed on unchanged."""

from __future__ import annotations

import re
import signal
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from session_manager_plugin.errors import LeftByEscape, OutputIncomplete, SessionEnded, SessionManagerError

KILLED = -1
"""The agent's exit status for a command that a signal has killed."""
SIGNAL_BASE = 128
"""A shell reports the status 128 + n for a program that signal n has killed."""
FAILURE = 255
_EXIT_CODE = re.compile(rb"EXIT_CODE: (-?[0-9]{1,18})")


class EndReason(Enum):
    """What ended a session."""

    CLOSED = "closed"
    """The far end closed the session, or the command had ended before the link was lost."""
    INPUT_ENDED = "input ended"
    """The end of our input closed the session."""
    OUTPUT_UNREAD = "output unread"
    """The reader of our standard output has closed it, which is the normal end under ``ssh``."""
    INTERRUPTED = "interrupted"
    """A signal ended the session."""
    LEFT = "left"
    """The user typed the escape that leaves."""
    FAILED = "failed"
    """The link was lost, the protocol was violated, or something on this machine failed: see ``error``."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a session ended."""

    status: int | None = None
    """The exit status of the remote command, 0 to 255; None if the far end sent none. It is 128 + n for a command that
    signal n has killed, and 255 if the signal is unknown or the far end's status is outside that range."""
    reason: EndReason = EndReason.CLOSED
    text: str = ""
    """The far end's closing text as received; empty at a normal end."""
    by_far_end: bool = False
    """Whether the far end has closed the session, so that no TerminateSession is needed."""
    incomplete: str = ""
    """A sentence about the output that is known to be missing; empty if none is."""
    is_killed: bool = False
    """Whether a signal has killed the remote command."""
    discarded: int = 0
    """Bytes of output that were discarded because the program did not read them. Not part of ``incomplete``."""
    error: Exception | None = None
    """The error that ended the session, for ``INTERRUPTED``, ``LEFT`` and ``FAILED``; None if it was handled."""

    @property
    def is_normal(self) -> bool:
        """Whether the session ended without an error, a closing text or missing output."""
        return self.error is None and not self.text and not self.incomplete

    def raise_abnormal(self) -> None:
        """Raise the first that applies: ``error``, ``SessionEnded`` for a closing text without an exit status, or
        ``OutputIncomplete`` for missing output."""
        if self.error is not None:
            raise self.error
        if self.text and self.status is None:
            ended = SessionEnded(self.text.strip(), output=self.text)
            ended.incomplete = self.incomplete
            raise ended
        if self.incomplete:
            raise OutputIncomplete(self.incomplete)


def outcome_of(error: Exception, *, incomplete: str = "") -> Outcome:
    """Return the outcome of a session that ``error`` ended.

    ``incomplete`` is the sentence about missing output; a sentence in ``error`` replaces it.
    """
    missing = (error.incomplete if isinstance(error, SessionManagerError) else "") or incomplete
    if isinstance(error, SessionEnded):
        return Outcome(text=error.output, by_far_end=True, incomplete=missing)
    if isinstance(error, OutputIncomplete):
        return Outcome(by_far_end=True, incomplete=str(error))
    reason = EndReason.LEFT if isinstance(error, LeftByEscape) else EndReason.FAILED
    return Outcome(reason=reason, incomplete=missing, error=error)


def without_status(outcome: Outcome) -> Outcome:
    """Return the outcome of a command whose session ended normally, but without an exit status."""
    ended = SessionEnded(
        "the command's exit status did not arrive: somebody terminated the session, or its agent failed", output=""
    )
    return replace(outcome, error=ended)


class CommandExit(NamedTuple):
    """How a command ended."""

    status: int
    """0 to 255."""
    trouble: str = ""
    """Why ``status`` is not the command's own; empty if it is."""
    is_killed: bool = False
    """Whether a signal has killed it."""


def signal_name(number: int) -> str:
    """Return the name of a signal, such as ``SIGTERM`` for 15."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def parse_exit_status(data: bytes, sent: Collection[int] = ()) -> CommandExit:
    """Parse the payload with the exit status of a command. ``sent``: the signals that were passed on to it."""
    match = _EXIT_CODE.fullmatch(data)
    if match is None:
        return CommandExit(FAILURE, f"the agent sent a malformed exit status: {data[:40]!r}")
    code = int(match[1])
    return killed_exit(*sent) if code == KILLED and len(sent) == 1 else command_exit(code)


def killed_exit(number: int) -> CommandExit:
    """Return how a command that signal ``number`` has killed ended."""
    return CommandExit(SIGNAL_BASE + number, f"the command was killed by {signal_name(number)}", is_killed=True)


def command_exit(code: int) -> CommandExit:
    """Return how a command ended; ``code`` is its exit status, or ``KILLED``."""
    if 0 <= code <= 255:
        return CommandExit(code)
    if code == KILLED:
        return CommandExit(FAILURE, "the command was killed by a signal", is_killed=True)
    return CommandExit(FAILURE, f"the command's exit status {code} is outside 0–255")
