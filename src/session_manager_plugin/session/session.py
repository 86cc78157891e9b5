"""A session for programs: ``open``, ``read``, ``write``, ``wait``, ``close``."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from session_manager_plugin.errors import (
    ConnectError,
    NotConnected,
    OutputIncomplete,
    SessionManagerError,
    UsageError,
    WrongType,
)
from session_manager_plugin.protocol.events import SessionReady
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.session.ending import describe_missing, wait_for_end
from session_manager_plugin.session.link_health import LinkHealth
from session_manager_plugin.session.outcome import CommandExit, Outcome, parse_exit_status
from session_manager_plugin.session.protocols import IDataChannel, SessionStarter

READ_BUFFER_SIZE = 8 * 1024 * 1024
"""Bytes of one output that are kept until they are read. With more, reading from the network pauses."""


MAX_SIZE = 65535
"""The most columns or rows of a terminal."""


class _Output:
    """One output of the remote: the bytes received and not yet read."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.arrived = asyncio.Event()
        self.reads = 0
        """Calls of ``read`` in progress."""
        self.is_read = False
        """Whether it was read from since the last ``wait`` began."""
        self.discarded = 0
        """Bytes received and discarded. Once bytes were discarded, all further bytes are too."""

    @property
    def is_full(self) -> bool:
        """Whether more than ``READ_BUFFER_SIZE`` bytes are kept."""
        return len(self.data) > READ_BUFFER_SIZE


