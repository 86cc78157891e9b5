"""Attacks on predictive echo: a secret behind lines that were entered ahead, and rows that are not blank."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from session_manager_plugin.protocol.reliable import StreamProgress
from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.predict_mode import PredictMode
from session_manager_plugin.terminal.predicted_echo import PredictedEcho
from session_manager_plugin.terminal.screen import Screen
from tests.support.tty_world import Steps, TtyWorld, Wants

SECRET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def ask_late(world: TtyWorld) -> Steps:
    """Is silent for long, then turns the echo off without a prompt: as a program that connects first."""
    yield 1.5
    world.set_echo(False)
    yield Wants.LINE
    world.set_echo(True)
    world.output(b"\r\n")


def sleep(_world: TtyWorld) -> Steps:
    yield 1.0


def less(world: TtyWorld) -> Steps:
    """On the alternate screen until q is typed; what is typed behind it is for the shell."""
    world.output(b"\x1b[?1049h")
    world.echoes = world.is_canonical = False
    while (yield Wants.KEY) != "q":
        pass
    world.output(b"\x1b[?1049l\r\x1b[K")
    world.echoes = world.is_canonical = True
    yield 0.001


def type_text(world: TtyWorld, text: str, pause: float) -> None:
    for character in text:
        world.key(character.encode(), pause)


def line_at_the_prompt_of_a_line_typed_ahead(world: TtyWorld) -> None:
    type_text(world, "sleep\rsleep\r", 0.03)
    world.wait(1.2)
    type_text(world, "ask\r", 0.03)
    world.wait(1.3)


def lines_behind_a_program_on_the_alternate_screen(world: TtyWorld) -> None:
    type_text(world, "less\r", 0.03)
    world.wait(1.0)
    type_text(world, "qsleep\rask\r", 0.01)
    world.wait(1.6)


@pytest.mark.parametrize("edits", [True, False], ids=["bash", "dash"])
@pytest.mark.parametrize(
    "enter_ahead", [line_at_the_prompt_of_a_line_typed_ahead, lines_behind_a_program_on_the_alternate_screen]
)
@pytest.mark.parametrize("lines", [0, 1, 3])
def test_no_secret_is_shown_while_a_line_entered_ahead_runs(
    enter_ahead: Callable[[TtyWorld], None], edits: bool, lines: int
) -> None:
    for seed in range(3):
        world = TtyWorld(seed, {"ask": ask_late, "sleep": sleep, "less": less}, edits=edits)
        for _ in range(lines):
            world.wait(1.0)
            type_text(world, "ls\r", 0.1)
        world.wait(1.0)
        enter_ahead(world)
        type_text(world, SECRET + "\r", 0.05)
        world.wait(5.0)
        assert world.hidden
        assert not set(world.hidden) & set("".join(world.seen)) - set("".join(world.plain_seen))


class Session:
    """A terminal of which the remote's output is given; every key is acknowledged with the next output."""

    def __init__(self, *, bar: bool = False) -> None:
        self._screen, self._echo = Screen(), PredictedEcho(PredictMode.ALWAYS)
        self._now = 0.0
        self._sent = self._acknowledged = 0
        size = TerminalSize(30, 9 + bar)
        self._echo.resize(size, self._screen)
        self._screen.start(size, bar=bar)
        self.output(b"\x1b[H\x1b[2J")

    @property
    def _progress(self) -> StreamProgress:
        return StreamProgress(self._sent, self._acknowledged, self._now, 0.15)

    def output(self, *chunks: bytes) -> None:
        self._acknowledged = self._sent
        for chunk in chunks:
            self._echo.output(chunk, self._screen, self._progress, self._now)

    def types(self, text: str) -> bool:
        """Type; whether anything was drawn."""
        written = b""
        for key in text:
            self._sent += 1
            written += self._echo.typed(key.encode(), self._screen, self._progress, self._now)
        return bool(written)

    def wait(self, seconds: float) -> None:
        """Let time pass, in which all keys are answered."""
        self.output(b"")
        self._now += seconds
        self._echo.update(self._screen, self._progress, self._now)

    def draws(self) -> bool:
        """Type a key, which is echoed; whether the next one is drawn."""
        self.types("a")
        self.output(b"a")
        return self.types("b")


@pytest.mark.parametrize("interrupt", ["\x03", "\x04", "\x1a", "\x1c"])
def test_the_prompt_after_an_interrupt_answers_no_line(interrupt: str) -> None:
    it = Session()
    it.output(b"$ ")
    for _ in range(2):
        it.types("ls\r")
        it.output(b"ls", b"\r\nfile\r\n$ ")
        it.wait(1.0)
    it.types(f"{interrupt}make\rask\r")
    it.output(b"\r\n$ ")  # after the interrupt
    it.output(b"make\r\nask\r\n")
    it.wait(1.0)
    it.output(b"$ ")  # after `make`: now the shell reads `ask`, which may turn the echo off
    it.wait(1.0)
    assert not it.draws()


