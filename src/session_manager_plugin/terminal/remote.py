"""The remote's part of the terminal: what it has made of it, and what of its sequences has to be corrected. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from session_manager_plugin.terminal import sequences
from session_manager_plugin.terminal.cursor import Cursor, character_width
from session_manager_plugin.terminal.modes import Modes
from session_manager_plugin.terminal.pen import PLAIN, Pen
from session_manager_plugin.terminal.sequences import CONTROL, Sequence
from session_manager_plugin.terminal.size import TerminalSize

# No copy of the screen is kept, only where the cursor is, what it draws with, the scroll region, and the modes.
# While the remote is `limited` there is a row below its last one. Then changed are
#  - rows and margins below its last one: they become that one;
#  - movements that would lead there, which happens only to a cursor below the scroll region of the remote's own;
#  - a question for the size (`CSI 18 t`): it is answered here;
#  - what restores a saved cursor, when ours is in the slot: terminals have one, and `aside` uses it.
# What undoes the margins is followed by what sets them again. Otherwise nothing is changed.

_SAVE = b"\x1b7"  # DECSC
_RESTORE = b"\x1b8"
ABSOLUTE = b"\x1b[?6l"  # origin mode off: rows count from the top of the screen
RELATIVE = b"\x1b[?6h"
NO_LINK = b"\x1b]8;;\x1b\\"
_INVISIBLE_END = re.compile(rb"(?:\x1b\[[0-9;:]*[mK]|[\x00-\x1f\x7f])*\Z")
_ERASES_CHARACTER = re.compile(rb"\x1b\[0*[12]K")
_CONFINED = re.compile(rb"\x1b\[[0-9;:]*[mK]|[\x00-\x1f\x7f]|[^\x00-\x1f\x7f]+")


@dataclass
class _Saved:
    """What DECSC has saved on one of the two screens; at first what DECRC then restores: the initial state."""

    row: int = 0
    column: int = 0
    pen: Pen = field(default_factory=Pen)
    origin: bool = False
    ours: bool = False
    """Whether the terminal's slot holds something else by now."""
    awaited: bool = False
    """Whether the remote has not restored it yet."""
    uncertain: bool = False
    """Whether the row is not known, so that only the terminal's slot can bring it back."""


