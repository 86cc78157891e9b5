"""How a command runs its sessions, as frozen values; the defaults suit a session that nobody watches."""

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
"""Terminates a session by the service's API. Best effort: raises nothing."""


class TimeLimit(NamedTuple):
    """The time in which a command has to end."""

    seconds: float
    """What was asked for."""
    deadline: float
    """The instant of the event loop."""

    @classmethod
    def from_now(cls, seconds: float) -> TimeLimit:
        """Return the limit that ends in ``seconds`` seconds."""
        return cls(seconds, asyncio.get_running_loop().time() + seconds)


@dataclass(frozen=True, kw_only=True)
class RunOptions(HandlerOptions):
    """How one of any number of sessions is run."""

    handlers: Handlers = field(default_factory=lambda: HANDLERS)
    """What runs the sessions of each type."""
    time_limit: TimeLimit | None = None
    """How long the session may take, its start included; None is without a limit."""
    bind: Callable[[], Listener | None] | None = None
    """Binds the local end of a forwarded port before the session is opened; without it `listener` counts."""
    began: Callable[[SessionReady], None] | None = None
    """Called when the session has begun, before anything of it is shown."""
    awaited: Awaitable[None] | None = None
    """Has to be done before the session that has begun passes a byte; its exception ends the session."""
    terminate: Terminate | None = None
    """Called at the end unless the far end has closed the session, or the session terminates itself."""


@dataclass(frozen=True, kw_only=True)
class TerminalOptions(RunOptions):
    """How the session is run that has the terminal and the standard streams."""

    status: StatusMode | None = None
    """How the state of the link is shown; None shows nothing."""
    predict: PredictMode = PredictMode.NEVER
    """When what is typed is drawn before the remote has echoed it."""
    escape_character: bytes | None = None
    """Begins an escape, at a terminal; None for no escapes."""
    label: str = ""
    """What the status line calls the session; empty for its id."""

    @property
    def leave_escape(self) -> str:
        """The escape that leaves the session, as it is typed; empty without escapes."""
        return "" if self.escape_character is None else f"{show_escape_character(self.escape_character)}."
