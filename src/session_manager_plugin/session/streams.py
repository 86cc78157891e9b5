"""Substitutes for a terminal and its streams: bytes in memory, and no terminal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from session_manager_plugin.session.link_health import LinkStatus, StreamProgress
from session_manager_plugin.session.protocols import DEFAULT_SIZE, Streams, TerminalHold, TerminalSize

HIGH_WATER = 8 * 1024 * 1024
"""Bytes of output that are kept until they are taken. With more, the session is paused."""


class MemoryStreams(Streams):
    """Streams in memory: a program feeds the input and takes the outputs.

    More than ``high_water`` bytes of output, stdout and stderr together, pause the session until half are taken.
    """

    def __init__(self, data: bytes = b"", *, input_ended: bool = True, high_water: int = HIGH_WATER) -> None:
        """``data`` is the beginning of the input; with ``input_ended`` all of it."""
        self._input = bytearray(data)
        self._input_ended = input_ended
        self._input_changed = asyncio.Event()
        self._output = bytearray()
        self._error_output = bytearray()
        self._high_water = high_water
        self._paused = False
        self._pause: Callable[[], None] = lambda: None
        self._resume: Callable[[], None] = lambda: None

    # For the program.

    def feed(self, data: bytes) -> None:
        """Append ``data`` to the input."""
        self._input += data
        self._input_changed.set()

    def end_input(self) -> None:
        """End the input after the data fed so far."""
        self._input_ended = True
        self._input_changed.set()

    @property
    def is_full(self) -> bool:
        """Whether the session is paused because the outputs were not taken."""
        return self._paused

    def take_output(self) -> bytes:
        """Return and clear the bytes written to standard output."""
        return self._take(self._output)

    def take_error_output(self) -> bytes:
        """Return and clear the bytes written to standard error."""
        return self._take(self._error_output)

    def _take(self, output: bytearray) -> bytes:
        data = bytes(output)
        output.clear()
        if self._paused and self._kept <= self._high_water // 2:
            self._paused = False
            self._resume()
        return data

    @property
    def _kept(self) -> int:
        return len(self._output) + len(self._error_output)

    # For the handler.

    async def read(self) -> bytes:
        """See ``Streams``."""
        while not self._input and not self._input_ended:
            self._input_changed.clear()
            await self._input_changed.wait()
        data = bytes(self._input)
        self._input.clear()
        return data

    def write(self, data: bytes) -> None:
        """See ``Streams``."""
        self._output += data
        self._check_room()

    def write_error(self, data: bytes) -> None:
        """See ``Streams``."""
        self._error_output += data
        self._check_room()

    def _check_room(self) -> None:
        if not self._paused and self._kept > self._high_water:
            self._paused = True
            self._pause()

    async def drain(self) -> None:
        """Return at once: everything is written already."""

    def set_flow_handlers(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """See ``Streams``."""
        self._pause, self._resume = pause, resume

    def set_output_failed_handler(self, handler: Callable[[OSError], None]) -> None:
        """Do nothing: writing to memory does not fail."""

    @property
    def output_abandoned(self) -> bool:
        """Always false."""
        return False


class NoTerminal(TerminalHold):
    """A shell session without a terminal: a fixed size, no modes, and no output of lines."""

    def __init__(self, size: TerminalSize = DEFAULT_SIZE) -> None:
        self._size = size

    @property
    def size(self) -> TerminalSize:
        """The size passed to the constructor."""
        return self._size

    @property
    def hung_up(self) -> bool:
        """Always false."""
        return False

    @contextlib.contextmanager
    def held(
        self,
        status: Callable[[], LinkStatus],
        input_progress: Callable[[], StreamProgress],
        size_changed: Callable[[TerminalSize], None],
    ) -> Iterator[None]:
        """Hold nothing."""
        yield

    def typed(self, data: bytes) -> None:
        pass
