"""The bottom row of the terminal, kept out of the remote's hands. Sans-I/O: bytes in, bytes out."""

from __future__ import annotations

import re
from enum import Enum, auto

from session_manager_plugin.terminal.size import TerminalSize

# The remote is told one row fewer than there are, and the scroll region ends above the bar, so what it prints
# scrolls there. `feed` follows the remote's output for two things only; no copy of the screen is kept.
#
# 1. Where a control sequence or a UTF-8 character is unfinished. Anything written there would end up inside it.
# 2. What undoes the bar: sequences that reset the scroll region or erase down to the last row. They set `damaged`,
#    and the next `draw` repairs.
#
# Invariant: bytes are given out at sequence boundaries only; what falls due in the middle of a sequence is given out
# by the first `draw` after it. `stop` alone cannot wait: it cancels an unfinished sequence.
#
# The bar is drawn with DECSC and DECRC, and terminals have one slot for them: a remote that saves the cursor, and
# restores it after the bar was drawn, finds the place where the cursor was at the drawing.
#
# Left to the owner: to write everything in the order in which it was fed and given out, and when to draw.


class _State(Enum):
    """Where in the remote's output we are, as in the parser of a VT500 (https://vt100.net/emu/dec_ansi_parser)."""

    TEXT = auto()
    ESCAPE = auto()  # after ESC
    INTERMEDIATE = auto()  # after ESC and a byte of 0x20-0x2F: character sets, DECALN
    CSI = auto()  # after ESC [
    OSC = auto()  # after ESC ], until BEL or ST
    STRING = auto()  # DCS, SOS, PM, APC and the title of screen(1), until ST


_AFTER_ESCAPE = {
    ord("["): _State.CSI,
    ord("]"): _State.OSC,
    ord("P"): _State.STRING,
    ord("X"): _State.STRING,
    ord("^"): _State.STRING,
    ord("_"): _State.STRING,
    ord("k"): _State.STRING,
}
_ESC = 0x1B
# In each state the bytes that end it; all others belong to it. CAN and SUB cancel a sequence, ESC begins another.
_ENDS = {
    _State.ESCAPE: re.compile(rb"[\x18\x1a\x1b\x20-\x7e\x80-\xff]"),
    _State.INTERMEDIATE: re.compile(rb"[\x18\x1a\x1b\x30-\x7e\x80-\xff]"),
    _State.CSI: re.compile(rb"[\x18\x1a\x1b\x40-\x7e]"),
    _State.OSC: re.compile(rb"[\x07\x18\x1a\x1b]"),
    _State.STRING: re.compile(rb"[\x18\x1a\x1b]"),
}
_CANCEL = b"\x18"
_CONTROLS = bytes(range(0x20))
_PARAMETERS_LIMIT = 32
"""Bytes kept of a CSI sequence's parameters; those that matter here are shorter."""

_LEAST_ROWS = 3
"""A scroll region has two rows at least, and one is the bar's."""

_MARGINS = re.compile(rb"(\d*)(?:;(\d*))?")
_ALTERNATE_SCREEN = {b"47", b"1047", b"1049"}

_SAVE = b"\x1b7"  # DECSC: position, colours, character sets, origin mode
_RESTORE = b"\x1b8"
_ABSOLUTE = b"\x1b[?6l"  # origin mode off: rows count from the top of the screen
_ASCII = b"\x1b(B\x0f"
_PLAIN = b"\x1b[m"
_NO_MARGINS = b"\x1b[r"
# IND and up again: scrolls by one if the cursor is on the last row. Unlike a newline it keeps the column under OPOST.
_MAKE_ROOM = b"\x1bD\x1b[A"
_ERASE_BELOW = _PLAIN + b"\r\x1b[B\x1b[J"