class Remote:
    """Follows what the remote writes; `text` and `sequence` give what is to be written instead."""

    def __init__(self, size: TerminalSize) -> None:
        self.questions: list[bytes] = []
        """What is to be typed to the remote as the terminal's answers; the owner empties it."""
        self.damaged = False
        """Whether something was done that reaches below the last row; the owner sets it back."""
        self.limited = False
        self.cursor = Cursor(*size)
        self.pen = Pen()
        self.modes = Modes()
        self.origin = False
        self.alternate = 0
        """The mode that has switched to the alternate screen; 0 on the normal one."""
        self._written_pen = self.pen
        self._margins_of_normal = (0, size.rows - 1)
        self._saved = {False: _Saved(), True: _Saved()}

    @property
    def size(self) -> TerminalSize:
        """Its size as it knows it."""
        return TerminalSize(self.cursor.columns, self.cursor.last + 1)

    @property
    def saved(self) -> _Saved:
        """What DECRC would restore now."""
        return self._saved[bool(self.alternate)]

    @property
    def is_delicate(self) -> bool:
        """Whether `aside` would lose something, for now: a saved cursor of which only the terminal knows the place, or
        that a wrap is due behind a character that is not known."""
        saved, cursor = self.saved, self.cursor
        return (saved.awaited and saved.uncertain and not saved.ours) or (cursor.is_wrap_due and not cursor.written)

    @property
    def region(self) -> bytes:
        """What sets the scroll region; it also moves the cursor to the first row."""
        return b"\x1b[%d;%dr" % (self.cursor.top + 1, self.cursor.bottom + 1)

    @property
    def has_region(self) -> bool:
        """Whether the remote has set a scroll region of its own."""
        return (self.cursor.top, self.cursor.bottom) != (0, self.cursor.last)

    def resize(self, size: TerminalSize) -> None:
        """A new size: the scroll region is all of it, and where the cursor is remains to be seen."""
        self.cursor.resize(*size)
        self.cursor.unknown_rows = size.rows
        self._margins_of_normal = (0, size.rows - 1)
        self.saved.ours = True

    def text(self, text: bytes) -> bytes:
        """Text with controls, SGR and EL."""
        cursor = self.cursor
        if cursor.is_below_region and self.limited:
            text = self._confine(text)
        else:
            cursor.follow(text)
        if b"\x0e" in text or b"\x0f" in text:
            self.pen.shift(1 if text.rfind(b"\x0e") > text.rfind(b"\x0f") else 0)
        if cursor.column >= cursor.columns:
            self._follow_to_last_column(text)
        elif b"\x1b" in text:
            self.pen.follow(text)
        return text

    def _follow_to_last_column(self, text: bytes) -> None:
        """Takes note of what the character in the last column was drawn with, in case it must be drawn again."""
        found = _INVISIBLE_END.search(text)
        assert found is not None
        if found.start():
            self.pen.follow(text[: found.start()])
            self._written_pen = self.pen.copy()
        self.pen.follow(found[0])
        if _ERASES_CHARACTER.search(found[0]):
            self._blank_last_column()

    def _blank_last_column(self) -> None:
        # Erased again, since a blank that was written is something else for those who copy it.
        self.cursor.written = b" \x1b[1K"
        self._written_pen = self.pen.copy()

    def _confine(self, text: bytes) -> bytes:
        """Text below the scroll region, where the last row does not scroll: it must not go on to the bar."""
        out = []
        cursor = self.cursor
        for piece in _CONFINED.findall(text):
            if piece[0] == sequences.ESC:
                out.append(piece)
            elif piece[0] < 0x20 or piece[0] == 0x7F:
                if 0x0A <= piece[0] <= 0x0C and cursor.row == cursor.last:
                    piece = self._stay_in_last_row(b"\r" if cursor.newline_returns else b"")
                else:
                    cursor.control(piece[0])
                out.append(piece)
            else:
                for character in piece.decode("utf-8", "surrogateescape"):
                    encoded = character.encode("utf-8", "surrogateescape")
                    width = character_width(character)
                    if width and cursor.wraps and cursor.row == cursor.last and cursor.column + width > cursor.columns:
                        # A wide character leaves no remains in the cell that is too small for it.
                        out.append(b"\r" if cursor.is_wrap_due else b"\x1b[K\r")
                        cursor.column = 0
                    cursor.follow(encoded)
                    out.append(encoded)
        return b"".join(out)

    def _stay_in_last_row(self, then: bytes = b"") -> bytes:
        """What IND does in the last row below the region: nothing, but that a wrap is not due any more."""
        self.cursor.move_to()
        if then:
            self.cursor.column = 0
        return self._to_row(self.cursor.last) + then

    def _to_row(self, row: int) -> bytes:
        return b"\x1b[%dd" % (row + 1)

    def sequence(self, sequence: Sequence, raw: bytes) -> bytes:
        """A complete CSI or ESC sequence."""
        _, kind, body, final = sequence
        if not kind:
            return raw
        if body and CONTROL.search(body) is not None:
            # Terminals obey them at once.
            controls = b"".join(CONTROL.findall(body))
            body = CONTROL.sub(b"", body)
            clean = sequence._replace(body=body)
            return self.text(controls) + self.sequence(clean, b"\x1b%b%b%c" % (b"[" * (kind == "["), body, ord(final)))
        if kind == "e":
            return self._escape(body, final, raw)
        if (move := _MOVEMENTS.get(final)) is not None:
            parameters = sequences.numbers(body)
            return raw if parameters is None else move(self, parameters, raw)
        handler = _OTHERS.get(final)
        return raw if handler is None else handler(self, body, raw)

    def repeat(self, previous: bytes, sequence: Sequence, raw: bytes) -> bytes:
        """REP, behind the byte `previous`; what is no ASCII character is not followed."""
        parameters = sequences.numbers(sequence.body)
        if parameters is None or not b" " <= previous <= b"~":
            return raw
        text = previous * min(_first(parameters), self.cursor.columns * (self.cursor.last + 1))
        written = self.text(text)
        return raw if written == text else written

    # --- ESC

    def _escape(self, body: bytes, final: str, raw: bytes) -> bytes:
        cursor = self.cursor
        if body:
            if body == b"#" and final == "8":
                return self._alignment_pattern(raw)
            self.pen.designate(body[0], body[1:] + final.encode())
            return raw
        match final:
            case "7":
                self._save()
            case "8":
                return self._restore(raw)
            case "D" | "E":
                if cursor.is_below_region and cursor.row == cursor.last and self.limited:
                    return self._stay_in_last_row(b"\r" if final == "E" else b"")
                cursor.index()
                if final == "E":
                    cursor.column = 0
            case "M":
                cursor.reverse_index()
            case "H":
                cursor.set_tab()
            case "c":
                return self._reset(raw)
            case "=" | ">":
                self.modes.set_keypad(final == "=")
            case "n" | "o":
                self.pen.shift(2 if final == "n" else 3)
        return raw

    def _reset(self, raw: bytes) -> bytes:
        """RIS."""
        self.cursor = Cursor(*self.size)
        self.pen = Pen()
        self._written_pen = self.pen
        self.modes.reset()
        self.origin = False
        self.alternate = 0
        self._saved = {False: _Saved(), True: _Saved()}
        self.damaged = True
        return raw + self.region if self.limited else raw  # the cursor is at home already

    def _alignment_pattern(self, raw: bytes) -> bytes:
        """DECALN: the screen full of E, the cursor at home, no margins."""
        self.cursor.set_region(0, self.cursor.last)
        self.cursor.move_to(0, 0)
        self.damaged = True
        return raw + self.aside(self.region) if self.limited else raw

    # --- the saved cursor

    def _save(self) -> None:
        cursor = self.cursor
        self._saved[bool(self.alternate)] = _Saved(
            cursor.row,
            min(cursor.column, cursor.columns - 1),
            self.pen.copy(),
            self.origin,
            awaited=True,
            uncertain=bool(cursor.unknown_rows),
        )

    def _restore(self, raw: bytes) -> bytes:
        """DECRC; where the terminal's slot is ours by now, what it would have done."""
        saved = self.saved
        saved.awaited = False
        cursor = self.cursor
        out = raw
        if self.limited and (saved.ours or saved.row > cursor.last):
            row = min(saved.row, cursor.last)
            pieces = [ABSOLUTE] if self.origin else []
            if saved.origin:
                row = max(cursor.top, min(row, cursor.bottom))
                pieces += [RELATIVE, b"\x1b[%d;%dH" % (row - cursor.top + 1, saved.column + 1)]
            else:
                pieces.append(b"\x1b[%d;%dH" % (row + 1, saved.column + 1))
            pieces += [PLAIN, saved.pen.attributes, saved.pen.sets]
            out = b"".join(pieces)
        cursor.move_to(saved.row, saved.column)
        cursor.unknown_rows = cursor.last + 1 if saved.uncertain else 0
        self.pen.restore(saved.pen)
        self.origin = saved.origin
        return out

    def _move_vertically(self, count: int, limit: int, raw: bytes, returns: bool) -> bytes:
        cursor = self.cursor
        row = cursor.row + count
        cursor.move_to()  # a wrap is not due any more
        out = raw
        if row > cursor.last and cursor.last == limit and self.limited:
            out = self._to_row(cursor.last) + (b"\r" if returns else b"")
        cursor.row = min(row, limit)
        if returns:
            cursor.column = 0
        return out

    def _down(self, parameters: list[int], raw: bytes, returns: bool = False) -> bytes:
        cursor = self.cursor
        if not cursor.is_below_region:
            cursor.down(_first(parameters))
            if returns:
                cursor.column = 0
            return raw
        return self._move_vertically(_first(parameters), cursor.last, raw, returns)

    def _next_line(self, parameters: list[int], raw: bytes) -> bytes:
        return self._down(parameters, raw, True)

    def _relative_row(self, parameters: list[int], raw: bytes) -> bytes:
        return self._move_vertically(_first(parameters), self.cursor.last, raw, False)

    def _up(self, parameters: list[int], raw: bytes) -> bytes:
        self.cursor.up(_first(parameters))
        return raw

    def _previous_line(self, parameters: list[int], raw: bytes) -> bytes:
        self.cursor.up(_first(parameters))
        self.cursor.column = 0
        return raw

    def _right(self, parameters: list[int], raw: bytes) -> bytes:
        self.cursor.right(_first(parameters))
        return raw

    def _left(self, parameters: list[int], raw: bytes) -> bytes:
        self.cursor.right(-_first(parameters))
        return raw

    def _to_column(self, parameters: list[int], raw: bytes) -> bytes:
        self.cursor.move_to(column=_first(parameters) - 1)
        return raw

    def _row_of(self, number: int) -> int:
        """The row that parameter `number` of an absolute movement means."""
        if self.origin:
            return min(self.cursor.top + number - 1, self.cursor.bottom)
        return number - 1

    def _absolute_row(self, parameters: list[int], raw: bytes) -> bytes:
        number = _first(parameters)
        row = self._row_of(number)
        self.cursor.move_to(row)
        return self._to_row(self.cursor.last) if row > self.cursor.last and self.limited else raw

    def _position(self, parameters: list[int], raw: bytes) -> bytes:
        row = self._row_of(_first(parameters))
        column = parameters[1] if len(parameters) > 1 else 0
        self.cursor.move_to(row, max(column, 1) - 1)
        if row > self.cursor.last and self.limited:
            return b"\x1b[%d;%dH" % (self.cursor.last + 1, max(column, 1))
        return raw

    def _tab(self, parameters: list[int], raw: bytes) -> bytes:
        self.cursor.tab(_first(parameters))
        return raw

    def _back_tab(self, parameters: list[int], raw: bytes) -> bytes:
        self.cursor.tab(-_first(parameters))
        return raw

    def _clear_tab(self, parameters: list[int], raw: bytes) -> bytes:
        which = parameters[0] if parameters else 0
        if which in (0, 3):
            self.cursor.clear_tab(which == 3)
        return raw

    def _insert_line(self, _parameters: list[int], raw: bytes) -> bytes:
        cursor = self.cursor
        cursor.move_to(column=0 if cursor.top <= cursor.row <= cursor.bottom else None)
        return raw

    def _change_characters(self, _parameters: list[int], raw: bytes) -> bytes:
        self.cursor.move_to()  # a wrap is not due any more
        return raw

    def _scroll(self, _parameters: list[int], raw: bytes) -> bytes:
        self.cursor.written = b""  # another row is there now
        return raw

    def _size_question(self, parameters: list[int], raw: bytes) -> bytes:
        if parameters[:1] == [18] and self.limited:
            size = self.size
            self.questions.append(b"\x1b[8;%d;%dt" % (size.rows, size.columns))
            return b""
        return raw

    def _set_margins(self, parameters: list[int], raw: bytes) -> bytes:
        """DECSTBM: rows counted from 1, the whole screen by default; ignored unless it spans two rows."""
        cursor = self.cursor
        top = _first(parameters)
        given = parameters[1] if len(parameters) > 1 else 0
        bottom = min(given or cursor.last + 1, cursor.last + 1)
        if top >= bottom:
            return b"" if self.limited else raw
        cursor.set_region(top - 1, bottom - 1)
        cursor.move_to(cursor.top if self.origin else 0, 0)
        return raw if given == bottom or not self.limited else b"\x1b[%d;%dr" % (top, bottom)

    def _save_by_csi(self, parameters: list[int], raw: bytes) -> bytes:
        if not self.modes.has(69):  # else DECSLRM
            self._save()
        return raw

    def _erase(self, body: bytes, raw: bytes) -> bytes:
        """ED, DECSED."""
        which = body.lstrip(b"?")
        if self.cursor.is_wrap_due and which.strip(b"0") in (b"1", b"2"):
            self._blank_last_column()
        if which.strip(b"0") != b"1":
            self.damaged = True
        return raw

    def _attributes(self, body: bytes, raw: bytes) -> bytes:
        if body[:1] == b">":
            fields = body[1:].split(b";")
            if fields[0] in (b"", b"4"):
                self.modes.set_modify_keys(int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else 0)
        elif not body.strip(b"0123456789;:"):
            self.pen.set_attributes(body)
        return raw

    def _soft_reset(self, body: bytes, raw: bytes) -> bytes:
        """DECSTR."""
        if body != b"!":
            return raw
        self.modes.soft_reset()
        self.pen.reset()
        self.origin = False
        self.cursor.wraps = True
        self.cursor.set_region(0, self.cursor.last)
        self._saved[bool(self.alternate)] = _Saved()
        self.damaged = True
        return raw + self.aside(self.region) if self.limited else raw

    def _cursor_style(self, body: bytes, raw: bytes) -> bytes:
        if body.endswith(b" ") and (style := body[:-1] or b"0").isdigit():
            self.modes.set_cursor_style(int(style))
        return raw

    def _rectangle(self, body: bytes, raw: bytes) -> bytes:
        """DECFRA, DECERA and the like reach to the last row by default."""
        if body.endswith(b"$"):
            self.damaged = True
        return raw

    def _restore_or_keyboard(self, body: bytes, raw: bytes) -> bytes:
        if not body:
            return self._restore(raw)
        if body[:1] == b">":
            self.modes.push_keyboard()
        elif body[:1] == b"<":
            self.modes.pop_keyboard(int(body[1:]) if body[1:].isdigit() else 1)
        return raw

    def _set_modes(self, body: bytes, raw: bytes) -> bytes:
        return self._switch_modes(body, True, raw)

    def _reset_modes(self, body: bytes, raw: bytes) -> bytes:
        return self._switch_modes(body, False, raw)

    def _switch_modes(self, body: bytes, on: bool, raw: bytes) -> bytes:
        private = body[:1] == b"?"
        parameters = sequences.numbers(body[1:] if private else body)
        if parameters is None:
            return raw
        cursor = self.cursor
        after: list[bytes] = []
        for number in parameters:
            if not private:
                self.modes.set_ansi(number, on)
                cursor.newline_returns = self.modes.newline_returns
                continue
            self.modes.set_private(number, on)
            match number:
                case 3:  # DECCOLM, where it is allowed
                    after.append(self._mend_margins())
                case 6:
                    self.origin = on
                    cursor.move_to(cursor.top if on else 0, 0)
                case 7:
                    cursor.wraps = on
                case 1048:
                    if on:
                        self._save()
                    else:
                        after.append(self._restored())
                case 47 | 1047 | 1049:
                    after.append(self._switch_screens(number, on))
        return raw + b"".join(after)

    def _switch_screens(self, number: int, on: bool) -> bytes:
        cursor = self.cursor
        if on:
            if number == 1049:
                self._save()
            if not self.alternate:
                self._margins_of_normal = (cursor.top, cursor.bottom)
                cursor.set_region(0, cursor.last)
                self.alternate = number
        elif self.alternate:
            self.alternate = 0
            cursor.set_region(*self._margins_of_normal)
        mended = self._mend_margins()
        return mended + self._restored() if number == 1049 and not on else mended

    def _mend_margins(self) -> bytes:
        """Sets the margins again where they may be lost: some terminals keep them for each screen, some for both."""
        self.damaged = True
        return self.aside(self.region) if self.limited else b""

    def _restored(self) -> bytes:
        """What has to follow a sequence that has restored the cursor."""
        return self._restore(b"")

    def aside(self, body: bytes) -> bytes:
        """`body` written without the remote's noticing."""
        pen, cursor = self.pen, self.cursor
        pieces = [_SAVE]
        if self.origin:
            pieces.append(ABSOLUTE)
        sets = pen.sets_plain
        pieces.append(sets)
        if pen.link:
            pieces.append(NO_LINK)
        pieces.append(body)
        if pen.link:
            pieces.append(b"\x1b]8;%b\x1b\\" % pen.link)
        if self.origin:
            pieces.append(RELATIVE)  # not all terminals restore it
        pieces.append(_RESTORE)
        if sets:
            pieces.append(pen.sets)
        pieces.append(pen.attributes)
        if cursor.is_wrap_due:
            pieces.append(self._make_wrap_due())
        self.saved.ours = True
        return b"".join(pieces)

    def write_again(self, text: str) -> bytes:
        """Writes the character that was written last once more, over itself."""
        cursor = self.cursor
        width = character_width(text[0])
        back = b"\x1b[%dG" % (cursor.columns - width + 1) if cursor.is_wrap_due else b"\x1b[%dD" % width
        # What is inserted must not push the old one along; nothing may stand behind the character, see Screen._join.
        room = b"\x1b[%dP" % width if self.modes.inserts else b""
        return back + room + text.encode()

    def _make_wrap_due(self) -> bytes:
        """Makes a wrap due again, which not all terminals restore: by what made it due."""
        pen, written_pen = self.pen, self._written_pen
        if not self.cursor.written:
            self.cursor.move_to()
            return b""
        pieces = [self.write_again(self.cursor.written.decode("utf-8", "replace"))]
        if written_pen.attributes != pen.attributes:
            pieces = [PLAIN, written_pen.attributes, *pieces, PLAIN, pen.attributes]
        if written_pen.character_sets != pen.character_sets:
            pieces = [written_pen.sets, *pieces, pen.sets]
        return b"".join(pieces)


