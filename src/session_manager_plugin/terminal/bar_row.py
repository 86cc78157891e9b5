"""The bar's text, and the bytes that write it in the last row of the terminal. Pure."""

from __future__ import annotations

import re

from session_manager_plugin.terminal.character_width import character_width
from session_manager_plugin.terminal.pen import PLAIN

_NO_WRAP, _WRAP = b"\x1b[?7l", b"\x1b[?7h"  # DECAWM
_SEQUENCE = re.compile(r"\x1b\[[0-9;:]*[A-Za-z]")


class BarRow:
    """One line in the last row of the terminal, whatever size the terminal has by now."""

    def __init__(self) -> None:
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

    def rows_added(self, columns: int) -> int:
        """Return how many rows a terminal adds that wraps the text anew for ``columns``."""
        shown = _SEQUENCE.sub("", self.text.decode("utf-8", "replace"))
        return max(0, sum(map(character_width, shown)) - 1) // columns
