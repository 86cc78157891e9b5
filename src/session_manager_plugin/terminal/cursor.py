"""The position of a terminal's cursor, computed from the bytes written to the terminal. Pure."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable

from session_manager_plugin.terminal.character_width import JOINER, character_width, width_range

# Rows and columns are counted from 0. A column equal to the width means that the cursor is past the last cell: the next
# character wraps before it is printed. Below that is called "a wrap is due".
#
# Only what is certain is treated as known. The row is unknown until the terminal has reported it, it was set
# absolutely, or enough newlines were written to reach the bottom from any row. The column is a range, because terminals
# disagree about the width of some characters. Where the range crosses the end of a row the row becomes unknown too.

_SEQUENCE = re.compile(rb"\x1b\[[0-9;:]*[mK]")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_PIECES = re.compile(rb"[\x00-\x1f\x7f]|[^\x00-\x1f\x7f]+")
_TAB_WIDTH = 8
_JOINER = JOINER.encode()


class Cursor:
    """The cursor's position. The scroll region is ``top`` to ``bottom``, the last row of the screen is ``last``.

    The position is known at first, and home (0, 0); ``lose`` makes it unknown.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.row = 0
        """Meaningless while ``unknown_rows`` is not 0."""
        self.column = 0
        """The rightmost column in which the cursor may be."""
        self.slack = 0
        """The cursor may be up to this many columns left of ``column``; 0 if the column is known."""
        self.unknown_rows = 0
        """Newlines until the cursor has certainly reached the bottom, whatever its row; 0 if the row is known."""
        self.wraps = True
        self.newline_returns = False
        self.written = b""
        """The character in the last column while a wrap is due; empty if the character is unknown."""
        self.joins = False
        """Whether the last character is a ZWJ, which may join the next character to the previous one."""
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        """Set a new size, and reset the margins to the whole screen."""
        self.columns = columns
        self.last = rows - 1
        self.set_region(0, self.last)
        self.set_side_margins(0, columns - 1)
        self.row = min(self.row, self.last)
        self.column = min(self.column, columns)
        self.slack = min(self.slack, self.column)
        self._stops: list[int] | None = None  # None: every eight columns

    def set_region(self, top: int, bottom: int) -> None:
        """Set the scroll region (DECSTBM) without moving the cursor."""
        self.top, self.bottom = top, bottom

    def set_side_margins(self, left: int, right: int) -> None:
        """Set the left and right margins (DECSLRM) without moving the cursor."""
        self.left_margin, self.right_margin = left, right
        self.has_sides = (left, right) != (0, self.columns - 1)
        """Whether there are left and right margins within the row."""

    @property
    def is_row_known(self) -> bool:
        """Whether ``row`` is known."""
        return not self.unknown_rows

    @property
    def is_known(self) -> bool:
        """Whether row and column are known."""
        return not self.unknown_rows and not self.slack

    @property
    def is_below_region(self) -> bool:
        """Whether the cursor is below the scroll region, where a newline moves it without scrolling."""
        return self.row > self.bottom

    @property
    def may_wrap(self) -> bool:
        """Whether a wrap may be due."""
        return self.column >= self.columns

    @property
    def is_wrap_due(self) -> bool:
        """Whether a wrap is certainly due."""
        return self.column >= self.columns and not self.slack

    def lose(self, *, may_wrap: bool = False) -> None:
        """Make the position unknown. Without ``may_wrap`` the caller has made sure that no wrap is due."""
        self.unknown_rows = self.last + 1
        if may_wrap:
            self._span(0, self.columns)
            self.written = b""
        else:
            self.lose_column()

    def lose_column(self) -> None:
        """Make the column unknown. The caller has made sure that no wrap is due."""
        self.column = self.slack = self.columns - 1

    def locate(self, row: int, column: int) -> None:
        """Set the position that the terminal has reported. In the last column the report leaves open whether a wrap is
        due."""
        may_wrap = self.may_wrap and column >= self.columns - 1
        self.move_to(row, column)
        if may_wrap:
            self._span(self.columns - 1, self.columns)
            self.written = b""

    def follow(self, text: bytes, *, is_binary: bool = False) -> None:
        """Follow text with C0 controls, SGR and EL. All other sequences have methods of their own.

        ``is_binary``: the text is binary data, which is not worth following exactly.
        """
        if self.has_sides:
            self._follow_between_sides(text)
            return
        newlines = text.count(b"\n")
        if self.unknown_rows:
            is_at_bottom = self.bottom == self.last and newlines >= self.unknown_rows
        else:
            is_at_bottom = self.row <= self.bottom <= self.row + newlines
        if is_at_bottom:
            # The cursor ends in the bottom row, whatever the text before the last line is.
            self.row = self.bottom
            self.unknown_rows = 0
            start = text.rfind(b"\r")
            if start >= 0:
                self.column = self.slack = 0
                text = text[start + 1 :]
            elif self.newline_returns and newlines:
                self.column = self.slack = 0
                text = text[text.rfind(b"\n") + 1 :]
        if is_binary:
            self._follow_binary(text)
            return
        if b"\x1b[" in text:
            text = _SEQUENCE.sub(b"", text)
        if _CONTROL.search(text) is None:
            self._print(text)
            return
        for piece in _PIECES.findall(text):
            if piece[0] < 0x20 or piece[0] == 0x7F:
                self.control(piece[0])
            else:
                self._print(piece)

    def _follow_binary(self, text: bytes) -> None:
        """Follow text after which the cursor is in any column, and in the bottom row if that cannot be left."""
        self._wrap(0, 1, 0, 0)
        self.joins = text.endswith(_JOINER)

    def control(self, byte: int) -> None:
        """Follow a C0 control."""
        if byte == 0x0D:
            self._return()
        elif 0x0A <= byte <= 0x0C:
            self.index()
            if self.newline_returns:
                self._return()
        elif byte == 0x08:
            self._each_end(lambda column: max(0, min(column, self.columns - 1) - 1))
        elif byte == 0x09:
            self.tab(1)

    def index(self) -> None:
        """IND: move down, to the end of the region at most, or of the screen below the region."""
        self.down(1)

    def reverse_index(self) -> None:
        """RI."""
        self._rise()
        if self.row != self.top:
            self.row = max(0, self.row - 1)
        self._end_wrap()

    def up(self, count: int) -> None:
        """CUU."""
        self._rise()
        self.row = max(self.row - count, self.top if self.row >= self.top else 0)
        self._end_wrap()

    def down(self, count: int) -> None:
        """CUD."""
        self._down(count)
        self._end_wrap()

    def move_to(self, row: int | None = None, column: int | None = None) -> None:
        """Move to a row, a column or both, limited to the screen."""
        if row is not None:
            self.row = max(0, min(row, self.last))
            self.unknown_rows = 0
        if column is None:
            self._end_wrap()
        else:
            self.column = max(0, min(column, self.columns - 1))
            self.slack = 0

    def right(self, count: int) -> None:
        """CUF, CUB if negative."""
        if self.has_sides:
            self.lose_column()
        else:
            self._each_end(lambda column: max(0, min(min(column, self.columns - 1) + count, self.columns - 1)))

    def tab(self, count: int) -> None:
        """CHT, CBT if negative. Does nothing when a wrap is due."""
        if self.has_sides:
            self.lose_column()
        else:
            self._each_end(lambda column: self._tabbed(column, count))

    def may_advance(self, count: int) -> None:
        """Follow output of unknown length: up to ``count`` characters may have been printed."""
        if self.column + count <= self.columns:
            self._span(self.column - self.slack, self.column + count)
        else:
            self._wrap(0, 1, 0, 0)

    def set_tab(self) -> None:
        """HTS."""
        column = min(self.column, self.columns - 1)
        self._stops = sorted({*self._tab_stops(), column})

    def clear_tab(self, every: bool) -> None:
        """TBC."""
        self._stops = [] if every else [stop for stop in self._tab_stops() if stop != self.column]

    def _tabbed(self, column: int, count: int) -> int:
        if column >= self.columns:
            return column
        stops = self._tab_stops()
        if count > 0:
            place = bisect.bisect_right(stops, column) + count - 1
            return stops[place] if place < len(stops) else self.columns - 1
        place = bisect.bisect_left(stops, column) + count
        return stops[place] if place >= 0 else 0

    def _tab_stops(self) -> list[int]:
        if self._stops is None:
            return list(range(0, self.columns, _TAB_WIDTH))
        return self._stops

    def _return(self) -> None:
        if not self.has_sides:
            self.column = self.slack = 0
        elif self.column - self.slack >= self.left_margin:
            self.column, self.slack = self.left_margin, 0
        else:
            self.lose_column()

    def _end_wrap(self) -> None:
        if self.column >= self.columns:
            self._each_end(lambda column: min(column, self.columns - 1))

    def _each_end(self, move: Callable[[int], int]) -> None:
        self._span(move(self.column - self.slack), move(self.column))

    def _span(self, low: int, high: int) -> None:
        self.column, self.slack = high, high - low

    def _rise(self) -> None:
        if self.unknown_rows:
            self.unknown_rows = self.last + 1

    def _down(self, count: int) -> None:
        if self.unknown_rows:
            if self.bottom < self.last:
                return
            self.unknown_rows = max(0, self.unknown_rows - count)
            if self.unknown_rows == 0:
                self.row = self.bottom
                return
        self.row = min(self.row + count, self.bottom if self.row <= self.bottom else self.last)

    def _follow_between_sides(self, text: bytes) -> None:
        """Follow text while left and right margins are set: text that begins between them wraps at them."""
        text = _SEQUENCE.sub(b"", text)
        if text.isascii() and _CONTROL.search(text) is None and self.left_margin <= self.column - self.slack:
            if self.column + len(text) <= self.right_margin:
                self.column += len(text)
                return
        elif text == b"\r":
            self._return()
            return
        self.lose()

    def _print(self, text: bytes) -> None:
        if not text:
            return
        if text.isascii():
            self.joins = False
            end = self.column + len(text)
            if end > self.columns:
                self._run(len(text))
            else:
                self.column = end
            if self.column == self.columns:
                self.written = b"" if self.slack else text[-1:]
            return
        if self._may_be_anywhere:
            self.joins = text.endswith(_JOINER)
            return
        base = ""
        for character in text.decode("utf-8", "surrogateescape"):
            least, most = width_range(character)
            if self.joins:
                least = 0
            self.joins = character == JOINER
            if most == least == 0:
                base += character
                continue
            if self.slack or least != most:
                base = ""
                self._advance(least, most)
                continue
            if self.column + most > self.columns:
                if self.wraps:
                    self._down(1)
                    self.column = 0
                else:
                    self.column = self.columns - 1
                    if most == 2:
                        continue
            base = character
            self.column += most
        if self.column >= self.columns:
            # A combining character at the start of the text joins the known character before it.
            encoded = base.encode("utf-8", "surrogateescape")
            if self.slack or not base:
                self.written = b"" if self.slack else self.written
            else:
                self.written = self.written + encoded if character_width(base[0]) == 0 else encoded

    @property
    def _may_be_anywhere(self) -> bool:
        """Whether the cursor may be in any column, and is in a row that a wrap does not change, or in any row: text
        cannot make the position less certain."""
        if self.slack < self.columns or not self.wraps:
            return False
        return self.unknown_rows > self.last or (not self.unknown_rows and self.row == self.bottom)

    def _run(self, length: int) -> None:
        """Follow ``length`` characters of one cell each, the last of which are beyond the end of the row."""
        low, high = self.column - self.slack + length, self.column + length
        if not self.wraps:
            self._span(min(low, self.columns), self.columns)
            return
        fewest, low = divmod(low - 1, self.columns)
        most, high = divmod(high - 1, self.columns)
        self._wrap(fewest, most, low + 1, high + 1)

    def _advance(self, least: int, most: int) -> None:
        """Move the cursor by ``least`` to ``most`` cells for one character, wrapping before it where that is due."""
        low, high = max(0, self.column - self.slack + least), self.column + most
        if high <= self.columns:
            self._span(low, high)
        elif not self.wraps:
            self._span(min(low, self.columns - 1), self.columns)
        elif low > self.columns:
            self._wrap(1, 1, max(0, least), most)
        else:
            self._wrap(0, 1, 0, 0)

    def _wrap(self, fewest: int, most: int, low: int, high: int) -> None:
        """Move ``fewest`` to ``most`` rows down. The columns become ``low`` to ``high`` if both are the same."""
        if fewest:
            self._down(fewest)
        if fewest == most:
            self._span(low, high)
            return
        if self.unknown_rows or self.row != self.bottom:
            self.unknown_rows = self.last + 1
        self._span(0, self.columns)
        self.written = b""
