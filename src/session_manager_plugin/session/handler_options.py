"""The options of session handlers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from session_manager_plugin.session.notices import SilentNotices
from session_manager_plugin.session.protocols import Notices, SessionRecording, TerminalHold
from session_manager_plugin.session.streams import NoTerminal

if TYPE_CHECKING:
    from session_manager_plugin.session.listener import Listener

OpenRecording = Callable[[str], SessionRecording | None]
"""Returns the recording of the session with this id; None for no recording. Raises ``ConfigurationError``."""


class StdinEof(Enum):
    """What to do at the end of a standard input that is not a terminal: a remote pty has no end of file."""

    EOT = "eot"
    """Send Ctrl-D, twice if the input did not end in a newline: the first Ctrl-D then only ends the line."""
    CLOSE = "close"
    """End the session."""
    IGNORE = "ignore"
    """Send nothing. The session lasts until the far end closes it."""


def not_recorded(session_id: str) -> None:
    """Open no recording."""


@dataclass(frozen=True, kw_only=True)
class HandlerOptions:
    """The options of all kinds of handlers. Each kind uses some of them."""

    notices: Notices = field(default_factory=SilentNotices)
    """Receives messages for a person or a tool."""
    terminal: TerminalHold = field(default_factory=NoTerminal)
    """The terminal, for shells."""
    stdin_eof: StdinEof = StdinEof.EOT
    """What the end of standard input does, for shells."""
    open_recording: OpenRecording = not_recorded
    """Opens the recording of a shell, if it is to be recorded."""
    listener: Listener | None = None
    """The local end of a forwarded port, if it was bound before the session was opened; it is closed at the end."""
