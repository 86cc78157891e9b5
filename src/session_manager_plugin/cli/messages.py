"""Messages on a standard stream: written in order, without raising, and without blocking the event loop."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from session_manager_plugin.utils.writable import is_writable

if TYPE_CHECKING:
    from session_manager_plugin.terminal.output import OutputWriter

QUEUE_LIMIT = 256 * 1024
"""Bytes of messages queued for a reader that does not read; further messages are dropped and counted."""
STUCK_AFTER = 0.5
"""Seconds to wait, outside the event loop, for a stream that accepts no bytes: a stopped terminal or a full pipe must
not prevent the end of the program."""
_RETRY_INTERVAL = 0.01
"""Seconds until the next attempt, if poll(2) reports a stream as writable but it has accepted no bytes."""
_PIECE = 512
"""Bytes that a writable pipe accepts at once (POSIX's least PIPE_BUF)."""


class MessageStream:
    """The messages of ``program`` on one descriptor.

    Inside ``queued`` they share the queue of an ``OutputWriter`` with the session's output, which keeps the order.
    Outside they are written at once, within ``STUCK_AFTER`` seconds. The number of dropped messages is written before
    the next message that is accepted. Messages to a closed stream, or one without a reader, are dropped without an
    error.
    """

    def __init__(self, fd: int, program: str) -> None:
        self._fd = fd
        self._program = program
        self._queued_size = 0
        """Bytes of messages since the queue was last empty."""
        self._dropped = 0
        self.describe_dropped = self._dropped_sentence
        """Returns the line that reports a number of dropped messages."""
        self.place: Callable[[bytes], bytes] = lambda message: message
        """Returns the bytes to write for a message; b"" if it has written them itself. See ``Console``."""
        self.is_after_echo = False
        """Whether the terminal has echoed a ^C since the last message; the next one is written over it."""
        self._stuck = False
        self.writer: OutputWriter | None = None
        """The queue, inside ``queued``; None outside, or if the descriptor is not open."""

    def write(self, data: bytes) -> None:
        """Write or queue a message. Does not raise."""
        if self.is_after_echo:
            self.is_after_echo = False
            data = b"\r" + data
        data = self.place(data)
        if self.writer is None:
            self._write_in_time(data)
            return
        if not self.writer.buffered:
            self._queued_size = 0
        if self._queued_size + len(data) > QUEUE_LIMIT:
            self._dropped += 1
            return
        data = self._with_count(data)
        self._queued_size += len(data)
        self.writer.write(data)

    @contextlib.contextmanager
    def queued(self) -> Iterator[None]:
        """Queue messages during the block, in the running event loop.

        At the end queued messages are written within ``STUCK_AFTER`` seconds, unless the queue also holds session
        output.
        """
        from session_manager_plugin.terminal.output import OutputWriter

        with contextlib.suppress(OSError):  # the stream is closed
            self.writer = OutputWriter(self._fd)
        try:
            yield
        finally:
            writer, self.writer = self.writer, None
            if writer is not None:
                unwritten = writer.take_unwritten()
                writer.close()
                if 0 < len(unwritten) <= QUEUE_LIMIT:
                    self._write_in_time(unwritten)

    def _write_in_time(self, data: bytes) -> None:
        dropped_before = self._dropped
        data = whole = self._with_count(data)
        deadline = time.monotonic() + (0.0 if self._stuck else STUCK_AFTER)
        try:
            with _nonblocking(self._fd) as fd:
                while data and is_writable(fd, max(0.0, deadline - time.monotonic())):
                    try:
                        data = data[os.write(fd, data[:_PIECE]) :]
                    except BlockingIOError:
                        if time.monotonic() > deadline:
                            break
                        time.sleep(_RETRY_INTERVAL)
        except OSError:
            return
        self._stuck = bool(data)
        if data:
            self._dropped = 1 + (dropped_before if data is whole else 0)

    def _with_count(self, data: bytes) -> bytes:
        """Return the message, preceded by a line with the number of dropped messages, if any."""
        count, self._dropped = self._dropped, 0
        if not count:
            return data
        return self.describe_dropped(count).encode() + data

    def _dropped_sentence(self, count: int) -> str:
        which = "1 message was" if count == 1 else f"{count} messages were"
        return f"{self._program}: {which} dropped because nothing read this stream\n"


@contextlib.contextmanager
def _nonblocking(fd: int) -> Iterator[int]:
    """Yield a non-blocking descriptor for the file of ``fd``; ``fd`` itself if that is not possible.

    A terminal that poll(2) reports as writable may still block a write: with OPOST set a newline takes two bytes.
    """
    from session_manager_plugin.terminal.own_descriptor import open_own_descriptor

    own = open_own_descriptor(fd)
    try:
        yield fd if own is None else own
    finally:
        if own is not None:
            os.close(own)
