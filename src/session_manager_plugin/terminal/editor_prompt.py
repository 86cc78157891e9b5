"""The prompt of a line editor, which sets bracketed paste while it reads a line. Pure."""

from __future__ import annotations

import re

from session_manager_plugin.terminal.cursor_row import CursorRow

_BRACKETED_PASTE = re.compile(rb"\x1b\[\?(?:[0-9;]*;)?2004(?:;[0-9;]*)?([hl])")
_SHOWN_WITHIN = 0.6
"""Seconds after bracketed paste was set in which the rest of a prompt of several lines arrives."""


class EditorPrompt:
    """Follows the output. ``is_shown``: the cursor is behind the prompt of a line editor.

    An editor that was cut off, as by the end of an ssh in which it ran, resets nothing. So its prompt must still be in
    front of the cursor once a newline has led to another row.
    """

    def __init__(self, row: CursorRow) -> None:
        self._row = row
        self._is_set = False
        self._set_at = 0.0
        self._prompt_row = 0
        self._text: str | None = None
        """The text in front of what was typed first in that row; None until something was."""

    @property
    def is_shown(self) -> bool:
        """Whether a line editor waits for the rest of its line."""
        if not self._is_set or self._row.rows_left == self._prompt_row:
            return self._is_set
        before = self._row.text(0, self._row.column or 0)
        return before is not None and self._text is not None and before.startswith(self._text)

    def output(self, data: bytes, now: float) -> bool:
        """Follow ``data``, which the row has been fed. Returns whether a prompt begins in it, and has not ended."""
        begins = False
        if b"2004" in data:
            for found in _BRACKETED_PASTE.finditer(data):
                self._is_set = begins = found[1] == b"h"
        if begins:
            self._prompt_row, self._set_at, self._text = self._row.rows_left, now, None
        elif self._row.rows_left != self._prompt_row and self._text is None:
            if now < self._set_at + _SHOWN_WITHIN:
                self._prompt_row = self._row.rows_left
            else:
                self._is_set = False
        return begins

    def typed_behind(self, text: str) -> None:
        """Something is typed in the cursor's row behind ``text``."""
        if self._text is None and self._row.rows_left == self._prompt_row:
            self._text = text

    def leave(self) -> None:
        """Enter was typed, or another screen is shown: the prompt is over until the editor shows it again."""
        self._is_set = False
