"""Messages on stderr: one sentence for an error, one line for the end of a session.

Without rich, which is slow to import.
"""

from __future__ import annotations

import os
import re
import signal
import traceback
from typing import TYPE_CHECKING

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.exit_status import Signalled
from session_manager_plugin.errors import (
    AccessDenied,
    AmbiguousTarget,
    CommandTimedOut,
    ConnectError,
    ConnectionLost,
    LeftByEscape,
    SessionExpired,
    SessionManagerError,
    TerminalGone,
    TimedOut,
    UsageError,
)
from session_manager_plugin.session.outcome import EndReason
from session_manager_plugin.utils.logging import redact
from session_manager_plugin.utils.text import printable

if TYPE_CHECKING:
    from session_manager_plugin.cli.session import Ending

_ERROR_HEADING = re.compile(r"\A-+ERROR-+\s*")
"""The prefix of an agent's error text."""
_WORKER_FAILED = "document process failed unexpectedly"
"""The beginning of the agent's closing text if, among other reasons, a port session's destination has refused the
connection (protocol reference 13.3, N3)."""
_LOSSES = (ConnectionLost, TimedOut, SessionExpired, AccessDenied)
"""Errors of a session whose link was lost and not restored."""
_BOLD_RED, _PLAIN = "\x1b[1;31m", "\x1b[m"


def tell(environment: Environment, sentence: str, *, error: bool = True) -> None:
    """Write one line to stderr, prefixed with the program's name. Registered secrets and tokens in URLs are
    redacted."""
    name = f"{environment.program}:"
    if error and environment.uses_color(environment.stderr):
        name = f"{_BOLD_RED}{name}{_PLAIN}"
    environment.write_error(f"{name} {printable(redact(sentence))}\n")


def tell_note(environment: Environment, sentence: str) -> None:
    """Write one informative line to stderr, unless ``-q`` was given."""
    if not environment.quiet:
        tell(environment, sentence, error=False)


def tell_signalled(environment: Environment, error: Signalled, sentence: str) -> None:
    """Write that a signal has ended the program, unless ``-q`` was given."""
    error.is_told = True
    if error.number == signal.SIGINT:
        environment.interrupted()
    tell_note(environment, sentence)


def tell_error(environment: Environment, error: BaseException) -> None:
    """Write the message of an error, with a traceback at ``-vv``."""
    tell_traceback(environment, error)
    if isinstance(error, AmbiguousTarget):
        tell(environment, f"{error.message}:")
        for match in error.matches:
            environment.write_error(f"  {printable(match)}\n")
    elif isinstance(error, Signalled):
        if not error.is_told:
            tell_signalled(environment, error, f"ended {error}")
    elif (sentence := error_sentence(error)) is not None:
        tell(environment, sentence)


def tell_ending(environment: Environment, ending: Ending) -> None:
    """Write one line about the end of a session.

    A normal end is not reported with ``-q``, nor for ssh. For a command it is reported only at a terminal: elsewhere
    standard error belongs to the command.
    """
    outcome = ending.outcome
    if outcome.is_normal:
        belongs_to_another = ending.is_stdio or (ending.is_command and not environment.is_terminal(environment.stderr))
        if not belongs_to_another:
            tell_note(environment, _normal_end(ending))
        return
    if ending.is_left_by_ssh:
        return
    if outcome.error is not None:
        tell_traceback(environment, outcome.error)
    sentence = ending_sentence(ending)
    if sentence is not None and isinstance(outcome.error, Signalled):
        tell_signalled(environment, outcome.error, sentence)
    elif sentence is not None:
        tell(environment, sentence)
    tell_incomplete(environment, ending)


def tell_incomplete(environment: Environment, ending: Ending) -> None:
    """Write a line about missing output, unless the message about the session's end contains it."""
    outcome = ending.outcome
    if outcome.incomplete and (outcome.error is not None or outcome.text):
        tell(environment, outcome.incomplete)


def tell_traceback(environment: Environment, error: BaseException) -> None:
    """Write the traceback, if ``-vv`` was given."""
    if environment.verbosity > 1:
        for line in redact("".join(traceback.format_exception(error))).splitlines():
            environment.write_error(f"{line.encode('unicode_escape').decode() if not line.isprintable() else line}\n")


def error_sentence(error: BaseException) -> str | None:
    """Return the sentence for an error; None for a closed output and for Ctrl-C."""
    match error:
        case BrokenPipeError() | KeyboardInterrupt() | Signalled():
            return None
        case SessionManagerError():
            return str(error)
        case OSError():
            reason = error.strerror or str(error)
            name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
            return f"{name}: {reason}" if name else reason
    return f"internal error: {type(error).__name__}: {error} (-vv shows where)"


def ending_sentence(ending: Ending) -> str | None:
    """Return the sentence for a session that did not end normally."""
    outcome, session = ending.outcome, f"session {ending.session_id}" if ending.session_id else "the session"
    error = outcome.error
    match error:
        case None if outcome.text:
            text = _ERROR_HEADING.sub("", printable(outcome.text))
            return f"{session} was closed by the far end: {text}{closing_advice(text)}"
        case None if outcome.incomplete:
            return f"{session} ended, but {outcome.incomplete}"
        case None:
            return _normal_end(ending)
        case Signalled():
            return f"{session}{'' if ending.began else ', which had not begun,'} was ended {error}"
        case LeftByEscape():
            return f"{session}{'' if ending.began else ', which had not begun,'} was left by {error}"
        case TerminalGone():
            return f"{session} ended: {error}"
        case UsageError() | ConnectError() | CommandTimedOut():
            return str(error)  # contains the host or the setting
        case ConnectionLost(close_code=1008) if not ending.began:
            return f"{session} did not begin: {error}; the token may be wrong, expired or used already"
        case SessionManagerError():
            if not ending.began:
                return f"{session} did not begin: {error}"
            return f"{session} was {'lost' if isinstance(error, _LOSSES) else 'ended'}: {error}"
    return error_sentence(error)


def closing_advice(text: str) -> str:
    """Return advice, as the end of a sentence, for the closing ``text`` of a far end; often empty."""
    if _WORKER_FAILED in text:
        return "; in a port or ssh session the destination may have refused the connection: is it listening?"
    return ""


def _normal_end(ending: Ending) -> str:
    session = f"session {ending.session_id}"
    if ending.outcome.status:
        return f"{session} ended; the command's exit status was {ending.outcome.status}"
    return f"{session} {'was ended with the input' if ending.outcome.reason is EndReason.INPUT_ENDED else 'ended'}"
