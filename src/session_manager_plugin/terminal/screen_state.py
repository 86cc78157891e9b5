"""The state of the screen after the remote's output so far, and writing elsewhere without changing it. Pure."""

from __future__ import annotations

from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.character_width import character_width
from session_manager_plugin.terminal.cursor import Cursor
from session_manager_plugin.terminal.keyboard_flags import KeyboardFlags
from session_manager_plugin.terminal.line_end import ends_inside_line
from session_manager_plugin.terminal.modes import Modes
from session_manager_plugin.terminal.operating_commands import OperatingCommands
from session_manager_plugin.terminal.pen import PLAIN, Pen
from session_manager_plugin.terminal.saved_cursor import SavedCursor
from session_manager_plugin.terminal.terminal_reports import Report

# The contents of the screen are not kept, only the cursor's position, its attributes, the scroll region and the modes.
# While the remote is ``limited``, the row below its last row is ours.
#
# Writing aside leaves the state unchanged: DECSC, body, DECRC. A terminal has one slot for DECSC, which then no longer
# contains the remote's saved cursor. If that would be lost, the cursor is addressed (CUP) after the body instead, which
# needs a known position (``Cursor.is_known``).

SAVE = b"\x1b7"  # DECSC
RESTORE = b"\x1b8"
ABSOLUTE = b"\x1b[?6l"  # origin mode off: rows count from the top of the screen
RELATIVE = b"\x1b[?6h"
NO_LINK = b"\x1b]8;;\x1b\\"
NO_MARGINS = b"\x1b[r"
SIDE_MARGINS = 69  # DECLRMM
# IND and up again: scrolls by one row if the cursor is on the last. Unlike a newline, IND keeps the column under OPOST.
_MAKE_ROOM = b"\x1bD\x1b[A"


