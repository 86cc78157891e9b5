"""Output that is followed only when the state of the screen is needed. Pure."""

from __future__ import annotations

from collections import deque

from session_manager_plugin.terminal.character_width import JOINER
from session_manager_plugin.terminal.redraw import switched_modes
from session_manager_plugin.terminal.screen_tracker import ScreenTracker

# Without a bar nothing is corrected, and the state is needed rarely: for a notice, a bar that begins, or the end. So
# output that only draws is kept (see ``redraw.deferrable_end``). When there is too much of it, the oldest pieces are
# skipped: only the attributes and modes that they set are followed, and the cursor's position after them is unknown. It
# is mostly known again after the pieces that are kept.

_JOINER = JOINER.encode()
_KEPT = 16 * 1024
"""Bytes that are kept at least: more than one redraw of a large screen."""


class DeferredOutput:
    """Pieces of output, each of which begins and ends between two characters or sequences."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def add(self, piece: bytes, tracker: ScreenTracker) -> bool:
        """Keep ``piece``. Returns whether ``tracker`` has skipped older pieces."""
        self._pieces.append(piece)
        self._size += len(piece)
        skips = False
        while self._size - len(self._pieces[0]) >= _KEPT:
            skipped = self._pieces.popleft()
            self._size -= len(skipped)
            _skip(skipped, tracker)
            skips = True
        return skips

    def take(self) -> bytes:
        """Return the output that is kept, and keep it no longer."""
        output = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return output


def _skip(piece: bytes, tracker: ScreenTracker) -> None:
    """Follow the attributes and modes in ``piece``, but not the cursor."""
    if b"\x1b" in piece:
        tracker.pen.follow(piece)
        for number, on in switched_modes(piece):
            tracker.modes.set_private(number, on)
    if b"\x0e" in piece or b"\x0f" in piece:
        tracker.pen.follow_shifts(piece)
    tracker.cursor.lose(may_wrap=True)
    tracker.cursor.joins = piece.endswith(_JOINER)
