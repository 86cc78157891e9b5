"""What a person is shown of the link on a live terminal: a bar, the window's title, or a notice of trouble."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from session_manager_plugin.session.link_health import LinkState, LinkStatus
from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.link_status import StatusMode
from session_manager_plugin.terminal.output import OutputWriter
from session_manager_plugin.terminal.questions import Question
from session_manager_plugin.terminal.screen import Screen
from session_manager_plugin.terminal.status_line import MIN_INTERVAL, StatusLine
from session_manager_plugin.terminal.terminal_reports import Position, TerminalReports
from session_manager_plugin.terminal.title import WindowTitle

_LOOK_INTERVAL = 1.0
"""Seconds between two looks at the link; a look draws nothing unless something has changed."""
_BUSY = 64 * 1024
"""Bytes waiting for the terminal above which the status waits too, rather than being queued behind them."""
_HOLD_TIME = 0.1
"""Seconds for which the bar has an unfinished character wait for its rest. Then it is written as it is: in another
encoding than UTF-8 it may be all, and the remote waits for an answer."""
_REPAINT_DELAY = 0.2
"""Seconds between the two sizes that make a program repaint: two signals at once could count as one."""


class StatusDisplay:
    """Writes the session's output to the terminal, and shows between it what `status` tells.

    `size_changed` is called when the remote is to be told `remote_size` anew; `answer` gets what the remote has asked
    the terminal and the terminal would answer wrongly. With `reports` the terminal is asked where the cursor is, which
    must see what is typed there; the answers are for `located`. `discard_answers` is called when the terminal has been
    given back and answers may still arrive: it asks for DA1 and waits for so many answers to that.
    """

    def __init__(
        self,
        mode: StatusMode,
        line: StatusLine,
        output: OutputWriter,
        status: Callable[[], LinkStatus],
        *,
        size_changed: Callable[[], None],
        answer: Callable[[bytes], None],
        reports: TerminalReports | None = None,
        discard_answers: Callable[[int], None] = lambda _count: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mode = mode
        self._without_bar = mode if mode is not StatusMode.BAR else StatusMode.NOTICE
        self._line = line
        self._output = output
        self._status = status
        self._size_changed = size_changed
        self._answer = answer
        self._reports = reports
        self._discard_answers = discard_answers
        self._clock = clock
        self._screen = Screen()
        self._title = WindowTitle()
        self._size = TerminalSize(0, 0)
        self._titled_at = -MIN_INTERVAL
        self._noticed = False
        self._row_awaited = False
        self._repainting: asyncio.TimerHandle | None = None
        self._flushing: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def mode(self) -> StatusMode:
        """The mode in force."""
        return self._mode

    @property
    def remote_size(self) -> TerminalSize:
        """The size to tell the remote."""
        size = self._screen.remote_size
        return TerminalSize(size.columns, size.rows - 1) if self._repainting is not None and size.rows > 1 else size

    def start(self, size: TerminalSize) -> None:
        """Take a terminal of this size."""
        self._size = size
        self._output.write(self._screen.start(size, bar=self._mode is StatusMode.BAR))
        if self._screen.has_bar and self._line.line:
            self._output.write(self._screen.draw(self._line.line))  # of before a stop; it may not change for long
        self._ask_again()
        self.look()

    def resize(self, size: TerminalSize) -> None:
        """Follow the terminal to a new size."""
        self._size = size
        self._output.write(self._screen.resize(size))
        self._noticed = False  # wherever it stands now, the remote repaints
        self._ask_again()
        self.look()

    def write(self, data: bytes) -> None:
        """Write what the remote has sent."""
        self._output.write(self._screen.feed(data))
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._screen.holds_character:
            self._flushing = asyncio.get_running_loop().call_later(_HOLD_TIME, self._flush)
        for answer in self._screen.take_answers():
            self._answer(answer)
        if self._reports is not None:
            for question in self._screen.take_questions():
                self._reports.unanswered.ask(question, self._clock())
            for _report in self._screen.take_asked():
                self._reports.expect(None, self._clock())
            if self._screen.wants_position:
                self._ask_position(self._reports)

    def located(self, position: Position) -> None:
        """The terminal has answered."""
        self._output.write(self._screen.locate(*position))
        self._take_awaited_row()
        if self._reports is not None and self._screen.wants_position:
            self._ask_position(self._reports)

    def toggle_bar(self) -> None:
        """Show the bar, or take it away; the remote's size changes by a row."""
        if self._mode is StatusMode.BAR:
            self._mode = self._without_bar
            self._row_awaited = False
            self._output.write(self._screen.release())
        else:
            self._mode = StatusMode.BAR
            self._restore_title()
            self._take_row()
        self._ask_again()
        self._noticed = False
        self.look()
        self._size_changed()

    def _take_awaited_row(self) -> None:
        if self._row_awaited:
            self._take_row()
            if not self._row_awaited:
                self._ask_again()
                self._size_changed()

    def _take_row(self) -> None:
        """Take the row for the bar, or ask for the cursor's position first: then again when it is known."""
        may_ask = self._reports is not None and not self._reports.is_silent(self._clock())
        taken = self._screen.take_row(may_ask=may_ask)
        self._row_awaited = taken is None
        if taken is not None:
            self._output.write(taken)

    def look(self) -> None:
        """See whether the link's state has changed, and show it if it has."""
        now = self._clock()
        due = None
        if self._output.buffered < _BUSY:
            if self._reports is not None:
                self._screen.set_located(not self._reports.is_silent(now))
            self._take_awaited_row()
            status = self._status()
            due = self._show_row(status, now)
            if self._screen.has_bar:
                if self._screen.at_boundary:
                    self._restore_title()
            else:
                due = min(filter(None, (due, self._show_title(status, now))), default=None)
        self._arm(_LOOK_INTERVAL if due is None else max(0.0, due - now))

    def pause(self) -> bytes:
        """Give the terminal back for a while; gives what to `write`, as the remote's, after the next `start`."""
        again = self._screen.again()
        self.stop()
        return again

    def lose(self) -> bytes:
        """Another job has the terminal: stop, and write nothing; returns the same as `pause`."""
        again = self._screen.again()
        self._stop_timers()
        self._noticed = False
        self._screen.leave()
        self._title.restore()
        self._row_awaited = False
        return again

    def stop(self) -> None:
        """Give the terminal back as it was found. Idempotent."""
        self._stop_timers()
        if self._noticed:
            self._noticed = False
            self._output.write(self._screen.clear_notice())
        reports_unasked = self._screen.reports_unasked
        self._output.write(self._screen.leave())
        self._screen = Screen()
        self._row_awaited = False
        if self._reports is not None:
            self._reports.hidden_row_of = 0
        self._restore_title()
        if self._reports is not None:
            now = self._clock()
            expected = self._reports.unanswered.expected(now)
            self._reports.unanswered.forget()
            if (expected or reports_unasked) and not self._reports.is_silent(now):
                self._discard_answers(expected.count(Question.ATTRIBUTES) + 1)

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._repainting, self._flushing):
            if timer is not None:
                timer.cancel()
        self._timer = self._repainting = self._flushing = None

    def _ask_again(self) -> None:
        if self._reports is not None:
            self._reports.hidden_row_of = self._size.rows if self._screen.has_bar else 0
            self._reports.try_again()
            if self._screen.wants_position:
                self._ask_position(self._reports)

    def _ask_position(self, reports: TerminalReports) -> None:
        now = self._clock()
        if reports.may_ask(now) and self._output.buffered < _BUSY:
            question, number = self._screen.ask_position()
            reports.expect(number, now)
            self._output.write(question)

    def _show_row(self, status: LinkStatus, now: float) -> float | None:
        """The last row, as bar or for a notice; gives when it is due again."""
        if self._screen.has_bar:
            text = self._line.update(status, self._size.columns, now)
            if text is not None or self._screen.damaged:
                self._output.write(self._screen.draw(self._line.line))
            return self._line.next_update_at
        if self._mode not in (StatusMode.NOTICE, StatusMode.BAR):
            return None
        if status.health.troubled and status.health.state is not LinkState.DELAYED:  # else the output would scroll it
            text = self._line.update(status, self._size.columns, now)
            if (text is not None or not self._noticed) and (drawn := self._screen.draw_notice(self._line.line)):
                self._output.write(drawn)
                self._noticed = True
            return self._line.next_update_at
        if self._noticed and (erased := self._screen.clear_notice()):
            self._output.write(erased)
            self._noticed = False
            self.ask_for_repaint()
        return None

    def _show_title(self, status: LinkStatus, now: float) -> float | None:
        """The title, if it is to be ours; gives when it is due again."""
        text = self._line.title(status)
        told = status.health.troubled or status.health.restored_after is not None
        if not told and self._mode is not StatusMode.TITLE:
            if self._title.text is not None and self._screen.at_boundary:
                self._restore_title()
            return None
        if text == self._title.text or not self._screen.at_boundary:
            return None
        if now < self._titled_at + MIN_INTERVAL:
            return self._titled_at + MIN_INTERVAL
        self._titled_at = now
        self._output.write(self._title.show(text))
        return None

    def _flush(self) -> None:
        self._output.write(self._screen.flush())

    def _restore_title(self) -> None:
        self._output.write(self._title.restore())

    def ask_for_repaint(self) -> None:
        """Tell one row fewer, and in a moment the true size: what stood under the notice is not known here."""

        def told() -> None:
            self._repainting = None
            self._size_changed()

        if self._repainting is None:
            self._repainting = asyncio.get_running_loop().call_later(_REPAINT_DELAY, told)
            self._size_changed()

    def _arm(self, delay: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay, self.look)