class ScreenState:
    """The state of the screen, which ``ScreenTracker`` updates."""

    def __init__(self, size: TerminalSize) -> None:
        self.answers: list[bytes] = []
        """Answers to send to the remote in place of the terminal's. The owner empties the list."""
        self.asked: list[Report] = []
        """Reports that the remote has requested from the terminal, in order. The owner empties the list."""
        self.damaged = False
        """Whether the remote's output has affected our row. The owner resets it."""
        self.is_located = True
        """Whether the terminal answers requests for the cursor's position."""
        self.limited = False
        """Whether the row below the remote's last row is ours."""
        self.cursor = Cursor(*size)
        self.pen = Pen()
        self.modes = Modes()
        self.commands = OperatingCommands()
        self.keyboards = {False: KeyboardFlags(), True: KeyboardFlags()}
        """Keyboard flags of the main screen (False) and of the alternate screen (True)."""
        self.main_has_old_bar = False
        """Whether a resize during the alternate screen has left a bar somewhere below the main screen's cursor."""
        self.origin = False
        self.alternate = 0
        """The mode that has switched to the alternate screen; 0 on the main screen."""
        self.written_pen = self.pen
        """The attributes of the character in the last column."""
        self.forget_margins()
        self.saved_cursors = {False: SavedCursor(), True: SavedCursor()}

    def forget_margins(self) -> None:
        self.margins = self.margins_of_main = (0, self.cursor.last)
        self.in_force: tuple[int, int] | None = self.margins
        """The scroll region set in the terminal; None if unknown."""

    @property
    def size(self) -> TerminalSize:
        """The remote's size."""
        return TerminalSize(self.cursor.columns, self.cursor.last + 1)

    @property
    def saved(self) -> SavedCursor:
        """The state that DECRC would restore now."""
        return self.saved_cursors[bool(self.alternate)]

    @property
    def is_delicate(self) -> bool:
        """Whether drawing aside would lose state now: a saved cursor whose position only the terminal has, a wrap that
        is due after an unknown character, or an incomplete cluster.

        On a terminal that does not answer requests it may stay unknown whether a wrap is due. Drawing is allowed
        there, since DECRC restores that state on most terminals.
        """
        cursor = self.cursor
        if cursor.joins:
            return True
        if cursor.may_wrap and not (cursor.is_wrap_due and cursor.written) and (self.is_located or not cursor.slack):
            return True
        return not cursor.is_known and self.spares_slot

    @property
    def wants_position(self) -> bool:
        """Whether the cursor's position is needed and unknown."""
        cursor = self.cursor
        return not cursor.is_row_known or (cursor.slack > 0 and (cursor.may_wrap or self.spares_slot))

    @property
    def spares_slot(self) -> bool:
        """Whether to draw aside without DECSC, keeping the terminal's slot for the saved cursor.

        True with side margins, because setting them again (DECSLRM) saves the cursor (SCOSC) on other terminals. True
        without a row of ours if the remote has saved a cursor, because its DECRC is passed on unchanged.
        """
        saved = self.saved
        is_precious = saved.is_precious if self.limited else saved.awaited and not saved.ours
        return is_precious or self.modes.has(SIDE_MARGINS)

    @property
    def region(self) -> tuple[int, int]:
        """The first and last row of the scroll region to set.

        While the cursor's row is unknown, the region extends to the remote's last row: a cursor below the region would
        not scroll, and a newline could move it into our row.
        """
        top, bottom = self.margins
        return (top, bottom) if self.cursor.is_row_known or not self.limited else (top, self.cursor.last)

    @property
    def has_region(self) -> bool:
        """Whether the remote has set a scroll region of its own."""
        return self.margins != (0, self.cursor.last)

    @property
    def sets_region(self) -> bytes:
        """The bytes that set the scroll region. They also move the cursor to the first row."""
        top, bottom = self.region
        return b"\x1b[%d;%dr" % (top + 1, bottom + 1)

    def resize(self, size: TerminalSize, *, moved: bool) -> None:
        """Begin with a new size, or a terminal in an unknown state: no scroll region, the cursor's position unknown.

        ``moved``: saved cursors may have moved too. Call ``lay_out`` after this.
        """
        self.cursor.resize(*size)
        self.cursor.lose()
        self.forget_margins()
        if moved:
            self.main_has_old_bar = bool(self.alternate)
            for saved in self.saved_cursors.values():
                saved.known = saved.known and saved.initial

    def leaves_inside_line(self, last_output: bytes) -> bool:
        """Return whether the cursor will be inside a line, not in the first column, on the main screen.

        Where the column is not known, ``last_output``, the remote's last bytes, decides.
        """
        if self.alternate == 1049:  # the main screen's cursor will be restored
            return self.saved_cursors[False].column > 0
        cursor = self.cursor
        is_certain = not cursor.column or cursor.column > cursor.slack
        return cursor.column > 0 if is_certain else ends_inside_line(last_output)

    def extend(self, size: TerminalSize) -> None:
        """Change the remote's size by the last row. Nothing on the screen has moved."""
        (top, bottom), had_region = self.margins, self.has_region
        self.cursor.resize(*size)
        self.forget_margins()
        if had_region and top < (bottom := min(bottom, self.cursor.last)):
            self.margins = top, bottom
            self.cursor.set_region(top, bottom)

    def set_region(self, top: int, bottom: int) -> None:
        """Set the scroll region (DECSTBM), which also moves the cursor home."""
        self.margins = self.in_force = (top, bottom)
        self.cursor.set_region(top, bottom)
        self.cursor.move_to(self.row_of(1), self.column_of(1))

    def row_of(self, number: int) -> int:
        """Return the row for the parameter ``number`` of an absolute movement."""
        if self.origin:
            return min(self.cursor.top + number - 1, self.cursor.bottom)
        return number - 1

    def column_of(self, number: int) -> int:
        """Return the column for the parameter ``number`` of an absolute movement."""
        if self.origin:
            return min(self.cursor.left_margin + number - 1, self.cursor.right_margin)
        return number - 1

    @property
    def keyboard(self) -> KeyboardFlags:
        """The keyboard flags of the screen that is shown."""
        return self.keyboards[bool(self.alternate)]

    def to_row(self, row: int) -> bytes:
        """Return the bytes that move to ``row`` of the screen without origin mode."""
        return b"\x1b[%dd" % (row + 1)

    def locate(self, row: int, column: int) -> bytes:
        """Set the position that the terminal has reported, as parameters of an absolute movement. Returns the bytes to
        write then."""
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
        """Take over the saved state after the terminal has restored the cursor (DECRC)."""
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
        """Return the bytes that move to the current position, which must be known."""
        cursor = self.cursor
        row, column = cursor.row, min(cursor.column, cursor.columns - 1)
        if self.origin:
            row, column = row - cursor.top, column - cursor.left_margin
        return b"\x1b[%d;%dH" % (row + 1, column + 1)

    def free_rows(self) -> bytes:
        """Return the bytes that reset the margins, and scroll by a row if the cursor is in the last one. The cursor
        stays on its character, wherever it is."""
        # The margins are reset first, because the cursor could not cross them; that also moves the cursor home.
        return b"".join((SAVE, ABSOLUTE if self.origin else b"", NO_MARGINS, RESTORE, _MAKE_ROOM))

    def erase_behind(self, *, may_wrap: bool = False) -> bytes:
        """Return the bytes that erase everything behind the cursor. There must be a row below: see ``free_rows``.

        With ``may_wrap`` the cursor may be on the last character of a row that is full, which is kept.
        """
        # Not by one ED from the cursor on: at home, tmux then keeps what it erases in the history.
        in_row = b"" if may_wrap else b"\x1b[K"
        return b"".join((SAVE, PLAIN, in_row, b"\r\x1b[B\x1b[J", RESTORE, self.pen.attributes))

    def gives_back(self, erased: bytes) -> bytes:
        """Return the bytes that set the remote's scroll region without our row, and then ``erased``."""
        return (self.sets_region if self.has_region else NO_MARGINS) + erased

    def erase_on_main(self, erased: bytes) -> bytes:
        """Return the bytes that erase the bar that was given up during the alternate screen. ``erased`` erases the last
        row, in which the bar is unless the terminal was resized."""
        if not self.main_has_old_bar:
            return self.aside(self.gives_back(erased))
        self.main_has_old_bar = False
        return self.free_rows() + self.erase_behind()

    def lay_out(self, erased: bytes) -> bytes:
        """Return the bytes that take the last row from the remote. The cursor stays on its character, wherever it
        is. ``erased``: the bytes that erase the old bar, if there may be one."""
        absolute, relative = (ABSOLUTE, RELATIVE) if self.origin else (b"", b"")
        pieces = [self.free_rows(), erased, SAVE, absolute, self.sets_region, relative, RESTORE]
        if erased:
            self.main_has_old_bar = self.main_has_old_bar and bool(self.alternate)
        self.in_force = self.region
        self.saved.ours = True
        return b"".join(pieces)

    def lay_out_by_address(self, size: TerminalSize) -> bytes:
        """Set the remote's new size, and do the same as ``lay_out`` without DECSC. The position must be known."""
        absolute, relative = (ABSOLUTE, RELATIVE) if self.origin else (b"", b"")
        cursor = self.cursor
        place = b"\x1b[%d;%dH" % (cursor.row + 1, min(cursor.column, cursor.columns - 1) + 1)
        self.extend(size)
        pieces = [absolute, NO_MARGINS, place, _MAKE_ROOM, self.sets_region, relative]
        self.in_force = self.region
        cursor.move_to()
        return b"".join((*pieces, self.address()))

    def put_saved_back(self) -> bytes:
        """Return the bytes that save the remote's saved cursor in the terminal's slot again, if it was overwritten.

        Needed before the remote's DECRC is passed on unchanged, when there is no row of ours any longer.
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
        """Note that the terminal's margins are unknown, and that our row may have been overwritten."""
        self.in_force = None
        self.damaged = True

    def apply_region(self) -> bytes:
        """Return the bytes that set the scroll region, if it differs from the terminal's and can be set now."""
        region = self.region
        if region == self.in_force or not self.limited or self.modes.is_vt52:
            return b""
        if self.saved.is_precious and not self.cursor.is_known:
            return b""
        self.cursor.set_region(*region)
        if self.in_force is None and self.main_has_old_bar and not self.alternate:
            return self.lay_out(self.erase_behind())
        self.in_force = region
        return self.aside(self.sets_region)

    def apply_region_at_saved(self) -> bytes:
        """Do the same as ``apply_region`` directly after DECRC, when DECSC saves what the slot contains already."""
        was_ours = self.saved.ours
        written = self.apply_region()
        self.saved.ours = was_ours
        return written

    def aside(self, body: bytes) -> bytes:
        """Return ``body``, which may move the cursor, with the bytes that restore the state afterwards."""
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
            pieces.append(RELATIVE)  # not every terminal restores origin mode at DECRC
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
        """Return ``body``, which prints in our row, written aside. Not while ``is_delicate``."""
        if not self.modes.has(SIDE_MARGINS):
            return self.aside(body)
        # Side margins are turned off, since text wraps at them. Turned on again, they span all columns.
        cursor = self.cursor
        sides = b"\x1b[%d;%ds" % (cursor.left_margin + 1, cursor.right_margin + 1) if cursor.has_sides else b""
        return self.aside(b"\x1b[?69l" + body + b"\x1b[?69h" + sides)

    def write_again(self, text: str) -> bytes:
        """Return the bytes that write the last character again, over itself."""
        cursor = self.cursor
        width = character_width(text[0])
        back = b"\x1b[%dG" % (cursor.columns - width + 1) if cursor.is_wrap_due else b"\x1b[%dD" % width
        # In insert mode the old character is deleted first. No byte may follow the character: see ``joined_character``.
        room = b"\x1b[%dP" % width if self.modes.inserts else b""
        return back + room + text.encode()

    def _make_wrap_due(self) -> bytes:
        """Return the bytes that make a wrap due again, by writing the last character again: not all terminals restore
        that state."""
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
