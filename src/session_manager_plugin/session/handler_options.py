"""The options of session handlers."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from session_manager_plugin.session.protocols import Notices, TerminalHold

if TYPE_CHECKING:
    from session_manager_plugin.session.listener import Listener
    from session_manager_plugin.terminal.recording import Recording

OpenRecording = Callable[[str], "Recording | None"]
"""Returns the recording of the session with this id; None if it is not recorded. Raises ``ConfigurationError``."""


class StdinEof(Enum):
    """How the end of a standard input that is not a terminal reaches the remote pty, which has no end of file."""

    EOT = "eot"
    """Send Ctrl-D, twice if the input did not end in a newline: the first Ctrl-D then only ends the line."""
    CLOSE = "close"
    """End the session."""
    IGNORE = "ignore"
    """Send nothing. The session lasts until the far end closes it."""


class SessionOptions(NamedTuple):
    """Options of a handler."""

    terminal: TerminalHold
    """The terminal, for shells."""
    stdin_eof: StdinEof
    """What the end of standard input does, for shells."""
    notices: Notices
    listener: Listener | None
    """The local end of a forwarded port, if it was bound before the session was opened."""
    open_recording: OpenRecording
    """Opens the recording of a shell, if it is to be recorded."""
