"""Reading the user's input from asyncio without changing descriptor flags that other processes share."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import select
import stat
import time
from collections.abc import Callable

from session_manager_plugin.terminal.foreground import in_background
from session_manager_plugin.terminal.terminal_reports import PARTIAL_TIME, Position, TerminalReports

_READ_SIZE = 65536
_BACKGROUND_INTERVAL = 1.0
"""Seconds between two checks whether we are in the foreground: a job gets no signal when it is moved there."""


class InputReader:
    """Reads a descriptor: a terminal, a pipe, a socket, a file or a device.

    The descriptor is never made non-blocking: O_NONBLOCK belongs to the open file description, which is shared with our
    parent and the other processes of the pipeline. It is read only when poll(2) has reported data.

    Bytes are read only during a call of ``read``, and only if that call returns them. All other input stays in the
    kernel for the next program.
    """

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """``loop`` is the running event loop by default. Raises ``OSError`` (EBADF) if ``fd`` is not open."""
        self._fd = fd
        self._loop = loop or asyncio.get_running_loop()
        mode = os.fstat(fd).st_mode
        # A file is always ready. epoll refuses to watch it, and kqueue does not report its end.
        self._watchable = not (stat.S_ISREG(mode) or stat.S_ISBLK(mode) or stat.S_ISDIR(mode))
        self._is_terminal = os.isatty(fd)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._reading = False
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._inserted = b""
        self.spares_background = True
        """Whether the terminal is not read while we are in the background. If False, reading there stops this process,
        or fails where no shell would continue it."""
        self.hung_up = False
        """Whether the input ended because the terminal hung up (window closed, connection lost)."""

    async def read(self) -> bytes:
        """Wait for input and return what is available, 64 KiB at most; b"" at the end of input and after ``close``.

        Can be called again after the end of input: a terminal in canonical mode may deliver more after Ctrl-D. No byte
        is lost on cancellation. Raises ``OSError`` if reading fails, ``RuntimeError`` if another call is waiting.
        """
        if self._reading:
            raise RuntimeError("read() called while another call is waiting")
        self._reading = True
        try:
            await asyncio.sleep(0)  # lets other tasks run even if there is always input
            while not self._closed:
                # From here to the return nothing is awaited, so no cancellation can fall between the bytes and the
                # caller.
                if self._inserted:
                    data, self._inserted = self._inserted, b""
                    return data
                if self._watchable and not self._poll.poll(0):
                    await self._until_readable()
                    continue  # another process may have read the data: reading now could block the event loop
                if self.spares_background and in_background(self._fd):
                    await asyncio.sleep(_BACKGROUND_INTERVAL)
                    continue
                try:
                    data = os.read(self._fd, _READ_SIZE)
                except BlockingIOError:
                    await asyncio.sleep(0)  # another process has set O_NONBLOCK, and has read the data before us
                    continue
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
                    self.hung_up = True
                    return b""
                if not data and self._is_terminal and not os.isatty(self._fd):
                    self.hung_up = (
                        True  # after a hang-up Linux returns b"" from the second read on; the first may be EIO
                    )
                return data
            return b""
        finally:
            self._reading = False

    def insert(self, data: bytes) -> None:
        """Return ``data``, an answer in place of the terminal's, from the next ``read``."""
        self._inserted += data
        self._readable()

    def close(self) -> None:
        """Stop reading. A waiting ``read`` returns b"". The descriptor stays open. Idempotent."""
        self._closed = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _until_readable(self) -> None:
        self._waiter = self._loop.create_future()
        self._loop.add_reader(self._fd, self._readable)
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._loop.remove_reader(self._fd)

    def _readable(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class TypedInput:
    """The input of a terminal without its answers to our requests. Calls ``located`` with each answer."""

    def __init__(self, reader: InputReader, reports: TerminalReports, located: Callable[[Position], None]) -> None:
        self._reader = reader
        self._reports = reports
        self._located = located

    async def read(self) -> bytes:
        """See ``InputReader.read``."""
        while True:
            try:
                async with asyncio.timeout(PARTIAL_TIME if self._reports.is_partial else None):
                    data = await self._reader.read()
            except TimeoutError:
                return self._reports.release()
            if not data:
                return self._reports.release()
            data, positions = self._reports.feed(data, time.monotonic())
            for position in positions:
                self._located(position)
            if data:
                return data


def open_reader(fd: int) -> InputReader | None:
    """Return a reader of ``fd``; None, which means no input, if it is closed or write-only (as under nohup(1))."""
    try:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
            return None
        return InputReader(fd)
    except OSError:
        return None
