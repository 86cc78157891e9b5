"""Writing the session's output from asyncio: never blocking, never touching flags that other processes see."""

from __future__ import annotations

import asyncio
import os
import select
import stat
from collections import deque
from collections.abc import Callable

from session_manager_plugin.terminal.own_descriptor import open_own_descriptor

HIGH_WATER = 8 * 1024 * 1024
"""Bytes held for a slow reader before the source is asked to pause."""

_CHUNK_SIZE = 65536
"""Small pieces are joined in the queue up to this size, so that a queue of single bytes costs what it holds."""

_TERMINAL_PIECE = 1024
"""Nobody promises this one. Linux takes it whole in raw mode: a pty that has any room at all adds a buffer of 1792
bytes, and a serial line is called writable when fewer than 256 of its 4096 are waiting (drivers/tty/tty_buffer.c,
n_tty.c). With OPOST on, newlines take two bytes, and a pty that is nearly full may block."""


def _piece_size(fd: int) -> int | None:
    """How many bytes a blocking write may hold without waiting once poll(2) has called `fd` writable; None: any."""
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return None
    return min(_TERMINAL_PIECE, select.PIPE_BUF) if os.isatty(fd) else select.PIPE_BUF


class OutputWriter:
    """Writes bytes to a descriptor at once if it takes them, else in the background, in order.

    Where it can it opens the terminal or pipe once more for itself, non-blocking. Else, before each write, it asks
    poll(2) whether something may be written, and writes no more than is then known to be taken.
    """

    def __init__(
        self,
        fd: int,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        high_water: int = HIGH_WATER,
        on_error: Callable[[OSError], None] | None = None,
    ) -> None:
        """`high_water` is in bytes, `loop` the running one unless given.

        Raises OSError (EBADF) if `fd` is not open.
        """
        self._loop = loop or asyncio.get_running_loop()
        self._high_water = high_water
        self.on_error = on_error
        """May be set later too."""
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
        """Why nothing can be written any more (EPIPE: the reader has gone); None while all is well."""

    @property
    def buffered(self) -> int:
        """Bytes accepted and not yet written."""
        return self._buffered

    @property
    def abandoned(self) -> bool:
        """Whether nobody reads any more: known of a pipe or a socket before anything is written to it."""
        if self._closed or self.error is not None:
            return self.error is not None
        poll = select.poll()
        poll.register(self._fd, 0)
        return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))

    def set_flow_handlers(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """`pause` is called when more than the high water is buffered, `resume` when it is down to half of it.

        `resume` is called also when an error has emptied the queue, so whatever was paused goes on.
        """
        self._pause, self._resume = pause, resume

    def write(self, data: bytes) -> None:
        """Writes what can be written without waiting and queues the rest. After an error or `close` it is dropped."""
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
        """Returns when everything is written, or can no longer be (see `error`), or the writer is closed."""
        await self._idle.wait()

    def take_unwritten(self) -> bytes:
        """Empties the queue and returns the bytes that were in it."""
        unwritten = b"".join(self._chunks)[self._head_sent :]
        self._clear()
        return unwritten

    def close(self) -> None:
        """Stops writing and drops what is queued (`drain` first to keep it). The given descriptor stays open."""
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
        """Writes until all is written or nothing more is taken; the number of bytes written."""
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
        # One chunk, then the loop's other business: a fast reader could keep us here for all of 8 MiB.
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
        """Leaves the queue empty, nothing watched, and nobody waiting in `drain`."""
        if self._chunks or not self._idle.is_set():
            self._loop.remove_writer(self._fd)
        self._chunks.clear()
        self._head_sent = 0
        self._buffered = 0
        self._idle.set()
