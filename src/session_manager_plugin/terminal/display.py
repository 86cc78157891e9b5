"""Showing the state of the link on a terminal: in a bar, in the window's title, or as a notice of trouble."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from session_manager_plugin.session.link_health import LinkState, LinkStatus, StreamProgress
from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.backlog import switches
from session_manager_plugin.terminal.link_status import StatusMode
from session_manager_plugin.terminal.output import OutputWriter
from session_manager_plugin.terminal.predict_mode import PredictMode
from session_manager_plugin.terminal.questions import Question
from session_manager_plugin.terminal.screen import LEAST_ROWS, Screen
from session_manager_plugin.terminal.status_line import MIN_INTERVAL, StatusLine
from session_manager_plugin.terminal.terminal_reports import Position, TerminalReports
from session_manager_plugin.terminal.title import WindowTitle

if TYPE_CHECKING:
    from session_manager_plugin.terminal.predicted_echo import PredictedEcho

_LOOK_INTERVAL = 1.0
"""Seconds between two checks of the link's state. A check draws only if something has changed."""
_ROWS_OF_AUTO = 10
"""Least rows of the terminal for a bar that was not asked for."""
_SETTLE_TIME = 0.3
"""Seconds after a resize in which the bar is drawn only at another resize. While a window's edge is dragged, the size
that was read is soon wrong. tmux reports a size up to 0.25 s after it has resized its screen."""
_BUSY = 64 * 1024
"""Bytes queued for the terminal above which the status is not drawn: it would be shown late, behind them."""
_FINISH_TIME = 0.5
"""Seconds to wait for a terminal that accepts no bytes before the process is stopped."""
_HOLD_TIME = 0.1
"""Seconds that, with a bar, an unfinished character is held back. Then it is written as it is: in an encoding other
than UTF-8 it may be complete, a prompt that waits for an answer."""
_REPAINT_DELAY = 0.2
"""Seconds between the two sizes that make a program repaint: two immediate SIGWINCH could be delivered as one."""


