"""Where the cursor of a terminal is, reckoned from what is written to it. Pure."""

from __future__ import annotations

import bisect
import functools
import re
import unicodedata

# Rows and columns are counted from 0. A column equal to the width means: behind the last cell, and the next character
# wraps first. What terminals disagree about (the width of some characters, bytes that are no UTF-8) is reckoned as
# most have it; so the column may be wrong where it is not known better, and the row after a wrap too, until the next
# sequence that says where the cursor goes.

_SEQUENCE = re.compile(rb"\x1b\[[0-9;:]*[mK]")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_PIECES = re.compile(rb"[\x00-\x1f\x7f]|[^\x00-\x1f\x7f]+")
_TAB_WIDTH = 8


class Cursor:
    """A position that follows text; the region it scrolls in is `top` to `bottom`, the last row is `last`."""

    def __init__(self, columns: int, rows: int) -> None:
        self.row = 0
        self.column = 0
        self.unknown_rows = 0
        """Newlines until the row is known for certain, because the bottom is reached wherever it began; 0 if it is."""
        self.wraps = True
        self.newline_returns = False
        self.written = b""
        """The character in the last column, while the next one would wrap; empty if it is not known."""
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        """A new size; the scroll region is all of it."""
        self.columns = columns
        self.last = rows - 1
        self.set_region(0, self.last)
        self.row = min(self.row, self.last)
        self.column = min(self.column, columns)
        self._stops: list[int] | None = None  # None: every eight columns

    def set_region(self, top: int, bottom: int) -> None:
        """DECSTBM, without its effect on the cursor."""
        self.top, self.bottom = top, bottom

    @property
    def is_below_region(self) -> bool:
        """Whether newlines move the cursor although no text scrolls."""
        return self.row > self.bottom

    @property
    def is_wrap_due(self) -> bool:
        """Whether the cursor is behind the last cell of its row."""
        return self.column >= self.columns

    def follow(self, text: bytes) -> None:
        """Text with C0 controls, SGR and EL; all the rest has methods of its own."""
        newlines = text.count(b"\n")
        if self.unknown_rows:
            self.unknown_rows = max(0, self.unknown_rows - newlines)
        if self.row <= self.bottom <= self.row + newlines:
            # It ends in the bottom row, whatever is before the last line.
            self.row = self.bottom
            start = text.rfind(b"\r")
            if start >= 0:
                self.column = 0
                text = text[start + 1 :]
            elif self.newline_returns and newlines:
                self.column = 0
                text = text[text.rfind(b"\n") + 1 :]
        if b"\x1b" in text:
            text = _SEQUENCE.sub(b"", text)
        if _CONTROL.search(text) is None:
            self._print(text)
            return
        for piece in _PIECES.findall(text):
            if piece[0] < 0x20 or piece[0] == 0x7F:
                self.control(piece[0])
            else:
                self._print(piece)

    def control(self, byte: int) -> None:
        """A C0 control."""
        if byte == 0x0D:
            self.column = 0
        elif 0x0A <= byte <= 0x0C:
            self.index()
            if self.newline_returns:
                self.column = 0
        elif byte == 0x08:
            self.column = max(0, min(self.column, self.columns - 1) - 1)
        elif byte == 0x09:
            self.tab(1)

    def index(self) -> None:
        """IND: down, and no further than the region, or the screen below it."""
        self._down(1)
        self.column = min(self.column, self.columns - 1)

    def reverse_index(self) -> None:
        """RI."""
        if self.row != self.top:
            self.row = max(0, self.row - 1)
        self.column = min(self.column, self.columns - 1)

    def up(self, count: int) -> None:
        """CUU."""
        self.row = max(self.row - count, self.top if self.row >= self.top else 0)
        self.column = min(self.column, self.columns - 1)

    def down(self, count: int) -> None:
        """CUD."""
        self._down(count)
        self.column = min(self.column, self.columns - 1)

    def move_to(self, row: int | None = None, column: int | None = None) -> None:
        """To a row, a column or both, as far as there are any."""
        if row is not None:
            self.row = max(0, min(row, self.last))
            self.unknown_rows = 0
        self.column = max(0, min(self.column if column is None else column, self.columns - 1))

    def right(self, count: int) -> None:
        """CUF, CUB if negative."""
        self.move_to(column=min(self.column, self.columns - 1) + count)

    def tab(self, count: int) -> None:
        """CHT, CBT if negative. Does nothing when a wrap is due."""
        if self.is_wrap_due:
            return
        stops = self._tab_stops()
        if count > 0:
            place = bisect.bisect_right(stops, self.column) + count - 1
            self.column = stops[place] if place < len(stops) else self.columns - 1
        else:
            place = bisect.bisect_left(stops, self.column) + count
            self.column = stops[place] if place >= 0 else 0

    def set_tab(self) -> None:
        """HTS."""
        column = min(self.column, self.columns - 1)
        self._stops = sorted({*self._tab_stops(), column})

    def clear_tab(self, every: bool) -> None:
        """TBC."""
        self._stops = [] if every else [stop for stop in self._tab_stops() if stop != self.column]

    def _tab_stops(self) -> list[int]:
        if self._stops is None:
            return list(range(0, self.columns, _TAB_WIDTH))
        return self._stops

    def _down(self, count: int) -> None:
        self.row = min(self.row + count, self.bottom if self.row <= self.bottom else self.last)

    def _print(self, text: bytes) -> None:
        if not text:
            return
        if text.isascii():
            end = self.column + len(text)
            if end > self.columns:
                if not self.wraps:
                    end = self.columns
                else:
                    rows, rest = divmod(end - 1, self.columns)
                    self._down(rows)
                    end = rest + 1
            self.column = end
            if end == self.columns:
                self.written = text[-1:]
            return
        base = ""
        for character in text.decode("utf-8", "replace"):
            width = character_width(character)
            if width == 0:
                base += character
                continue
            if self.column + width > self.columns:
                if self.wraps:
                    self._down(1)
                    self.column = 0
                else:
                    self.column = self.columns - 1
                    if width == 2:
                        continue
            base = character
            self.column += width
        if self.column >= self.columns and base:
            # Alone, a combining character joins the one that is known.
            self.written = self.written + base.encode() if character_width(base[0]) == 0 else base.encode()


@functools.lru_cache(maxsize=4096)
def character_width(character: str) -> int:
    """Cells a character takes: 0, 1 or 2 (wcwidth, by the Unicode tables of Python)."""
    if character in "\u200b\u200c\u200d\u2060\ufeff" or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0 if character != "\u00ad" else 1
    if "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
