"""Every exception of the package.

::

    SessionManagerError
    ├── UsageError                  the caller asked for something that makes no sense
    │   ├── AmbiguousTarget           several targets match a name
    │   ├── InvalidURL                the stream URL cannot be used
    │   └── ApiError                  the sandbox refuses a call of its API
    ├── ConfigurationError          the machine or the environment is not set up for it
    ├── ConnectError                a data channel could not be opened
    │   ├── Refused                   the other end answered, and refused
    │   └── NotConnected              used before it was opened (also a RuntimeError)
    ├── ConnectionLost              an open data channel went away and was not resumed
    ├── TimedOut                    a deadline passed
    ├── SessionEnded                the far end closed the session with an error text
    ├── OutputIncomplete            the far end closed the session normally, but part of its output is missing
    ├── CopyFailed                  a file could not be copied
    ├── SessionExpired              the service does not know the session any more
    ├── TerminalGone                the terminal we work for was closed
    ├── LeftByEscape                the user typed the escape that leaves
    ├── AccessDenied                AWS refused a call
    ├── EncryptionError             a key, a challenge or a ciphertext is wrong
    └── ProtocolError
        ├── LocalProtocolError        we broke the rules: a bug here
        └── RemoteProtocolError       the far end broke them

The sentence of an exception is what the user reads: what happened, to which host or session, what to
try next. It never holds a token. Facts that a program may want are attributes.
"""

from __future__ import annotations

from collections.abc import Sequence


class SessionManagerError(Exception):
    """Base of every exception raised on purpose by this package.

    ``incomplete`` is set where the session that it ended is known to lack part of its output: a sentence that says how
    much.
    """

    incomplete = ""


class UsageError(SessionManagerError):
    """The request itself makes no sense, whatever the network does."""


class AmbiguousTarget(UsageError):
    """Several targets match; ``matches`` has a line for each, which begins with what selects it alone."""

    def __init__(self, message: str, matches: Sequence[str]) -> None:
        super().__init__(f"{message}: {', '.join(matches)}")
        self.message = message
        self.matches = tuple(matches)


class InvalidURL(UsageError, ValueError):
    """A stream URL that cannot be used."""


class ApiError(UsageError):
    """A call that the sandbox refuses; ``code`` is the service's name for the reason, as in
    ``TargetNotConnected``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ConfigurationError(SessionManagerError):
    """Something on this machine is missing or set wrongly."""


class ConnectError(SessionManagerError):
    """A data channel could not be opened.

    ``host`` is the host (and port) that was tried, ``retryable`` tells whether trying again may help.
    """

    def __init__(self, message: str, *, host: str = "", retryable: bool = False) -> None:
        super().__init__(message)
        self.host = host
        self.retryable = retryable


class Refused(ConnectError):
    """The other end answered and refused; ``status`` is the HTTP status or websocket close code."""

    def __init__(self, message: str, *, host: str = "", status: int = 0, retryable: bool = False) -> None:
        super().__init__(message, host=host, retryable=retryable)
        self.status = status


class NotConnected(ConnectError, RuntimeError):
    """A channel was used before it was opened or after it was closed."""


class ConnectionLost(SessionManagerError):
    """An open data channel went away; ``close_code`` is the websocket's, when there was one."""

    def __init__(self, message: str, *, close_code: int | None = None) -> None:
        super().__init__(message)
        self.close_code = close_code


class TimedOut(SessionManagerError):
    """A deadline passed; ``seconds`` is how long was waited."""

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class SessionEnded(SessionManagerError):
    """The far end closed the session and said why; ``output`` is its text as it came."""

    def __init__(self, message: str, *, output: str) -> None:
        super().__init__(message)
        self.output = output


class OutputIncomplete(SessionManagerError):
    """The far end closed the session without an error text, but part of its output is known to be missing."""


class CopyFailed(SessionManagerError):
    """A file could not be read, sent, checked or written."""


class SessionExpired(SessionManagerError):
    """The session ended, or timed out, while the link was away: the service gives no token for it any more."""


class TerminalGone(SessionManagerError):
    """The terminal this process works for was closed."""


class LeftByEscape(SessionManagerError):
    """The user typed the escape that leaves, which is the text: `~.`."""


class AccessDenied(SessionManagerError):
    """AWS refused a call."""


class EncryptionError(SessionManagerError):
    """A key, a challenge or a ciphertext is wrong."""


class ProtocolError(SessionManagerError):
    """A rule of the wire protocol was broken."""


class LocalProtocolError(ProtocolError):
    """We broke the rules: a bug on this side, or a call at the wrong moment."""


class RemoteProtocolError(ProtocolError):
    """The far end broke the rules."""
