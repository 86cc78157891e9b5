"""Which handler runs a session, by the session's type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from session_manager_plugin.errors import NotConnected
from session_manager_plugin.protocol.events import SessionReady
from session_manager_plugin.session.handler_options import OpenRecording, SessionOptions, StdinEof
from session_manager_plugin.session.notices import SilentNotices
from session_manager_plugin.session.outcome import Outcome
from session_manager_plugin.session.protocols import (
    Forwarding,
    Interruptible,
    Notices,
    SessionHandler,
    Streams,
    TerminalHold,
)
from session_manager_plugin.session.streams import NoTerminal

if TYPE_CHECKING:
    from session_manager_plugin.session.listener import Listener
    from session_manager_plugin.session.session import Session


def _shell(streams: Streams, ready: SessionReady, options: SessionOptions) -> SessionHandler:
    from session_manager_plugin.session.shell import ShellHandler

    return ShellHandler(streams, options.terminal, stdin_eof=options.stdin_eof, open_recording=options.open_recording)


def _command(streams: Streams, ready: SessionReady, options: SessionOptions) -> SessionHandler:
    from session_manager_plugin.session.command import CommandHandler

    return CommandHandler(streams, options.notices)


def _port(streams: Streams, ready: SessionReady, options: SessionOptions) -> SessionHandler:
    from session_manager_plugin.session.port import port_handler

    return port_handler(streams, ready, options.notices, options.listener)


COMMAND = "NonInteractiveCommands"
HANDLERS: dict[str, Callable[[Streams, SessionReady, SessionOptions], SessionHandler]] = {
    "Standard_Stream": _shell,
    "InteractiveCommands": _shell,
    COMMAND: _command,
    "Port": _port,
}
"""The handler of each session type; it is imported when a session of that type has begun."""
DEFAULT_SESSION_TYPE = "Standard_Stream"
"""The type of a session that announces none: a plain shell or an interactive command."""


class SessionRunner:
    """Runs an open session by the handler of its type."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._handler: SessionHandler | None = None

    async def run(
        self,
        streams: Streams,
        *,
        terminal: TerminalHold | None = None,
        stdin_eof: StdinEof = StdinEof.EOT,
        notices: Notices | None = None,
        listener: Listener | None = None,
        open_recording: OpenRecording = lambda _session_id: None,
    ) -> Outcome:
        """Join the open session to `streams` until it ends, and return how it ended.

        `terminal` is held by a shell; without one a shell has no terminal here. `notices` receives what there is to
        say besides. `listener`, the local end of a forwarded port if it was bound before, is closed at the end.
        `open_recording` opens the recording of a shell. Raises what `SessionHandler.run` raises.
        """
        ready = self._session.began
        if ready is None:
            raise NotConnected("the session is not open")
        options = SessionOptions(
            terminal or NoTerminal(), stdin_eof, notices or SilentNotices(), listener, open_recording
        )
        try:
            self._handler = HANDLERS[ready.session_type or DEFAULT_SESSION_TYPE](streams, ready, options)
            return await self._handler.run(self._session.channel)
        finally:
            self._handler = None
            if listener is not None:
                listener.close()

    def interrupt(self, number: int) -> bool:
        """Offer signal `number` to what runs. True when it has been dealt with; else the program should leave.

        Never waits; to be called in the event loop, as a signal handler of the loop is.
        """
        return isinstance(self._handler, Interruptible) and self._handler.interrupt(number)

    @property
    def interrupted(self) -> bool:
        """Whether what runs is ending because of a signal."""
        return isinstance(self._handler, Interruptible) and self._handler.interrupted

    def connections(self) -> Sequence[str] | None:
        """Return a line for each local connection that is open; None if the session forwards no port."""
        if isinstance(self._handler, Forwarding):
            return self._handler.connections()
        return None
