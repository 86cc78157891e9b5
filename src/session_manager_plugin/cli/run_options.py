"""The options with which a command runs its sessions, as frozen values. The defaults suit unattended sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from session_manager_plugin.protocol.events import SessionReady
from session_manager_plugin.session.handler_options import HandlerOptions
from session_manager_plugin.session.runner import HANDLERS, Handlers
from session_manager_plugin.terminal.escapes import show_escape_character
from session_manager_plugin.terminal.link_status import StatusMode
from session_manager_plugin.terminal.predict_mode import PredictMode

if TYPE_CHECKING:
    from session_manager_plugin.session.listener import Listener

Terminate = Callable[[], Awaitable[None]]
"""Terminates a session with the service's API. Best effort: does not raise."""


class TimeLimit(NamedTuple):
    """The time limit of a command."""

    seconds: float
    """The limit as requested."""
    deadline: float
    """The end of the limit, on the event loop's clock."""

    @classmethod
    def from_now(cls, seconds: float) -> TimeLimit:
        """Return a limit that ends in ``seconds`` from now."""
        return cls(seconds, asyncio.get_running_loop().time() + seconds)


@dataclass(frozen=True, kw_only=True)
class RunOptions(HandlerOptions):
    """The options of one session."""

    handlers: Handlers = field(default_factory=lambda: HANDLERS)
    """The handlers by session type."""
    time_limit: TimeLimit | None = None
    """The time limit of the session, its start included; None for no limit."""
    bind: Callable[[], Listener | None] | None = None
    """Binds the local end of a forwarded port before the session is opened; by default ``listener`` is used."""
    began: Callable[[SessionReady], None] | None = None
    """Called when the session has begun, before any output is shown."""
    awaited: Awaitable[None] | None = None
    """Awaited after the session has begun and before it passes data. Its exception ends the session."""
    interrupted: Callable[[], None] | None = None
    """Called when the session has handled a signal, which does not end the program."""
    terminate: Terminate | None = None
    """Called at the end, unless the far end has closed the session or the session terminates itself."""


@dataclass(frozen=True, kw_only=True)
class TerminalOptions(RunOptions):
    """The options of the session that uses the terminal and the standard streams."""

    status: StatusMode | None = None
    """How the state of the link is shown; None shows nothing."""
    predict: PredictMode = PredictMode.NEVER
    """When what is typed is drawn before the remote has echoed it."""
    escape_character: bytes | None = None
    """The character that begins an escape, at a terminal; None for no escapes."""
    label: str = ""
    """What the status line calls the session; empty for its id."""
    target: str = ""
    """What the details of the connection call the target; empty for ``label``."""
    is_shell: bool = True
    """Whether ``exit`` and Ctrl-D end the session, which is true of a shell, but not of a command such as ``top``."""

    @property
    def leave_hint(self) -> str:
        """The text of the status line about leaving; empty if no key is known that always leaves."""
        if self.is_shell:
            return "exit or Ctrl-D leaves"
        return f"Enter {self.leave_escape} leaves" if self.leave_escape else ""

    @property
    def escape_name(self) -> str:
        """The text for the character that begins an escape; empty without escapes."""
        return "" if self.escape_character is None else show_escape_character(self.escape_character)

    @property
    def leave_escape(self) -> str:
        """The text of the escape that leaves the session; empty without escapes."""
        return f"{self.escape_name}." if self.escape_name else ""
