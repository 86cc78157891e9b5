"""What the remote asks the terminal, and whether the answers may still be on their way. Pure."""

from __future__ import annotations

import re
from collections import deque
from enum import Enum, auto

from session_manager_plugin.terminal.keys import EventKind, input_events

# An answer that arrives after the session has ended is typed text for the local shell. To know when the last one has
# arrived, the terminal is asked for its primary device attributes (DA1), which every terminal since the VT100 answers,
# and it answers in order. The remote may have asked for the same, so those answers are counted.
#
# What is asked and never answered, because the terminal does not know it, is known once a later DA1 was answered.

ASK_ATTRIBUTES = b"\x1b[c"
ATTRIBUTES = re.compile(rb"\x1b\[\?[0-9;]*c")
"""The answer to it."""
LATEST = 2.0
"""Seconds after which an answer is not expected any more."""

_UNASKED = re.compile(rb"\x1b\[(?:M.*|.*[MmIO])", re.DOTALL)
"""Reports of the mouse and of the focus."""
_MOST = 64
"""Questions that are remembered; a program that asks more of them waits for no answer."""
_SEQUENCE = re.compile(
    rb"[>=]?0?c"  # DA1, DA2, DA3
    rb"|\??[0-9;]+n"  # DSR
    rb"|\??[0-9;]*\$p"  # DECRQM
    rb"|>0?q"  # XTVERSION
    rb"|(?:1[134568]|19|2[01])t"  # XTWINOPS
    rb"|\?u"  # kitty's keyboard protocol
    rb"|\?[0-9;]*[mS]"  # XTQMODKEYS, XTSMGRAPHICS
    rb"|[0-9;]*[$&]w"  # DECRQPSR, DECRQTSR
    rb"|[0-9]*x"  # DECREQTPARM
    rb"|[0-9;]*\*y"  # DECRQCRA
)
QUESTION_FINALS = frozenset("cnpqtumSwxyZ")
"""The final bytes of sequences that may be questions."""
STRING_BEGINNING = 2
"""Bytes of a string other than an OSC by which it is known whether it is a question."""


class Question(Enum):
    """What was asked."""

    ATTRIBUTES = auto()
    """DA1, by CSI c or DECID."""
    OTHER = auto()


def question_in_sequence(kind: str, body: bytes, final: str) -> Question | None:
    """Return the question that a sequence is; the parameters are the fields of `sequences.Sequence`."""
    if kind != "[":
        return Question.ATTRIBUTES if final == "Z" and not body else None
    if not _SEQUENCE.fullmatch(body + final.encode()):
        return None
    return Question.ATTRIBUTES if final == "c" and body in (b"", b"0") else Question.OTHER


def question_in_string(introducer: bytes, text: bytes) -> Question | None:
    """Return the question that a string is: an OSC with ? for a value, DECRQSS, XTGETTCAP, kitty's graphics protocol.

    `introducer` is the byte after ESC; of a string other than an OSC `STRING_BEGINNING` bytes of `text` are enough.
    """
    if introducer == b"]":
        is_question = b";?" in text
    else:
        is_question = (introducer, text[:2]) in ((b"P", b"$q"), (b"P", b"+q")) or (introducer, text[:1]) == (b"_", b"G")
    return Question.OTHER if is_question else None


class UnansweredQuestions:
    """Sees the questions as they are written to the terminal, and everything that is typed there.

    `now` is in seconds, monotonic.
    """

    def __init__(self) -> None:
        self._asked: deque[tuple[Question, float]] = deque(maxlen=_MOST)

    def ask(self, question: Question, now: float) -> None:
        """Note that `question` is being written to the terminal."""
        self._expire(now)
        self._asked.append((question, now))

    def feed(self, data: bytes) -> None:
        """Note which answers are in `data`, one read of the terminal."""
        if not self._asked or b"\x1b" not in data:
            return
        for event in input_events(data):
            if event.kind is EventKind.REPORT and self._asked and not _UNASKED.fullmatch(event.raw):
                if ATTRIBUTES.fullmatch(event.raw):
                    while self._asked and self._asked.popleft()[0] is not Question.ATTRIBUTES:
                        pass
                elif self._asked[0][0] is Question.OTHER:
                    self._asked.popleft()

    def forget(self) -> None:
        """Expect no answers any more."""
        self._asked.clear()

    def expected(self, now: float) -> list[Question]:
        """The questions of which the answers may still arrive, in order."""
        self._expire(now)
        return [question for question, _ in self._asked]

    def _expire(self, now: float) -> None:
        while self._asked and now >= self._asked[0][1] + LATEST:
            self._asked.popleft()
