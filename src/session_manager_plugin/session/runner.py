"""Running a session with the handler of its type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from session_manager_plugin.errors import NotConnected
from session_manager_plugin.protocol.events import SessionReady
from session_manager_plugin.session.handler_options import HandlerOptions
from session_manager_plugin.session.outcome import Outcome
from session_manager_plugin.session.protocols import (
    Forwarding,
    Interruptible,
    SessionHandler,
    Streams,
)

if TYPE_CHECKING:
    from session_manager_plugin.session.session import Session


def _shell(streams: Streams, ready: SessionReady, options: HandlerOptions) -> SessionHandler:
    from session_manager_plugin.session.shell import ShellHandler

    return ShellHandler(
        streams,
        options.terminal,
        stdin_eof=options.stdin_eof,
        open_recording=options.open_recording,
        notices=options.notices,
    )


def _command(streams: Streams, ready: SessionReady, options: HandlerOptions) -> SessionHandler:
    from session_manager_plugin.session.command import CommandHandler

    return CommandHandler(streams, options.notices)


def _port(streams: Streams, ready: SessionReady, options: HandlerOptions) -> SessionHandler:
    from session_manager_plugin.session.port import port_handler

    return port_handler(streams, ready, options.notices, options.listener)


COMMAND = "NonInteractiveCommands"
INTERACTIVE = "InteractiveCommands"
Handlers = Mapping[str, Callable[[Streams, SessionReady, HandlerOptions], SessionHandler]]
"""For each session type, a function that returns the handler of an open session."""
HANDLERS: Handlers = {
    "Standard_Stream": _shell,
    INTERACTIVE: _shell,
    COMMAND: _command,
    "Port": _port,
}
"""The ``Handlers`` by default. The module of a handler is imported when a session of its type has begun."""
DEFAULT_SESSION_TYPE = "Standard_Stream"
"""The type of a session without a handshake: a plain shell or an interactive command."""


class SessionRunner:
    """Runs an open session with the handler of its type, one of ``handlers``."""

    def __init__(self, session: Session, handlers: Handlers = HANDLERS) -> None:
        self._session = session
        self._handlers = handlers
        self._handler: SessionHandler | None = None

    async def run(self, streams: Streams, options: HandlerOptions | None = None) -> Outcome:
        """Connect the open session to ``streams`` until it ends, and return how it ended.

        Raises the exceptions of ``SessionHandler.run``.
        """
        options = options or HandlerOptions()
        ready = self._session.began
        if ready is None:
            raise NotConnected("the session is not open")
        try:
            self._handler = self._handlers[ready.session_type or DEFAULT_SESSION_TYPE](streams, ready, options)
            return await self._handler.run(self._session.channel)
        finally:
            self._handler = None
            if options.listener is not None:
                options.listener.close()

    def interrupt(self, number: int) -> bool:
        """Pass signal ``number`` to the handler. Returns False if the handler does not handle it; the caller should
        then end the program.

        Does not block. Must be called in the event loop.
        """
        return isinstance(self._handler, Interruptible) and self._handler.interrupt(number)

    @property
    def interrupted(self) -> bool:
        """Whether the handler is ending the session because of a signal."""
        return isinstance(self._handler, Interruptible) and self._handler.interrupted

    def connections(self) -> Sequence[str] | None:
        """Return one line for each open local connection; None if the session does not forward a port."""
        if isinstance(self._handler, Forwarding):
            return self._handler.connections()
        return None