class ReservedRow:
    """Keeps the last row of the terminal for a bar.

    All methods that return bytes return what has to be written to the terminal, in the order of the calls and of
    the data fed. A terminal of fewer than three rows has no room: nothing is drawn then.
    """

    def __init__(self) -> None:
        self._size: TerminalSize | None = None  # None: not started
        self._margins = (1, 1)  # the scroll region the remote wants, first and last row, counted from 1
        self._setup = b""  # given out with the next draw
        self._damaged = False
        self._state = _State.TEXT
        self._missing = 0  # bytes the last UTF-8 character still lacks, in TEXT
        self._parameters = b""

    @property
    def at_boundary(self) -> bool:
        """Whether the remote's output stands between two characters or sequences."""
        return self._state is _State.TEXT and self._missing == 0

    @property
    def damaged(self) -> bool:
        """Whether the bar has to be drawn again although its text has not changed; call `draw` at a boundary."""
        return self._damaged

    @property
    def remote_size(self) -> TerminalSize | None:
        """The size to tell the remote, one row fewer than the terminal's; None when not started."""
        if self._size is None or self._size.rows < _LEAST_ROWS:
            return self._size
        return TerminalSize(self._size.columns, self._size.rows - 1)

    def start(self, size: TerminalSize) -> bytes:
        """Begins to reserve the last row of a terminal of `size`; the cursor stays on its character."""
        return self._lay_out(size, b"")

    def resize(self, size: TerminalSize) -> bytes:
        """Follows the terminal to a new size; the rows below the cursor are erased.

        Terminals forget the scroll region on a resize, and some leave the old bar behind, moved or wrapped to a
        place that cannot be told from here; but always below the cursor. The remote repaints on its own resize.
        """
        return b"" if self._size is None else self._lay_out(size, _ERASE_BELOW)

    def feed(self, data: bytes) -> None:
        """Follows what the remote has sent. Text without ESC costs one search for it."""
        position = 0
        while position < len(data):
            if self._state is _State.TEXT:
                position = self._follow_text(data, position)
            else:
                position = self._follow_sequence(data, position)

    def draw(self, text: bytes) -> bytes:
        """Shows `text` in the bar and repairs what was damaged; the cursor and its attributes stay as they are.

        `text` is one line, no wider than the terminal, and may hold SGR sequences. In the middle of a sequence it
        gives b"" and leaves the bar `damaged`.
        """
        if self._size is None or self._size.rows < _LEAST_ROWS:
            return b""
        if not self.at_boundary:
            self._damaged = True
            return b""
        pieces = [self._setup, _SAVE]
        if self._damaged:
            pieces.append(self._set_margins())
        pieces += [_ABSOLUTE, _ASCII, self._clear_bar(self._size.rows), text, _PLAIN, _RESTORE]
        self._setup = b""
        self._damaged = False
        return b"".join(pieces)

    def stop(self) -> bytes:
        """Gives the row back: no scroll region, the row erased, the cursor where it is. Idempotent."""
        size, self._size = self._size, None
        self._damaged = False
        if size is None or size.rows < _LEAST_ROWS:
            return b""
        cancel = b"" if self.at_boundary else _CANCEL
        self._state = _State.TEXT
        self._missing = 0
        return b"".join([cancel, _SAVE, _ABSOLUTE, _NO_MARGINS, self._clear_bar(size.rows), _RESTORE])

    def _lay_out(self, size: TerminalSize, erase: bytes) -> bytes:
        self._size = size
        self._margins = (1, size.rows - 1)
        self._damaged = True
        self._setup = b""
        if size.rows < _LEAST_ROWS:
            return b""
        # The margins go first, or the cursor could not leave those of before; setting them moves the cursor home.
        self._setup = b"".join([_SAVE, _NO_MARGINS, _RESTORE, _MAKE_ROOM, _SAVE, erase, self._set_margins(), _RESTORE])
        if not self.at_boundary:
            return b""
        setup, self._setup = self._setup, b""
        return setup

    def _set_margins(self) -> bytes:
        return b"\x1b[%d;%dr" % self._margins

    def _clear_bar(self, row: int) -> bytes:
        # The colours first: erasing fills with the present background.
        return b"\x1b[%d;1H%b\x1b[2K" % (row, _PLAIN)

    def _follow_text(self, data: bytes, start: int) -> int:
        end = data.find(_ESC, start)
        if end >= 0:
            self._missing = 0
            self._state = _State.ESCAPE
            return end + 1
        end = len(data)
        for length in range(1, min(3, end - start) + 1):
            byte = data[end - length]
            if byte & 0xC0 != 0x80:  # the last byte that is no continuation
                self._missing = max(0, _continuation_length(byte) - (length - 1))
                return end
        self._missing = max(0, self._missing - (end - start))
        return end

    def _follow_sequence(self, data: bytes, start: int) -> int:
        match = _ENDS[self._state].search(data, start)
        end = match.start() if match else len(data)
        if self._state is _State.CSI:
            self._parameters = (self._parameters + data[start:end])[:_PARAMETERS_LIMIT]
        if match is None:
            return end
        byte = data[end]
        if byte >= 0x80:
            self._state = _State.TEXT
            return end  # The sequence is broken off by a character.
        if byte == _ESC:
            self._state = _State.ESCAPE
        elif self._state is _State.ESCAPE:
            self._state = self._escape(byte)
        elif self._state is _State.CSI:
            self._state = _State.TEXT
            self._control_sequence(self._parameters.translate(None, _CONTROLS), chr(byte))
        else:
            self._state = _State.TEXT
        return end + 1

    def _escape(self, byte: int) -> _State:
        """The state after ESC and `byte`, which ends or continues the sequence."""
        if 0x20 <= byte < 0x30:
            return _State.INTERMEDIATE
        if byte == ord("c"):  # RIS
            self._reset_margins()
        self._parameters = b""
        return _AFTER_ESCAPE.get(byte, _State.TEXT)

    def _control_sequence(self, parameters: bytes, final: str) -> None:
        """Takes note of a CSI sequence that touches the last row or the scroll region (xterm's ctlseqs)."""
        match final:
            case "r":
                self._follow_margins(parameters)
            case "J" if parameters.lstrip(b"?") != b"1":  # ED, DECSED, but for "up to the cursor"
                self._damaged = self._size is not None
            case "p" if parameters == b"!":  # DECSTR
                self._reset_margins()
            case "h" | "l" if parameters.startswith(b"?"):
                if not _ALTERNATE_SCREEN.isdisjoint(parameters[1:].split(b";")):
                    # The margins survive it in some terminals and not in others.
                    self._damaged = self._size is not None

    def _follow_margins(self, parameters: bytes) -> None:
        """DECSTBM: rows counted from 1, the whole screen by default; ignored unless it spans two rows."""
        numbers = _MARGINS.fullmatch(parameters)
        if numbers is None or self._size is None:
            return
        top = int(numbers[1] or 0) or 1
        bottom = min(int(numbers[2] or 0) or self._size.rows, self._size.rows)
        if top >= bottom:
            return
        if bottom < self._size.rows:
            self._margins = (top, bottom)
        else:
            self._margins = (min(top, self._size.rows - 2), self._size.rows - 1)
            self._damaged = True

    def _reset_margins(self) -> None:
        if self._size is not None:
            self._margins = (1, self._size.rows - 1)
            self._damaged = True


def _continuation_length(lead: int) -> int:
    """How many continuation bytes follow this first byte of a UTF-8 character (RFC 3629); 0 if it is none."""
    if 0xC2 <= lead <= 0xDF:
        return 1
    if 0xE0 <= lead <= 0xEF:
        return 2
    if 0xF0 <= lead <= 0xF4:
        return 3
    return 0
