"""The terminal's keyboard: it is read at all times, so that escapes work in every state of the session."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from session_manager_plugin.terminal.escapes import Escape, EscapeScanner
from session_manager_plugin.terminal.input import InputReader, TypedInput

CAPACITY = 8 * 1024 * 1024
"""Bytes kept while they cannot be sent, as for output. Only a paste is that large."""
PATIENCE = 2.0
"""Seconds without progress after which reading continues although ``CAPACITY`` bytes are kept."""


class Keyboard:
    """Reads a terminal from ``start`` on, takes the escapes out, and keeps the rest for ``read``.

    While the session takes input, a full buffer pauses reading and nothing is lost. When the session takes no input for
    ``PATIENCE`` seconds, reading continues, so that ``~.`` works behind 8 MiB of input; bytes that do not fit are
    dropped with a bell, as the terminal driver does.
    """

    def __init__(
        self,
        reader: InputReader | TypedInput,
        scanner: EscapeScanner,
        obey: Callable[[Escape], None],
        bell: Callable[[], None],
    ) -> None:
        self._reader = reader
        self._scanner = scanner
        self._obey = obey
        self._bell = bell
        self._kept: deque[bytes] = deque()
        self._size = 0
        self._reader_waits: asyncio.Future[None] | None = None
        self._taken = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    def start(self, *, is_input_waiting: bool = False) -> None:
        """Begin reading. Idempotent. ``is_input_waiting``: the first read is of what was typed before."""
        if self._listening is None:
            self._listening = asyncio.ensure_future(self._listen(is_input_waiting))
            self._listening.add_done_callback(lambda _listening: self._wake())

    async def read(self) -> bytes:
        """Wait for typed bytes and return all of them; b"" at the end. Raises the error that reading has raised."""
        while not self._kept:
            assert self._listening is not None, "the keyboard is not being read"
            if self._listening.done():
                if not self._listening.cancelled():
                    self._listening.result()
                return b""
            self._reader_waits = self._listening.get_loop().create_future()
            await self._reader_waits
        return self.take()

    def take(self) -> bytes:
        """Return the kept bytes, without waiting."""
        data = b"".join(self._kept)
        self._kept.clear()
        self._size = 0
        self._taken.set()
        return data

    def insert(self, data: bytes) -> None:
        """Insert ``data``, an answer in place of the terminal's, into the input."""
        self._keep(data)

    def start_line(self) -> None:
        """Take the next key as the first of a line, after a stop of the program."""
        self._scanner.start_line()

    def abandon(self) -> None:
        """Stop reading, without waiting for it. Idempotent."""
        if self._listening is not None:
            self._listening.cancel()

    async def close(self) -> bytes:
        """Stop reading, so that another program may read. Returns the kept and the withheld bytes."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        return self.take() + self._scanner.release()

    async def _listen(self, is_input_waiting: bool) -> None:
        scan = self._scanner.typed_ahead if is_input_waiting else self._scanner.feed
        while data := await self._reader.read():
            for part in scan(data, time.monotonic()):
                if isinstance(part, Escape):
                    self._obey(part)
                else:
                    self._keep(part)
            scan = self._scanner.feed
            await self._wait_for_room()

    def _keep(self, data: bytes) -> None:
        if self._size >= CAPACITY:
            self._bell()
            return
        self._kept.append(data)
        self._size += len(data)
        self._wake()

    def _wake(self) -> None:
        if self._reader_waits is not None and not self._reader_waits.done():
            self._reader_waits.set_result(None)

    async def _wait_for_room(self) -> None:
        if self._size < CAPACITY:
            return
        self._taken.clear()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._taken.wait()
        except TimeoutError:
            pass
