"""The forms in which a command is sent."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from session_manager_plugin.errors import AccessDenied, AgentTooOld, DocumentDenied, SessionEnded, UsageError
from session_manager_plugin.execution.remote_command import RemoteCommand, Via, attempt_ways, command_of
from session_manager_plugin.session.marked_command import MAX_SIZE
from session_manager_plugin.session.outcome import Outcome, outcome_of
from session_manager_plugin.session.protocols import TerminalSize


def test_words_arrive_as_they_are() -> None:
    words = ["printf", "%s\n", "it's", "", "$HOME", 'a "b"', "-x"]
    document, parameters = command_of(words).session_request(Via.DOCUMENT)
    assert document == "AWS-StartNonInteractiveCommand"
    assert shlex.split(parameters["command"][0]) == words
    assert parameters["separateOutputStream"] == ["true"]


def test_a_string_and_the_option_shell_are_for_sh() -> None:
    for command in (command_of("ls | wc -l"), command_of(["ls", "| wc", "-l"], shell=True)):
        assert command == RemoteCommand("sh -c 'ls | wc -l'", "ls | wc -l")


def test_a_terminal_and_a_shell() -> None:
    command = command_of(["top"])
    assert command.session_request(Via.TERMINAL) == ("AWS-StartInteractiveCommand", {"command": ["top"]})
    (document, parameters), _ = command.in_terminal(TerminalSize(100, 30))
    assert document == "AWS-StartInteractiveCommand"
    assert "stty cols 100 rows 30 " in parameters["command"][0]
    assert command.session_request(Via.SHELL) == ("", {})


@pytest.mark.parametrize("words", [[], [" "], ["a\0b"]])
def test_what_is_no_command(words: list[str]) -> None:
    with pytest.raises(UsageError):
        command_of(words, shell=True)


@pytest.mark.parametrize("words", [[""], ["", "x"], ["echo", "\ud800"]])
def test_words_that_are_no_command(words: list[str]) -> None:
    with pytest.raises(UsageError):
        command_of(words)


@pytest.mark.parametrize("command", [b"uptime", [b"uptime"], ["cat", 5], 5, None])
def test_a_command_of_another_type(command: Any) -> None:
    with pytest.raises(TypeError, match="a command is a string"):
        command_of(command)


def test_a_word_is_a_program_in_a_shell_too() -> None:
    assert command_of(["A=b", "x y"]).line == "exec A=b 'x y'"


def test_a_command_that_is_too_long_for_a_shell() -> None:
    command_of("#" * MAX_SIZE).session_request(Via.SHELL)
    with pytest.raises(UsageError, match="send it as standard input"):
        command_of("#" * (MAX_SIZE + 1)).session_request(Via.SHELL)


def test_bytes_that_are_not_utf_8_need_a_shell() -> None:
    command = command_of(["cat", "\udcff"])
    assert command.session_request(Via.SHELL) == ("", {})
    with pytest.raises(UsageError, match="not UTF-8; --via shell"):
        command.session_request(Via.DOCUMENT)


@pytest.mark.parametrize("error", [DocumentDenied("denied"), AgentTooOld("old")])
async def test_the_shell_is_tried_where_nothing_has_run(error: Exception) -> None:
    tried: list[Via] = []
    sentences: list[str] = []

    async def attempt(via: Via) -> Outcome:
        tried.append(via)
        return outcome_of(error) if via is Via.DOCUMENT else Outcome(4)

    assert (await attempt_ways(Via.AUTO, attempt, sentences.append)).status == 4
    assert tried == [Via.DOCUMENT, Via.SHELL]
    assert len(sentences) == 1
    assert (await attempt_ways(Via.DOCUMENT, attempt, sentences.append)).error is error


async def test_another_refusal_is_final() -> None:
    async def attempt(via: Via) -> Outcome:
        assert via is Via.DOCUMENT
        return outcome_of(AccessDenied("no"))

    assert isinstance((await attempt_ways(Via.AUTO, attempt, lambda _sentence: None)).error, AccessDenied)


async def test_an_end_without_a_status_is_no_success() -> None:
    async def attempt(via: Via) -> Outcome:
        return Outcome(by_far_end=True)

    outcome = await attempt_ways(Via.DOCUMENT, attempt, lambda _sentence: None)
    assert isinstance(outcome.error, SessionEnded)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("server &", True),
        ("(server & ) ; echo started", True),
        ("server >log & echo started", True),
        ("make 2>&1 && echo done", False),
        ("make &>log; curl 'http://localhost/?a=1&b=2'", False),
        (r"echo a \& b", False),
    ],
)
def test_programs_in_the_background(line: str, expected: bool) -> None:
    assert command_of(line).has_background is expected
    assert command_of(["sh", "-c", line]).has_background is expected
