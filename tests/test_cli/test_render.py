"""Sentences on stderr, and the environment they are written to."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from session_manager_plugin.cli.environment import Environment, parse_seconds
from session_manager_plugin.cli.exit_status import Exit, Signalled, exit_of_outcome
from session_manager_plugin.cli.process import Process, run_process, status_mode
from session_manager_plugin.cli.render import ending_sentence, error_sentence, tell, tell_ending, tell_error
from session_manager_plugin.cli.session import Ending
from session_manager_plugin.errors import (
    ConfigurationError,
    ConnectionLost,
    Refused,
    SessionEnded,
    TerminalGone,
    TimedOut,
    UsageError,
)
from session_manager_plugin.session.outcome import EndReason, Outcome, outcome_of
from session_manager_plugin.terminal.link_status import StatusMode
from session_manager_plugin.utils.logging import register_secret
from tests.support.waiting import DEADLINE


class Pipe:
    """An environment whose stderr is a pipe."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.environment = Environment(stderr=self.writing, variables={}, is_terminal=lambda _fd: False)

    def read(self) -> str:
        """What was written."""
        os.set_blocking(self.reading, False)
        try:
            return os.read(self.reading, 1 << 20).decode()
        except BlockingIOError:
            return ""


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """An environment whose stderr is a pipe."""
    made = Pipe()
    yield made
    os.close(made.reading)
    os.close(made.writing)


@pytest.mark.parametrize(
    ("number", "is_terminal", "text"),
    [
        (signal.SIGINT, True, "\rsmp: ended by SIGINT\n"),  # the terminal has echoed ^C at the beginning of the line
        (signal.SIGTERM, True, "smp: ended by SIGTERM\n"),
        (signal.SIGINT, False, "smp: ended by SIGINT\n"),
    ],
)
def test_a_signal_is_told_once(pipe: Pipe, number: int, is_terminal: bool, text: str) -> None:
    environment = Environment(stderr=pipe.writing, variables={"NO_COLOR": "1"}, is_terminal=lambda _fd: is_terminal)
    error = Signalled(number)
    tell_error(environment, error)
    tell_error(environment, error)
    assert pipe.read() == text


def test_a_session_that_ctrl_c_has_ended_is_told_at_the_beginning_of_a_line(pipe: Pipe) -> None:
    environment = Environment(stderr=pipe.writing, variables={"NO_COLOR": "1"}, is_terminal=lambda _fd: True)
    tell_ending(environment, Ending("alice-1", outcome_of(Signalled(signal.SIGINT)), began=True))
    assert pipe.read() == "\rsmp: session alice-1 was ended by SIGINT\n"


@pytest.mark.parametrize(("is_terminal", "start"), [(True, "\r"), (False, "")])
def test_the_first_message_after_ctrl_c_begins_a_line(pipe: Pipe, is_terminal: bool, start: str) -> None:
    """Also if the command on the target handles the signal and the program goes on."""
    environment = Environment(stderr=pipe.writing, variables={}, is_terminal=lambda _fd: is_terminal)

    async def main(process: Process) -> None:
        with process.interruption.session(lambda _number: True):
            process.interruption.interrupt(signal.SIGINT)
            tell(environment, "the command was killed by SIGINT", error=False)
            tell(environment, "the end", error=False)

    run_process(environment, main)
    assert pipe.read() == f"{start}smp: the command was killed by SIGINT\nsmp: the end\n"


def test_a_secret_is_hidden(pipe: Pipe) -> None:
    register_secret("hunter2-hunter2")
    tell(pipe.environment, "cannot use hunter2-hunter2 at wss://h/?token=abc&x=1")
    assert pipe.read() == "smp: cannot use *** at wss://h/?token=***&x=1\n"


