"""The local end of a session: standard input, output and error, and the terminal they may be."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from session_manager_plugin.terminal.bar import StatusBar
from session_manager_plugin.terminal.input import InputReader
from session_manager_plugin.terminal.output import OutputWriter
from session_manager_plugin.terminal.raw import RawMode
from session_manager_plugin.terminal.size import DEFAULT_SIZE, SizeWatcher, TerminalSize, terminal_size
from session_manager_plugin.terminal.status_line import LinkStatus, StatusLine


class Console:
    """Three descriptors and what is known of them. Belongs to the running event loop.

    `status_line` draws a bar in the last row, while the console is held and if both input and output are terminals.
    """

    def __init__(
        self, stdin: int = 0, stdout: int = 1, stderr: int = 2, *, status_line: StatusLine | None = None
    ) -> None:
        self._stdin, self._stdout, self._stderr = stdin, stdout, stderr
        self._status_line = status_line
        self._input = _open_reader(stdin)
        self._output = OutputWriter(stdout)
        self._error_output: OutputWriter | None = None
        self._pause: Callable[[], None] = lambda: None
        self._resume: Callable[[], None] = lambda: None
        self._full: set[OutputWriter] = set()
        self._set_flow_handlers(self._output)
        self._raw_mode = RawMode(stdin)
        self._bar: StatusBar | None = None
        self._watcher: SizeWatcher | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether a person types here."""
        return os.isatty(self._stdin)

    @property
    def size(self) -> TerminalSize:
        """What the remote is to be told: the terminal without the bar's row, or 80×24 where there is no terminal."""
        if self._bar is not None and self._bar.remote_size is not None:
            return self._bar.remote_size
        return self._terminal_size() or DEFAULT_SIZE

    @property
    def hung_up(self) -> bool:
        """Whether the input ended because the terminal went away."""
        return self._input is not None and self._input.hung_up

    @contextlib.contextmanager
    def held(self, status: Callable[[], LinkStatus], size_changed: Callable[[TerminalSize], None]) -> Iterator[None]:
        """The terminal is the session's for the length of the block: raw mode, bar, `size_changed` at every resize.

        It is given back as it was on every way out.
        """
        try:
            if self.is_terminal:
                self._raw_mode.enter()
                self._start_bar(status)
                self._watch_size(size_changed)
            yield
        finally:
            self.give_back()

    def give_back(self) -> None:
        """Leave the terminal as it was found. Idempotent."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._raw_mode.restore()

    def continued(self) -> None:
        """Take the terminal again after a stop: meanwhile the shell has set modes of its own (reference defect U8)."""
        if not self._raw_mode.active:
            return
        with contextlib.suppress(OSError):  # the terminal has gone; reading from it says so
            self._raw_mode.enter()
        size = self._terminal_size()
        if self._bar is not None and size is not None:
            self._bar.resize(size)
        if self._watcher is not None:
            self._watcher.check()

    async def read(self) -> bytes:
        """The next bytes of input; b"" at its end."""
        return await self._input.read() if self._input is not None else b""

    def write(self, data: bytes) -> None:
        """Write to standard output; what it does not take at once is kept."""
        self._output.write(data)
        if self._bar is not None:
            self._bar.feed(data)

    def write_error(self, data: bytes) -> None:
        """Write to standard error, in the same way."""
        if self._error_output is None:
            try:
                self._error_output = OutputWriter(self._stderr)
            except OSError:
                return  # it is closed: nobody wants it
            self._set_flow_handlers(self._error_output)
        self._error_output.write(data)

    def set_flow_handlers(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """`pause` is called when 8 MiB of output are kept, of either kind, `resume` when half of it has gone."""
        self._pause, self._resume = pause, resume

    def _set_flow_handlers(self, output: OutputWriter) -> None:
        def pause() -> None:
            self._full.add(output)
            self._pause()

        def resume() -> None:
            self._full.discard(output)
            if not self._full:
                self._resume()

        output.set_flow_handlers(pause, resume)

    def set_output_failed_handler(self, handler: Callable[[OSError], None]) -> None:
        """`handler` is told when the reader of standard output has gone."""
        self._output.on_error = handler

    async def drain(self) -> None:
        """Wait until all output is written, or nobody reads it any more."""
        await self._output.drain()
        if self._error_output is not None:
            await self._error_output.drain()

    def close(self) -> None:
        """Give the terminal back and stop reading and writing; the descriptors stay open."""
        self.give_back()
        if self._input is not None:
            self._input.close()
        self._output.close()
        if self._error_output is not None:
            self._error_output.close()

    def _terminal_size(self) -> TerminalSize | None:
        return terminal_size(self._stdout, self._stdin, self._stderr)

    def _start_bar(self, status: Callable[[], LinkStatus]) -> None:
        size = self._terminal_size()
        if self._status_line is not None and size is not None and os.isatty(self._stdout):
            self._bar = StatusBar(self._status_line, self._output, status)
            self._bar.start(size)

    def _watch_size(self, size_changed: Callable[[TerminalSize], None]) -> None:
        def changed(size: TerminalSize) -> None:
            if self._bar is not None:
                self._bar.resize(size)
            size_changed(self.size)

        self._watcher = SizeWatcher(changed, self._stdout, self._stdin, self._stderr)
        self._watcher.start()


def _open_reader(fd: int) -> InputReader | None:
    """A reader of `fd`; None when it is closed, which is input that has ended."""
    try:
        return InputReader(fd)
    except OSError:
        return None