class StatusDisplay:
    """Writes the session's output to the terminal, and shows the ``status`` of the link between it.

    Calls ``size_changed`` when ``remote_size`` has changed, and ``answer`` with answers to requests of the remote that
    the terminal would answer wrongly because of the bar. With ``reports``, which must see all bytes typed, the terminal
    is asked for the cursor's position; the owner passes the answers to ``located``. Calls ``discard_answers`` when the
    terminal has been restored and answers may still arrive, with the number of answers to DA1 to wait for.
    """

    def __init__(
        self,
        mode: StatusMode,
        line: StatusLine,
        output: OutputWriter,
        status: Callable[[], LinkStatus],
        *,
        input_progress: Callable[[], StreamProgress],
        size_changed: Callable[[], None],
        answer: Callable[[bytes], None],
        reports: TerminalReports | None = None,
        discard_answers: Callable[[int], None] = lambda _count: None,
        predict: PredictMode = PredictMode.NEVER,
        reflow_moves_cursor: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mode = mode
        self._without_bar = StatusMode.NOTICE if self._may_have_bar else mode
        self._reflow_moves_cursor = reflow_moves_cursor
        self._line = line
        self._output = output
        self._status = status
        self._input_progress = input_progress
        self._size_changed = size_changed
        self._answer = answer
        self._reports = reports
        self._discard_answers = discard_answers
        self._clock = clock
        self._screen = self._new_screen()
        self._settles_at = -math.inf
        self._unwritten = b""
        """Output that the terminal had not accepted at ``pause``."""
        self._last = b""
        """The last output of the remote."""
        self._echo_timer: asyncio.TimerHandle | None = None
        self._echo_due_at = 0.0
        self._title = WindowTitle()
        self._size = TerminalSize(0, 0)
        self._echo = self._new_echo(predict)
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
    def _may_have_bar(self) -> bool:
        return _may_have_bar(self._mode)

    def _new_screen(self) -> Screen:
        return Screen(_least_rows(self._mode), reflow_moves_cursor=self._reflow_moves_cursor)

    @property
    def remote_size(self) -> TerminalSize:
        """The size to tell the remote."""
        size = self._screen.remote_size
        return TerminalSize(size.columns, size.rows - 1) if self._repainting is not None and size.rows > 1 else size

    @property
    def leaves_inside_line(self) -> bool:
        """Whether ``stop`` will leave the cursor inside a line of the remote's."""
        return self._screen.leaves_inside_line(self._last)

    def start(self, size: TerminalSize) -> None:
        """Begin to show the status on a terminal of ``size``."""
        self._size = size
        self._settles_at = -math.inf
        if self._echo is not None:
            self._echo.resize(size, self._screen)
        self._put(self._screen.start(size, bar=self._may_have_bar))
        self._ask_again()
        self.look()

    def resize(self, size: TerminalSize) -> None:
        """Adapt to a new size of the terminal, or to the same after it was resized to and fro."""
        if size == self._size:
            self.ask_for_repaint()
        self._size = size
        if self._echo is not None:
            self._output.write(self._echo.resize(size, self._screen))
        self._put(self._screen.resize(size))
        self._noticed = False  # the remote repaints the screen, the notice included
        self._ask_again()
        self._settles_at = -math.inf
        self.look()
        self._settles_at = self._clock() + _SETTLE_TIME

    def write(self, data: bytes) -> None:
        """Write output of the remote."""
        self._last = data
        if self._echo is None:
            self._output.write(self._screen.feed(data))
        else:
            self._output.write(self._echo.output(data, self._screen, self._input_progress(), self._clock()))
            self._arm_echo()
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

    def typed(self, data: bytes) -> None:
        """Bytes of the input were sent."""
        if self._echo is not None:
            self._output.write(self._echo.typed(data, self._screen, self._input_progress(), self._clock()))
            self._arm_echo()

    @property
    def predicts(self) -> bool:
        """Whether predictions may be shown."""
        return self._echo is not None

    def toggle_prediction(self) -> None:
        """Always show predictions, or never."""
        if self._echo is not None:
            self._output.write(self._echo.stop(self._screen))
            self._echo = None
        else:
            self._echo = self._new_echo(PredictMode.ALWAYS)
            assert self._echo is not None
            self._echo.resize(self._size, self._screen)
            self._echo.stop(self._screen)  # the rows below may hold anything

    def _new_echo(self, mode: PredictMode) -> PredictedEcho | None:
        if mode is PredictMode.NEVER:
            return None
        from session_manager_plugin.terminal.predicted_echo import PredictedEcho

        return PredictedEcho(mode)

    def _arm_echo(self) -> None:
        """Look again when an answer is due."""
        now = self._clock()
        due_at = None if self._echo is None else self._echo.next_timeout(now)
        if self._echo_timer is not None:
            if due_at == self._echo_due_at:
                return
            self._echo_timer.cancel()
            self._echo_timer = None
        if due_at is not None:
            self._echo_timer = asyncio.get_running_loop().call_later(due_at - now, self._update_echo)
            self._echo_due_at = due_at

    def _update_echo(self) -> None:
        self._echo_timer = None
        if self._echo is not None:
            self._output.write(self._echo.update(self._screen, self._input_progress(), self._clock()))
            self._arm_echo()

    def _put(self, data: bytes) -> None:
        """Write something of ours, beside what is predicted."""
        self._output.write(data if self._echo is None else self._echo.aside(data, self._screen, self._clock()))

    def located(self, position: Position) -> None:
        """Handle the terminal's answer with the cursor's position."""
        self._put(self._screen.locate(*position))
        self._take_awaited_row()
        if self._reports is not None and self._screen.wants_position:
            self._ask_position(self._reports)

    def toggle_bar(self) -> None:
        """Show or hide the bar. The remote's size changes by a row."""
        if self._mode is StatusMode.BAR or self._screen.has_bar:
            self._mode = self._without_bar
            self._row_awaited = False
            self._put(self._screen.release())
        else:
            self._mode = StatusMode.BAR
            self._screen.least_rows = _least_rows(self._mode)
            self._restore_title()
            self._take_row()
        self._ask_again()
        self._noticed = False
        self._settles_at = -math.inf
        self.look()
        self._size_changed()

    def _take_awaited_row(self) -> None:
        if self._row_awaited:
            self._take_row()
            if not self._row_awaited:
                self._ask_again()
                self._size_changed()

    def _take_row(self) -> None:
        """Take the last row for the bar, or first ask for the cursor's position; called again on the answer."""
        may_ask = self._reports is not None and not self._reports.is_silent(self._clock())
        taken = self._screen.take_row(may_ask=may_ask)
        self._row_awaited = taken is None
        if taken is not None:
            self._put(taken)

    def look(self) -> None:
        """Show the link's state if it has changed."""
        now = self._clock()
        due = None
        if now < self._settles_at:
            due = self._settles_at
        elif self._output.buffered < _BUSY:
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
        """Restore the terminal for now, before the process is stopped. Returns the bytes for ``resume``, which restore
        the remote's screen state."""
        again = self._screen.again()
        self._unwritten = self._output.take_unwritten()
        self._output.write(switches(self._unwritten))
        self.stop()
        self._output.finish(_FINISH_TIME)
        return again

    def resume(self, size: TerminalSize, again: bytes) -> None:
        """Show the status again, on a terminal of ``size``, after ``pause`` or ``lose``."""
        self.start(size)
        self.write(again)
        unwritten, self._unwritten = self._unwritten, b""
        self._output.write(unwritten)  # as it was: it is corrected already
        self.ask_for_repaint()

    def lose(self) -> bytes:
        """Stop without writing, because another job has the terminal. Returns the same as ``pause``."""
        again = self._screen.again()
        self._stop_timers()
        if self._echo is not None:
            self._echo.stop(self._screen)
        self._noticed = False
        self._screen = self._new_screen()
        self._title.restore()
        self._row_awaited = False
        return again

    def stop(self) -> None:
        """Restore the terminal to the state before ``start``. Idempotent.

        If much output is still queued for a slow terminal, its text is dropped: at the end of the process there is no
        time to write it, and the terminal must be restored.
        """
        self._stop_timers()
        if self._output.buffered > _BUSY:
            self._output.write(switches(self._output.take_unwritten()))
        if self._echo is not None:
            self._output.write(self._echo.stop(self._screen))
        if self._noticed:
            self._noticed = False
            self._put(self._screen.draw_notice(b""))
        reports_unasked = self._screen.reports_unasked
        self._put(self._screen.leave())
        self._screen = self._new_screen()
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
        for timer in (self._timer, self._repainting, self._flushing, self._echo_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._repainting = self._flushing = self._echo_timer = None

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
            self._put(question)

    def _show_row(self, status: LinkStatus, now: float) -> float | None:
        """Draw the bar or a notice in the last row. Returns when to draw next."""
        if self._screen.has_bar:
            text = self._line.update(status, self._size.columns, now)
            if text is not None or self._screen.damaged:
                self._put(self._screen.draw(self._line.line))
            return self._line.next_update_at
        if self._mode in (StatusMode.TITLE, StatusMode.OFF):
            return None
        # Not while only delayed: output still arrives and would scroll the notice away.
        if status.health.troubled and status.health.state is not LinkState.DELAYED:
            text = self._line.update(status, self._size.columns, now)
            if (text is not None or not self._noticed) and (drawn := self._screen.draw_notice(self._line.line)):
                self._put(drawn)
                self._noticed = True
            return self._line.next_update_at
        if self._noticed and (erased := self._screen.draw_notice(b"")):
            self._put(erased)
            self._noticed = False
            self.ask_for_repaint()
        return None

    def _show_title(self, status: LinkStatus, now: float) -> float | None:
        """Set or restore the window's title. Returns when to set it next."""
        text = self._line.title(status)
        is_news = status.health.troubled or status.health.restored_after is not None
        if not is_news and self._mode is not StatusMode.TITLE:
            if self._title.text is not None and self._screen.at_boundary:
                self._restore_title()
            return None
        if text == self._title.text or not self._screen.at_boundary:
            return None
        if now < self._titled_at + MIN_INTERVAL:
            return self._titled_at + MIN_INTERVAL
        self._titled_at = now
        self._put(self._title.show(text))
        return None

    def _flush(self) -> None:
        self._put(self._screen.flush())

    def _restore_title(self) -> None:
        self._put(self._title.restore())

    def ask_for_repaint(self) -> None:
        """Report one row fewer to the remote, and then the true size, so that it repaints what we have covered or
        erased."""

        def report_true_size() -> None:
            self._repainting = None
            self._size_changed()

        if self._repainting is None:
            self._repainting = asyncio.get_running_loop().call_later(_REPAINT_DELAY, report_true_size)
            self._size_changed()

    def _arm(self, delay: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay, self.look)


def _may_have_bar(mode: StatusMode) -> bool:
    return mode in (StatusMode.BAR, StatusMode.AUTO)


def _least_rows(mode: StatusMode) -> int:
    return _ROWS_OF_AUTO if mode is StatusMode.AUTO else LEAST_ROWS


def first_remote_size(mode: StatusMode, size: TerminalSize) -> TerminalSize:
    """Return the size that the remote is told first on a terminal of ``size`` where the status is shown in ``mode``."""
    screen = Screen(_least_rows(mode))
    screen.start(size, bar=_may_have_bar(mode))
    return screen.remote_size