class Session:
    """A session over a data channel. An async context manager: entering opens it, leaving closes it.

    A session that forwards a port has neither input nor output: entering it raises ``UsageError``.

    Uses a given channel or a ``starter``. With a starter, opening starts the session, and closing terminates it unless
    the far end has ended it. Before the start, methods that need the channel raise ``NotConnected``.
    """

    def __init__(self, channel: IDataChannel | None = None, *, starter: SessionStarter | None = None) -> None:
        self._started_channel = channel
        self._starter = starter
        self._ready: SessionReady | None = None
        self._output, self._error_output = _Output(), _Output()
        self._claimed = False
        self._waiting = 0
        """Calls of ``wait`` in progress."""
        self._exit: CommandExit | None = None
        self._link_handler: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Session {self.session_id or 'not started'}, {self.state}>"

    @property
    def channel(self) -> IDataChannel:
        """The channel, for a handler that is used instead of ``read``, ``write`` and ``wait``."""
        return self._channel

    @property
    def _channel(self) -> IDataChannel:
        if self._started_channel is None:
            raise NotConnected("the session is not started")
        return self._started_channel

    @property
    def session_id(self) -> str:
        """The session's id; empty before the session is started."""
        return "" if self._started_channel is None else self._started_channel.session_id

    @property
    def state(self) -> str:
        """``opening``, ``open`` or ``closed``."""
        if self._ready is None:
            return "opening"
        return "open" if self._channel.is_open else "closed"

    @property
    def began(self) -> SessionReady | None:
        """The ``SessionReady`` of the session; None before it has begun."""
        return self._ready

    @property
    def health(self) -> LinkHealth:
        """The current state of the link."""
        return self._channel.health

    @property
    def heard(self) -> bool:
        """Whether any message of the far end was received. Without one it is unknown whether the session exists."""
        return self._started_channel is not None and self._started_channel.heard

    @property
    def incomplete(self) -> str:
        """A sentence about the output that is known to be missing so far; empty if none is."""
        missing = None if self._started_channel is None else self._started_channel.missing_output
        return "" if missing is None else describe_missing(missing)

    def set_link_handler(self, handler: Callable[[], None]) -> None:
        """Call ``handler`` when the link's state changes, and when trouble begins or ends."""
        self._link_handler = handler
        if self._started_channel is not None:
            self._started_channel.set_link_handler(handler)

    @property
    def reconnects(self) -> int:
        """How often the connection was restored."""
        return self._channel.reconnects

    async def reconnect(self) -> None:
        """Replace the connection now; while reconnecting, make the next attempt now.

        Raises ``SessionManagerError``, and keeps the connection, if it could not be replaced.
        """
        await self._channel.reconnect()

    def get_info(self) -> dict[str, Any]:
        """Return facts for the user: those of the channel, without secrets."""
        return self._channel.get_channel_info()

    @property
    def latency(self) -> float | None:
        """Seconds the last ping took; None before the first answer."""
        return self._channel.latency

    async def open(self) -> SessionReady:
        """Start the session if there is a starter, connect, and wait until it has begun. Raises the error that prevents
        it."""
        if self._started_channel is None and self._starter is not None:
            self._started_channel = await self._starter.start()
            if self._link_handler is not None:
                self._started_channel.set_link_handler(self._link_handler)
        if not await self._channel.open():
            raise self._channel.last_error or ConnectError("the data channel could not be opened")
        self._ready = await self._channel.ready()
        return self._ready

    async def close(self) -> None:
        """Disconnect, and terminate a session that this object has started. Idempotent."""
        if self._started_channel is None:
            return
        channel, starter = self._started_channel, self._starter
        self._starter = None
        if starter is None or (not channel.is_open and await _is_ended_by_far_end(channel)):
            await channel.close()
        else:
            await asyncio.gather(starter.terminate(), channel.close())

    async def __aenter__(self) -> Self:
        try:
            await self.open()
            self._claim()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def read(self) -> bytes:
        """Wait for standard output of the remote and return it; ``b""`` after a normal end.

        After any other end, raises ``SessionEnded`` with the closing text of the far end, ``OutputIncomplete`` if
        output is missing, or any other error that ended the session. One reader at a time.
        """
        return await self._read(self._output)

    async def read_stderr(self) -> bytes:
        """Wait for standard error of the remote command and return it, like ``read``.

        Only commands with separate outputs (``separateOutputStream``) have a standard error.
        """
        return await self._read(self._error_output)

    async def write(self, data: bytes) -> None:
        """Send ``data`` to the remote's input. Waits while the window is full. Raises ``NotConnected`` if the session
        is not open, and ``WrongType`` for anything but bytes."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise WrongType(f"data must be bytes, not {type(data).__name__}")
        await self._channel.send_input_data(data)

    async def resize(self, columns: int, rows: int) -> None:
        """Send the size of the terminal, in characters: 1 to ``MAX_SIZE`` each. Raises ``UsageError`` for others."""
        for size in (columns, rows):
            if type(size) is not int or not 1 <= size <= MAX_SIZE:
                raise UsageError(f"the size of a terminal must be 1 to {MAX_SIZE}, not {size!r}")
        await self._channel.send_size(columns, rows)

    async def wait(self) -> Outcome:
        """Wait for the end of the session and return how it ended.

        Unread output does not block this: if an output is not read after ``wait`` has begun, its bytes beyond
        ``READ_BUFFER_SIZE`` are discarded and counted in the outcome. With a concurrent reader nothing is discarded.
        Raises the error, such as ``ConnectionLost``, if neither the far end closed the session nor an exit status has
        arrived.
        """
        self._claim()
        for output in self._outputs:
            output.is_read = output.reads > 0
        self._waiting += 1
        self._check_room()
        try:
            outcome = await wait_for_end(self._channel)
        except SessionManagerError as error:
            if self._exit is None:
                raise
            outcome = Outcome(incomplete=error.incomplete)  # the command had ended before the error
        finally:
            self._waiting -= 1
        discarded = sum(output.discarded for output in self._outputs)
        if self._exit is None:
            return dataclasses.replace(outcome, discarded=discarded)
        return dataclasses.replace(
            outcome, status=self._exit.status, is_killed=self._exit.is_killed, discarded=discarded
        )

    @property
    def _outputs(self) -> tuple[_Output, _Output]:
        return self._output, self._error_output

    def _claim(self) -> None:
        """Register the handlers for the channel's payloads. Raises ``NotConnected`` and ``UsageError``."""
        if self._ready is None:
            raise NotConnected("the session is not open")
        if self._ready.session_type == "Port" and not self._ready.is_stdio:
            raise UsageError(f"session {self.session_id} forwards a port: smp connect serves it")
        if self._claimed:
            return
        self._claimed = True
        self._channel.set_payload_handler(PayloadType.STDERR, lambda data: self._received(self._error_output, data))
        self._channel.set_payload_handler(PayloadType.EXIT_CODE, self._exited)
        self._channel.set_input_handler(lambda data: self._received(self._output, data))

    def _received(self, output: _Output, data: bytes) -> None:
        if output.discarded or (self._discards(output) and len(output.data) + len(data) > READ_BUFFER_SIZE):
            output.discarded += len(data)
            return
        output.data += data
        output.arrived.set()
        self._check_room()

    def _discards(self, output: _Output) -> bool:
        return bool(self._waiting) and not output.is_read

    def _check_room(self) -> None:
        """Pause reading from the network while an output is full and not discarded; otherwise resume."""
        if any(output.is_full and not self._discards(output) for output in self._outputs):
            self._channel.pause_reading()
        else:
            self._channel.resume_reading()

    def _exited(self, data: bytes) -> None:
        self._exit = parse_exit_status(data)

    async def _read(self, output: _Output) -> bytes:
        self._claim()
        output.is_read = True
        output.reads += 1
        try:
            if not output.data:
                await self._next_arrival(output)
        finally:
            output.reads -= 1
        if output.data:
            data = bytes(output.data)
            output.data.clear()
            self._check_room()
            return data
        if output.discarded:
            raise OutputIncomplete(f"{output.discarded} bytes of output were discarded: nothing read them")
        (await wait_for_end(self._channel)).raise_abnormal()
        return b""

    async def _next_arrival(self, output: _Output) -> None:
        """Wait until data was received or the session has ended."""
        output.arrived.clear()
        ended = asyncio.ensure_future(self._channel.ended())
        ended.add_done_callback(lambda _ended: output.arrived.set())
        try:
            await output.arrived.wait()
        finally:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)


async def _is_ended_by_far_end(channel: IDataChannel) -> bool:
    """Whether a channel that is not open was closed by the far end."""
    try:
        await channel.ended()
    except SessionManagerError:
        return False
    return True
