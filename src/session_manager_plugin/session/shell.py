"""Shells and interactive commands: a remote pty, with a terminal or pipes at this end."""

from __future__ import annotations

import asyncio
import os
from collections import deque

from session_manager_plugin.errors import ConfigurationError, NotConnected, TerminalGone
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.session.ending import wait_for_end
from session_manager_plugin.session.first_of import first_of
from session_manager_plugin.session.handler_options import OpenRecording, StdinEof
from session_manager_plugin.session.link_health import LinkStatus
from session_manager_plugin.session.notices import SilentNotices
from session_manager_plugin.session.outcome import EndReason, Outcome
from session_manager_plugin.session.protocols import (
    IDataChannel,
    Notices,
    SessionRecording,
    Streams,
    TerminalHold,
    TerminalSize,
)

END_OF_TRANSMISSION = b"\x04"
BULK_READ_SIZE = 256
"""A read of at least this many bytes is a paste or output of a program: further input probably follows immediately."""
SIZE_REPEAT_DELAY = 1.0
"""Seconds after which the first size is sent again, or earlier, when the first output arrives: an agent may discard
messages received right after its HandshakeComplete (reference defect A8)."""
_LATENCIES_KEPT = 8


class ShellHandler:
    """Handles Standard_Stream and InteractiveCommands. Passes bytes in both directions unchanged."""

    def __init__(
        self,
        streams: Streams,
        terminal: TerminalHold,
        *,
        stdin_eof: StdinEof = StdinEof.EOT,
        open_recording: OpenRecording = lambda _session_id: None,
        notices: Notices | None = None,
    ) -> None:
        """``notices`` receives the sentence about a recording that fails; by default it is dropped."""
        self._streams = streams
        self._notices = notices or SilentNotices()
        self._terminal = terminal
        self._stdin_eof = stdin_eof
        self._open_recording = open_recording
        self._recording: SessionRecording | None = None
        self._told_size: TerminalSize | None = None
        self._size_changed = asyncio.Event()
        self._repeat_size = asyncio.Event()
        self._latencies: deque[float] = deque(maxlen=_LATENCIES_KEPT)

    async def run(self, channel: IDataChannel) -> Outcome:
        """Run the session until the far end closes it, or until the end of the input ends it.

        Raises ``TerminalGone`` if the terminal was closed, ``BrokenPipeError`` if the reader of standard output has
        closed it, and the channel's errors.
        """
        streams = self._streams
        output_failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        streams.set_output_failed_handler(output_failed.set_exception)
        streams.set_flow_handlers(channel.pause_reading, channel.resume_reading)
        with self._terminal.held(
            lambda: self._link_status(channel), lambda: channel.input_progress, lambda _size: self._size_changed.set()
        ):
            self._start_recording(channel.session_id)
            ended = asyncio.ensure_future(channel.ended())
            sizes = asyncio.ensure_future(self._tell_size(channel))
            typing = asyncio.ensure_future(self._type(channel))
            channel.set_payload_handler(PayloadType.STDERR, self._show_error)
            channel.set_input_handler(lambda data: self._show_first(channel, data))
            try:
                # The task ``sizes`` ends only with an error.
                async with first_of(ended, typing, sizes, output_failed, cancel=(ended, sizes, typing)):
                    if ended.done():
                        await streams.drain()
            finally:
                if self._recording is not None:
                    self._recording.close()
        if output_failed.done():
            await output_failed
        if not ended.cancelled():
            return await wait_for_end(channel)
        for task in (typing, sizes):
            if not task.cancelled():
                task.result()
        return Outcome(reason=EndReason.INPUT_ENDED)

    def _show_first(self, channel: IDataChannel, data: bytes) -> None:
        channel.set_input_handler(self._show)
        self._repeat_size.set()
        self._show(data)

    def _show(self, data: bytes) -> None:
        if self._recording is not None:
            self._recording.output(data)
        self._streams.write(data)

    def _show_error(self, data: bytes) -> None:
        if self._recording is not None:
            self._recording.output(data)
        self._streams.write_error(data)

    def _start_recording(self, session_id: str) -> None:
        """Record the session, if requested. An error of the recording does not end the session."""
        try:
            self._recording = self._open_recording(session_id)
        except ConfigurationError as error:
            self._notices.trouble(f"{error}; the session is not recorded")
        if self._recording is not None:
            self._recording.failed = self._notices.trouble
            self._recording.begin(self._terminal.size, session_id, os.environ)

    async def _type(self, channel: IDataChannel) -> None:
        """Send the input to its end. Then returns if the end of the input ends the session, otherwise waits until
        cancelled."""
        streams = self._streams
        last = b""
        try:
            while data := await streams.read():
                last = data
                if self._recording is not None:
                    self._recording.input(data)
                await channel.send_input_data(data, more_follows=len(data) >= BULK_READ_SIZE)
                self._terminal.typed(data)
            if self._terminal.hung_up:
                raise TerminalGone("the terminal was closed")
            await channel.drain()
            if self._stdin_eof is StdinEof.CLOSE:
                return
            if self._stdin_eof is StdinEof.EOT:
                unfinished = last and not last.endswith(b"\n")
                await channel.send_input_data(END_OF_TRANSMISSION * (2 if unfinished else 1))
        except NotConnected:
            pass  # the session has ended; ``ended`` raises the reason
        await asyncio.Event().wait()

    async def _tell_size(self, channel: IDataChannel) -> None:
        """Send the size now, again soon after, and at every change."""
        await self._tell(channel, self._terminal.size)
        repeat = asyncio.ensure_future(self._tell_again(channel))
        try:
            while True:
                await self._size_changed.wait()
                self._size_changed.clear()
                if self._terminal.size != self._told_size:
                    await self._tell(channel, self._terminal.size)
        finally:
            repeat.cancel()

    async def _tell_again(self, channel: IDataChannel) -> None:
        self._repeat_size.clear()
        try:
            async with asyncio.timeout(SIZE_REPEAT_DELAY):
                await self._repeat_size.wait()
        except TimeoutError:
            pass
        await self._tell(channel, self._terminal.size)

    async def _tell(self, channel: IDataChannel, size: TerminalSize) -> None:
        self._told_size = size
        if self._recording is not None:
            self._recording.resize(size)
        try:
            await channel.send_size(*size)
        except NotConnected:
            await asyncio.Event().wait()  # the session has ended, and this task will be cancelled

    def _link_status(self, channel: IDataChannel) -> LinkStatus:
        health = channel.health
        if health.latency is not None and (not self._latencies or self._latencies[-1] != health.latency):
            self._latencies.append(health.latency)
        return LinkStatus(health, channel.session_id, tuple(self._latencies))
