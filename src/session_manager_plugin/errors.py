"""Every exception of the package.

::

    SessionManagerError
    ├── UsageError                  the request cannot be carried out as given
    │   ├── AmbiguousTarget           several targets match a name
    │   ├── InvalidURL                the stream URL cannot be used
    │   ├── WrongType                 an argument of the library has a wrong type (also a TypeError)
    │   └── ApiError                  the sandbox refuses a call of its API
    ├── ConfigurationError          a setting or a program of this machine is wrong or missing
    ├── ConnectError                a data channel could not be opened
    │   ├── Refused                   the other end answered, and refused
    │   │   └── ProxyRefused            a proxy did, which says nothing about the token
    │   └── NotConnected              used before it was opened (also a RuntimeError)
    ├── ConnectionLost              an open data channel was lost and not restored
    ├── TimedOut                    a deadline passed
    │   └── CommandTimedOut           a remote command did not end in the time that it was given
    ├── SessionEnded                the far end closed the session with an error text
    ├── OutputIncomplete            the far end closed the session normally, but part of its output is missing
    ├── CopyFailed                  a file could not be copied
    ├── ForwardEnded                a session that forwarded a port has ended, and is not replaced
    ├── SessionExpired              the session is over on the side of the service
    ├── TerminalGone                the terminal of this process was closed
    ├── LeftByEscape                the user typed the escape that leaves
    ├── AccessDenied                AWS refused a call
    │   └── DocumentDenied            a session may not be started with a document; it may be without
    ├── AgentTooOld                 the target's agent lacks what the session needs
    ├── EncryptionError             a key, a challenge or a ciphertext is wrong
    └── ProtocolError
        ├── LocalProtocolError        this side broke the rules: a bug
        └── RemoteProtocolError       the far end broke them

The text of an exception is shown to the user: what happened, to which host or session, what to do. It never
holds a token. Facts for programs are attributes.
"""

from __future__ import annotations

from collections.abc import Sequence


class SessionManagerError(Exception):
    """Base of every exception raised on purpose by this package.

    ``incomplete`` is a sentence about missing output, if the session that the error has ended is known to lack some.
    """

    incomplete = ""


class UsageError(SessionManagerError):
    """The request cannot be carried out as given."""


class AmbiguousTarget(UsageError):
    """Several targets match; ``matches`` has a line for each, which begins with what selects it alone."""

    def __init__(self, message: str, matches: Sequence[str]) -> None:
        super().__init__(f"{message}: {', '.join(matches)}")
        self.message = message
        self.matches = tuple(matches)


class InvalidURL(UsageError, ValueError):
    """A stream URL that cannot be used."""


class WrongType(UsageError, TypeError):
    """An argument of the library has a wrong type."""


class ApiError(UsageError):
    """A call that the sandbox refuses; ``code`` is the service's name for the reason, as in
    ``TargetNotConnected``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ConfigurationError(SessionManagerError):
    """A setting or a program of this machine is wrong or missing."""


class ConnectError(SessionManagerError):
    """A data channel could not be opened.

    ``host`` is the host (and port) that was tried; ``retryable``: another attempt may succeed.
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


class ProxyRefused(Refused):
    """A proxy refused to connect to the host, which has received nothing; ``status`` is the proxy's."""


class NotConnected(ConnectError, RuntimeError):
    """A channel was used before it was opened or after it was closed."""


class ConnectionLost(SessionManagerError):
    """An open data channel was lost; ``close_code`` is that of the websocket, if there is one."""

    def __init__(self, message: str, *, close_code: int | None = None) -> None:
        super().__init__(message)
        self.close_code = close_code


class TimedOut(SessionManagerError):
    """A deadline passed; ``seconds`` is the time waited."""

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class CommandTimedOut(TimedOut):
    """A remote command did not end in the time that it was given."""


class SessionEnded(SessionManagerError):
    """The far end closed the session with a reason; ``output`` is its text as received."""

    def __init__(self, message: str, *, output: str) -> None:
        super().__init__(message)
        self.output = output


class OutputIncomplete(SessionManagerError):
    """The far end closed the session without an error text, but part of its output is known to be missing."""


class CopyFailed(SessionManagerError):
    """A file could not be read, sent, checked or written."""


class ForwardEnded(SessionManagerError):
    """A session that forwarded a port has ended, and is not replaced; the cause is the session's error, if any."""


class SessionExpired(SessionManagerError):
    """The session ended while the connection was lost: the service returns no further token."""


class TerminalGone(SessionManagerError):
    """The terminal of this process was closed."""


class LeftByEscape(SessionManagerError):
    """The user typed the escape that leaves; the text is that escape, ``~.``."""


class AccessDenied(SessionManagerError):
    """AWS refused a call."""


class DocumentDenied(AccessDenied):
    """A session may not be started with a document. A plain shell, without a document, may be allowed."""


class AgentTooOld(SessionManagerError):
    """The target's agent lacks what the session needs; nothing has run there."""


class EncryptionError(SessionManagerError):
    """A key, a challenge or a ciphertext is wrong."""


class ProtocolError(SessionManagerError):
    """A rule of the wire protocol was broken."""


class LocalProtocolError(ProtocolError):
    """This side broke the rules: a bug, or a call at the wrong moment."""


class RemoteProtocolError(ProtocolError):
    """The far end broke the rules."""
