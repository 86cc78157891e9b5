"""Draws predictions over the cursor's row, and erases them before anything else is written. Pure."""

from __future__ import annotations

import re

from session_manager_plugin.session.link_health import StreamProgress
from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.cursor_row import BLANK, Cell, CursorRow
from session_manager_plugin.terminal.pen import PLAIN
from session_manager_plugin.terminal.predict_mode import PredictMode
from session_manager_plugin.terminal.prediction import Overlay, Predictor, text_width
from session_manager_plugin.terminal.screen import Screen
from session_manager_plugin.terminal.sequences import unfinished_at

_UNDERLINE = b"\x1b[4m"
_LINE_END = re.compile(rb"\r*\n")
_ALTERNATE = b"\x1b[?1049"
_MOST_DEFERRED = 16 * 1024
"""Bytes of output that are followed at once, while no key is unanswered: it is the end of them that counts."""
_BURST_GAP = 0.05
"""Seconds without output after which the next one belongs to another burst."""
_SWITCH = re.compile(rb"\x1b\[\?1049([hl])")
"""To the alternate screen, or back to the place of the cursor on the main screen."""


class PredictedEcho:
    """Works between a ``Screen`` and the terminal. The bytes that a method returns are to be written to the terminal.

    While nothing is drawn, the remote's output is passed on unchanged. The owner passes everything else that it writes
    through ``aside``, so that the cursor is where the remote expects it.
    """

    def __init__(self, mode: PredictMode) -> None:
        self._row = CursorRow()
        self._predictor = Predictor(mode, self._row)
        self._is_away = False
        """Whether the alternate screen is shown, and the main screen's row is kept."""
        self._unfinished = b""
        """The end of the output so far, if that is the beginning of a sequence or a character."""
        self._deferred: list[bytes] = []
        """Output that is not followed yet."""
        self._deferred_size = 0
        self._deferred_at = 0.0
        """When the last of it arrived."""
        self._rows_below: int | None = None
        """The rows below the cursor before it, if that is known."""
        self._progress: StreamProgress | None = None
        """The progress of the input when it arrived."""
        self._drawn: Overlay | None = None
        self._under: list[Cell] = []
        """The cells that the drawn text covers."""

    def next_timeout(self, now: float) -> float | None:
        """Return when to call ``update``; None while no answer is awaited."""
        return self._predictor.next_timeout(now)

    def resize(self, size: TerminalSize, screen: Screen) -> bytes:
        """Set the size of the terminal: nothing is predicted until the cursor's row is known again."""
        self._catch_up(screen)
        erased = self._erased(screen)
        self._row.resize(size.columns, size.rows)
        self._predictor.reset()
        return erased

    def typed(self, data: bytes, screen: Screen, progress: StreamProgress, now: float) -> bytes:
        """Predict the echo of ``data``, the bytes of one read, which were sent."""
        self._catch_up(screen)
        if screen.is_special:
            self._predictor.typed_unseen(data, now)
            return self._redrawn(screen, now)
        erased = self._erased_unseen(screen)
        self._predictor.typed(data, progress, now)
        return erased + self._redrawn(screen, now)

    def _erased_unseen(self, screen: Screen) -> bytes:
        """Erase what the terminal may show behind the cursor since before the session: keys can be predicted then."""
        if not (self._predictor.shows_all and self._may_draw(screen) and (count := self._row.see_rest())):
            return b""
        screen.interrupt()
        return PLAIN + b"\x1b[%dX" % count + screen.pen

    def update(self, screen: Screen, progress: StreamProgress, now: float) -> bytes:
        """Update the predictions after time has passed or messages were acknowledged."""
        self._catch_up(screen)
        self._predictor.output(b"", progress, now)
        return self._redrawn(screen, now)

    def output(self, data: bytes, screen: Screen, progress: StreamProgress, now: float) -> bytes:
        """Pass output of the remote through ``Screen.feed``, and draw the predictions again."""
        erased = self._erased(screen)
        if now >= self._deferred_at + _BURST_GAP:
            self._catch_up(screen)
        if not self._deferred:
            self._rows_below = screen.rows_below
            if self._row.column is None and not self._unfinished:
                self._row.column = screen.column
        written = screen.feed(data)
        self._deferred.append(data)
        self._deferred_size += len(data)
        self._deferred_at, self._progress = now, progress
        if self._predictor.awaits_answer or self._deferred_size >= _MOST_DEFERRED or _ALTERNATE in data:
            self._catch_up(screen)
        return erased + written + self._drawn_anew(screen, now)

    def _catch_up(self, screen: Screen) -> None:
        """Follow the output that is not followed yet."""
        if not self._deferred:
            return
        assert self._progress is not None
        data = self._unfinished + b"".join(self._deferred)
        self._deferred.clear()
        self._deferred_size = 0
        end = unfinished_at(data)
        data, self._unfinished = data[:end], data[end:]
        may_echo, rows_below = b"\n" in data, self._rows_below
        if _ALTERNATE in data or self._is_away or screen.is_special:
            data = self._follow_screens(data, screen)
            may_echo, rows_below = False, None
        if not screen.is_special:
            rest = data
            if may_echo and self._predictor.awaits_echo and (found := _LINE_END.search(data)) and found.start():
                self._row.feed(data[: found.start()], rows_below=rows_below)
                self._predictor.line_ends(self._deferred_at)
                rest, rows_below = data[found.start() :], None
            self._row.feed(rest, rows_below=rows_below, is_plain=not screen.pen)
            if self._row.column is not None and self._row.column != screen.column:
                self._row.lose()
            self._predictor.output(data, self._progress, self._deferred_at)

    def _follow_screens(self, data: bytes, screen: Screen) -> bytes:
        """Leave and come back to the main screen's row. Returns the output after that."""
        position = 0
        for found in _SWITCH.finditer(data):
            if found[1] == b"l":
                self._row.come_back()
            elif not self._is_away:
                self._row.feed(data[position : found.start()])
                self._row.leave()
            self._is_away = found[1] == b"h"
            position = found.end()
        if screen.is_special != self._is_away:  # by another sequence
            self._is_away = False
            self._row.miss()
        self._predictor.reset()
        return data[position:]

    def aside(self, data: bytes, screen: Screen, now: float) -> bytes:
        """Write ``data`` of the owner elsewhere on the terminal, while no prediction is drawn."""
        if self._drawn is None or not data:
            return data
        return self._erased(screen) + data + self._drawn_anew(screen, now)

    def stop(self, screen: Screen) -> bytes:
        """Erase the predictions, and predict nothing until the row is known again."""
        self._catch_up(screen)
        erased = self._erased(screen)
        self._row.lose()
        self._predictor.reset()
        return erased

    def _may_draw(self, screen: Screen) -> bool:
        return screen.takes_overlay and not self._unfinished

    def _redrawn(self, screen: Screen, now: float) -> bytes:
        overlay = self._predictor.overlay(now) if self._may_draw(screen) else None
        if overlay == self._drawn:
            return b""
        return self._erased(screen) + self._drawn_anew(screen, now)

    def _drawn_anew(self, screen: Screen, now: float) -> bytes:
        overlay = self._predictor.overlay(now) if self._may_draw(screen) else None
        if overlay is None:
            return b""
        cells = self._row.cells(overlay.column, overlay.column + overlay.width)
        assert cells is not None
        self._drawn, self._under = overlay, cells
        screen.interrupt()
        underline = overlay.text and overlay.underlined
        pieces = [_to_column(overlay.column), _UNDERLINE if underline else b"", overlay.text.encode()]
        pieces.append(PLAIN + screen.pen if underline else b"")
        blank = overlay.width - text_width(overlay.text)
        if blank > 0:
            pieces += [PLAIN, b" " * blank, screen.pen]
        pieces.append(_to_column(overlay.cursor))
        return b"".join(pieces)

    def _erased(self, screen: Screen) -> bytes:
        drawn, self._drawn = self._drawn, None
        if drawn is None:
            return b""
        pieces = [_to_column(drawn.column), PLAIN]
        place = 0
        while place < len(self._under):
            count = 0
            while place + count < len(self._under) and self._under[place + count] == BLANK:
                count += 1
            if count:  # erased, not written: a selection then contains no blanks
                pieces.append(b"\x1b[%dX" % count + b"\x1b[%dC" % count)
                place += count
                continue
            cell = self._under[place]
            pieces += [cell.pen, cell.text.encode(), PLAIN if cell.pen else b""]
            place += 1
        pieces += [screen.pen, _to_column(self._row.column or 0)]
        return b"".join(pieces)


def _to_column(column: int) -> bytes:
    return b"\x1b[%dG" % (column + 1)
