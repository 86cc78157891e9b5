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

_UNDERLINE = b"\x1b[4m"
_LINE_END = re.compile(rb"\r*\n")
_ALTERNATE = b"\x1b[?1049"
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
        self._drawn: Overlay | None = None
        self._under: list[Cell] = []
        """The cells that the drawn text covers."""

    def next_timeout(self, now: float) -> float | None:
        """Return when to call ``update``; None while no answer is awaited."""
        return self._predictor.next_timeout(now)

    def resize(self, size: TerminalSize, screen: Screen) -> bytes:
        """Set the size of the terminal: nothing is predicted until the cursor's row is known again."""
        erased = self._erased(screen)
        self._row.resize(size.columns, size.rows)
        self._predictor.reset()
        return erased

    def typed(self, data: bytes, screen: Screen, progress: StreamProgress, now: float) -> bytes:
        """Predict the echo of ``data``, the bytes of one read, which were sent."""
        if screen.takes_overlay:
            self._predictor.typed(data, progress, now)
        return self._redrawn(screen, now)

    def update(self, screen: Screen, progress: StreamProgress, now: float) -> bytes:
        """Update the predictions after time has passed or messages were acknowledged."""
        self._predictor.output(b"", progress, now)
        return self._redrawn(screen, now)

    def output(self, data: bytes, screen: Screen, progress: StreamProgress, now: float) -> bytes:
        """Pass output of the remote through ``Screen.feed``, and draw the predictions again."""
        erased = self._erased(screen)
        rows_below, newlines = screen.rows_below, data.count(b"\n")
        written = screen.feed(data)
        if _ALTERNATE in data or self._is_away or not screen.takes_overlay:
            data = self._follow_screens(data, screen)
            newlines = 0
        if screen.takes_overlay:
            rest = data
            if newlines and self._predictor.awaits_echo and (found := _LINE_END.search(data)) and found.start():
                self._row.feed(data[: found.start()])
                self._predictor.line_ends()
                rest = data[found.start() :]
            scrolls = rows_below is not None and newlines > rows_below
            self._row.feed(rest, scrolls=scrolls, is_plain=not screen.pen)
            if self._row.column is not None and self._row.column != screen.column:
                self._row.lose()
            self._predictor.output(data, progress, now)
        return erased + written + self._drawn_anew(screen, now)

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
        if screen.takes_overlay == self._is_away:  # by another sequence
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
        erased = self._erased(screen)
        self._row.lose()
        self._predictor.reset()
        return erased

    def _redrawn(self, screen: Screen, now: float) -> bytes:
        overlay = self._predictor.overlay(now) if screen.takes_overlay else None
        if overlay == self._drawn:
            return b""
        return self._erased(screen) + self._drawn_anew(screen, now)

    def _drawn_anew(self, screen: Screen, now: float) -> bytes:
        overlay = self._predictor.overlay(now) if screen.takes_overlay else None
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
