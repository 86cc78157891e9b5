"""The bar's text, and the bytes that write it in the last row of the terminal. Pure."""

from __future__ import annotations

import re

from session_manager_plugin.terminal.character_width import character_width
from session_manager_plugin.terminal.pen import PLAIN

_NO_WRAP, _WRAP = b"\x1b[?7l", b"\x1b[?7h"  # DECAWM
_SEQUENCE = re.compile(r"\x1b\[[0-9;:]*[A-Za-z]")


class BarRow:
    """One line in the last row of the terminal, whatever size the terminal has by now."""

    def __init__(self, *, reflow_moves_cursor: bool = False) -> None:
        """``reflow_moves_cursor``: see ``capabilities``."""
        self._reflow_moves_cursor = reflow_moves_cursor
        self.text = b""
        """One line with SGR and EL; empty while there is none."""

    def written(self, text: bytes, *, wraps: bool) -> bytes:
        """Return the bytes that write ``text`` in the last row; the margins must be off or above it. ``wraps``: whether
        autowrap (DECAWM) is on.

        The terminal may have been resized since its size was read. So the row has a number that is always too large,
        which leads to no row above the cursor, and a text that is too long must not wrap. The colours are reset first,
        because erasing uses the current background.
        """
        off, on = (_NO_WRAP, _WRAP) if wraps and text else (b"", b"")
        return b"\x1b[9999;1H%b\x1b[2K%b%b%b" % (PLAIN, off, text, on)

    def moves_back(self, columns: int) -> bytes:
        """Return the bytes that move the cursor back to its character after the terminal was resized to ``columns``,
        and has wrapped the text anew."""
        if not self._reflow_moves_cursor:
            return b""
        shown = _SEQUENCE.sub("", self.text.decode("utf-8", "replace"))
        rows_added = max(0, sum(map(character_width, shown)) - 1) // columns
        return b"\x1b[A" * rows_added
