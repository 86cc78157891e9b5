"""One session from opening to end: for programs (`read`, `write`) and for the command line (`run`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from session_manager_plugin.errors import ConnectError, NotConnected
from session_manager_plugin.protocol.events import SessionReady
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.session.ending import check_end, describe_missing
from session_manager_plugin.session.handler_options import OpenRecording, SessionOptions, StdinEof
from session_manager_plugin.session.link_health import LinkHealth
from session_manager_plugin.session.notices import SilentNotices
from session_manager_plugin.session.protocols import (
    Forwarding,
    IDataChannel,
    Interruptible,
    Notices,
    SessionHandler,
    Streams,
    TerminalHold,
)
from session_manager_plugin.session.streams import NoTerminal

if TYPE_CHECKING:
    from session_manager_plugin.session.listener import Listener


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
"""What runs each session type; it is imported when one of that type has begun."""
DEFAULT_SESSION_TYPE = "Standard_Stream"
"""The type of a session that announces none: a plain shell or an interactive command."""
READ_BUFFER_SIZE = 8 * 1024 * 1024
"""Bytes kept for `read` before reading from the network pauses."""


class Session:
    """A session over a data channel. An async context manager: entering opens it, leaving closes it."""

    def __init__(self, channel: IDataChannel) -> None:
        self._channel = channel
        self._ready: SessionReady | None = None
        self._received = bytearray()
        self._arrived = asyncio.Event()
        self._claimed = False
        self._handler: SessionHandler | None = None

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._channel.session_id

    @property
    def state(self) -> str:
        """`opening`, `open` or `closed`."""
        if self._ready is None:
            return "opening"
        return "open" if self._channel.is_open else "closed"

    @property
    def began(self) -> SessionReady | None:
        """What the far end has announced; None before the session has begun."""
        return self._ready

    @property
    def health(self) -> LinkHealth:
        """How the link is at this moment."""
        return self._channel.health

    @property
    def heard(self) -> bool:
        """Whether any message has come from the far end: if not, nothing shows that there is a session."""
        return self._channel.heard

    @property
    def incomplete(self) -> str:
        """What is known to be missing of the output, as a sentence; empty when nothing is."""
        missing = self._channel.missing_output
        return "" if missing is None else describe_missing(missing)

    def set_link_handler(self, handler: Callable[[], None]) -> None:
        """`handler` is called when the link's state changes, and when a trouble begins or is over."""
        self._channel.set_link_handler(handler)

    @property
    def reconnects(self) -> int:
        """How often a lost connection has been replaced."""
        return self._channel.reconnects

    async def reconnect(self) -> None:
        """Replace the connection now; while that is being tried already, start the next attempt without waiting.

        Raises `SessionManagerError`, and leaves the connection as it is, when it could not be replaced.
        """
        await self._channel.reconnect()

    def get_info(self) -> dict[str, Any]:
        """Facts for a person who asks, those of the channel; nothing secret."""
        return self._channel.get_channel_info()

    def connections(self) -> Sequence[str] | None:
        """A line for each local connection that is forwarded at this moment; None when no port is forwarded."""
        if isinstance(self._handler, Forwarding):
            return self._handler.connections()
        return None

    @property
    def latency(self) -> float | None:
        """Seconds the last ping took; None before the first answer."""
        return self._channel.latency

    async def open(self) -> SessionReady:
        """Connect and wait until the session has begun. Raises what prevents it."""
        if not await self._channel.open():
            raise self._channel.last_error or ConnectError("the data channel could not be opened")
        self._ready = await self._channel.ready()
        return self._ready

    async def close(self) -> None:
        """Disconnect. May be called twice."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # For programs.

    async def read(self) -> bytes:
        """What the remote has written, as soon as there is something; b"" when the session has ended.

        Raises what ended it when that was not a normal end. One reader at a time.
        """
        if not self._claimed:
            self._claimed = True
            self._channel.set_payload_handler(PayloadType.STDERR, self._arrive)
            self._channel.set_input_handler(self._arrive)
        if not self._received:
            await self._next_arrival()
        if not self._received:
            await check_end(self._channel)
            return b""
        data = bytes(self._received)
        self._received.clear()
        self._channel.resume_reading()
        return data

    async def _next_arrival(self) -> None:
        """Wait until something was received or the session has ended."""
        self._arrived.clear()
        ended = asyncio.ensure_future(self._channel.ended())
        ended.add_done_callback(lambda _ended: self._arrived.set())
        try:
            await self._arrived.wait()
        finally:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)

    async def write(self, data: bytes) -> None:
        """Type `data` at the remote; waits while the far end does not keep up."""
        await self._channel.send_input_data(data)

    async def resize(self, columns: int, rows: int) -> None:
        """Tell the remote the size of the terminal."""
        await self._channel.send_size(columns, rows)

    async def wait(self) -> int:
        """Wait for the end; gives the exit status. Raises what ended the session when that was not a normal end."""
        await check_end(self._channel)
        return 0

    def _arrive(self, data: bytes) -> None:
        self._received += data
        self._arrived.set()
        if len(self._received) > READ_BUFFER_SIZE:
            self._channel.pause_reading()

    # For the command line.

    async def run(
        self,
        streams: Streams,
        *,
        terminal: TerminalHold | None = None,
        stdin_eof: StdinEof = StdinEof.EOT,
        notices: Notices | None = None,
        listener: Listener | None = None,
        open_recording: OpenRecording = lambda _session_id: None,
    ) -> int:
        """Join the session to `streams` until it ends; returns the exit status. Call it after `open`.

        `terminal` is held by a shell; without one a shell has no terminal here.
        `notices` hears what there is to say besides; `listener`, the local end of a forwarded port if it was bound
        before, is closed in the end. `open_recording` opens the recording of a shell.
        Raises what ended the session when that was not a normal end.
        """
        if self._ready is None:
            raise NotConnected("the session is not open")
        options = SessionOptions(
            terminal or NoTerminal(), stdin_eof, notices or SilentNotices(), listener, open_recording
        )
        try:
            self._handler = HANDLERS[self._ready.session_type or DEFAULT_SESSION_TYPE](streams, self._ready, options)
            return await self._handler.run(self._channel)
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
