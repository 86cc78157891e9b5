"""Whether a program waits for a line at its prompt, as far as its output shows. Pure."""

from __future__ import annotations

import re

from session_manager_plugin.terminal.cursor_row import CursorRow
from session_manager_plugin.terminal.editor_prompt import EditorPrompt

# While a command runs, the terminal echoes what is typed ahead until the command turns that off, at any moment. Only a
# program that waits for a line keeps the echo on until Enter. There are two signs of such a program:
#
# - A line editor (readline, zle, fish, prompt_toolkit) sets bracketed paste at its prompt, and resets it at Enter.
# - Of other programs the prompt is learned: the text in front of a line whose end was echoed, up to Enter, and which
#   appears again after that line. A program that asks without echo may turn the echo off only after it has shown
#   its prompt, so a learned prompt must have stood for `SETTLE_TIME`.
#
# A prompt belongs to the line entered before it. If two lines were entered ahead, the first prompt does not wait: the
# program reads the second line at once. So each line entered must have had its prompt, and so must each key that may
# lead to a prompt by itself, such as Ctrl-C.
#
# Lines that another program has read, a password for example, have no prompt. A line editor that has stood at its
# prompt for `SETTLE_TIME` waits, whatever the number: it would have read the second line and left its prompt. On a link
# that has stalled, or with an editor that is slow, its echo of the second line may arrive that late, and begin like
# what was typed. So the echo of a key that is acknowledged only shows that it waits, and the keys typed after that echo
# count (`may_read_ahead`). Another program may be silent at what looks like its prompt, since the terminal has echoed
# the second line before; so only after two lines entered at standing prompts the last one counts alone.

SETTLE_TIME = 0.6
"""Seconds after a learned prompt within which the program may still turn the echo off, and after the prompt of a line
editor within which it may still read a line entered ahead."""
_LINES_IN_STEP = 2
"""Lines entered at standing prompts after which lines entered before have been read."""
_CHANGING = re.compile("(\\w*\\W).+([$#%>\N{HEAVY RIGHT-POINTING ANGLE QUOTATION MARK ORNAMENT}] )", re.DOTALL)
"""Prompts whose middle may change. A question without echo ends otherwise, mostly with a colon."""
_MOST_KNOWN = 64
"""Prompts that are remembered; then the oldest is forgotten."""


class LinePrompt:
    """Follows the lines entered and the output. ``waits_since`` is the result."""

    def __init__(self, row: CursorRow) -> None:
        self._row = row
        self._editor = EditorPrompt(row)
        self._known: dict[str, None] = {}
        self._kinds: set[tuple[str, ...]] = set()
        self._candidate: str | None = None
        """The prompt of the last line, if its end was echoed."""
        self._prompt_row: int | None = None
        """The row in which a known prompt was found."""
        self._entered_row: int | None = None
        """The row in which the last line was entered: its prompt is no longer one, although the newline may be late."""
        self._unanswered = 1
        """Lines entered without a prompt after them so far. The first prompt answers the start of the program."""
        self._shown_at: float | None = None
        """When output without a newline after it arrived, which may be that prompt."""
        self._has_begun = False
        """Whether a line was entered."""
        self._in_step = 0
        """Lines entered one after the other, each at a prompt that stood."""
        self._waits_since = 0.0

    @property
    def waits_since(self) -> float | None:
        """When a program began to wait for the line in the cursor's row, with echo; None if that is not certain."""
        return self._waits_since if self._editor.is_shown or (self._is_shown and not self._unanswered) else None

    @property
    def may_read_ahead(self) -> bool:
        """Whether what a line editor echoes may be a line entered before its prompt."""
        return self._editor.is_shown and self._unanswered > 0

    @property
    def _is_shown(self) -> bool:
        return self._editor.is_shown or self._prompt_row == self._row.rows_left != self._entered_row

    def entered(self, now: float, *, is_ahead: bool) -> None:
        """Enter was typed. ``is_ahead``: before the answers to all keys had arrived."""
        if not self._has_begun:
            self._has_begun = True
            if self._unanswered and self._shown_at is not None and now >= self._shown_at + SETTLE_TIME:
                self._unanswered -= 1
        is_in_step = self._is_shown and not is_ahead and now >= self._waits_since
        self._in_step = self._in_step + 1 if is_in_step else 0
        has_read_all = self._in_step >= (1 if self._editor.is_shown else _LINES_IN_STEP)
        self._unanswered = 1 if has_read_all else self._unanswered + 1
        self._editor.leave()
        self._candidate = None
        self._entered_row = self._row.rows_left

    def typed_behind(self, text: str) -> None:
        """Something is typed in the cursor's row behind ``text``."""
        self._editor.typed_behind(text)

    def interrupted(self) -> None:
        """A key was typed that may lead to a prompt by itself."""
        self._unanswered += 1

    def echoes_keys(self, now: float) -> None:
        """An acknowledged key was echoed at the prompt of a line editor: from now on its echo counts.

        It may have been the first letter of a line entered ahead, of which the rest follows at once.
        """
        self._unanswered = 0
        self._waits_since = now

    def echoed(self, prompt: str) -> None:
        """Learn ``prompt`` once it appears again: the end of the line after it was echoed, up to Enter."""
        if prompt.strip():
            self._candidate = prompt

    def _learn(self, prompt: str) -> None:
        if prompt not in self._known:
            self._unanswered = max(0, self._unanswered - 1)  # it has answered the line before, not known yet
        self._keep(prompt)
        self._candidate = None

    def _keep(self, prompt: str) -> None:
        self._known.pop(prompt, None)
        self._known[prompt] = None
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._kinds = {kind for known in self._known if (kind := _kind(known))}

    def output(self, data: bytes, now: float) -> None:
        """Look for a prompt after ``data``, which the row has been fed."""
        if not self._has_begun and data and (self._shown_at is None or b"\n" in data):
            self._shown_at = None if data.endswith(b"\n") else now
        if self._editor.output(data, now):
            self._answered(now)
        if self._is_shown or self._row.rows_left == self._entered_row:
            return
        column = self._row.column
        text = self._row.text(0, column) if column else None
        if text is None:
            return
        kind = _kind(text)
        if self._candidate is not None and (text == self._candidate or (kind and kind == _kind(self._candidate))):
            self._learn(text)
        if kind in self._kinds:
            self._keep(text)
        if text in self._known:
            self._prompt_row = self._row.rows_left
            self._answered(now + SETTLE_TIME)

    def reset(self) -> None:
        """Forget what is shown: another screen is."""
        self._editor.leave()
        self._prompt_row = None

    def _answered(self, waits_since: float) -> None:
        self._unanswered = max(0, self._unanswered - 1)
        self._waits_since = waits_since + (SETTLE_TIME if self.may_read_ahead else 0.0)


def _kind(prompt: str) -> tuple[str, ...] | None:
    """Return the beginning and the end of a prompt whose middle may change, such as the working directory or a time."""
    found = _CHANGING.fullmatch(prompt)
    return None if found is None else found.groups()
