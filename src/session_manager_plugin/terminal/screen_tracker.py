"""Following the remote's output, and correcting the sequences that would reach our row. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from session_manager_plugin.terminal import sequences
from session_manager_plugin.terminal.character_width import JOINER, width_range
from session_manager_plugin.terminal.cursor import Cursor
from session_manager_plugin.terminal.keyboard_flags import KeyboardFlags
from session_manager_plugin.terminal.modes import Modes
from session_manager_plugin.terminal.movements import MOVEMENTS, first
from session_manager_plugin.terminal.pen import PLAIN, Pen
from session_manager_plugin.terminal.redraw import last_position, redraw_end, switched_modes
from session_manager_plugin.terminal.saved_cursor import SavedCursor
from session_manager_plugin.terminal.screen_state import (
    ABSOLUTE,
    NO_LINK,
    RELATIVE,
    RESTORE,
    SAVE,
    ScreenState,
)
from session_manager_plugin.terminal.sequences import CONTROL, Sequence
from session_manager_plugin.terminal.terminal_reports import Report

# While the remote is ``limited``, these are corrected:
#  - rows and margins below the remote's last row: replaced by that row;
#  - relative movements into our row, possible only from below a scroll region that the remote has set;
#  - a request for the size (``CSI 18 t``): answered here;
#  - DECRC, when ``ScreenState.aside`` has used the terminal's only slot for a saved cursor: replaced by its effect;
#  - DECRC otherwise: preceded by the saved origin mode, which not every terminal restores;
#  - REP after bytes of ours, which would repeat the wrong character.
# A sequence that resets the margins is followed by the bytes that set them again. All else is passed on unchanged.

_JOINER = JOINER.encode()
_INVISIBLE_END = re.compile(rb"(?:\x1b\[[0-9;:]*[mK]|[\x00-\x1f\x7f])*\Z")
_ERASES_CHARACTER = re.compile(rb"\x1b\[0*[12]K")
_CONFINED = re.compile(rb"\x1b\[[0-9;:]*[mK]|[\x00-\x1f\x7f]|[^\x00-\x1f\x7f]+")
_LAST_CHARACTER = re.compile(rb"(?:[\x20-\x7e]|[\xc2-\xf4][\x80-\xbf]{1,3})\Z")
_PLAIN_SEQUENCE_END = re.compile(rb"\x1b\[[0-9;:]*[mK]\Z")


class ScreenTracker(ScreenState):
    """Follows the remote's output. ``text``, ``sequence`` and ``repeat`` return the bytes to write in its place."""

    # --- text

    def text(self, text: bytes, *, is_binary: bool = False) -> bytes:
        """Follow text with controls, SGR and EL. ``is_binary``: see ``Cursor.follow``."""
        cursor = self.cursor
        if self.limited and cursor.is_row_known and cursor.is_below_region:
            text = self._confine(text)
        else:
            cursor.follow(text, is_binary=is_binary)
        if b"\x0e" in text or b"\x0f" in text:
            self.pen.follow_shifts(text)
        if cursor.is_wrap_due:
            self._follow_to_last_column(text)
        elif b"\x1b[" in text:
            self.pen.follow(text)
        if self.in_force != self.margins or self.margins[1] != cursor.last:
            text += self.apply_region()
        return text

    def _follow_to_last_column(self, text: bytes) -> None:
        """Note the attributes of the character in the last column, in case it must be drawn again."""
        found = _INVISIBLE_END.search(text)
        assert found is not None
        if found.start():
            self.pen.follow(text[: found.start()])
            self.written_pen = self.pen.copy()
        self.pen.follow(found[0])
        if _ERASES_CHARACTER.search(found[0]):
            self._blank_last_column()

    def _blank_last_column(self) -> None:
        # Erased again, because a written blank is copied as text, an erased cell is not.
        self.cursor.written = b" \x1b[1K"
        self.written_pen = self.pen.copy()

    def _confine(self, text: bytes) -> bytes:
        """Correct text below the scroll region, where the last row does not scroll, so that it stays out of the bar."""
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
        """Return the bytes to write before a character of ``width`` cells that may wrap into our row."""
        cursor = self.cursor
        if width <= 0 or not cursor.wraps or cursor.column + width <= cursor.columns:
            return b""
        if cursor.row == cursor.last:
            # A wide character that does not fit leaves the last cell erased.
            before = b"\r" if cursor.may_wrap else b"\x1b[K\r"
            cursor.move_to(column=0)
            return before
        if not cursor.slack:
            return b""
        cursor.move_to(cursor.row + 1, 0)
        return self.to_row(cursor.row) + b"\r"

    def _stay_in_last_row(self, then: bytes = b"") -> bytes:
        """Return the replacement of IND in the last row below the region: it only cancels a wrap that is due."""
        self.cursor.move_to(column=0 if then else None)
        return self.to_row(self.cursor.last) + then

    def repeat(self, before: bytes, sequence: Sequence, raw: bytes, *, interrupted: bool) -> bytes:
        """Follow REP after the text ``before``. ``interrupted``: bytes of ours were written in between.

        Terminals agree about the repeated character only if REP directly follows it.
        """
        parameters = sequences.numbers(sequence.body)
        if parameters is None:
            return raw
        count = min(first(parameters), self.cursor.columns * (self.cursor.last + 1))
        found = None if _PLAIN_SEQUENCE_END.search(before) else _LAST_CHARACTER.search(before)
        character = found[0].decode("utf-8", "replace")[-1] if found is not None else ""
        if not character or width_range(character) not in ((1, 1), (2, 2)):
            if interrupted and self.limited:
                return b""  # a character of ours would be repeated
            self.cursor.may_advance(count)
            return raw + self.apply_region()
        text = character.encode() * count
        written = self.text(text)
        return raw if written == text and character.isascii() and not interrupted else written

    # --- sequences

    def sequence(self, sequence: Sequence, raw: bytes) -> bytes:
        """Follow a complete CSI or ESC sequence."""
        _, kind, body, final = sequence
        if not kind:  # a cancelled sequence
            controls = b"".join(CONTROL.findall(raw))
            return self.text(controls) + CONTROL.sub(b"", raw) if controls else raw
        if body and CONTROL.search(body) is not None:
            # Terminals have obeyed the controls in it.
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
        cursor = self.cursor
        if self.in_force == self.margins and (not cursor.unknown_rows or self.margins[1] == cursor.last):
            return written
        return written + self.apply_region()

    def redraw(self, data: bytes, start: int, has_c2: bool) -> int:
        """Follow a redraw that begins at ``start``, if nothing of it has to be corrected; return where the last CUP of
        it ends. ``start`` if there is no such redraw."""
        cursor, pen = self.cursor, self.pen
        limited = self.limited
        if self.origin or cursor.has_sides or self.modes.is_vt52 or (limited and not self._scrolls_as_a_whole):
            return start
        rows = cursor.last + 1 if limited else None
        end = redraw_end(data, start, rows, in_ascii=pen.is_ascii, has_c2=has_c2)
        if end == start:
            return start
        last = last_position(data, start, end)
        drawn = data[start : last.start()]
        if drawn:
            pen.follow(drawn)
            for number, on in switched_modes(drawn):
                self.modes.set_private(number, on)
            if _JOINER in drawn:
                cursor.joins = True
        row, column = last.groups()
        cursor.move_to(int(row or 1) - 1, int(column or 1) - 1)
        return last.end()

    @property
    def _scrolls_as_a_whole(self) -> bool:
        """Whether the scroll region is in force, and all rows of the remote's."""
        return self.in_force == self.margins == (0, self.cursor.last)

    def _escape(self, body: bytes, final: str, raw: bytes) -> bytes:
        cursor = self.cursor
        if self.modes.is_vt52:
            cursor.lose()
            if final == "<":
                self.modes.is_vt52 = False
                self.lose_margins()
            return raw
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
        self.written_pen = self.pen
        self.modes = Modes()
        self.keyboards = {False: KeyboardFlags(), True: KeyboardFlags()}
        self.origin = False
        self.alternate = 0
        self.forget_margins()
        self.saved_cursors = {False: SavedCursor(), True: SavedCursor()}
        self.damaged = True
        return raw + self.sets_region if self.limited else raw  # RIS has moved the cursor home

    def _alignment_pattern(self, raw: bytes) -> bytes:
        """DECALN: fills the screen with E, moves the cursor home and resets the margins."""
        self.margins = (0, self.cursor.last)
        self.cursor.set_region(*self.margins)
        self.cursor.move_to(0, 0)
        self.lose_margins()
        return raw

    def _soft_reset(self, body: bytes, raw: bytes) -> bytes:
        """DECSTR."""
        if body != b"!":
            return raw
        self.modes.soft_reset()
        self.pen.reset()
        self.origin = False
        self.cursor.wraps = True
        self.margins = (0, self.cursor.last)
        self.cursor.set_region(*self.margins)
        self.saved_cursors[bool(self.alternate)] = SavedCursor()
        self.lose_margins()
        return raw

    # --- the saved cursor

    def _restore(self, raw: bytes) -> bytes:
        """DECRC, or its effect if the terminal's slot has been overwritten by ``aside``."""
        saved = self.saved
        before = b""
        if self.limited:
            if saved.ours or (saved.known and saved.row > self.cursor.last):
                return self._restore_by_address()
            if saved.origin != self.origin:
                before = RELATIVE if saved.origin else ABSOLUTE
        self.restored()
        return before + raw + self.apply_region_at_saved()

    def _restore_by_address(self) -> bytes:
        """Return the effect of DECRC without the terminal's slot. If the position is unknown, the cursor stays."""
        saved = self.saved
        pieces = []
        if saved.known:
            if self.origin != saved.origin:
                pieces.append(RELATIVE if saved.origin else ABSOLUTE)
            self.restored()
            pieces.append(self.address())
        else:
            saved.awaited = False
            self.pen.restore(saved.pen)
        pieces += [PLAIN, saved.pen.attributes, saved.pen.sets]
        return b"".join(pieces)

    # --- the whole state

    def redo(self) -> bytes:
        """Return the bytes that restore the remote's screen state and modes, without the contents."""
        pieces = [self.modes.redo(), self.commands.redo(), self.keyboards[False].redo()]
        if self.alternate:
            pieces += [b"\x1b[?%dh" % self.alternate, self.keyboards[True].redo()]
        if self.has_region:
            top, bottom = self.margins
            pieces += [SAVE, b"\x1b[%d;%dr" % (top + 1, bottom + 1), RESTORE]
        pieces += [self.pen.attributes, self.pen.sets if self.pen.character_sets != Pen().character_sets else b""]
        return b"".join(pieces)

    def leave_screens(self) -> bytes:
        """Return the bytes that show the main screen again and reset the alternate screen's keyboard flags."""
        keyboard = self.keyboards[True].undo()
        if self.alternate:
            return keyboard + b"\x1b[?%dl" % self.alternate
        return b"\x1b[?1049h" + keyboard + b"\x1b[?1049l" if keyboard else b""

    def undo(self) -> bytes:
        """Return the bytes that reset everything else to its initial state."""
        pieces = [self.keyboards[False].undo(), self.modes.undo(), self.commands.undo(), self.pen.sets_plain]
        pieces += [PLAIN if self.pen.attributes else b"", NO_LINK if self.pen.link else b""]
        return b"".join(pieces)

    def command(self, osc: bytes) -> None:
        """Follow a complete OSC."""
        if osc.startswith(b"8;"):
            self.pen.follow_link(osc[2:])
        else:
            self.commands.follow(osc)

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
        """DECFRA, DECERA and similar: by default they extend to the last row."""
        if body.endswith(b"$"):
            self.damaged = True
        return raw

    def _restore_or_keyboard(self, body: bytes, raw: bytes) -> bytes:
        if not body:
            return self._restore(raw)
        parameters = sequences.numbers(body[1:])
        if parameters is not None:
            match body[:1]:
                case b">":
                    self.keyboard.push(parameters[0] if parameters else 0)
                case b"<":
                    self.keyboard.pop(first(parameters))
                case b"=":
                    self.keyboard.set(
                        first(parameters) if parameters else 0, parameters[1] if len(parameters) > 1 else 1
                    )
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
            if number == 2 and not on:
                cursor.lose()
            self.modes.set_private(number, on)
            match number:
                case 3:  # DECCOLM, where it is allowed
                    self.lose_margins()
                    cursor.lose()
                case 6:
                    self.origin = on
                    cursor.move_to(self.row_of(1), self.column_of(1))
                case 7:
                    cursor.wraps = on
                case 69:  # DECLRMM
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
                self.margins_of_main = self.margins
                self.margins = (0, self.cursor.last)
                self.alternate = number
        elif self.alternate:
            self.alternate = 0
            self.margins = self.margins_of_main
        # Some terminals have margins for each screen, others common ones.
        self.cursor.set_region(*self.margins)
        self.lose_margins()
        return self._restored_by(raw) if number == 1049 and not on else raw

    def _restored_by(self, raw: bytes) -> bytes:
        """Return ``raw``, which restores the cursor among other effects, with the bytes needed before and after it."""
        saved = self.saved
        if not (self.limited and saved.ours):
            differs = self.limited and self.origin != saved.origin
            self.restored()
            if differs:
                raw += (RELATIVE if saved.origin else ABSOLUTE) + RESTORE
            return raw + self.apply_region_at_saved()
        raw += self._restore_by_address()
        if saved.known:
            return raw
        self.cursor.lose()
        return SAVE + raw


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
