"""Requests of the remote that the terminal answers, and whether answers may still be on their way. Pure."""

from __future__ import annotations

import re
from collections import deque
from enum import Enum, auto

from session_manager_plugin.terminal.keys import EventKind, input_events

# The local shell would read an answer that arrives after the end of the session as typed text. To detect the last
# answer, the terminal is asked for its primary device attributes (DA1): every terminal since the VT100 answers DA1, and
# terminals answer in order. The remote may have asked for DA1 too, so these answers are counted.
#
# When a DA1 is answered, earlier requests without an answer will never be answered: the terminal does not know them.

ASK_ATTRIBUTES = b"\x1b[c"
ATTRIBUTES = re.compile(rb"\x1b\[\?[0-9;]*c")
"""The answer to DA1."""
LATEST = 2.0
"""Seconds after which an answer is no longer expected."""

_UNASKED = re.compile(rb"\x1b\[(?:M.*|.*[MmIO])", re.DOTALL)
"""Reports of the mouse and of the focus."""
_MOST = 64
"""Requests that are remembered. A program that sends more at once does not wait for the answers."""
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
"""The final bytes of sequences that may be requests."""
STRING_BEGINNING = 2
"""Bytes at the start of a string other than an OSC that decide whether it is a request."""


class Question(Enum):
    """The kind of a request."""

    ATTRIBUTES = auto()
    """DA1, by CSI c or DECID."""
    OTHER = auto()


def question_in_sequence(kind: str, body: bytes, final: str) -> Question | None:
    """Return the kind of request that a sequence is, or None. The parameters are those of ``sequences.Sequence``."""
    if kind != "[":
        return Question.ATTRIBUTES if final == "Z" and not body else None
    if not _SEQUENCE.fullmatch(body + final.encode()):
        return None
    return Question.ATTRIBUTES if final == "c" and body in (b"", b"0") else Question.OTHER


def question_in_string(introducer: bytes, text: bytes) -> Question | None:
    """Return the kind of request that a string is, or None. Requests are an OSC with the value ?, DECRQSS, XTGETTCAP
    and those of kitty's graphics protocol.

    ``introducer`` is the byte after ESC. For a string other than an OSC ``text`` may be cut to ``STRING_BEGINNING``.
    """
    if introducer == b"]":
        is_question = b";?" in text
    else:
        is_question = (introducer, text[:2]) in ((b"P", b"$q"), (b"P", b"+q")) or (introducer, text[:1]) == (b"_", b"G")
    return Question.OTHER if is_question else None


class UnansweredQuestions:
    """Matches the requests written to the terminal with the answers in its input.

    The owner reports both. ``now`` is in seconds, monotonic.
    """

    def __init__(self) -> None:
        self._asked: deque[tuple[Question, float]] = deque(maxlen=_MOST)

    def ask(self, question: Question, now: float) -> None:
        """Note that the request ``question`` is written to the terminal."""
        self._expire(now)
        self._asked.append((question, now))

    def feed(self, data: bytes) -> None:
        """Note the answers in ``data``, one read of the terminal."""
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
        """Forget all requests."""
        self._asked.clear()

    def expected(self, now: float) -> list[Question]:
        """Return the requests whose answers may still arrive, in order."""
        self._expire(now)
        return [question for question, _ in self._asked]

    def _expire(self, now: float) -> None:
        while self._asked and now >= self._asked[0][1] + LATEST:
            self._asked.popleft()
