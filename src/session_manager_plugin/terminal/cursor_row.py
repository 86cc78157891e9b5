"""The cells of the row that the cursor is in, as far as they are known. Pure."""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

from session_manager_plugin.terminal.character_width import character_width, width_range

# Enough for a line that is being typed, and no more: a sequence that addresses another place of the screen makes the
# row unknown. It is known again after a newline into a row that is certainly blank: one that has scrolled in, one that
# was erased, or one that has not been written to since the session began (`fresh_below`). Text and newlines leave the
# rows below the cursor as they are, wherever the cursor is. After as many newlines as there are rows it is in the last.

_TOKEN = re.compile(
    # Keypad, character set, cursor shape; titles and reports; keyboard modes; requests.
    rb"(?P<harmless>\x1b[=>]|\x1b\(B|\x1b\[[0-9]* q|\x1b\[(?:1[1-9]|2[0-3])(?:;[0-9]+)*t"
    rb"|\x1b\[[>=<][0-9;]*[cmqu]|\x1b\[\?[0-9;]*(?:[mu]|\$p)|\x1bP[$+]q[^\x07\x1b]*\x1b\\)"
    rb"|\x1b\[(?P<parameters>[0-9;:]*)(?P<final>[@A-Za-z`])"
    rb"|(?P<mode>\x1b\[\?[0-9;]*[hl])"
    rb"|(?P<string>\x1b\][^\x07\x1b]*(?:\x07|\x1b\\))"
    rb"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f])"
    rb"|(?P<text>[^\x00-\x1f\x7f]+)"
)
_SGR = re.compile(rb"\x1b\[[0-9;:]*m")
_RESETS = frozenset({b"22", b"23", b"24", b"25", b"27", b"28", b"29", b"39", b"49"})
"""Parameters of SGR that change nothing after a reset."""
_TAB_WIDTH = 8
_LONGEST = 8192
"""Bytes up to the last newline that are parsed. If there are more, only the newline counts."""
_HARMLESS_MODES = frozenset(b"1 12 25 1000 1002 1003 1004 1005 1006 1007 1015 1034 1036 1039 2004 2026 2031".split())
"""Private modes that move nothing: keys, the cursor's look, the mouse, bracketed paste, synchronized output,
reports."""


_WITHIN_ROW = "KCDP@X"
"""Sequences that move the cursor within its row, or change that row only."""


class Cell(NamedTuple):
    """One cell. The second cell of a wide character has an empty ``text``."""

    text: str
    pen: bytes = b""
    """The SGR sequences in effect when it was drawn: those since the last reset."""
    is_written: bool = True
    """False after an erasure: what is selected does not include such blanks at the end of a row."""


BLANK = Cell(" ", is_written=False)


