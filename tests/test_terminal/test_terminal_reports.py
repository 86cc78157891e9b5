"""TerminalReports: which of the terminal's answers are ours, and what is passed on."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from session_manager_plugin.terminal.input import InputReader, TypedInput
from session_manager_plugin.terminal.terminal_reports import ANSWER_TIME, LATEST, Position, TerminalReports
from tests.support.waiting import DEADLINE

ANSWER = b"\x1b[12;34R"


def asked(*numbers: int | None) -> TerminalReports:
    reports = TerminalReports()
    for number in numbers:
        reports.expect(number, 0.0)
    return reports


def test_nothing_is_taken_unless_it_was_asked_for() -> None:
    reports = TerminalReports()
    assert reports.feed(b"a" + ANSWER + b"\x1b[1;2R\x1b", 0.0) == (b"a" + ANSWER + b"\x1b[1;2R\x1b", [])
    assert not reports.is_partial


def test_an_answer_among_what_is_typed() -> None:
    reports = asked(7)
    assert reports.feed(b"ls" + ANSWER + b"\r", 0.1) == (b"ls\r", [Position(7, 12, 34)])
    assert reports.feed(ANSWER, 0.1) == (ANSWER, [])


def test_answers_come_in_the_order_of_the_questions() -> None:
    reports = asked(None, 1, None, 2)
    answers = [b"\x1b[%d;5R" % row for row in range(20, 25)]
    kept, positions = reports.feed(b"".join(answers), 0.1)
    assert kept == answers[0] + answers[2] + answers[4]
    assert positions == [Position(1, 21, 5), Position(2, 23, 5)]


def test_an_answer_in_pieces() -> None:
    reports = asked(1)
    for place in range(1, len(ANSWER)):
        reports.expect(1, 0.0)
        assert reports.feed(b"x" + ANSWER[:place], 0.1) == (b"x", [])
        assert reports.is_partial
        assert reports.feed(ANSWER[place:] + b"y", 0.1) == (b"y", [Position(1, 12, 34)])


def test_a_late_answer_is_not_typed_to_the_remote() -> None:
    reports = asked(1)
    assert not reports.may_ask(ANSWER_TIME + 0.1)
    assert reports.feed(ANSWER, LATEST - 1) == (b"", [Position(1, 12, 34)])
    assert reports.may_ask(LATEST - 1)  # slow, but it answers


def test_a_terminal_that_does_not_answer_is_not_asked_again_until_something_changes() -> None:
    reports = TerminalReports()
    assert reports.may_ask(0.0)
    reports.expect(1, 0.0)
    assert not reports.may_ask(0.1)
    assert not reports.may_ask(1.0)
    assert not reports.may_ask(LATEST + 1)
    reports.feed(ANSWER, LATEST + 1)
    assert not reports.may_ask(LATEST + 1)
    reports.try_again()
    assert reports.may_ask(LATEST + 1)


def test_f3_with_a_modifier_is_a_key_when_no_answer_is_due() -> None:
    assert asked(1).feed(b"\x1b[1;2R", 0.1) == (b"", [Position(1, 1, 2)])
    assert asked(1).feed(b"\x1b[1;2R", ANSWER_TIME + 0.1) == (b"\x1b[1;2R", [])
    assert asked(1).feed(b"\x1b[1;40R", ANSWER_TIME + 0.1) == (b"", [Position(1, 1, 40)])


def test_answers_to_another_program_are_not_expected() -> None:
    reports = asked(1)
    reports.forget()
    assert reports.feed(ANSWER, 0.1) == (ANSWER, [])


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        (b"\x1b[48;24;80;480;800t", b"\x1b[48;23;80;460;800t"),
        (b"a\x1b[4;480;800tb", b"a\x1b[4;460;800tb"),
        (b"\x1b[8;24;80t\x1b[6;20;10t\x1b[4~", b"\x1b[8;24;80t\x1b[6;20;10t\x1b[4~"),
    ],
)
def test_sizes_do_not_count_a_hidden_row(typed: bytes, passed: bytes) -> None:
    reports = TerminalReports()
    assert reports.feed(typed, 0.0) == (typed, [])
    reports.hidden_row_of = 24
    assert reports.feed(typed, 0.0) == (passed, [])
    for cut in range(typed.index(b"\x1b[4") + 3, len(typed)):
        begun, _ = reports.feed(typed[:cut], 0.0)
        assert begun + reports.feed(typed[cut:], 0.0)[0] == passed


async def test_a_lone_escape_is_passed_on() -> None:
    read_end, write_end = os.pipe()
    located: list[Position] = []
    reports = TerminalReports()
    reports.expect(1, time.monotonic())
    typed = TypedInput(InputReader(read_end), reports, located.append)
    try:
        os.write(write_end, b"\x1b")
        assert await asyncio.wait_for(typed.read(), DEADLINE) == b"\x1b"
        os.write(write_end, ANSWER + b"x")
        assert await asyncio.wait_for(typed.read(), DEADLINE) == b"x"
        assert located == [Position(1, 12, 34)]
    finally:
        os.close(write_end)
        assert await asyncio.wait_for(typed.read(), DEADLINE) == b""
        os.close(read_end)