def _first(parameters: list[int]) -> int:
    """The first parameter, where 0 and none mean 1."""
    return (parameters[0] or 1) if parameters else 1


_MOVEMENTS: dict[str, Callable[[Remote, list[int], bytes], bytes]] = {
    "A": Remote._up,
    "B": Remote._down,
    "C": Remote._right,
    "D": Remote._left,
    "E": Remote._next_line,
    "F": Remote._previous_line,
    "G": Remote._to_column,
    "H": Remote._position,
    "I": Remote._tab,
    "L": Remote._insert_line,
    "M": Remote._insert_line,
    "P": Remote._change_characters,
    "S": Remote._scroll,
    "T": Remote._scroll,
    "X": Remote._change_characters,
    "Z": Remote._back_tab,
    "@": Remote._change_characters,
    "`": Remote._to_column,
    "a": Remote._right,
    "d": Remote._absolute_row,
    "e": Remote._relative_row,
    "f": Remote._position,
    "g": Remote._clear_tab,
    "r": Remote._set_margins,
    "s": Remote._save_by_csi,
    "t": Remote._size_question,
}
"""Sequences whose parameters are numbers only; with anything else they are others, of no interest here."""

_OTHERS: dict[str, Callable[[Remote, bytes, bytes], bytes]] = {
    "J": Remote._erase,
    "h": Remote._set_modes,
    "l": Remote._reset_modes,
    "m": Remote._attributes,
    "p": Remote._soft_reset,
    "q": Remote._cursor_style,
    "u": Remote._restore_or_keyboard,
    "v": Remote._rectangle,
    "x": Remote._rectangle,
    "z": Remote._rectangle,
    "{": Remote._rectangle,
}
