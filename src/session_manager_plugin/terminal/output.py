"""Writing the session's output from asyncio without blocking, and without changing flags that other processes share."""

from __future__ import annotations

import asyncio
import os
import select
import stat
import time
from collections import deque
from collections.abc import Callable

from session_manager_plugin.terminal.own_descriptor import open_own_descriptor

HIGH_WATER = 8 * 1024 * 1024
"""Bytes held for a slow reader before the source is asked to pause."""

_CHUNK_SIZE = 65536
"""Small pieces are joined in the queue up to this size, so that a queue of single bytes costs what it holds."""

_TERMINAL_PIECE = 1024
"""Bytes that a writable terminal accepts at once. No standard guarantees the number; on Linux it holds in raw mode: a
pty with any room adds a buffer of 1792 bytes, and a serial line is writable when fewer than 256 of its 4096 bytes are
used (drivers/tty/tty_buffer.c, n_tty.c). With OPOST newlines take two bytes, and a nearly full pty may block."""


def _piece_size(fd: int) -> int | None:
    """Return how many bytes can be written without blocking once poll(2) reports ``fd`` writable; None: any number."""
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return None
    return min(_TERMINAL_PIECE, select.PIPE_BUF) if os.isatty(fd) else select.PIPE_BUF


class OutputWriter:
    """Writes bytes to a descriptor, at once where possible, the rest later and in order.

    Opens the terminal or pipe a second time, non-blocking, where that is possible. Otherwise it calls poll(2) before
    each write, and writes no more than cannot block.
    """

    def __init__(
        self,
        fd: int,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        high_water: int = HIGH_WATER,
        on_error: Callable[[OSError], None] | None = None,
    ) -> None:
        """``high_water`` is in bytes; ``loop`` is the running event loop by default.

        Raises ``OSError`` (EBADF) if ``fd`` is not open.
        """
        self._loop = loop or asyncio.get_running_loop()
        self._high_water = high_water
        self.on_error = on_error
        """Called with the error when writing fails. May be set later."""
        self._own_fd = open_own_descriptor(fd)
        self._fd = fd if self._own_fd is None else self._own_fd
        self._poll: select.poll | None = None
        self._piece_size: int | None = None
        if self._own_fd is None:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLOUT)
            self._piece_size = _piece_size(fd)
        self._chunks: deque[bytearray] = deque()
        self._head_sent = 0
        self._buffered = 0
        self._paused = False
        self._pause: Callable[[], None] | None = None
        self._resume: Callable[[], None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self.error: OSError | None = None
        """The error that has ended the writing (EPIPE: the reader has closed its end); otherwise None."""

    @property
    def buffered(self) -> int:
        """Bytes accepted and not yet written."""
        return self._buffered

    @property
    def abandoned(self) -> bool:
        """Whether the reader has closed its end. For a pipe or a socket that is known before a write fails."""
        if self._closed or self.error is not None:
            return self.error is not None
        poll = select.poll()
        poll.register(self._fd, 0)
        return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))

    def set_flow_handlers(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Call ``pause`` when more than ``high_water`` bytes are queued, ``resume`` at half of that.

        ``resume`` is also called when an error has emptied the queue.
        """
        self._pause, self._resume = pause, resume

    def write(self, data: bytes) -> None:
        """Write what does not block and queue the rest. After an error or ``close`` data is dropped."""
        if self.error is not None or self._closed or not data:
            return
        view = memoryview(data)
        if not self._chunks:
            view = view[self._write_some(view) :]
            if not view or self.error is not None:
                return
            self._idle.clear()
            self._loop.add_writer(self._fd, self._flush)
        self._enqueue(view)
        if self._buffered > self._high_water and not self._paused:
            self._paused = True
            if self._pause is not None:
                self._pause()

    async def drain(self) -> None:
        """Wait until everything is written, writing has failed (see ``error``), or the writer is closed."""
        await self._idle.wait()

    def finish(self, seconds: float) -> None:
        """Write the queue without the event loop, as far as the reader accepts it within this time."""
        ends_at = time.monotonic() + seconds
        while self._chunks and select.select([], [self._fd], [], max(0.0, ends_at - time.monotonic()))[1]:
            self._flush()

    def take_unwritten(self) -> bytes:
        """Return the queued bytes and empty the queue."""
        unwritten = b"".join(self._chunks)[self._head_sent :]
        self._clear()
        if self._paused:
            self._unpause()
        return unwritten

    def close(self) -> None:
        """Stop writing and drop the queue; call ``drain`` first to write it. The given descriptor stays open."""
        if self._closed:
            return
        self._closed = True
        self._clear()
        if self._own_fd is not None:
            os.close(self._own_fd)

    def _enqueue(self, view: memoryview) -> None:
        if self._chunks and len(self._chunks[-1]) + len(view) <= _CHUNK_SIZE:
            self._chunks[-1] += view
        else:
            self._chunks.append(bytearray(view))
        self._buffered += len(view)

    def _write_some(self, view: memoryview) -> int:
        """Write until all is written or a write would block. Returns the number of bytes written."""
        written = 0
        while written < len(view) and (self._poll is None or self._poll.poll(0)):
            end = None if self._piece_size is None else written + self._piece_size
            try:
                written += os.write(self._fd, view[written:end])
            except BlockingIOError:
                break
            except OSError as error:
                self._fail(error)
                break
        return written

    def _flush(self) -> None:
        # One chunk at a time: with a fast reader the whole queue of 8 MiB would block the event loop.
        with memoryview(self._chunks[0]) as whole, whole[self._head_sent :] as view:
            complete = len(view)
            written = self._write_some(view)
        if self.error is not None:
            return
        self._buffered -= written
        self._head_sent += written
        if written == complete:
            self._chunks.popleft()
            self._head_sent = 0
        if not self._chunks:
            self._clear()
        if self._paused and self._buffered <= self._high_water // 2:
            self._unpause()

    def _fail(self, error: OSError) -> None:
        self.error = error
        self._clear()
        if self.on_error is not None:
            self.on_error(error)
        if self._paused:
            self._unpause()

    def _unpause(self) -> None:
        self._paused = False
        if self._resume is not None:
            self._resume()

    def _clear(self) -> None:
        """Empty the queue, stop watching the descriptor, and wake the callers of ``drain``."""
        if self._chunks or not self._idle.is_set():
            self._loop.remove_writer(self._fd)
        self._chunks.clear()
        self._head_sent = 0
        self._buffered = 0
        self._idle.set()
