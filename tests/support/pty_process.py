"""A program in a pseudo-terminal of its own, driven from asyncio: typed at, watched, resized, hung up."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import tty
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from tests.support.waiting import DEADLINE, wait_until


class PtyProcess:
    """`argv` with a new terminal of `rows` × `columns` as its controlling terminal and standard streams.

    `output` is everything it has written. Every wait has a deadline and fails with what was written so far.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        rows: int = 24,
        columns: int = 80,
    ) -> None:
        self.output = b""
        self._seen = 0
        self._arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._master, self._slave = os.openpty()
        self.resize(columns, rows)
        self.process = subprocess.Popen(
            argv,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=None if env is None else dict(env),
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.set_blocking(self._master, False)
        self._loop.add_reader(self._master, self._read)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        await asyncio.to_thread(self.process.wait)
        self.close_terminal()

    @property
    def attributes(self) -> list[Any]:
        """The terminal's attributes, as tcgetattr(3) gives them."""
        return termios.tcgetattr(self._slave)

    @property
    def text(self) -> str:
        """Everything written so far, as text."""
        return self.output.decode(errors="replace")

    def type(self, text: str | bytes) -> None:
        """Type at the terminal."""
        data = text.encode() if isinstance(text, str) else text
        while data:
            data = data[os.write(self._master, data) :]

    async def press(self, *keys: str) -> None:
        """Type keys one by one, each after the one before has been read."""
        for key in keys:
            self.type(key)
            await self.until_read()

    def unread_input(self) -> bytes:
        """What was typed and read by nobody; the program must have ended."""
        tty.setraw(self._slave, termios.TCSANOW)
        return os.read(self._slave, 65536) if select.select([self._slave], [], [], 0)[0] else b""

    async def until_read(self) -> None:
        """Wait until all that was typed has been read."""
        await wait_until(lambda: not select.select([self._slave], [], [], 0)[0])

    async def paste(self, data: bytes) -> None:
        """Type much: wait where the terminal does not take more at once."""
        position = 0
        while position < len(data):
            try:
                position += os.write(self._master, data[position : position + 4096])
            except BlockingIOError:
                writable = asyncio.Event()
                self._loop.add_writer(self._master, writable.set)
                try:
                    await asyncio.wait_for(writable.wait(), DEADLINE)
                finally:
                    self._loop.remove_writer(self._master)

    @contextlib.contextmanager
    def unread(self) -> Iterator[None]:
        """Read nothing of what the program writes for the length of the block."""
        self._loop.remove_reader(self._master)
        try:
            yield
        finally:
            self._loop.add_reader(self._master, self._read)

    async def expect(self, pattern: str | bytes, deadline: float = DEADLINE) -> re.Match[bytes]:
        """Wait until `pattern` stands in the output behind what was expected before."""
        expression = re.compile(pattern.encode() if isinstance(pattern, str) else pattern, re.DOTALL)
        try:
            async with asyncio.timeout(deadline):
                while (match := expression.search(self.output, self._seen)) is None:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise AssertionError(
                f"{pattern!r} did not come; since the last match: {self.output[self._seen :]!r}"
            ) from None
        self._seen = match.end()
        return match

    async def wait(self, deadline: float = DEADLINE) -> int:
        """Wait for the program's end; gives its exit status, negative for a signal."""
        try:
            async with asyncio.timeout(deadline):
                status = await asyncio.to_thread(self.process.wait, deadline)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise AssertionError(f"the program goes on; its output ends with {self.output[-500:]!r}") from None
        self._read()
        return status

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size; the program hears of it."""
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close_terminal(self) -> None:
        """Hang up, as a terminal emulator does when its window is closed."""
        if self._master >= 0:
            self._loop.remove_reader(self._master)
            os.close(self._slave)
            os.close(self._master)
            self._master = self._slave = -1

    def _read(self) -> None:
        if self._master < 0:
            return
        while True:
            try:
                data = os.read(self._master, 65536)
            except (BlockingIOError, OSError):
                return
            if not data:
                return
            self.output += data
            self._arrived.set()


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
