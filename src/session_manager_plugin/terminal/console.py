"""The local end of a session: standard input, output and error, and the terminal behind them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from session_manager_plugin.session.link_health import LinkStatus, StreamProgress
from session_manager_plugin.session.protocols import DEFAULT_SIZE, Streams, TerminalHold, TerminalSize
from session_manager_plugin.terminal.answers import discard_answers
from session_manager_plugin.terminal.descriptor_streams import connect_flow
from session_manager_plugin.terminal.escapes import Escape, EscapeScanner
from session_manager_plugin.terminal.foreground import ForegroundWait, in_background
from session_manager_plugin.terminal.input import InputReader, TypedInput, open_reader
from session_manager_plugin.terminal.keyboard import Keyboard
from session_manager_plugin.terminal.line_end import UNFINISHED, ends_inside_line
from session_manager_plugin.terminal.link_status import StatusMode
from session_manager_plugin.terminal.output import OutputWriter
from session_manager_plugin.terminal.predict_mode import PredictMode
from session_manager_plugin.terminal.questions import ASK_ATTRIBUTES
from session_manager_plugin.terminal.raw import RawMode
from session_manager_plugin.terminal.size import SizeWatcher, are_one_terminal, terminal_size
from session_manager_plugin.terminal.terminal_reports import Position, TerminalReports
from session_manager_plugin.utils.logging import hold_lines, release_lines

if TYPE_CHECKING:
    from session_manager_plugin.terminal.display import StatusDisplay
    from session_manager_plugin.terminal.status_line import StatusLine


class Console(Streams, TerminalHold):
    """Reads and writes three descriptors, and controls the terminal if they are one. Belongs to the running event loop.

    While the terminal is held, the state of the link is shown in the way of ``mode``, if input and output are terminals
    and there is a ``status_line``.
    """

    def __init__(
        self,
        stdin: int = 0,
        stdout: int = 1,
        stderr: int = 2,
        *,
        output: OutputWriter | None = None,
        error_output: OutputWriter | None = None,
        status_line: StatusLine | None = None,
        mode: StatusMode = StatusMode.BAR,
        predict: PredictMode = PredictMode.NEVER,
        reflow_moves_cursor: bool = False,
    ) -> None:
        """``output`` and ``error_output`` are shared writers of ``stdout`` and ``stderr``; their owner closes them.
        ``reflow_moves_cursor``: see ``capabilities``."""
        self._stdin, self._stdout, self._stderr = stdin, stdout, stderr
        self._status_line = status_line
        self._mode = mode
        self._predict = predict
        self._reflow_moves_cursor = reflow_moves_cursor
        self._input = open_reader(stdin)
        self._reports = TerminalReports() if are_one_terminal(stdin, stdout) else None
        self._typed = self._without_reports(self._input)
        self._own_writers: list[OutputWriter] = []
        self._output = output or self._new_writer(stdout)
        self._shows_output, self._shows_errors = os.isatty(stdout), os.isatty(stderr)
        self._last = b""  # shown at a terminal; with the display, which follows its output itself, not set
        self.write: Callable[[bytes], None] = self._show if self._shows_output else self._output.write
        """See ``Streams``; set by ``_choose_writer``."""
        self._error_output = error_output
        self._pause: Callable[[], None] = lambda: None
        self._resume: Callable[[], None] = lambda: None
        self._full: set[OutputWriter] = set()
        self._set_flow_handlers(self._output)
        self._failed: Callable[[OSError], None] = lambda _error: None
        self._has_errors = False
        """Whether anything was written to standard error by ``write_error``."""
        if error_output is not None:
            self._set_flow_handlers(error_output)
            error_output.on_error = self._error_output_failed
        self._raw_mode = RawMode(stdin)
        self._display: StatusDisplay | None = None
        self._watcher: SizeWatcher | None = None
        self._keyboard: Keyboard | None = None
        self._typed_ahead = b""
        self._holder: Callable[[TerminalSize], None] | None = None
        """The callback for size changes; set while the terminal is held."""
        self._status: Callable[[], LinkStatus] | None = None
        self._input_progress: Callable[[], StreamProgress] | None = None
        self._listens = False
        """Whether keys are read before the terminal is held, to obey escapes."""
        self._foreground = ForegroundWait(stdin, self._take)
        self._kept = bytearray()
        """Output that arrived while another job has the terminal."""
        self._again = b""
        """The bytes that restore the remote's screen state when we have the terminal again."""
        self._continued_in_suspend = False
        """Whether the next SIGCONT is the one that ended ``suspend``, which has handled it already."""
        self._has_terminal = asyncio.Event()
        self._has_terminal.set()

    @property
    def is_terminal(self) -> bool:
        """Whether the input is a terminal."""
        return os.isatty(self._stdin)

    @property
    def size(self) -> TerminalSize:
        """The size for the remote: the terminal's without the bar's row, or 80×24 without a terminal."""
        if self._display is not None:
            return self._display.remote_size
        return self._terminal_size() or DEFAULT_SIZE

    @property
    def is_held(self) -> bool:
        """Whether the session holds the terminal: see ``held``."""
        return self._holder is not None

    @property
    def is_listening(self) -> bool:
        """Whether escapes are obeyed."""
        return self._keyboard is not None

    @property
    def shows_status(self) -> bool:
        """Whether the state of the link is shown, at all times or in trouble."""
        return self._display is not None

    @property
    def output_abandoned(self) -> bool:
        """Whether the reader of standard output has closed it."""
        return self._output.abandoned

    @property
    def hung_up(self) -> bool:
        """Whether the input ended because the terminal went away."""
        return self._input is not None and self._input.hung_up

    @contextlib.contextmanager
    def held(
        self,
        status: Callable[[], LinkStatus],
        input_progress: Callable[[], StreamProgress],
        size_changed: Callable[[TerminalSize], None],
    ) -> Iterator[None]:
        """Hold the terminal for the session during the block: raw mode, bar, and a call of ``size_changed`` at every
        resize. The terminal is restored however the block ends.
        """
        try:
            if self.is_terminal:
                self._listens = False
                self._holder, self._status, self._input_progress = size_changed, status, input_progress
                hold_lines()
                if in_background(self._stdin):
                    self._wait_for_foreground()
                else:
                    self._raw_mode.enter()
                    self._start_display()
                    self._watch_size()
            yield
        finally:
            self.give_back()

    def give_back(self) -> None:
        """Restore the terminal, unless another job has it. Idempotent."""
        self._holder = None
        self._listens = False
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None
        if self._display is not None:
            self._last = UNFINISHED if self.is_inside_line and not self._foreground.waiting else b""
            if not self._foreground.waiting:
                self._display.stop()
            self._display = None
            self._choose_writer()
        self._foreground.cancel()
        self._raw_mode.restore()
        release_lines()

    def continued(self) -> None:
        """Take the terminal again on SIGCONT: in the meantime the shell has set its own modes (reference defect U8).

        If this job is in the background, a session that needs the terminal is stopped again.
        """
        in_suspend, self._continued_in_suspend = self._continued_in_suspend, False
        if self._foreground.waiting:
            self._foreground.continued()
        elif self._holder is None and not self._listens:
            return
        elif in_background(self._stdin):
            self._raw_mode.forget()
            if self._holder is not None:
                if self._display is not None:
                    self._again = self._display.lose()
                self._wait_for_foreground()
        else:
            if self._reports is not None and not in_suspend:
                self._reports.forget()
            with contextlib.suppress(OSError):  # the terminal has gone; reading from it says so
                self._raw_mode.enter(keep_signals=self._listens)
            size = self._terminal_size()
            if self._display is not None and size is not None:
                self._display.resize(size)
            if self._watcher is not None:
                self._watcher.check()

    def suspend(self) -> bool:
        """Stop the whole foreground job, as Ctrl-Z does, and take the terminal again when the job is continued.

        Returns True after that. Returns False at once if there is no shell that could continue the job.
        """
        if os.getsid(0) == os.getpgrp():
            return False
        if self._display is not None and not self._foreground.waiting:
            self._again = self._display.pause()
        self._foreground.cancel()
        self._raw_mode.restore()
        # Not SIGTSTP to ourselves: the AWS CLI ignores that signal and would keep running while we are stopped, so the
        # shell, which watches only the CLI, would never take the terminal back.
        os.kill(0, signal.SIGSTOP)
        self._continued_in_suspend = True
        if self._reports is not None:
            self._reports.forget()
        if self._keyboard is not None:
            self._keyboard.start_line()
        if self._holder is not None and in_background(self._stdin):
            self._wait_for_foreground()
        elif self._holder is not None:
            self._take()
        elif self._listens and not in_background(self._stdin):
            with contextlib.suppress(OSError):  # the terminal has gone; reading from it says so
                self._raw_mode.enter(keep_signals=True)
        return True

    def _wait_for_foreground(self) -> None:
        self._has_terminal.clear()
        self._choose_writer()
        if self._reports is not None:
            self._reports.forget()
        self._foreground.start()

    def _take(self) -> None:
        """Take the terminal: raw mode, display, size."""
        try:
            self._raw_mode.enter()
        except OSError:  # the terminal has hung up, or stays with another job; reading from it reports that
            if self._input is not None:
                self._input.spares_background = False
        else:
            again, self._again = self._again, b""
            size = self._terminal_size()
            if self._display is None:
                self._start_display()
            elif size:
                self._display.resume(size, again)
            if self._watcher is None:
                self._watch_size()
        self._has_terminal.set()
        self._choose_writer()
        kept, self._kept = self._kept, bytearray()
        self.write(bytes(kept))
        self._size_changed()

    def listen(self, scanner: EscapeScanner, obey: Callable[[Escape], None]) -> None:
        """Read the terminal from now on, and call ``obey`` with each escape. Does nothing if the input is no terminal.

        Until the terminal is held, typed bytes are kept for the session and not echoed: the far end will echo them.
        Ctrl-C, Ctrl-\\ and Ctrl-Z send signals. In the background the terminal is not read.
        """
        if not self.is_terminal or self._input is None or self._keyboard is not None:
            return
        self._keyboard = Keyboard(self._typed or self._input, scanner, obey, lambda: self.write(b"\a"))
        self._listens = True
        if not in_background(self._stdin):
            with contextlib.suppress(OSError):
                self._raw_mode.enter(keep_signals=True)
        self._keyboard.start(is_input_waiting=bool(select.select([self._stdin], [], [], 0)[0]))

    async def stop_listening(self) -> None:
        """End ``listen`` and restore the terminal. The bytes typed since are kept for ``read``."""
        if self._keyboard is None or self._input is None:
            return
        keyboard, self._keyboard = self._keyboard, None
        self._typed_ahead = await keyboard.close()
        self._listens = False
        self._raw_mode.restore()

    @property
    def is_inside_line(self) -> bool:
        """Whether the cursor is inside a line of the remote's output."""
        return ends_inside_line(self._last) if self._display is None else self._display.leaves_inside_line

    def place_message(self, message: bytes) -> bytes:
        """Return the bytes to write to the terminal for a message of ours, which gets lines of its own.

        Returns b"" while the session holds the terminal; the message is then written here, with CR LF.
        """
        if self.is_inside_line and not message.startswith(b"\n"):
            message = b"\n" + message
        if self.is_held and self._shows_output:
            self.write(message.replace(b"\n", b"\r\n"))
            return b""
        self._last = message
        return message

    def say(self, lines: Sequence[str], *, at_cursor: bool = False) -> None:
        """Write lines of our own; to standard error if standard output is no terminal.

        The first one begins a new line. ``at_cursor``: it follows the cursor, as ssh shows an escape that was typed.
        """
        data = b"".join(line.encode("ascii", "replace") + b"\r\n" for line in lines)
        data = b"\r\n" + data if self.is_inside_line and not at_cursor else data
        if self._shows_output:
            self.write(data)
        else:
            self.write_error(data)

    async def read(self) -> bytes:
        """Return the next bytes of input; b"" at its end."""
        if self._typed_ahead:
            data, self._typed_ahead = self._typed_ahead, b""
            return data
        if self._keyboard is not None:
            return await self._keyboard.read()
        reader = self._typed or self._input
        return await reader.read() if reader is not None else b""

    def _choose_writer(self) -> None:
        """Point ``write`` at the queue while another job has the terminal, else at the display, if there is one, or at
        standard output: a received message then passes through no method that only decides between them."""
        if not self._has_terminal.is_set():
            self.write = self._kept.extend
        elif self._display is not None:
            self.write = self._display.write
        else:
            self.write = self._show if self._shows_output else self._output.write

    def _show(self, data: bytes) -> None:
        """Write to standard output, which is a terminal without the display."""
        self._last = data
        self._output.write(data)

    def typed(self, data: bytes) -> None:
        """Draw what ``data``, which was sent, will probably show."""
        if self._display is not None and self._has_terminal.is_set():
            self._display.typed(data)

    @property
    def predicts(self) -> bool:
        """Whether what is typed may be drawn before the remote has echoed it."""
        return self._display is not None and self._display.predicts

    def toggle_prediction(self) -> None:
        """Always draw what is typed at once, or never."""
        if self._display is not None:
            self._display.toggle_prediction()

    def look(self) -> None:
        """Show a change of the link's state now, rather than within a second."""
        if self._display is not None and self._has_terminal.is_set():
            self._display.look()

    def toggle_bar(self) -> None:
        """Show or hide the bar, in any mode. The remote is sent its new size."""
        if self._display is not None:
            self._display.toggle_bar()

    def write_error(self, data: bytes) -> None:
        """Write to standard error. Bytes that cannot be written at once are queued."""
        if self._error_output is None:
            try:
                self._error_output = self._new_writer(self._stderr)
            except OSError:
                return  # standard error is closed
            self._set_flow_handlers(self._error_output)
            self._error_output.on_error = self._error_output_failed
        self._has_errors = True
        if self._shows_errors:
            self._last = data
        self._error_output.write(data)
        if self._error_output.error is not None:
            self._error_output_failed(self._error_output.error)

    def _error_output_failed(self, error: OSError) -> None:
        """End the session if output of the remote is lost. A reader that has closed standard error wants no more."""
        if self._has_errors and not isinstance(error, BrokenPipeError):
            error.filename = "standard error"
            self._failed(error)

    def set_flow_handlers(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Call ``pause`` when 8 MiB are queued for standard output or standard error, ``resume`` at 4 MiB."""
        self._pause, self._resume = pause, resume

    def _set_flow_handlers(self, output: OutputWriter) -> None:
        connect_flow(output, self._full, lambda: self._pause(), lambda: self._resume())

    def set_output_failed_handler(self, handler: Callable[[OSError], None]) -> None:
        """See ``Streams``. The error's ``filename`` is "standard output" or "standard error"."""

        def failed_once(error: OSError) -> None:
            self._failed = lambda _error: None
            handler(error)

        def failed(error: OSError) -> None:
            error.filename = "standard output"
            self._failed(error)

        self._failed = failed_once
        self._output.on_error = failed
        if self._output.error is not None:
            failed(self._output.error)

    async def drain(self) -> None:
        """Wait until all output is written, or its reader has closed it."""
        await self._has_terminal.wait()
        await self._output.drain()
        if self._error_output is not None:
            await self._error_output.drain()

    def close(self) -> None:
        """Restore the terminal and stop reading and writing. The descriptors stay open."""
        self.give_back()
        if self._keyboard is not None:
            self._keyboard.abandon()
        if self._input is not None:
            self._input.close()
        for writer in self._own_writers:
            writer.close()

    def _new_writer(self, fd: int) -> OutputWriter:
        writer = OutputWriter(fd)
        self._own_writers.append(writer)
        return writer

    def _without_reports(self, reader: InputReader | None) -> TypedInput | None:
        """Wrap ``reader`` to take the terminal's answers out; None if the terminal cannot be asked."""

        def located(position: Position) -> None:
            if self._display is not None:
                self._display.located(position)

        if reader is None or self._reports is None:
            return None
        return TypedInput(reader, self._reports, located)

    def _terminal_size(self) -> TerminalSize | None:
        return terminal_size(self._stdout, self._stdin, self._stderr)

    def _start_display(self) -> None:
        size, status, progress = self._terminal_size(), self._status, self._input_progress
        if self._status_line is None or status is None or progress is None or not size or not os.isatty(self._stdout):
            return
        from session_manager_plugin.terminal.display import StatusDisplay

        self._display = StatusDisplay(
            self._mode,
            self._status_line,
            self._output,
            status,
            input_progress=progress,
            size_changed=self._size_changed,
            answer=self._answer,
            reports=self._reports,
            discard_answers=self._discard_answers,
            predict=self._predict,
            reflow_moves_cursor=self._reflow_moves_cursor,
        )
        self._choose_writer()
        self._display.start(size)

    def _size_changed(self) -> None:
        if self._holder is not None:
            self._holder(self.size)

    def _answer(self, data: bytes) -> None:
        if self._keyboard is not None:
            self._keyboard.insert(data)
        elif self._input is not None:
            self._input.insert(data)

    def _discard_answers(self, count: int) -> None:
        """Wait for the terminal's last answers, which the local shell would read as typed text."""
        if self.hung_up or not self._raw_mode.active or in_background(self._stdin) or self._output.buffered:
            return
        self._output.write(ASK_ATTRIBUTES)
        discard_answers(self._stdin, count)

    def _watch_size(self) -> None:
        def changed(size: TerminalSize) -> None:
            if not self._has_terminal.is_set():
                return  # the size is read again when we have the terminal
            if self._display is not None:
                self._display.resize(size)
            self._size_changed()

        self._watcher = SizeWatcher(changed, self._stdout, self._stdin, self._stderr)
        self._watcher.start()
