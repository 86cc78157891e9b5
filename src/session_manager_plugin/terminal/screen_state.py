"""The screen as the remote has left it at this moment, and how to write beside it unnoticed. Pure."""

from __future__ import annotations

from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.character_width import character_width
from session_manager_plugin.terminal.cursor import Cursor
from session_manager_plugin.terminal.keyboard_flags import KeyboardFlags
from session_manager_plugin.terminal.modes import Modes
from session_manager_plugin.terminal.operating_commands import OperatingCommands
from session_manager_plugin.terminal.pen import PLAIN, Pen
from session_manager_plugin.terminal.saved_cursor import SavedCursor
from session_manager_plugin.terminal.terminal_reports import Report

# No copy of the screen is kept, only where the cursor is, what it draws with, the scroll region, and the modes. While
# the remote is `limited` there is a row below its last one, which is ours.
#
# What is written aside leaves everything as it was. The terminal restores the cursor: DECSC, body, DECRC; then the
# slot holds nothing of the remote's any more. Where that would lose what the remote has saved the cursor is addressed
# instead. An address is written only if row and column are certain (`Cursor.is_known`).

SAVE = b"\x1b7"  # DECSC
RESTORE = b"\x1b8"
ABSOLUTE = b"\x1b[?6l"  # origin mode off: rows count from the top of the screen
RELATIVE = b"\x1b[?6h"
NO_LINK = b"\x1b]8;;\x1b\\"
NO_MARGINS = b"\x1b[r"
SIDE_MARGINS = 69  # DECLRMM
# IND and up again: scrolls by one if the cursor is on the last row. Unlike a newline it keeps the column under OPOST.
_MAKE_ROOM = b"\x1bD\x1b[A"
ERASE_BELOW = PLAIN + b"\r\x1b[B\x1b[J"


