"""Messages on stderr: one sentence for an error, one line for the end of a session.

No rich here: a sentence needs none, and it has to come fast.
"""

from __future__ import annotations

import re
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
"""What the agent's closing text begins with when a port session's destination refused the connection, among others
(protocol reference 13.3, N3)."""
_LOSSES = (ConnectionLost, TimedOut, SessionExpired, AccessDenied)
"""Errors of a session whose link was lost and not restored."""
_BOLD_RED, _PLAIN = "\x1b[1;31m", "\x1b[m"


def tell(environment: Environment, sentence: str, *, error: bool = True) -> None:
    """Write one line to stderr, prefixed with the program's name, without registered secrets and tokens of URLs."""
    name = f"{environment.program}:"
    if error and environment.uses_color(environment.stderr):
        name = f"{_BOLD_RED}{name}{_PLAIN}"
    environment.write_error(f"{name} {printable(redact(sentence))}\n")


def tell_note(environment: Environment, sentence: str) -> None:
    """Write one line to stderr that reports no error, unless quiet was asked for."""
    if not environment.quiet:
        tell(environment, sentence, error=False)


def tell_error(environment: Environment, error: BaseException) -> None:
    """Write the message of an error, with a traceback at `-vv`."""
    tell_traceback(environment, error)
    if isinstance(error, AmbiguousTarget):
        tell(environment, f"{error.message}:")
        for match in error.matches:
            environment.write_error(f"  {printable(match)}\n")
    elif (sentence := error_sentence(error)) is not None:
        tell(environment, sentence)


def tell_ending(environment: Environment, ending: Ending) -> None:
    """Say in one line why a session ended.

    A normal end is told unless quiet was asked for. That of ssh never is, and that of a command only to a person:
    otherwise standard error belongs to the command.
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
    if sentence is not None and not (environment.quiet and isinstance(outcome.error, Signalled)):
        tell(environment, sentence)
    tell_incomplete(environment, ending)


def tell_incomplete(environment: Environment, ending: Ending) -> None:
    """Write what is missing of a session's output, unless the message of its end includes that."""
    outcome = ending.outcome
    if outcome.incomplete and (outcome.error is not None or outcome.text):
        tell(environment, outcome.incomplete)


def tell_traceback(environment: Environment, error: BaseException) -> None:
    """Write the traceback, if `-vv` was given."""
    if environment.verbosity > 1:
        for line in redact("".join(traceback.format_exception(error))).splitlines():
            environment.write_error(f"{line.encode('unicode_escape').decode() if not line.isprintable() else line}\n")


def error_sentence(error: BaseException) -> str | None:
    """Return the sentence for an error; None if there is no reader, or the user pressed Ctrl-C."""
    match error:
        case BrokenPipeError() | KeyboardInterrupt() | Signalled():
            return None
        case SessionManagerError():
            return str(error)
        case OSError():
            reason = error.strerror or str(error)
            return f"{error.filename}: {reason}" if error.filename else reason
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
            return str(error)  # names the host, or what has to be changed here
        case ConnectionLost(close_code=1008) if not ending.began:
            return f"{session} did not begin: {error}; the token may be wrong, expired or used already"
        case SessionManagerError():
            if not ending.began:
                return f"{session} did not begin: {error}"
            return f"{session} was {'lost' if isinstance(error, _LOSSES) else 'ended'}: {error}"
    return error_sentence(error)


def closing_advice(text: str) -> str:
    """Return the end of a sentence that says what to check after the closing ``text`` of a far end; often empty."""
    if _WORKER_FAILED in text:
        return "; in a port or ssh session the destination may have refused the connection: is it listening?"
    return ""


def _normal_end(ending: Ending) -> str:
    session = f"session {ending.session_id}"
    if ending.outcome.status:
        return f"{session} ended; the command's exit status was {ending.outcome.status}"
    return f"{session} {'was ended with the input' if ending.outcome.reason is EndReason.INPUT_ENDED else 'ended'}"
