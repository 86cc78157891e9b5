"""A ``Console`` on pipes, with a test at the other ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
from types import TracebackType
from typing import Self

from session_manager_plugin.terminal.console import Console
from tests.support.waiting import DEADLINE


class ConsolePipes:
    """Use as an async context manager; ``console`` is what a handler is given."""

    async def __aenter__(self) -> Self:
        self._input, self._to_input = os.pipe()
        self._from_output, self._output = os.pipe()
        self._from_errors, self._errors = os.pipe()
        self.console = Console(self._input, self._output, self._errors)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.console.close()
        for fd in (
            self._input,
            self._to_input,
            self._from_output,
            self._output,
            self._from_errors,
            self._errors,
        ):
            with contextlib.suppress(OSError):
                os.close(fd)

    async def type(self, data: bytes) -> None:
        """Write to the console's standard input."""
        await asyncio.to_thread(_write_all, self._to_input, data)

    def end_input(self) -> None:
        """Close the console's standard input."""
        os.close(self._to_input)

    def unread_input(self) -> bytes:
        """What nobody has read of it."""
        os.set_blocking(self._input, False)
        try:
            return os.read(self._input, 65536)
        except BlockingIOError:
            return b""

    def stop_reading_output(self) -> None:
        """Nobody reads the console's standard output any more."""
        os.close(self._from_output)

    async def output(self, size: int) -> bytes:
        """So many bytes of standard output."""
        return await asyncio.wait_for(asyncio.to_thread(_read_exactly, self._from_output, size), DEADLINE)

    async def errors(self, size: int) -> bytes:
        """So many bytes of standard error."""
        return await asyncio.wait_for(asyncio.to_thread(_read_exactly, self._from_errors, size), DEADLINE)

    def rest(self) -> tuple[bytes, bytes]:
        """What is there to read of standard output and error; call it when nothing more comes."""
        return _read_available(self._from_output), _read_available(self._from_errors)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _read_exactly(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(fd, size - len(data))
        if not piece:
            break
        data += piece
    return data


def _read_available(fd: int) -> bytes:
    os.set_blocking(fd, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(fd, 65536):
            data += piece
    return data
