"""Modes of the terminal that the remote has changed and that are reset when it has gone. Pure."""

from __future__ import annotations

# Private modes (DECSET) that would disturb the local shell if they stayed as a dead program has left them, with their
# initial state.
_FOUND_OFF = {
    1,
    5,
    9,
    45,
    66,
    69,
    1000,
    1001,
    1002,
    1003,
    1004,
    1005,
    1006,
    1007,
    1015,
    1016,
    2004,
    2026,
    2031,
    2048,
    9001,
}
_FOUND_ON = {7, 25}
_FOUND_OFF_ANSI = {4, 20}
_SOFT_RESET = {1, 7, 25, 66}  # DECSTR (VT510 manual), with IRM and the numeric keypad


class Modes:
    """Follows DECSET, DECRST, SM, RM and similar sequences, and returns the bytes that reset what they changed."""

    def __init__(self) -> None:
        self._changed: dict[int, None] = {}
        self._changed_ansi: dict[int, None] = {}
        self._keypad = False
        self._cursor_style = 0
        self._modify_keys = 0
        self.is_vt52 = False
        """Whether the terminal is in VT52 mode (DECANM), with other sequences."""

    def set_private(self, number: int, on: bool) -> None:
        """Follow DECSET or DECRST of one mode."""
        if number == 2:  # DECANM; only ``ESC <`` sets it
            self.is_vt52 = self.is_vt52 or not on
        elif number in _FOUND_OFF or number in _FOUND_ON:
            _note(self._changed, number, on is not (number in _FOUND_ON))

    def set_ansi(self, number: int, on: bool) -> None:
        """Follow SM or RM of one mode."""
        if number in _FOUND_OFF_ANSI:
            _note(self._changed_ansi, number, on)

    def set_keypad(self, on: bool) -> None:
        """DECKPAM and DECKPNM."""
        self._keypad = on

    def set_cursor_style(self, style: int) -> None:
        """DECSCUSR."""
        self._cursor_style = style

    def set_modify_keys(self, value: int) -> None:
        """xterm's modifyOtherKeys."""
        self._modify_keys = value

    def has(self, number: int) -> bool:
        """Whether a private mode differs from its initial state."""
        return number in self._changed

    @property
    def inserts(self) -> bool:
        """IRM."""
        return 4 in self._changed_ansi

    @property
    def newline_returns(self) -> bool:
        """LNM."""
        return 20 in self._changed_ansi

    def soft_reset(self) -> None:
        """DECSTR."""
        for number in _SOFT_RESET:
            self._changed.pop(number, None)
        self._changed_ansi.pop(4, None)
        self._keypad = False

    def undo(self) -> bytes:
        """Return the bytes that reset every changed mode to its initial state."""
        pieces = [b"\x1b[?%d%c" % (number, b"lh"[number in _FOUND_ON]) for number in self._changed]
        pieces += [b"\x1b[%dl" % number for number in self._changed_ansi]
        if self._keypad:
            pieces.append(b"\x1b>")
        if self._cursor_style:
            pieces.append(b"\x1b[0 q")
        if self._modify_keys:
            pieces.append(b"\x1b[>4m")
        return b"".join(pieces)

    def redo(self) -> bytes:
        """Return the bytes that set every changed mode again after ``undo``."""
        pieces = [b"\x1b[?%d%c" % (number, b"hl"[number in _FOUND_ON]) for number in self._changed]
        pieces += [b"\x1b[%dh" % number for number in self._changed_ansi]
        if self._keypad:
            pieces.append(b"\x1b=")
        if self._cursor_style:
            pieces.append(b"\x1b[%d q" % self._cursor_style)
        if self._modify_keys:
            pieces.append(b"\x1b[>4;%dm" % self._modify_keys)
        return b"".join(pieces)


def _note(changed: dict[int, None], number: int, is_changed: bool) -> None:
    if is_changed:
        changed[number] = None
    else:
        changed.pop(number, None)
