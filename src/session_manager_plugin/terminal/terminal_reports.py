"""Reports of a terminal in its input: answers to our requests are taken out, the remote's are passed on. Pure."""

from __future__ import annotations

import re
from collections import deque
from enum import Enum
from typing import NamedTuple

from session_manager_plugin.terminal.questions import Question, UnansweredQuestions

# A terminal answers in the order of the requests, in the middle of typed input. That order decides whether an answer is
# ours or the remote's, so the remote's requests are counted too. A terminal may be slow, or not answer at all; so our
# answers are expected for a long time, and nothing waits for them.
#
# xterm sends F3 with a modifier as the same bytes as a report of row 1 and column 2 to 16. Within ``ANSWER_TIME`` of a
# request these bytes are taken as the answer, later as the key.

ANSWER_TIME = 0.25
"""Seconds after which a terminal counts as not answering."""
LATEST = 10.0
"""Seconds after which an answer is no longer expected."""
PARTIAL_TIME = 0.1
"""Seconds for which a possible beginning of an answer is withheld. It may be a key: a lone ESC."""

_MOST_GIVEN_UP = 4

_REPORT = re.compile(rb"\x1b\[(\d{1,5});(\d{1,5})R")
_PARTIAL = re.compile(rb"\x1b(?:\[[\d;]{0,24})?\Z")
_LAST_MODIFIER = 16
_SIZE_REPORT = re.compile(rb"\x1b\[(?:48;(\d{1,5});(\d{1,5});(\d{1,6})|4;(\d{1,6}))(;\d{1,6}t)")
"""In-band resize (mode 2048: rows, columns, height and width in pixels), and the answer to ``CSI 14 t``."""
_PARTIAL_SIZE = re.compile(rb"\x1b\[4[\d;]{0,30}\Z")


class Report(Enum):
    """The kinds of reports that can be requested from a terminal."""

    CURSOR_POSITION = "CPR"


class Position(NamedTuple):
    """The answer to one of our requests: row and column, counted from 1."""

    question: int
    row: int
    column: int


class _Question(NamedTuple):
    asked_at: float
    number: int | None
    """The number of our request; None for a request of the remote's."""


class TerminalReports:
    """Matches the requests written to the terminal with the answers in its input.

    The owner reports both. ``now`` is in seconds, monotonic.
    """

    def __init__(self) -> None:
        self.hidden_row_of = 0
        """The terminal's rows while its last row is hidden from the remote; otherwise 0. Reports of the size are
        corrected by that row."""
        self._questions: deque[_Question] = deque()
        self.unanswered = UnansweredQuestions()
        """All requests, for the end of the session. The owner adds those of the remote."""
        self._partial = b""
        self._answers = True
        self._given_up = 0
        """How many of our requests no longer prevent another request."""

    @property
    def is_partial(self) -> bool:
        """Whether bytes are withheld. Call ``release`` after ``PARTIAL_TIME`` without further input."""
        return bool(self._partial)

    def may_ask(self, now: float) -> bool:
        """Whether another request may be sent: no answer is due, and the terminal has answered the last request."""
        since = self._asked_at[self._given_up :]
        if since and now > since[-1] + ANSWER_TIME:
            self._answers = False
        return self._answers and not since

    def is_silent(self, now: float) -> bool:
        """Whether the terminal has not answered our last request within ``ANSWER_TIME``."""
        self.may_ask(now)
        return not self._answers

    def try_again(self) -> None:
        """Allow requests again although the terminal has not answered, after a change such as a resize."""
        self._given_up = len(self._asked_at)
        self._answers = self._given_up < _MOST_GIVEN_UP

    def forget(self) -> None:
        """Forget all requests: another program has had the terminal and has received the answers."""
        self._questions.clear()
        self.unanswered.forget()
        self._partial = b""
        self._given_up = 0

    def expect(self, number: int | None, now: float) -> None:
        """Note that our request ``number``, or a request of the remote's (None), is written to the terminal."""
        self._expire(now)
        self._questions.append(_Question(now, number))
        if number is not None:
            self.unanswered.ask(Question.OTHER, now)

    def feed(self, data: bytes, now: float) -> tuple[bytes, list[Position]]:
        """Return the input without the answers to our requests, and these answers."""
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
        """Return the withheld bytes, to be passed on."""
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
        """Return the number of our request that a report answers; None if it answers the remote's, or is a key."""
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
        """When our unanswered requests were sent."""
        return [question.asked_at for question in self._questions if question.number is not None]

    def _expire(self, now: float) -> None:
        while self._questions and now > self._questions[0].asked_at + LATEST:
            if self._questions.popleft().number is not None:
                self._answers = self._answers and self._given_up > 0
                self._given_up = max(0, self._given_up - 1)
