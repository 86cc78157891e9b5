"""Reading the user's input from asyncio without touching flags that other processes see."""

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
"""Seconds between two looks at whether we may read again: nobody is told when a job comes to the foreground."""


class InputReader:
    """Reads a descriptor: a terminal, a pipe, a socket, a file or a device.

    It is never made non-blocking: O_NONBLOCK belongs to the open file description, which our parent and every other
    process of the pipeline share. Instead it is read when it is known to have something.

    Bytes are taken only while somebody awaits `read`, and only when that call returns them: what nobody asked for
    stays with the kernel, for whoever reads next.
    """

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """`loop` is the running one unless given. Raises OSError (EBADF) if `fd` is not open."""
        self._fd = fd
        self._loop = loop or asyncio.get_running_loop()
        mode = os.fstat(fd).st_mode
        # A file is always ready. epoll refuses to watch it, kqueue is silent about it once at its end.
        self._watchable = not (stat.S_ISREG(mode) or stat.S_ISBLK(mode) or stat.S_ISDIR(mode))
        self._is_terminal = os.isatty(fd)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._reading = False
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._inserted = b""
        self.spares_background = True
        """Whether a terminal is left to the job in the foreground when that is not ours; else reading it stops us, or
        fails where no shell would continue us."""
        self.hung_up = False
        """Whether the end of the input was the end of the terminal (its window closed, its connection lost)."""

    async def read(self) -> bytes:
        """The next bytes, as many as there are, at most 64 KiB; b"" at the end of the input and after `close`.

        The end is not remembered: a terminal may give more after a Ctrl-D in its canonical mode. Cancelling loses
        nothing. Raises OSError if reading fails, RuntimeError if another call is still waiting.
        """
        if self._reading:
            raise RuntimeError("read() called while another call is waiting")
        self._reading = True
        try:
            await asyncio.sleep(0)  # everybody else's turn, even if the input never pauses
            while not self._closed:
                # From here to the return nothing is awaited, so no cancellation can fall between the bytes and the
                # caller.
                if self._inserted:
                    data, self._inserted = self._inserted, b""
                    return data
                if self._watchable and not self._poll.poll(0):
                    await self._until_readable()
                    continue  # Another process may read it meanwhile; to read now could block the loop.
                if self.spares_background and in_background(self._fd):
                    await asyncio.sleep(_BACKGROUND_INTERVAL)
                    continue
                try:
                    data = os.read(self._fd, _READ_SIZE)
                except BlockingIOError:
                    await asyncio.sleep(0)  # Somebody else has made it non-blocking, and somebody was faster.
                    continue
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
                    self.hung_up = True
                    return b""
                if not data and self._is_terminal and not os.isatty(self._fd):
                    self.hung_up = True  # What Linux gives from the second read on; the first may have been EIO.
                return data
            return b""
        finally:
            self._reading = False

    def insert(self, data: bytes) -> None:
        """`data` is what is read next, by itself: an answer that the terminal would have typed."""
        self._inserted += data
        self._readable()

    def close(self) -> None:
        """Stops reading for good; the descriptor stays open. A call of `read` that waits gives b"". Idempotent."""
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
    """What is typed at a terminal: `reader` without the terminal's answers to us.

    `located` is called with each of these.
    """

    def __init__(self, reader: InputReader, reports: TerminalReports, located: Callable[[Position], None]) -> None:
        self._reader = reader
        self._reports = reports
        self._located = located

    async def read(self) -> bytes:
        """As `InputReader.read`."""
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
    """Return a reader of `fd`; None if it is closed or, as nohup(1) leaves it, open for writing only.

    Then the input has ended.
    """
    try:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
            return None
        return InputReader(fd)
    except OSError:
        return None