class ScreenState:
    """What the remote has made of the screen. `ScreenTracker` keeps it."""

    def __init__(self, size: TerminalSize) -> None:
        self.answers: list[bytes] = []
        """What is to be typed to the remote as the terminal's answers; the owner empties it."""
        self.asked: list[Report] = []
        """What the remote has asked the terminal to report, in order; the owner empties it."""
        self.damaged = False
        self.is_located = True
        """Whether the terminal answers when it is asked for the cursor's position."""
        """Whether something was done that reaches below the last row; the owner sets it back."""
        self.limited = False
        self.cursor = Cursor(*size)
        self.pen = Pen()
        self.modes = Modes()
        self.commands = OperatingCommands()
        self.keyboards = {False: KeyboardFlags(), True: KeyboardFlags()}
        """Of the main and of the alternate screen."""
        self.main_has_old_bar = False
        """Whether a resize behind the alternate screen has left a bar somewhere below the main screen's cursor."""
        self.origin = False
        self.alternate = 0
        """The mode that has switched to the alternate screen; 0 on the normal one."""
        self.written_pen = self.pen
        """With what the character in the last column was drawn."""
        self.forget_margins()
        self.saved_cursors = {False: SavedCursor(), True: SavedCursor()}

    def forget_margins(self) -> None:
        self.margins = self.margins_of_main = (0, self.cursor.last)
        self.in_force: tuple[int, int] | None = self.margins
        """The scroll region that the terminal has; None if it may have any."""

    @property
    def size(self) -> TerminalSize:
        """Its size as it knows it."""
        return TerminalSize(self.cursor.columns, self.cursor.last + 1)

    @property
    def saved(self) -> SavedCursor:
        """What DECRC would restore now."""
        return self.saved_cursors[bool(self.alternate)]

    @property
    def is_delicate(self) -> bool:
        """Whether drawing aside would lose something, for now: the remote's saved cursor, of which only the terminal
        knows the place; that a wrap is due, behind a character that is not known; a cluster that is not complete.

        Whether a wrap is due may remain unknown on a terminal that answers no question. There DECRC, which restores
        it on most terminals, is relied on, rather than never drawing.
        """
        cursor = self.cursor
        if cursor.joins:
            return True
        if cursor.may_wrap and not (cursor.is_wrap_due and cursor.written) and (self.is_located or not cursor.slack):
            return True
        return not cursor.is_known and self.spares_slot

    @property
    def wants_position(self) -> bool:
        """Whether something depends on the cursor's position, which is not known."""
        cursor = self.cursor
        return not cursor.is_row_known or (cursor.slack > 0 and (cursor.may_wrap or self.spares_slot))

    @property
    def spares_slot(self) -> bool:
        """Whether to draw aside without DECSC: with side margins set DECSLRM follows it, which is SCOSC elsewhere.

        Without a row of ours DECRC is passed on as it is, so whatever the remote has saved has to stay in the slot.
        """
        saved = self.saved
        is_precious = saved.is_precious if self.limited else saved.awaited and not saved.ours
        return is_precious or self.modes.has(SIDE_MARGINS)

    @property
    def region(self) -> tuple[int, int]:
        """The first and last row that are to scroll.

        While the row is not known the remote's margins do not end above its last row: below them it would not scroll,
        and a newline would lead out of it.
        """
        top, bottom = self.margins
        return (top, bottom) if self.cursor.is_row_known or not self.limited else (top, self.cursor.last)

    @property
    def has_region(self) -> bool:
        """Whether the remote has set a scroll region of its own."""
        return self.margins != (0, self.cursor.last)

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
        self.forget_margins()
        if moved:
            self.main_has_old_bar = bool(self.alternate)
            for saved in self.saved_cursors.values():
                saved.known = saved.known and saved.initial

    def extend(self, size: TerminalSize) -> None:
        """The remote gets a terminal's last row too, or all but that; nothing has moved."""
        (top, bottom), had_region = self.margins, self.has_region
        self.cursor.resize(*size)
        self.forget_margins()
        if had_region and top < (bottom := min(bottom, self.cursor.last)):
            self.margins = top, bottom
            self.cursor.set_region(top, bottom)

    def set_region(self, top: int, bottom: int) -> None:
        """DECSTBM, with its effect on the cursor."""
        self.margins = self.in_force = (top, bottom)
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

    @property
    def keyboard(self) -> KeyboardFlags:
        """Of the screen that is shown."""
        return self.keyboards[bool(self.alternate)]

    def to_row(self, row: int) -> bytes:
        """What moves to a row of the screen, without origin mode."""
        return b"\x1b[%dd" % (row + 1)

    def locate(self, row: int, column: int) -> bytes:
        """The terminal has reported where the cursor is, as parameters of an absolute movement; what to write then."""
        self.cursor.locate(self.row_of(row), self.column_of(column))
        return self.apply_region()

    def save_cursor(self) -> None:
        """DECSC."""
        cursor = self.cursor
        self.saved_cursors[bool(self.alternate)] = SavedCursor(
            cursor.row,
            min(cursor.column, cursor.columns - 1),
            self.pen.copy(),
            self.origin,
            known=cursor.is_known,
            initial=False,
            awaited=True,
        )

    def restored(self) -> None:
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

    def address(self) -> bytes:
        """What moves to the present position, which is known."""
        cursor = self.cursor
        row, column = cursor.row, min(cursor.column, cursor.columns - 1)
        if self.origin:
            row, column = row - cursor.top, column - cursor.left_margin
        return b"\x1b[%d;%dH" % (row + 1, column + 1)

    def lay_out(self, *, erase: bool) -> bytes:
        """What takes the last row from the remote wherever the cursor is, which stays on its character."""
        # The margins go first, or the cursor could not leave those of before; setting them moves the cursor home.
        absolute, relative = (ABSOLUTE, RELATIVE) if self.origin else (b"", b"")
        pieces = [SAVE, absolute, NO_MARGINS, RESTORE, _MAKE_ROOM]
        pieces += [SAVE, ERASE_BELOW if erase else b"", absolute, self.sets_region, relative, RESTORE]
        if erase:
            pieces.append(self.pen.attributes)
            self.main_has_old_bar = self.main_has_old_bar and bool(self.alternate)
        self.in_force = self.region
        self.saved.ours = True
        return b"".join(pieces)

    def lay_out_by_address(self, size: TerminalSize) -> bytes:
        """The same without DECSC, and with the new size of the remote; the cursor's position is known."""
        absolute, relative = (ABSOLUTE, RELATIVE) if self.origin else (b"", b"")
        cursor = self.cursor
        place = b"\x1b[%d;%dH" % (cursor.row + 1, min(cursor.column, cursor.columns - 1) + 1)
        self.extend(size)
        pieces = [absolute, NO_MARGINS, place, _MAKE_ROOM, self.sets_region, relative]
        self.in_force = self.region
        cursor.move_to()
        return b"".join((*pieces, self.address()))

    def put_saved_back(self) -> bytes:
        """What puts into the terminal's slot what the remote has saved there, if it is not there any more.

        Without a row of ours the terminal itself restores the cursor.
        """
        saved, cursor = self.saved, self.cursor
        if not (saved.awaited and saved.ours and saved.known and cursor.is_known):
            return b""
        saved.ours = False
        row, column = saved.row, saved.column
        to_saved = to_present = b""
        if self.origin or saved.origin:
            to_saved, to_present = (RELATIVE if each else ABSOLUTE for each in (saved.origin, self.origin))
        if saved.origin:
            row, column = max(0, row - cursor.top), max(0, column - cursor.left_margin)
        pieces = [to_saved, b"\x1b[%d;%dH" % (row + 1, column + 1), PLAIN, saved.pen.attributes, saved.pen.sets, SAVE]
        pieces += [to_present, self.address(), PLAIN, self.pen.attributes, self.pen.sets]
        if cursor.is_wrap_due:
            pieces.append(self._make_wrap_due())
        return b"".join(pieces)

    def lose_margins(self) -> None:
        """The terminal may have other margins now, and other things below the last row."""
        self.in_force = None
        self.damaged = True

    def apply_region(self) -> bytes:
        """What sets the scroll region if it is not in force, and can be set now."""
        region = self.region
        if region == self.in_force or not self.limited or self.modes.is_vt52:
            return b""
        if self.saved.is_precious and not self.cursor.is_known:
            return b""
        self.cursor.set_region(*region)
        if self.in_force is None and self.main_has_old_bar and not self.alternate:
            return self.lay_out(erase=True)
        self.in_force = region
        return self.aside(self.sets_region)

    def apply_region_at_saved(self) -> bytes:
        """The same just after DECRC: what is saved again then is what the slot holds already."""
        was_ours = self.saved.ours
        written = self.apply_region()
        self.saved.ours = was_ours
        return written

    def aside(self, body: bytes) -> bytes:
        """`body` written without the remote's noticing; it moves the cursor, at most."""
        pen, cursor = self.pen, self.cursor
        by_address = self.spares_slot and cursor.is_known
        pieces = [b"" if by_address else SAVE]
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
        pieces.append(self.address() if by_address else RESTORE)
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
        if not self.modes.has(SIDE_MARGINS):
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
        pen, written_pen = self.pen, self.written_pen
        if not self.cursor.written:
            self.cursor.move_to()
            return b""
        pieces = [self.write_again(self.cursor.written.decode("utf-8", "replace"))]
        if written_pen.attributes != pen.attributes:
            pieces = [PLAIN, written_pen.attributes, *pieces, PLAIN, pen.attributes]
        if written_pen.character_sets != pen.character_sets:
            pieces = [written_pen.sets, *pieces, pen.sets]
        return b"".join(pieces)