@pytest.mark.parametrize(
    ("color", "variables", "terminal", "colored"),
    [
        ("auto", {"TERM": "xterm"}, True, True),
        ("auto", {"TERM": "xterm"}, False, False),
        ("auto", {"TERM": "dumb"}, True, False),
        ("auto", {}, True, False),
        ("auto", {"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ("auto", {"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ("auto", {"CLICOLOR_FORCE": "1"}, False, True),
        ("auto", {"CLICOLOR_FORCE": "0"}, False, False),
        ("auto", {"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, True, False),
        ("always", {"NO_COLOR": "1"}, False, True),
        ("never", {"CLICOLOR_FORCE": "1", "TERM": "xterm"}, True, False),
    ],
)
def test_colour(pipe: Pipe, color: str, variables: dict[str, str], terminal: bool, colored: bool) -> None:
    pipe.environment.color = color
    pipe.environment.variables = variables
    pipe.environment.is_terminal = lambda _fd: terminal
    tell(pipe.environment, "no")
    assert pipe.read() == ("\x1b[1;31msmp:\x1b[m no\n" if colored else "smp: no\n")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UsageError("give --url"), "give --url"),
        (BrokenPipeError(), None),
        (KeyboardInterrupt(), None),
        (Signalled(2), None),
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (PermissionError(13, "Permission denied", b"/a/file"), "/a/file: Permission denied"),
        (KeyError("x"), "internal error: KeyError: 'x' (-vv shows where)"),
    ],
)
def test_error_sentence(error: BaseException, sentence: str | None) -> None:
    assert error_sentence(error) == sentence


REFUSED = "; in a port or ssh session the destination may have refused the connection: is it listening?"


@pytest.mark.parametrize(
    ("error", "began", "sentence"),
    [
        (None, True, "session alice-1 ended"),
        (Signalled(15), True, "session alice-1 was ended by SIGTERM"),
        (Signalled(1, "because of rain"), True, "session alice-1 was ended because of rain"),
        (Signalled(2), False, "session alice-1, which had not begun, was ended by SIGINT"),
        (TerminalGone("the terminal was closed"), True, "session alice-1 ended: the terminal was closed"),
        (SessionEnded("x", output="Idle.\r\n"), True, "session alice-1 was closed by the far end: Idle."),
        (ConnectionLost("gone"), True, "session alice-1 was lost: gone"),
        (ConfigurationError("port 80 is in use"), True, "session alice-1 was ended: port 80 is in use"),
        (ConfigurationError("port 80 is in use"), False, "session alice-1 did not begin: port 80 is in use"),
        (
            SessionEnded("x", output="document process failed unexpectedly: no"),
            True,
            "session alice-1 was closed by the far end: document process failed unexpectedly: no" + REFUSED,
        ),
        (ConnectionLost("gone", close_code=1008), True, "session alice-1 was lost: gone"),
        (TimedOut("nothing came", seconds=30), False, "session alice-1 did not begin: nothing came"),
        (Refused("h said 403", status=403), False, "h said 403"),
        (BrokenPipeError(), True, None),
        (ValueError("?"), True, "internal error: ValueError: ? (-vv shows where)"),
    ],
)
def test_ending_sentence(error: Exception | None, began: bool, sentence: str | None) -> None:
    outcome = Outcome(by_far_end=True) if error is None else outcome_of(error)
    assert ending_sentence(Ending("alice-1", outcome, began)) == sentence


def test_a_closing_text_behind_an_exit_status_is_one_sentence() -> None:
    ending = Ending("alice-1", Outcome(7, text="no log\n", by_far_end=True), began=True)
    assert ending_sentence(ending) == "session alice-1 was closed by the far end: no log"
    assert exit_of_outcome(ending.outcome) == Exit(7)


def test_missing_output_is_one_sentence(pipe: Pipe) -> None:
    ending = Ending("alice-1", Outcome(7, by_far_end=True, incomplete="the output is incomplete"), began=True)
    tell_ending(pipe.environment, ending)
    assert pipe.read() == "smp: session alice-1 ended, but the output is incomplete\n"
    assert exit_of_outcome(ending.outcome).status == 255


def test_the_status_of_a_command_tells_it_from_ours() -> None:
    ending = Ending("alice-1", Outcome(255, by_far_end=True), began=True)
    assert ending_sentence(ending) == "session alice-1 ended; the command's exit status was 255"


def test_the_end_by_the_input_is_told_apart() -> None:
    assert (
        ending_sentence(Ending("alice-1", Outcome(reason=EndReason.INPUT_ENDED), began=True))
        == "session alice-1 was ended with the input"
    )


@pytest.mark.parametrize(
    ("kind", "quiet", "told"),
    [("", False, True), ("", True, False), ("stdio", False, False), ("command", False, False)],
)
def test_a_normal_end_is_told_unless_standard_error_is_not_ours(pipe: Pipe, kind: str, quiet: bool, told: bool) -> None:
    pipe.environment.quiet = quiet
    tell_ending(
        pipe.environment,
        Ending("alice-1", Outcome(by_far_end=True), True, is_stdio=kind == "stdio", is_command=kind == "command"),
    )
    assert pipe.read() == ("smp: session alice-1 ended\n" if told else "")


@pytest.mark.parametrize(
    "signalled",
    [
        Signalled(signal.SIGHUP),
        Signalled(signal.SIGHUP, "because the program that started it has ended"),
        Signalled(signal.SIGINT),
    ],
)
def test_the_normal_end_of_ssh_is_not_told(pipe: Pipe, signalled: Signalled) -> None:
    tell_ending(pipe.environment, Ending("alice-1", outcome_of(signalled), began=True, is_stdio=True))
    assert pipe.read() == ""
    tell_ending(pipe.environment, Ending("alice-1", outcome_of(Signalled(signal.SIGTERM)), began=True, is_stdio=True))
    assert pipe.read() == "smp: session alice-1 was ended by SIGTERM\n"


def test_quiet_keeps_errors(pipe: Pipe) -> None:
    pipe.environment.quiet = True
    tell_ending(pipe.environment, Ending("alice-1", outcome_of(Signalled(15)), began=True))
    tell_ending(pipe.environment, Ending("alice-1", outcome_of(ConnectionLost("gone")), began=True))
    assert pipe.read() == "smp: session alice-1 was lost: gone\n"


@pytest.mark.parametrize("verbosity", [0, 1, 2])
def test_a_traceback_for_those_who_want_everything(pipe: Pipe, verbosity: int) -> None:
    register_secret("hunter2-hunter2")
    pipe.environment.verbosity = verbosity
    try:
        raise ValueError("\x1b[31mhunter2-hunter2")
    except ValueError as error:
        tell_error(pipe.environment, error)
    text = pipe.read()
    assert ("Traceback (most recent call last)" in text) is (verbosity == 2)
    assert text.endswith("smp: internal error: ValueError: *** (-vv shows where)\n")
    assert "\x1b" not in text
    assert "hunter2" not in text


def test_a_message_that_nobody_takes_is_dropped(pipe: Pipe) -> None:
    """A stopped terminal must not keep the program from ending."""
    os.set_blocking(pipe.writing, False)
    try:
        while True:
            os.write(pipe.writing, b"x" * 65536)
    except BlockingIOError:
        os.set_blocking(pipe.writing, True)
    pipe.environment.write_error("lost\n")
    assert "lost" not in pipe.read()


def test_a_message_that_nobody_reads_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    Environment(stderr=writing).write_error("lost\n")
    os.close(writing)
    Environment(stderr=writing).write_error("lost\n")


def test_output_is_written_whole_to_a_descriptor_that_others_made_non_blocking() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    text = "0123456789" * 100_000
    received = bytearray()

    def read() -> None:
        while data := os.read(reading, 65536):
            received.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    Environment(stdout=writing).write(text)
    os.close(writing)
    reader.join(DEADLINE)
    os.close(reading)
    assert received.decode() == text


def test_a_secret_variable_is_taken_once() -> None:
    environment = Environment(variables={"SMP_TOKEN": "x"})
    assert environment.take("SMP_TOKEN") == "x"
    assert environment.take("SMP_TOKEN") is None


@pytest.mark.parametrize(("value", "flag"), [(None, False), ("", False), ("0", False), ("1", True), ("yes", True)])
def test_flags(value: str | None, flag: bool) -> None:
    assert Environment(variables={} if value is None else {"SMP_QUIET": value}).flag("SMP_QUIET") is flag


@pytest.mark.parametrize(("text", "zero", "seconds"), [("1.5", False, 1.5), ("0", True, 0.0), (" 2 ", False, 2.0)])
def test_parse_seconds(text: str, zero: bool, seconds: float) -> None:
    assert parse_seconds(text, zero=zero) == seconds


@pytest.mark.parametrize(
    ("text", "zero"), [("", True), ("x", True), ("-1", True), ("nan", True), ("inf", True), ("0", False)]
)
def test_parse_seconds_refuses(text: str, zero: bool) -> None:
    with pytest.raises(ValueError, match="is not a number of seconds"):
        parse_seconds(text, zero=zero)


def test_a_variable_of_seconds() -> None:
    environment = Environment(variables={"SMP_KEEPALIVE": "x", "EMPTY": ""})
    assert environment.seconds("EMPTY", 15.0, zero=True) == 15.0
    with pytest.raises(UsageError, match="SMP_KEEPALIVE: 'x' is not a number of seconds from 0 on"):
        environment.seconds("SMP_KEEPALIVE", 15.0, zero=True)


def test_the_mode_of_the_status() -> None:
    good = {"TERM": "xterm"}
    screen = Environment(is_terminal=lambda _fd: True, variables=good)
    assert status_mode(Environment(is_terminal=lambda _fd: False, variables=good), "bar") is None
    assert status_mode(Environment(is_terminal=lambda fd: fd == 0, variables=good), "bar") is None
    assert [status_mode(screen, choice) for choice in ("bar", "title", "off")] == [
        StatusMode.BAR,
        StatusMode.TITLE,
        StatusMode.OFF,
    ]
    assert status_mode(screen, "auto") is StatusMode.AUTO
    assert status_mode(screen, "auto", otherwise=StatusMode.NOTICE) is StatusMode.NOTICE
    for term in ("dumb", "unknown", "vt52", "ansi", "of-nobody"):
        limited = Environment(is_terminal=lambda _fd: True, variables={"TERM": term})
        assert status_mode(limited, "auto") is None
        assert status_mode(limited, "bar") is StatusMode.BAR
