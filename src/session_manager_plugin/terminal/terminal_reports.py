"""What a terminal types as answers: ours are taken out of the keyboard's bytes, the remote's are passed on. Pure."""

from __future__ import annotations

import re
from collections import deque
from enum import Enum
from typing import NamedTuple

from session_manager_plugin.terminal.questions import Question, UnansweredQuestions

# A terminal answers in the order in which it was asked, among what is typed. Who has asked for an answer is told by
# its place in that order, so the remote's questions are counted too. A terminal may be slow (the link to it), or not
# answer at all; so an answer of ours is expected for a long time, and nobody waits for one.
#
# F3 with a modifier is typed as a report of row 1 and a column of 2 to 16 (xterm). It is one for as long as a terminal
# may be expected to take, and then a key.

ANSWER_TIME = 0.25
"""Seconds after which a terminal counts as one that does not answer."""
LATEST = 10.0
"""Seconds after which an answer is not expected any more."""
PARTIAL_TIME = 0.1
"""Seconds for which the beginning of what may be an answer is withheld; a lone ESC is a key."""

_MOST_GIVEN_UP = 4

_REPORT = re.compile(rb"\x1b\[(\d{1,5});(\d{1,5})R")
_PARTIAL = re.compile(rb"\x1b(?:\[[\d;]{0,24})?\Z")
_LAST_MODIFIER = 16
_SIZE_REPORT = re.compile(rb"\x1b\[(?:48;(\d{1,5});(\d{1,5});(\d{1,6})|4;(\d{1,6}))(;\d{1,6}t)")
"""In-band resize (mode 2048: rows, columns, height and width in pixels), and the answer to `CSI 14 t`."""
_PARTIAL_SIZE = re.compile(rb"\x1b\[4[\d;]{0,30}\Z")


class Report(Enum):
    """What a terminal can be asked for."""

    CURSOR_POSITION = "CPR"


class Position(NamedTuple):
    """An answer to a question of ours: row and column, counted from 1."""

    question: int
    row: int
    column: int


class _Question(NamedTuple):
    asked_at: float
    number: int | None
    """Ours; None for one of the remote's."""


class TerminalReports:
    """Sees the questions as they are written to the terminal, and everything that is typed there.

    `now` is in seconds, monotonic.
    """

    def __init__(self) -> None:
        self.hidden_row_of = 0
        """The rows of the terminal while the last one is hidden from the remote, which reports of the size must not
        count then; else 0."""
        self._questions: deque[_Question] = deque()
        self.unanswered = UnansweredQuestions()
        """All questions, for the end of the session; those of the remote are entered by the owner."""
        self._partial = b""
        self._answers = True
        self._given_up = 0
        """How many of our questions are not waited for any more."""

    @property
    def is_partial(self) -> bool:
        """Whether something is withheld; call `release` after `PARTIAL_TIME` without more."""
        return bool(self._partial)

    def may_ask(self, now: float) -> bool:
        """Whether to ask: not while an answer is due, nor a terminal that has left the last question unanswered."""
        since = self._asked_at[self._given_up :]
        if since and now > since[-1] + ANSWER_TIME:
            self._answers = False
        return self._answers and not since

    def is_silent(self, now: float) -> bool:
        """Whether the terminal has left a question of ours unanswered for `ANSWER_TIME`."""
        self.may_ask(now)
        return not self._answers

    def try_again(self) -> None:
        """Ask a terminal again that has not answered: something has changed."""
        self._given_up = len(self._asked_at)
        self._answers = self._given_up < _MOST_GIVEN_UP

    def forget(self) -> None:
        """Another program has had the terminal: whatever was asked before was answered to that one."""
        self._questions.clear()
        self.unanswered.forget()
        self._partial = b""
        self._given_up = 0

    def expect(self, number: int | None, now: float) -> None:
        """Question `number` of ours is being written, or one of the remote's: None."""
        self._expire(now)
        self._questions.append(_Question(now, number))
        if number is not None:
            self.unanswered.ask(Question.OTHER, now)

    def feed(self, data: bytes, now: float) -> tuple[bytes, list[Position]]:
        """What was typed without the answers to us, and these."""
        self.unanswered.feed(data)
        if not self._questions and not self._partial and not (self.hidden_row_of and b"\x1b[4" in data):
            return data, []
        self._expire(now)
        data, self._partial = self._partial + data, b""
        kept, positions, position = [], [], 0
        for found in _REPORT.finditer(data):
            row, column = int(found[1]), int(found[2])
            answered = self._answered(row, column, now)
            if answered is None:
                continue
            kept.append(data[position : found.start()])
            position = found.end()
            positions.append(Position(answered, row, column))
        kept.append(data[position:])
        rest = b"".join(kept)
        is_due = any(question.number is not None for question in self._questions)
        start = (_PARTIAL if is_due else _PARTIAL_SIZE).search(rest) if is_due or self.hidden_row_of else None
        if start is not None:
            rest, self._partial = rest[: start.start()], start[0]
        return _SIZE_REPORT.sub(self._without_hidden_row, rest) if self.hidden_row_of else rest, positions

    def release(self) -> bytes:
        """What was withheld, which is to be passed on after all."""
        partial, self._partial = self._partial, b""
        return partial

    def _without_hidden_row(self, report: re.Match[bytes]) -> bytes:
        rows, columns, height, area_height, rest = report.groups()
        if area_height is not None:
            return b"\x1b[4;%d%b" % (int(area_height) * (self.hidden_row_of - 1) // self.hidden_row_of, rest)
        count = int(rows)
        if count < 2:
            return report[0]
        return b"\x1b[48;%d;%b;%d%b" % (count - 1, columns, int(height) * (count - 1) // count, rest)

    def _answered(self, row: int, column: int, now: float) -> int | None:
        """The number of the question of ours that a report answers; None if it is another's, or a key."""
        if not self._questions:
            return None
        question = self._questions[0]
        may_be_key = row == 1 and 2 <= column <= _LAST_MODIFIER
        if may_be_key and question.number is not None and now > question.asked_at + ANSWER_TIME:
            return None
        self._questions.popleft()
        if question.number is not None:
            self._answers = True
            self._given_up = max(0, self._given_up - 1)
        return question.number

    @property
    def _asked_at(self) -> list[float]:
        """When our questions were asked that are not answered."""
        return [question.asked_at for question in self._questions if question.number is not None]

    def _expire(self, now: float) -> None:
        while self._questions and now > self._questions[0].asked_at + LATEST:
            if self._questions.popleft().number is not None:
                self._answers = self._answers and self._given_up > 0
                self._given_up = max(0, self._given_up - 1)
