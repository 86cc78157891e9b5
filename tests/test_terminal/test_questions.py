"""What the remote asks the terminal: which sequences are questions, and which of them may still be answered."""

from __future__ import annotations

import pytest

from session_manager_plugin.terminal.questions import (
    LATEST,
    Question,
    UnansweredQuestions,
    question_in_sequence,
    question_in_string,
)

DA1, OTHER = Question.ATTRIBUTES, Question.OTHER


@pytest.mark.parametrize(
    ("sequence", "question"),
    [
        ("c", DA1),
        ("0c", DA1),
        (">c", OTHER),
        ("=0c", OTHER),
        ("5n", OTHER),
        ("?996n", OTHER),
        ("?2026$p", OTHER),
        (">q", OTHER),
        ("14t", OTHER),
        ("18t", OTHER),
        ("?u", OTHER),
        ("?4m", OTHER),
        ("m", None),
        ("31m", None),
        ("?1;5c", None),
        ("2 q", None),
        ("22;2t", None),
        ("8;24;80t", None),
        ("!p", None),
        (">1u", None),
        ("u", None),
        ("H", None),
    ],
)
def test_questions_in_sequences(sequence: str, question: Question | None) -> None:
    assert question_in_sequence("[", sequence[:-1].encode(), sequence[-1]) is question


def test_decid() -> None:
    assert question_in_sequence("e", b"", "Z") is DA1
    assert question_in_sequence("e", b"", "c") is None
    assert question_in_sequence("[", b"", "Z") is None


@pytest.mark.parametrize(
    ("introducer", "text", "question"),
    [
        (b"]", b"11;?", OTHER),
        (b"]", b"4;1;?", OTHER),
        (b"]", b"52;c;?", OTHER),
        (b"]", b"0;what?", None),
        (b"]", b"8;;http://host/?a", None),
        (b"P", b"$qm", OTHER),
        (b"P", b"+q544e", OTHER),
        (b"P", b"q#0;2", None),
        (b"_", b"Gi=1,a=q", OTHER),
        (b"k", b"title", None),
    ],
)
def test_questions_in_strings(introducer: bytes, text: bytes, question: Question | None) -> None:
    assert question_in_string(introducer, text) is question


def asked(*questions: Question) -> UnansweredQuestions:
    unanswered = UnansweredQuestions()
    for question in questions:
        unanswered.ask(question, 0.0)
    return unanswered


def test_an_answer_answers_the_oldest_question() -> None:
    unanswered = asked(OTHER, OTHER, DA1)
    unanswered.feed(b"\x1b]11;rgb:0000/0000/0000\x07")
    assert unanswered.expected(1.0) == [OTHER, DA1]
    unanswered.feed(b"typed\x1b[A\x1b[<35;1;1M\x1b[M !!\x1b[I")
    assert unanswered.expected(1.0) == [OTHER, DA1]


def test_attributes_are_the_answer_to_all_that_was_asked_before() -> None:
    unanswered = asked(OTHER, DA1, OTHER, DA1)
    unanswered.feed(b"\x1b[?62;22c")
    assert unanswered.expected(1.0) == [OTHER, DA1]
    unanswered.feed(b"\x1b[0n\x1b[?62;22c")
    assert unanswered.expected(1.0) == []
    unanswered.feed(b"\x1b[?62;22c")
    assert unanswered.expected(1.0) == []


def test_nothing_is_expected_for_ever() -> None:
    unanswered = asked(OTHER)
    unanswered.ask(DA1, 1.0)
    assert unanswered.expected(LATEST) == [DA1]
    unanswered.forget()
    assert unanswered.expected(LATEST) == []
