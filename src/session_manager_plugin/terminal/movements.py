"""The effect on a ``ScreenTracker`` of CSI sequences that move the cursor or set margins. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from session_manager_plugin.terminal.screen_tracker import ScreenTracker

# Each function takes the parameters and the sequence as sent, and returns the bytes to write in its place. While the
# cursor's row is unknown, the remote's last row is the bottom margin (see ``ScreenTracker.region``), which CUD cannot
# cross; VPR ignores margins and is therefore replaced by CUD.


def first(parameters: list[int]) -> int:
    """Return the first parameter. 0 and a missing one mean 1."""
    return (parameters[0] or 1) if parameters else 1


def _move_below_region(tracker: ScreenTracker, count: int, raw: bytes, returns: bool) -> bytes:
    """Move down by ``count`` rows from a known row below the region, where no margin stops the cursor."""
    cursor = tracker.cursor
    row = cursor.row + count
    out = raw
    if row > cursor.last and tracker.limited:
        out = tracker.to_row(cursor.last) + (b"\r" if returns else b"")
    cursor.move_to(row)
    if returns:
        cursor.control(0x0D)
    return out


def _down(tracker: ScreenTracker, parameters: list[int], raw: bytes, returns: bool = False) -> bytes:
    cursor = tracker.cursor
    if cursor.is_row_known and cursor.is_below_region:
        return _move_below_region(tracker, first(parameters), raw, returns)
    cursor.down(first(parameters))
    if returns:
        cursor.control(0x0D)
    return raw


def _next_line(tracker: ScreenTracker, parameters: list[int], raw: bytes) -> bytes:
    return _down(tracker, parameters, raw, True)


def _relative_row(tracker: ScreenTracker, parameters: list[int], raw: bytes) -> bytes:
    cursor = tracker.cursor
    if cursor.is_row_known:
        return _move_below_region(tracker, first(parameters), raw, False)
    if not tracker.limited:
        cursor.lose()
        return raw
    cursor.down(first(parameters))
    return b"\x1b[%dB" % first(parameters)


def _up(tracker: ScreenTracker, parameters: list[int], raw: bytes) -> bytes:
    tracker.cursor.up(first(parameters))
    return raw


def _previous_line(tracker: ScreenTracker, parameters: list[int], raw: bytes) -> bytes:
    tracker.cursor.up(first(parameters))
    tracker.cursor.control(0x0D)
    return raw


def _right(tracker: ScreenTracker, parameters: list[int], raw: bytes) -> bytes:
    tracker.cursor.right(first(parameters))
    return raw


def _left(tracker: ScreenTracker, parameters: list[int], raw: bytes) -> bytes:
    tracker.cursor.right(-first(parameters))
    return raw


def _to_column(tracker: ScreenTracker, parameters: list[int], raw: bytes) -> bytes:
    tracker.cursor.move_to(column=tracker.column_of(first(parameters)))
    return raw


def _absolute_row(tracker: ScreenTracker, parameters: list[int], raw: bytes) -> bytes:
    row = tracker.row_of(first(parameters))
    tracker.cursor.move_to(row)
    return tracker.to_row(tracker.cursor.last) if row > tracker.cursor.last and tracker.limited else raw


def _position(tracker: ScreenTracker, parameters: list[int], raw: bytes) -> bytes:
    row = tracker.row_of(first(parameters))
    column = max(parameters[1] if len(parameters) > 1 else 0, 1)
    tracker.cursor.move_to(row, tracker.column_of(column))
    if row > tracker.cursor.last and tracker.limited:
        return b"\x1b[%d;%dH" % (tracker.cursor.last + 1, column)
    return raw


def _tab(tracker: ScreenTracker, parameters: list[int], raw: bytes) -> bytes:
    tracker.cursor.tab(first(parameters))
    return raw


def _back_tab(tracker: ScreenTracker, parameters: list[int], raw: bytes) -> bytes:
    tracker.cursor.tab(-first(parameters))
    return raw


def _clear_tab(tracker: ScreenTracker, parameters: list[int], raw: bytes) -> bytes:
    which = parameters[0] if parameters else 0
    if which in (0, 3):
        tracker.cursor.clear_tab(which == 3)
    return raw


def _insert_line(tracker: ScreenTracker, _parameters: list[int], raw: bytes) -> bytes:
    cursor = tracker.cursor
    if not cursor.is_row_known:
        cursor.lose_column()
    else:
        cursor.move_to(column=cursor.left_margin if cursor.top <= cursor.row <= cursor.bottom else None)
    return raw


def _change_characters(tracker: ScreenTracker, _parameters: list[int], raw: bytes) -> bytes:
    tracker.cursor.move_to()  # cancels a wrap that is due
    return raw


def _scroll(tracker: ScreenTracker, _parameters: list[int], raw: bytes) -> bytes:
    tracker.cursor.written = b""  # the cursor's row has other text now
    return raw


def _set_margins(tracker: ScreenTracker, parameters: list[int], raw: bytes) -> bytes:
    """DECSTBM: rows counted from 1, by default the whole screen; ignored if it spans fewer than two rows."""
    last = tracker.cursor.last
    top = first(parameters)
    given = parameters[1] if len(parameters) > 1 else 0
    bottom = min(given or last + 1, last + 1)
    if top >= bottom:
        return b"" if tracker.limited else raw
    tracker.set_region(top - 1, bottom - 1)
    return raw if given == bottom or not tracker.limited else b"\x1b[%d;%dr" % (top, bottom)


def _set_side_margins(tracker: ScreenTracker, parameters: list[int], raw: bytes) -> bytes:
    """SCOSC; in mode 69 DECSLRM: columns counted from 1, by default the whole width."""
    if not tracker.modes.has(69):
        tracker.save_cursor()
        return raw
    columns = tracker.cursor.columns
    left = first(parameters)
    right = min((parameters[1] if len(parameters) > 1 else 0) or columns, columns)
    if left < right:
        tracker.cursor.set_side_margins(left - 1, right - 1)
        tracker.cursor.move_to(tracker.row_of(1), tracker.column_of(1))
    return raw


MOVEMENTS: dict[str, Callable[[ScreenTracker, list[int], bytes], bytes]] = {
    "A": _up,
    "B": _down,
    "C": _right,
    "D": _left,
    "E": _next_line,
    "F": _previous_line,
    "G": _to_column,
    "H": _position,
    "I": _tab,
    "L": _insert_line,
    "M": _insert_line,
    "P": _change_characters,
    "S": _scroll,
    "T": _scroll,
    "X": _change_characters,
    "Z": _back_tab,
    "@": _change_characters,
    "`": _to_column,
    "a": _right,
    "d": _absolute_row,
    "e": _relative_row,
    "f": _position,
    "g": _clear_tab,
    "r": _set_margins,
    "s": _set_side_margins,
}
"""By final byte. All of these sequences have plain numbers as parameters; with others it is a different sequence."""
