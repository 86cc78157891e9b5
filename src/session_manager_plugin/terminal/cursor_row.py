"""The cells of the row that the cursor is in, as far as they are known. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

from session_manager_plugin.terminal.character_width import character_width, width_range
from session_manager_plugin.terminal.pen import in_force

# Enough for a line that is being typed, and no more: a sequence that addresses another place of the screen makes the
# row unknown. It is known again after a newline into a row that is certainly blank: one that has scrolled in, or one
# that was erased. For that the lowest row that may have text of the remote is followed, by its distance from the cursor
# (`_below`): nothing is written below the cursor, so a newline or a wrap never increases the distance, and a cursor
# that moves up by some rows increases it by as many. What was on the screen before the session is unseen: the owner may
# erase it where the remote has written nothing.

_TOKEN = re.compile(
    # Keypad, character set, cursor shape; titles and reports; keyboard modes; requests.
    rb"(?P<harmless>\x1b[=>]|\x1b\(B|\x1b\[[0-9]* q|\x1b\[(?:1[1-9]|2[0-3])(?:;[0-9]+)*t"
    rb"|\x1b\[[>=<][0-9;]*[cmqu]|\x1b\[\?[0-9;]*(?:[mu]|\$p)|\x1bP[$+]q[^\x07\x1b]*\x1b\\)"
    rb"|\x1b\[(?P<parameters>[0-9;:]*)(?P<final>[@A-Za-z`])"
    rb"|(?P<mode>\x1b\[\?[0-9;]*[hl])"
    rb"|(?P<string>\x1b\][^\x07\x1b]*(?:\x07|\x1b\\))"
    rb"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f])"
    rb"|(?P<text>(?:[^\x00-\x1f\x7f\xc2]+|\xc2(?=[\xa0-\xbf]))+)"  # and no C1 control
)
_MOVES = re.compile(rb"\x1b(?!\[[0-9;:]*[CDGKPX@`cmn])|\xc2(?![\xa0-\xbf])")
"""What may move the cursor up, or write to rows below it."""
_LAST_PLACE = re.compile(rb".*\x1b\[(?P<parameters>[0-9;]*)[Hf]", re.DOTALL)
"""Up to the last sequence that addresses a place of the screen: what is before it decides only the pen."""
_MAY_SET_PEN = re.compile(
    rb"\x1b(?![=>\\\]]|\(B|P[$+]q|\[(?:[0-9;:]*[@A-Za-tv-z`]|[0-9]* q|[>=<][0-9;]*[cmqu]"
    rb"|\?(?:1|7|12|25|1004|2004|2026)[hl]|\?[0-9;]*(?:[mu]|\$p)))|\xc2[\x80-\x9f]"
)
"""What may set colours and attributes, apart from SGR, such as DECRC."""
_SGR = re.compile(rb"\x1b\[[0-9;:]*m")
_PARAMETERS = re.compile(rb"\x1b\[([0-9;:]*)m")
_RESETS = frozenset({b"22", b"23", b"24", b"25", b"27", b"28", b"29", b"39", b"49"})
"""Parameters of SGR that reset one kind of attribute."""
_PLACE = re.compile(rb"[0-9]*(?:;(?P<column>[0-9]*))?")
_ERASES_TO_BLANK = re.compile(
    rb"(?:\x1b\[(?:;?(?:0*[123]?|2[2-9]|3[0-79]|49|9[0-7]|38;5;[0-9]+|38;2;[0-9]+;[0-9]+;[0-9]+))*m)*"
)
"""SGR sequences that leave erased cells as they are after a reset: these have the background's colour and, in some
terminals, other attributes, but in none the colour of text, bold, dim, or italic."""
_TAB_WIDTH = 8
_LONGEST = 8192
"""Bytes up to the last newline that are parsed sequence by sequence, if one of them may lead upwards."""
_HARMLESS_MODES = frozenset(b"1 7 12 25 1000 1002 1003 1004 1005 1006 1007 1015 1034 1036 1039 2004 2026 2031".split())
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
_PLAIN = [Cell(chr(byte)) for byte in range(0x80)]
_UNSEEN = Cell("", is_written=False)
"""A cell that was not written to since the session began."""


class CursorRow:
    """Follows output. ``column`` is the cursor's column, counted from 0; None while it is unknown.

    Call ``resize`` first: the number of columns is 0 until then.
    """

    def __init__(self) -> None:
        self.columns = 0
        self.column: int | None = None
        self.rows_left = 0
        """How often a newline has led to another row. Two equal numbers mean the same row."""
        self._cells: list[Cell | None] = []
        self._rows = 0
        self._below = 0
        """How many rows below the cursor the lowest is that may have text, as far as the remote is concerned: it has
        written to none below that."""
        self._unseen = 0
        """How many rows below that may show what was there before the session."""
        self._kept: tuple[int | None, list[Cell | None], int] | None = None
        self._pen: bytes | None = b""
        """The SGR sequences since the last reset; None while they are unknown."""

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of the screen. The row becomes unknown; on every call but the first the rows below
        do too."""
        is_first = not self.columns
        self.columns, self._rows = columns, rows
        self._kept = None
        self.lose()
        self._unseen = 0
        if is_first:
            self._below, self._unseen = 0, rows - 1
            self._cells = [_UNSEEN] * columns

    def lose(self) -> None:
        """Make the row and the rows below unknown."""
        self._lose_row()
        self._below = self._rows - 1

    def _lose_row(self) -> None:
        self.column = None
        self._cells = [None] * self.columns

    def leave(self) -> None:
        """Keep what is known, while another screen is shown."""
        self._kept = self.column, self._cells, self._below
        self.lose()

    def miss(self) -> None:
        """Make everything unknown: output was not fed, which may have set colours."""
        self.lose()
        self._kept = None
        self._pen = None

    def come_back(self) -> None:
        """Restore what was known when the screen was left; the cursor is where it was."""
        if self._kept is not None:
            self.column, self._cells, self._below = self._kept
            self._kept = None
        self._pen = None

    def cells(self, start: int, end: int) -> list[Cell] | None:
        """Return the cells of these columns; None if one of them is unknown."""
        cells = self._cells[start:end]
        if None in cells or _UNSEEN in cells or len(cells) < end - start:
            return None
        return [cell for cell in cells if cell is not None]

    def see_rest(self) -> int:
        """Return how many cells, from the cursor on, the owner must erase, so that the rest of the row is known."""
        if self.column is None or _UNSEEN not in (rest := self._cells[self.column :]):
            return 0
        if any(cell not in (_UNSEEN, BLANK) for cell in rest):
            return 0
        self._cells[self.column :] = [BLANK] * len(rest)
        return len(rest)

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

    def feed(self, data: bytes, *, rows_below: int | None = None, is_plain: bool = False) -> None:
        """Follow output, whole sequences and characters. ``rows_below``: how many rows there are below the cursor
        before it, if that is known. ``is_plain``: no colours and attributes are in effect after it, for certain."""
        if rows_below is not None:
            self._below = min(self._below, rows_below)
            self._unseen = min(self._unseen, rows_below - self._below)
        start = data.rfind(b"\n") + 1
        if start:
            self.rows_left += 1
            self._leave_row(data[: start - 1])
        if self._pen is None and is_plain and not _SGR.search(data, start):
            self._pen = b""
        if start:
            self._begin_row(data[start - 2 : start])
        if b"\x1b" in data and (placed := _LAST_PLACE.match(data, start)) is not None:
            position = placed.start("parameters") - 2
            self._leave_row(data[start:position])
        else:
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
                self._pen = None

    def _leave_row(self, data: bytes) -> None:
        """Follow ``data`` in front of a newline, or of a sequence that addresses a place, but only the pen, and the
        distance of the lowest row."""
        if b"\x1b" not in data and b"\xc2" not in data:
            self._go_down(data.count(b"\n"))
            return
        position = 0
        if (placed := _LAST_PLACE.match(data)) is not None:
            self._move_rows(placed["parameters"], "H")
            position = placed.end()
        if _MOVES.search(data, position) is None:
            self._go_down(data.count(b"\n", position))
            self._follow_pen(data)
        elif len(data) - position > _LONGEST:
            for found in _MOVES.finditer(data, position):
                self._below = self._rows - 1
                position = found.end()
            self._go_down(data.count(b"\n", position))
            self._follow_pen(data)
        else:
            self._follow_pen(data[:position])
            self._follow_moves(data, position)

    def _follow_pen(self, data: bytes) -> None:
        reset_at = max(0, data.rfind(b"\x1b[m"), data.rfind(b"\x1b[0m"))
        for parameters in _PARAMETERS.findall(data, reset_at):
            self._set_pen(parameters)
        if _MAY_SET_PEN.search(data, reset_at) is not None:
            self._pen = None

    def _follow_moves(self, data: bytes, position: int) -> None:
        """Follow the pen and the distance of the lowest row in ``data``, sequence by sequence."""
        for found in _TOKEN.finditer(data, position):
            if found.start() != position:
                break
            position = found.end()
            if found["control"] == b"\n":
                self._go_down(1)
            elif (final := found["final"]) == b"m":
                self._set_pen(found["parameters"])
            elif final is not None and final not in b"CDGKPX@`cn":
                self._move_rows(found["parameters"], final.decode())
            elif (mode := found["mode"]) is not None and not _is_harmless(mode):
                self._below = self._rows - 1
                self._pen = None
        if position < len(data):  # a sequence that is not understood here
            self._below = self._rows - 1
            self._pen = None

    def _go_down(self, count: int) -> None:
        """Follow so many newlines."""
        new = max(0, count - self._below)
        self._below = max(0, self._below - count)
        self._unseen = max(0, self._unseen - new)

    def _move_rows(self, parameters: bytes, final: str) -> None:
        """Follow a sequence that may move the cursor to another row, or change rows below it."""
        first = parameters.split(b";")[0]
        count = int(first or 0) if first.isdigit() or not first else None
        if count is None:
            self._below = self._rows - 1
        elif final in "AF":
            self._below = min(self._below + (count or 1), self._rows - 1)
        elif final in "BE":
            self._below = max(0, self._below - (count or 1))
        elif final in "Hfd":
            self._below = max(0, self._rows - (count or 1))
        elif final == "J" and count in (0, 2):
            self._below = self._rows - 1 if self._erased is None else 0
            self._unseen = 0
        elif final != "J":
            self._below = self._rows - 1
            if final == "u":  # restores the colours that were saved, too
                self._pen = None

    def _begin_row(self, newline: bytes) -> None:
        """Follow a newline: the row is known to be blank if the cursor was in the lowest row that may have text."""
        blank = _UNSEEN if self._unseen else self._erased
        self._cells = [None if self._below else blank] * self.columns
        self._go_down(1)
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
        """A cell after an erasure; None, unknown, if it may have a colour."""
        return BLANK if self._pen is not None and _ERASES_TO_BLANK.fullmatch(self._pen) else None

    def _print(self, text: bytes) -> None:
        if self._pen is None or self.column is None:
            self._lose_row()
            return
        if text.isascii():
            end = self.column + len(text)
            if end >= self.columns:
                self._lose_row()  # the cursor leaves the row, or may leave it
                return
            pen = self._pen
            self._replace(self.column, end, [Cell(chr(byte), pen) if pen else _PLAIN[byte] for byte in text])
            self.column = end
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
                self._lose_row()
                return
            halves = [Cell("", self._pen)] * (width - 1)
            self._replace(self.column, self.column + width, [Cell(character, self._pen), *halves])
            self.column += width

    def _replace(self, start: int, end: int, cells: Sequence[Cell | None]) -> None:
        """Replace cells. A wide character of which one half is replaced becomes unknown."""
        for half in (start, end):
            if half < len(self._cells) and _is_second_half(self._cells[half]):
                self._cells[half - 1] = self._cells[half] = None
        self._cells[start:end] = cells

    def _sequence(self, parameters: bytes, final: str) -> None:
        if final == "m":
            self._set_pen(parameters)
            return
        if final in "Hf" and (place := _PLACE.fullmatch(parameters)) is not None:
            self._lose_row()
            self.column = max(0, min(int(place["column"] or 1), self.columns) - 1)
            self._move_rows(parameters, final)
            return
        if not parameters.isdigit() and parameters:
            self.lose()
            return
        number = int(parameters or 0)
        if final == "K" and self.column is not None and number <= 2:
            start, end = ((self.column, self.columns), (0, self.column + 1), (0, self.columns))[number]
            self._replace(start, end, [self._erased] * (end - start))
        elif final == "J" and self.column is not None and number == 0:
            self._replace(self.column, self.columns, [self._erased] * (self.columns - self.column))
            self._move_rows(parameters, final)
        elif final == "J" and number == 2:
            self._cells = [self._erased] * self.columns
            self._move_rows(parameters, final)
        elif final == "J" and number == 3:
            return  # the lines that have scrolled out
        elif final == "C" and self.column is not None:
            self.column = min(self.column + (number or 1), self.columns - 1)
        elif final == "D" and self.column is not None:
            self.column = max(self.column - (number or 1), 0)
        elif final in "G`":
            self.column = min((number or 1) - 1, self.columns - 1)
        elif final == "P" and self.column is not None:
            count = min(number or 1, self.columns - self.column)
            self._replace(self.column, self.column + count, [])
            self._cells += [self._erased] * count
        elif final == "@" and self.column is not None:
            count = min(number or 1, self.columns - self.column)
            self._replace(self.column, self.column, [self._erased] * count)
            self._replace(self.columns, self.columns + count, [])
        elif final == "X" and self.column is not None:
            end = min(self.column + (number or 1), self.columns)
            self._replace(self.column, end, [self._erased] * (end - self.column))
        elif final in _WITHIN_ROW and self.column is None:
            self._lose_row()
        elif final == "J" and number == 0:
            self._lose_row()
            self._move_rows(parameters, final)
        elif final in "ABEFd":
            column = 0 if final in "EF" else self.column
            self._lose_row()
            self.column = column
            self._move_rows(parameters, final)
        elif final not in "cn":
            self.lose()
            self._move_rows(parameters, final)

    def _set_pen(self, parameters: bytes) -> None:
        if parameters.strip(b"0;") == b"":
            self._pen = b""
        elif parameters.startswith((b"0;", b"00;")):
            self._pen = b"\x1b[%bm" % parameters
        elif self._pen is not None:
            self._pen += b"\x1b[%bm" % parameters
            if not _RESETS.isdisjoint(parameters.split(b";")):
                kept = [found for found in in_force(tuple(_PARAMETERS.findall(self._pen))) if found not in _RESETS]
                self._pen = b"".join([b"\x1b[%bm" % found for found in kept])
            if len(self._pen) > 256:
                self.lose()
                self._pen = None


def _is_second_half(cell: Cell | None) -> bool:
    return cell is not None and not cell.text and cell.is_written


def _is_harmless(mode: bytes) -> bool:
    return _HARMLESS_MODES.issuperset(mode[3:-1].split(b";"))