@pytest.mark.parametrize("typed", ["", "~."])
def test_a_line_editor_whose_connection_has_ended_does_not_wait(typed: str) -> None:
    """`ssh host; ask`: the shell on the host is cut off, and bracketed paste stays on."""
    it = Session()
    it.output(b"\x1b[?2004hhost$ ")
    it.wait(1.0)
    it.types(typed)
    it.output(b"\r\n")
    it.wait(1.0)
    assert not it.draws()


@pytest.mark.parametrize("shown", [b"", b"\r\nfile  folder\r\n$ ls a", b"\x07"])
def test_a_line_editor_waits_behind_its_prompt_in_another_row(shown: bytes) -> None:
    """It has listed completions, and shown its prompt again."""
    it = Session()
    it.output(b"\x1b[?2004huser@host", b"\r\n$ ")
    it.wait(1.0)
    it.types("ls a")
    it.output(b"ls a")
    it.types("\t")
    it.output(shown)
    it.wait(1.0)
    assert it.draws()


def test_an_entered_line_has_no_prompt_while_its_newline_is_late() -> None:
    """The link stalls between the acknowledgement and the echo of Enter."""
    it = Session()
    it.output(b"$ ")
    for _ in range(3):
        it.types("ls\r")
        it.output(b"ls", b"\r\nfile\r\n$ ")
        it.wait(1.0)
    it.types("make\r")
    it.output(b"make")
    it.wait(1.0)
    it.types("ask\r")
    it.output(b"\r\nask\r\n$ ")  # after `make`
    it.wait(1.0)
    assert not it.draws()


def test_the_echo_of_a_line_entered_ahead_is_not_that_of_a_secret_that_begins_like_it() -> None:
    """A line editor is slow to read the line."""
    it = Session()
    it.output(b"\x1b[?2004h$ ")
    it.types("make\rask\r")
    it.output(b"make\r\n\x1b[?2004l\rask\r\n\x1b[?2004h$ ")
    it.wait(1.0)
    it.types("a")
    it.output(b"a")
    assert not it.types("s")
    it.output(b"s")
    assert it.types("S")  # `s` was typed after an echo, so the editor reads keys


def is_drawn_after(*chunks: bytes, bar: bool = False) -> bool:
    """Whether a key is drawn at once at a prompt in a row after this output: its cells count as known."""
    it = Session(bar=bar)
    it.output(*chunks, b"\x1b[?2004h$ ")
    it.wait(1.0)
    return it.draws()


@pytest.mark.parametrize("bar", [False, True])
def test_a_newline_below_the_scroll_region_leads_to_no_blank_row(bar: bool) -> None:
    assert is_drawn_after(b"\x1b[1;8r\x1b[r\x1b[H\x1b[2J", b"\r\n", bar=bar)
    assert not is_drawn_after(b"\x1b[1;8r\x1b[9;1Hthe last row", b"\r\n", b"\r\n", bar=bar)


@pytest.mark.parametrize("moved", [b"\x1b[4A", b"\x1b[5;1H"])
def test_a_movement_in_pieces_leaves_the_rows_below_unknown(moved: bytes) -> None:
    lines = b"\r\n".join([b"a line"] * 9)
    assert is_drawn_after(lines, b"\r\n")
    for place in range(1, len(moved)):
        assert not is_drawn_after(lines, moved[:place], moved[place:], b"\r\n"), place


@pytest.mark.parametrize("bar", [False, True])
@pytest.mark.parametrize("end", [b"\x1b[?2004l", b"\x1b[?25;2004l"])
def test_the_end_of_editing_is_seen_in_pieces(end: bytes, bar: bool) -> None:
    for place in range(1, len(end)):
        it = Session(bar=bar)
        it.output(b"\r\n\x1b[?2004h> ", end[:place], end[place:] + b"\r\nPassword: ")
        it.wait(1.0)
        assert not it.draws(), place


@pytest.mark.parametrize("bar", [False, True])
def test_a_colour_and_a_character_are_seen_in_pieces(bar: bool) -> None:
    colour, sign = b"\x1b[41m", "é".encode()
    for place in range(1, len(colour)):
        assert not is_drawn_after(colour[:place], colour[place:] + b"\x1b[H\x1b[2J", bar=bar), place
    assert is_drawn_after(b"\r\n" + sign[:1], sign[1:], bar=bar)
    assert is_drawn_after(b"\r\n\x1b]0;a title\x1b", b"\\", bar=bar)


def test_nothing_is_drawn_within_a_character_that_arrives_in_pieces() -> None:
    it = Session()
    it.output(b"\x1b[?2004h$ ")
    it.wait(1.0)
    assert it.draws()
    it.output(b"b", "é".encode()[:1])
    it.wait(1.0)
    assert not it.types("c")
