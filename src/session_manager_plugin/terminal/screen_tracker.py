"""The remote's part of the terminal: what it has made of it, and what of its sequences has to be corrected. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from session_manager_plugin.terminal import sequences
from session_manager_plugin.terminal.character_width import character_width, width_range
from session_manager_plugin.terminal.cursor import Cursor
from session_manager_plugin.terminal.modes import Modes
from session_manager_plugin.terminal.movements import MOVEMENTS, first
from session_manager_plugin.terminal.pen import PLAIN, Pen
from session_manager_plugin.terminal.saved_cursor import SavedCursor
from session_manager_plugin.terminal.sequences import CONTROL, Sequence
from session_manager_plugin.terminal.size import TerminalSize
from session_manager_plugin.terminal.terminal_reports import Report

# No copy of the screen is kept, only where the cursor is, what it draws with, the scroll region, and the modes.
# While the remote is `limited` there is a row below its last one. Then changed are
#  - rows and margins below its last one: they become that one;
#  - movements that would lead there, which happens only to a cursor below the scroll region of the remote's own;
#  - a question for the size (`CSI 18 t`): it is answered here;
#  - what restores a saved cursor, when ours is in the slot: terminals have one, and `aside` uses it;
#  - a restored cursor is preceded by the origin mode that was saved with it: not all terminals restore that.
# What undoes the margins is followed by what sets them again. Otherwise nothing is changed.
#
# An address is written only if row and column are certain (`Cursor.is_known`). Else the terminal restores the cursor.

_SAVE = b"\x1b7"  # DECSC
_RESTORE = b"\x1b8"
ABSOLUTE = b"\x1b[?6l"  # origin mode off: rows count from the top of the screen
RELATIVE = b"\x1b[?6h"
NO_LINK = b"\x1b]8;;\x1b\\"
_NO_MARGINS = b"\x1b[r"
# IND and up again: scrolls by one if the cursor is on the last row. Unlike a newline it keeps the column under OPOST.
_MAKE_ROOM = b"\x1bD\x1b[A"
_ERASE_BELOW = PLAIN + b"\r\x1b[B\x1b[J"
_SIDE_MARGINS = 69  # DECLRMM
_INVISIBLE_END = re.compile(rb"(?:\x1b\[[0-9;:]*[mK]|[\x00-\x1f\x7f])*\Z")
_ERASES_CHARACTER = re.compile(rb"\x1b\[0*[12]K")
_CONFINED = re.compile(rb"\x1b\[[0-9;:]*[mK]|[\x00-\x1f\x7f]|[^\x00-\x1f\x7f]+")
_LAST_CHARACTER = re.compile(rb"(?:[\x20-\x7e]|[\xc2-\xf4][\x80-\xbf]{1,3})\Z")
_PLAIN_SEQUENCE_END = re.compile(rb"\x1b\[[0-9;:]*[mK]\Z")


class ScreenTracker:
    """Follows what the remote writes; `text`, `sequence` and `repeat` return what is to be written instead."""

    def __init__(self, size: TerminalSize) -> None:
        self.answers: list[bytes] = []
        """What is to be typed to the remote as the terminal's answers; the owner empties it."""
        self.asked: list[Report] = []
        """What the remote has asked the terminal to report, in order; the owner empties it."""
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
        self._forget_margins()
        self._saved = {False: SavedCursor(), True: SavedCursor()}

    def _forget_margins(self) -> None:
        self._margins = self._margins_of_normal = (0, self.cursor.last)
        self._in_force: tuple[int, int] | None = self._margins
        """The scroll region that the terminal has; None if it may have any."""

    @property
    def size(self) -> TerminalSize:
        """Its size as it knows it."""
        return TerminalSize(self.cursor.columns, self.cursor.last + 1)

    @property
    def saved(self) -> SavedCursor:
        """What DECRC would restore now."""
        return self._saved[bool(self.alternate)]

    @property
    def is_delicate(self) -> bool:
        """Whether drawing aside would lose something, for now: the remote's saved cursor, of which only the terminal
        knows the place; that a wrap is due, behind a character that is not known; a cluster that is not complete."""
        cursor = self.cursor
        if cursor.joins or (cursor.may_wrap and not (cursor.is_wrap_due and cursor.written)):
            return True
        return not cursor.is_known and self._spares_slot

    @property
    def wants_position(self) -> bool:
        """Whether something depends on the cursor's position, which is not known."""
        cursor = self.cursor
        return not cursor.is_row_known or (cursor.slack > 0 and (cursor.may_wrap or self._spares_slot))

    @property
    def _spares_slot(self) -> bool:
        """Whether to draw aside without DECSC: with side margins set DECSLRM follows it, which is SCOSC elsewhere."""
        return self.saved.is_precious or self.modes.has(_SIDE_MARGINS)

    @property
    def region(self) -> tuple[int, int]:
        """The first and last row that are to scroll.

        While the row is not known the remote's margins do not end above its last row: below them it would not scroll,
        and a newline would lead out of it.
        """
        top, bottom = self._margins
        return (top, bottom) if self.cursor.is_row_known or not self.limited else (top, self.cursor.last)

    @property
    def has_region(self) -> bool:
        """Whether the remote has set a scroll region of its own."""
        return self._margins != (0, self.cursor.last)

    @property
    def sets_region(self) -> bytes:
        """What sets the scroll region; it also moves the cursor to the first row."""
        top, bottom = self.region
        return b"\x1b[%d;%dr" % (top + 1, bottom + 1)

    def resize(self, size: TerminalSize, *, moved: bool) -> None:
        """Another size, or a terminal of unknown state: the scroll region is all of it, the cursor may be anywhere.

        `moved` says that a saved cursor may be elsewhere too. Next is `lay_out`.
        """
        self.cursor.resize(*size)
        self.cursor.lose()
        self._forget_margins()
        if moved:
            for saved in self._saved.values():
                saved.known = False

    def extend(self, size: TerminalSize) -> None:
        """The remote gets a terminal's last row too, or all but that; nothing has moved."""
        margins, had_region = self._margins, self.has_region
        self.cursor.resize(*size)
        self._forget_margins()
        if had_region:
            self._margins = margins
            self.cursor.set_region(*margins)

    def set_region(self, top: int, bottom: int) -> None:
        """DECSTBM, with its effect on the cursor."""
        self._margins = self._in_force = (top, bottom)
        self.cursor.set_region(top, bottom)
        self.cursor.move_to(self.row_of(1), self.column_of(1))

    def row_of(self, number: int) -> int:
        """The row that parameter `number` of an absolute movement means."""
        if self.origin:
            return min(self.cursor.top + number - 1, self.cursor.bottom)
        return number - 1

    def column_of(self, number: int) -> int:
        """The column that parameter `number` of an absolute movement means."""
        if self.origin:
            return min(self.cursor.left_margin + number - 1, self.cursor.right_margin)
        return number - 1

    def to_row(self, row: int) -> bytes:
        """What moves to a row of the screen, without origin mode."""
        return b"\x1b[%dd" % (row + 1)

    def locate(self, row: int, column: int) -> bytes:
        """The terminal has reported where the cursor is, as parameters of an absolute movement; what to write then."""
        self.cursor.locate(self.row_of(row), self.column_of(column))
        return self._apply_region()

    # --- text

    def text(self, text: bytes) -> bytes:
        """Text with controls, SGR and EL."""
        cursor = self.cursor
        if self.limited and cursor.is_row_known and cursor.is_below_region:
            text = self._confine(text)
        else:
            cursor.follow(text)
        if b"\x0e" in text or b"\x0f" in text:
            self.pen.shift(1 if text.rfind(b"\x0e") > text.rfind(b"\x0f") else 0)
        if cursor.column >= cursor.columns:
            self._follow_to_last_column(text)
        elif b"\x1b" in text:
            self.pen.follow(text)
        if self._in_force != self._margins or self._margins[1] != cursor.last:
            text += self._apply_region()
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
                    out.append(self._wrap_below_region(width_range(character)[1]))
                    encoded = character.encode("utf-8", "surrogateescape")
                    cursor.follow(encoded)
                    out.append(encoded)
        return b"".join(out)

    def _wrap_below_region(self, width: int) -> bytes:
        """What precedes a character of `width` cells, if it may wrap and that is not to be left to the terminal."""
        cursor = self.cursor
        if width <= 0 or not cursor.wraps or cursor.column + width <= cursor.columns:
            return b""
        if cursor.row == cursor.last:
            # A wide character leaves no remains in the cell that is too small for it.
            before = b"\r" if cursor.may_wrap else b"\x1b[K\r"
            cursor.move_to(column=0)
            return before
        if not cursor.slack:
            return b""
        cursor.move_to(cursor.row + 1, 0)
        return self.to_row(cursor.row) + b"\r"

    def _stay_in_last_row(self, then: bytes = b"") -> bytes:
        """What IND does in the last row below the region: nothing, but that a wrap is not due any more."""
        self.cursor.move_to(column=0 if then else None)
        return self.to_row(self.cursor.last) + then

    def repeat(self, before: bytes, sequence: Sequence, raw: bytes, *, interrupted: bool) -> bytes:
        """REP behind the text `before`; `interrupted` says that something of ours was written in between.

        Terminals agree about what is repeated only directly behind a character.
        """
        parameters = sequences.numbers(sequence.body)
        if parameters is None:
            return raw
        count = min(first(parameters), self.cursor.columns * (self.cursor.last + 1))
        found = None if _PLAIN_SEQUENCE_END.search(before) else _LAST_CHARACTER.search(before)
        character = found[0].decode("utf-8", "replace")[-1] if found is not None else ""
        if not character or width_range(character) not in ((1, 1), (2, 2)):
            if interrupted:
                return b""  # a character of ours would be repeated
            self.cursor.may_advance(count)
            return raw + self._apply_region()
        text = character.encode() * count
        written = self.text(text)
        return raw if written == text and character.isascii() and not interrupted else written

    # --- sequences

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
            written = self._escape(body, final, raw)
        elif (move := MOVEMENTS.get(final)) is not None:
            parameters = sequences.numbers(body)
            written = raw if parameters is None else move(self, parameters, raw)
        else:
            handler = _OTHERS.get(final)
            written = raw if handler is None else handler(self, body, raw)
        return written + self._apply_region()

    def _escape(self, body: bytes, final: str, raw: bytes) -> bytes:
        cursor = self.cursor
        if body:
            if body == b"#" and final == "8":
                return self._alignment_pattern(raw)
            self.pen.designate(body[0], body[1:] + final.encode())
            return raw
        match final:
            case "7":
                self.save_cursor()
            case "8":
                return self._restore(raw)
            case "D" | "E":
                if self.limited and cursor.is_row_known and cursor.is_below_region and cursor.row == cursor.last:
                    return self._stay_in_last_row(b"\r" if final == "E" else b"")
                cursor.index()
                if final == "E":
                    cursor.control(0x0D)
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
        self._forget_margins()
        self._saved = {False: SavedCursor(), True: SavedCursor()}
        self.damaged = True
        return raw + self.sets_region if self.limited else raw  # the cursor is at home already

    def _alignment_pattern(self, raw: bytes) -> bytes:
        """DECALN: the screen full of E, the cursor at home, no margins."""
        self._margins = (0, self.cursor.last)
        self.cursor.set_region(*self._margins)
        self.cursor.move_to(0, 0)
        self._lose_margins()
        return raw

    def _soft_reset(self, body: bytes, raw: bytes) -> bytes:
        """DECSTR."""
        if body != b"!":
            return raw
        self.modes.soft_reset()
        self.pen.reset()
        self.origin = False
        self.cursor.wraps = True
        self._margins = (0, self.cursor.last)
        self.cursor.set_region(*self._margins)
        self._saved[bool(self.alternate)] = SavedCursor()
        self._lose_margins()
        return raw

    # --- the saved cursor

    def save_cursor(self) -> None:
        """DECSC."""
        cursor = self.cursor
        self._saved[bool(self.alternate)] = SavedCursor(
            cursor.row,
            min(cursor.column, cursor.columns - 1),
            self.pen.copy(),
            self.origin,
            known=cursor.is_known,
            awaited=True,
        )

    def _restore(self, raw: bytes) -> bytes:
        """DECRC; where the terminal's slot is ours by now, what it would have done."""
        saved = self.saved
        before = b""
        if self.limited:
            if saved.ours or (saved.known and saved.row > self.cursor.last):
                return self._restore_by_address()
            if saved.origin != self.origin:
                before = RELATIVE if saved.origin else ABSOLUTE
        self._restored()
        return before + raw + self._apply_region_at_saved()

    def _restore_by_address(self) -> bytes:
        """DECRC, without the terminal's slot. Where the place is not known the cursor remains where it is."""
        saved = self.saved
        pieces = []
        if saved.known:
            if self.origin != saved.origin:
                pieces.append(RELATIVE if saved.origin else ABSOLUTE)
            self._restored()
            pieces.append(self._address())
        else:
            saved.awaited = False
            self.pen.restore(saved.pen)
        pieces += [PLAIN, saved.pen.attributes, saved.pen.sets]
        return b"".join(pieces)

    def _restored(self) -> None:
        """The terminal has restored the cursor."""
        saved = self.saved
        saved.awaited = False
        self.origin = saved.origin
        self.pen.restore(saved.pen)
        if not saved.known:
            self.cursor.lose()
            return
        row = saved.row
        if saved.origin:
            row = max(self.cursor.top, min(row, self.cursor.bottom))
        self.cursor.move_to(row, saved.column)

    def _address(self) -> bytes:
        """What moves to the present position, which is known."""
        cursor = self.cursor
        row, column = cursor.row, min(cursor.column, cursor.columns - 1)
        if self.origin:
            row, column = row - cursor.top, column - cursor.left_margin
        return b"\x1b[%d;%dH" % (row + 1, column + 1)

    # --- other sequences

    def _report(self, body: bytes, raw: bytes) -> bytes:
        """DSR."""
        if body == b"6":
            self.asked.append(Report.CURSOR_POSITION)
        return raw

    def _window_question(self, body: bytes, raw: bytes) -> bytes:
        """XTWINOPS."""
        if body == b"18" and self.limited:
            size = self.size
            self.answers.append(b"\x1b[8;%d;%dt" % (size.rows, size.columns))
            return b""
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

    # --- modes and screens

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
        for number in parameters:
            if not private:
                self.modes.set_ansi(number, on)
                cursor.newline_returns = self.modes.newline_returns
                continue
            self.modes.set_private(number, on)
            match number:
                case 3:  # DECCOLM, where it is allowed
                    self._lose_margins()
                    cursor.lose()
                case 6:
                    self.origin = on
                    cursor.move_to(self.row_of(1), self.column_of(1))
                case 7:
                    cursor.wraps = on
                case 69:
                    cursor.set_side_margins(0, cursor.columns - 1)
                case 1048:
                    if on:
                        self.save_cursor()
                    else:
                        raw = self._restored_by(raw)
                case 47 | 1047 | 1049:
                    raw = self._switch_screens(number, on, raw)
        return raw

    def _switch_screens(self, number: int, on: bool, raw: bytes) -> bytes:
        if on:
            if number == 1049:
                self.save_cursor()
            if not self.alternate:
                self._margins_of_normal = self._margins
                self._margins = (0, self.cursor.last)
                self.alternate = number
        elif self.alternate:
            self.alternate = 0
            self._margins = self._margins_of_normal
        # Some terminals keep margins for each screen, some for both.
        self.cursor.set_region(*self._margins)
        self._lose_margins()
        return self._restored_by(raw) if number == 1049 and not on else raw

    def _restored_by(self, raw: bytes) -> bytes:
        """`raw`, which restores the cursor among other things, with what has to stand around it."""
        saved = self.saved
        if not (self.limited and saved.ours):
            differs = self.limited and self.origin != saved.origin
            self._restored()
            if differs:
                raw += (RELATIVE if saved.origin else ABSOLUTE) + _RESTORE
            return raw + self._apply_region_at_saved()
        raw += self._restore_by_address()
        if saved.known:
            return raw
        self.cursor.lose()
        return _SAVE + raw

    # --- what is written aside

    def lay_out(self, *, erase: bool) -> bytes:
        """What takes the last row from the remote wherever the cursor is, which stays on its character."""
        # The margins go first, or the cursor could not leave those of before; setting them moves the cursor home.
        absolute, relative = (ABSOLUTE, RELATIVE) if self.origin else (b"", b"")
        pieces = [_SAVE, absolute, _NO_MARGINS, _RESTORE, _MAKE_ROOM]
        pieces += [_SAVE, _ERASE_BELOW if erase else b"", absolute, self.sets_region, relative, _RESTORE]
        if erase:
            pieces.append(self.pen.attributes)
        self.saved.ours = True
        return b"".join(pieces)

    def _lose_margins(self) -> None:
        """The terminal may have other margins now, and other things below the last row."""
        self._in_force = None
        self.damaged = True

    def _apply_region(self) -> bytes:
        """What sets the scroll region if it is not in force, and can be set now."""
        region = self.region
        if region == self._in_force or not self.limited:
            return b""
        if self.saved.is_precious and not self.cursor.is_known:
            return b""
        self._in_force = region
        self.cursor.set_region(*region)
        return self.aside(self.sets_region)

    def _apply_region_at_saved(self) -> bytes:
        """The same just after DECRC: what is saved again then is what the slot holds already."""
        was_ours = self.saved.ours
        written = self._apply_region()
        self.saved.ours = was_ours
        return written

    def aside(self, body: bytes) -> bytes:
        """`body` written without the remote's noticing; it moves the cursor, at most."""
        pen, cursor = self.pen, self.cursor
        by_address = self._spares_slot and cursor.is_known
        pieces = [b"" if by_address else _SAVE]
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
        pieces.append(self._address() if by_address else _RESTORE)
        if sets:
            pieces.append(pen.sets)
        pieces.append(pen.attributes)
        if cursor.is_wrap_due:
            pieces.append(self._make_wrap_due())
        if not by_address:
            self.saved.ours = True
        return b"".join(pieces)

    def draw_aside(self, body: bytes) -> bytes:
        """`body`, which prints in a row of ours, written aside; not while the screen `is_delicate`."""
        if not self.modes.has(_SIDE_MARGINS):
            return self.aside(body)
        # Turned off, since text wraps at them; turned on again, they are all columns.
        cursor = self.cursor
        sides = b"\x1b[%d;%ds" % (cursor.left_margin + 1, cursor.right_margin + 1) if cursor.has_sides else b""
        return self.aside(b"\x1b[?69l" + body + b"\x1b[?69h" + sides)

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


_OTHERS: dict[str, Callable[[ScreenTracker, bytes, bytes], bytes]] = {
    "J": ScreenTracker._erase,
    "h": ScreenTracker._set_modes,
    "l": ScreenTracker._reset_modes,
    "m": ScreenTracker._attributes,
    "n": ScreenTracker._report,
    "p": ScreenTracker._soft_reset,
    "q": ScreenTracker._cursor_style,
    "t": ScreenTracker._window_question,
    "u": ScreenTracker._restore_or_keyboard,
    "v": ScreenTracker._rectangle,
    "x": ScreenTracker._rectangle,
    "z": ScreenTracker._rectangle,
    "{": ScreenTracker._rectangle,
}