class CursorRow:
    """Follows output. ``column`` is the cursor's column, counted from 0; None while it is unknown.

    Call ``resize`` first: the number of columns is 0 until then.
    """

    def __init__(self) -> None:
        self.columns = 0
        self.fresh_below = True
        """Whether all rows below are blank as far as the remote is concerned: it has written to none of them, or there
        are none."""
        self.column: int | None = None
        self.rows_left = 0
        """How often a newline has led to another row. Two equal numbers mean the same row."""
        self._cells: list[Cell | None] = []
        self._rows = 0
        self._newlines = 0
        """Newlines since the cursor may have moved up."""
        self._kept: tuple[int | None, list[Cell | None], bool] | None = None
        self._pen: bytes | None = b""
        """The SGR sequences since the last reset; None while they are unknown."""

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of the screen. The row becomes unknown; on every call but the first the rows below
        do too."""
        is_first = not self.columns
        self.columns, self._rows = columns, rows
        self._kept = None
        self.lose()
        self.fresh_below = is_first

    def lose(self) -> None:
        """Make the row and the rows below unknown."""
        self._lose_row()
        self.fresh_below = False
        self._newlines = 0

    def _lose_row(self) -> None:
        self.column = None
        self._cells = [None] * self.columns

    def leave(self) -> None:
        """Keep what is known, while another screen is shown."""
        self._kept = self.column, self._cells, self.fresh_below
        self.lose()

    def miss(self) -> None:
        """Make everything unknown: output was not fed, which may have set colours."""
        self.lose()
        self._kept = None
        self._pen = None

    def come_back(self) -> None:
        """Restore what was known when the screen was left; the cursor is where it was."""
        if self._kept is not None:
            self.column, self._cells, self.fresh_below = self._kept
            self._kept = None
        self._pen = None

    def cells(self, start: int, end: int) -> list[Cell] | None:
        """Return the cells of these columns; None if one of them is unknown."""
        cells = self._cells[start:end]
        return None if None in cells or len(cells) < end - start else [cell for cell in cells if cell is not None]

    def text(self, start: int, end: int) -> str | None:
        """Return the characters of these columns; None if one of them is unknown."""
        cells = self.cells(start, end)
        return None if cells is None else "".join(cell.text for cell in cells)

    def ends_at(self, column: int) -> bool:
        """Whether what was typed ends before ``column``: blanks or a suggestion follow.

        A suggestion has one colour, another than the text before it.
        """
        end = min(column + 2, self.columns)
        if self.text(column, end) == " " * (end - column):
            return True
        first = self._cells[column]
        before = next((cell for cell in reversed(self._cells[:column]) if cell is None or cell.text.strip()), None)
        if first is None or not first.pen or (before is not None and before.pen == first.pen):
            return False
        rest = itertools.takewhile(lambda cell: cell != BLANK and not (cell and not cell.pen), self._cells[column:])
        return all(cell is not None and cell.pen == first.pen for cell in rest)

    def feed(self, data: bytes, *, scrolls: bool = False, is_plain: bool = False) -> None:
        """Follow output. ``scrolls``: the last newline in it leads to a row that has scrolled in. ``is_plain``: no
        colours and attributes are in effect after it, for certain."""
        start = data.rfind(b"\n") + 1
        if start:
            self.rows_left += 1
        if start > _LONGEST:
            self.fresh_below = False
            self._pen = None
        elif start:
            self._leave_row(data[:start])
        if self._pen is None and is_plain and not _SGR.search(data, start):
            self._pen = b""
        if start:
            self._begin_row(scrolls or self.fresh_below, data[start - 2 : start])
        position = start
        while position < len(data):
            found = _TOKEN.match(data, position)
            if found is None:
                self.lose()
                self._pen = None
                return
            position = found.end()
            if (text := found["text"]) is not None:
                self._print(text)
            elif (control := found["control"]) is not None:
                self._control(control[0])
            elif (final := found["final"]) is not None:
                self._sequence(found["parameters"], final.decode())
            elif (mode := found["mode"]) is not None and not _is_harmless(mode):
                self.lose()

    def _leave_row(self, data: bytes) -> None:
        """Follow ``data`` up to a newline, but only the pen, and whether the rows below are still blank."""
        moved_at = None
        for found in _TOKEN.finditer(data):
            final, mode = found["final"], found["mode"]
            if final == b"m":
                self._set_pen(found["parameters"])
            elif final is not None and final not in b"CDGKPX@cn":
                self.fresh_below = final == b"J" and found["parameters"] in (b"", b"0", b"2")
                moved_at = found.end()
            elif mode is not None and not _is_harmless(mode):
                self.fresh_below = False
                moved_at = found.end()
        if b"\x1b" in _TOKEN.sub(b"", data):  # a sequence that is not understood here
            self.fresh_below = False
            self._pen = None
            moved_at = len(data)
        self._newlines = data.count(b"\n", moved_at or 0) + (self._newlines if moved_at is None else 0)
        if self._newlines >= self._rows:
            self.fresh_below = True

    def _begin_row(self, is_blank: bool, newline: bytes) -> None:
        self._cells = [self._erased if is_blank else None] * self.columns
        self.column = 0 if newline == b"\r\n" else None

    def _control(self, byte: int) -> None:
        if byte == 0x0D:
            self.column = 0
        elif self.column is None or byte == 0x07:
            return
        elif byte == 0x08:
            self.column = max(0, self.column - 1)
        elif byte == 0x09:
            self.column = min((self.column // _TAB_WIDTH + 1) * _TAB_WIDTH, self.columns - 1)
        elif byte != 0:
            self.lose()

    @property
    def _erased(self) -> Cell | None:
        """A cell after an erasure; None, unknown, if it has a colour."""
        return BLANK if self._pen == b"" else None

    def _print(self, text: bytes) -> None:
        if self._pen is None or self.column is None:
            self._lose_row()
            return
        try:
            characters = text.decode()
        except UnicodeDecodeError:
            self._lose_row()
            return
        for character in characters:
            width = character_width(character)
            if width_range(character) != (width, width) or width < 1:
                self._lose_row()
                return
            if self.column + width >= self.columns:
                self._lose_row()  # the cursor leaves the row, or may leave it
                return
            self._cells[self.column : self.column + width] = [
                Cell(character, self._pen),
                *[Cell("", self._pen)] * (width - 1),
            ]
            self.column += width

    def _sequence(self, parameters: bytes, final: str) -> None:
        if final == "m":
            self._set_pen(parameters)
            return
        if not parameters.isdigit() and parameters:
            self.lose()
            return
        number = int(parameters or 0)
        if final == "K" and self.column is not None and number <= 2:
            start, end = ((self.column, self.columns), (0, self.column + 1), (0, self.columns))[number]
            self._cells[start:end] = [self._erased] * (end - start)
        elif final == "J" and self.column is not None and number == 0:
            self._cells[self.column :] = [self._erased] * (self.columns - self.column)
            self.fresh_below = self._erased is not None
        elif final == "J" and number == 2:
            self._cells = [self._erased] * self.columns
            self.fresh_below = self._erased is not None
        elif final == "C" and self.column is not None:
            self.column = min(self.column + (number or 1), self.columns - 1)
        elif final == "D" and self.column is not None:
            self.column = max(self.column - (number or 1), 0)
        elif final in "G`":
            self.column = min((number or 1) - 1, self.columns - 1)
        elif final == "P" and self.column is not None:
            count = min(number or 1, self.columns - self.column)
            del self._cells[self.column : self.column + count]
            self._cells += [self._erased] * count
        elif final == "@" and self.column is not None:
            count = min(number or 1, self.columns - self.column)
            self._cells[self.column : self.column] = [self._erased] * count
            del self._cells[self.columns :]
        elif final == "X" and self.column is not None:
            end = min(self.column + (number or 1), self.columns)
            self._cells[self.column : end] = [self._erased] * (end - self.column)
        elif final in _WITHIN_ROW and self.column is None:
            self._lose_row()
        elif final == "J" and number == 0:
            self._lose_row()
            self.fresh_below = self._erased is not None
        elif final not in "cn":
            self.lose()

    def _set_pen(self, parameters: bytes) -> None:
        if parameters.strip(b"0") == b"":
            self._pen = b""
        elif parameters.startswith((b"0;", b"00;")):
            self._pen = b"\x1b[%bm" % parameters
        elif self._pen is not None and not (self._pen == b"" and _RESETS.issuperset(parameters.split(b";"))):
            self._pen += b"\x1b[%bm" % parameters
            if len(self._pen) > 256:
                self.lose()
                self._pen = None


def _is_harmless(mode: bytes) -> bool:
    return _HARMLESS_MODES.issuperset(mode[3:-1].split(b";"))
