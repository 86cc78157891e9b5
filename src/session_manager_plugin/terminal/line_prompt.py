"""Whether a program waits for a line at its prompt, as far as its output shows. Pure."""

from __future__ import annotations

import re

from session_manager_plugin.terminal.cursor_row import CursorRow

# While a command runs, the terminal echoes what is typed ahead until the command turns that off, at any moment. Only a
# program that waits for a line keeps the echo on until Enter. There are two signs of such a program:
#
# - A line editor (readline, zle, fish, prompt_toolkit) sets bracketed paste at its prompt, and resets it at Enter.
# - Of other programs the prompt is learned: the text in front of a line that was echoed completely, up to Enter, and
#   which appears again after that line. A program that asks without echo may turn the echo off only after it has shown
#   its prompt, so a learned prompt must have stood for `SETTLE_TIME`.
#
# A prompt belongs to the line entered before it. If two lines were entered ahead, the first prompt does not wait: the
# program reads the second line at once. So each line entered must have had its prompt.

_BRACKETED_PASTE = re.compile(rb"\x1b\[\?(?:[0-9;]*;)?2004(?:;[0-9;]*)?([hl])")
SETTLE_TIME = 0.6
"""Seconds after a learned prompt within which the program may still turn the echo off."""
_MOST_KNOWN = 64
"""Prompts that are remembered; then the oldest is forgotten."""


class LinePrompt:
    """Follows the lines entered and the output. ``waits_since`` is the result."""

    def __init__(self, row: CursorRow) -> None:
        self._row = row
        self._known: dict[str, None] = {}
        self._candidate: str | None = None
        """The prompt of the last line, if that was echoed completely."""
        self._is_editing = False
        """Whether a line editor has shown its prompt since the last Enter."""
        self._prompt_row: int | None = None
        """The row in which a known prompt was found."""
        self._unanswered = 0
        """Lines entered without a prompt after them so far."""
        self._waits_since = 0.0

    @property
    def waits_since(self) -> float | None:
        """When a program began to wait for the line in the cursor's row, with echo; None if that is not certain."""
        return self._waits_since if self._is_shown and not self._unanswered else None

    @property
    def _is_shown(self) -> bool:
        return self._is_editing or self._prompt_row == self._row.rows_left

    def entered(self, *, is_ahead: bool) -> None:
        """Enter was typed. ``is_ahead``: before the answers to all keys had arrived."""
        self._unanswered = 1 if self._is_shown and not is_ahead else self._unanswered + 1
        self._is_editing = False
        self._candidate = None

    def echoed(self, prompt: str) -> None:
        """Learn ``prompt`` once it appears again: the line after it was echoed, and ended by Enter."""
        if prompt.strip():
            self._candidate = prompt

    def _learn(self, prompt: str) -> None:
        if not self._known:
            self._unanswered = 1  # until now no prompt could be found: only the last line counts
        self._known.pop(prompt, None)
        self._known[prompt] = None
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._candidate = None

    def output(self, data: bytes, now: float) -> None:
        """Look for a prompt after ``data``, which the row has been fed."""
        if b"2004" in data:
            for found in _BRACKETED_PASTE.finditer(data):
                self._is_editing = found[1] == b"h"
                if self._is_editing:
                    self._answered(now)
        if self._is_shown:
            return
        column = self._row.column
        text = self._row.text(0, column) if column else None
        if text is not None and text == self._candidate:
            self._learn(text)
        if text in self._known:
            self._prompt_row = self._row.rows_left
            self._answered(now + SETTLE_TIME)

    def reset(self) -> None:
        """Forget what is shown: another screen is."""
        self._is_editing = False
        self._prompt_row = None

    def _answered(self, waits_since: float) -> None:
        self._unanswered = max(0, self._unanswered - 1)
        self._waits_since = waits_since
