"""A session that begins in the middle of a screen: what was above it stays, whatever is drawn since."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import BIN
from tests.support.tmux import Terminal, Tmux, View, shell_environment

BAR = re.compile(r" connected .*exit or Ctrl-D leaves")
ROWS, COLUMNS = 20, 72
ABOVE = ("$ seq 6; smp demo --status bar", "1", "2", "3", "4", "5", "6")


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    home = tmp_path / "home"
    home.mkdir()
    (home / "text").write_text("".join(f"line {number}\n" for number in range(100)))
    (home / "page.1").write_text(".TH PAGE 1\n.SH NAME\npage \\- one\n" + ".PP\nparagraph\n" * 40)
    with Tmux(shell_environment(home, BIN), home) as running:
        yield running


def begin(terminal: Terminal) -> None:
    terminal.wait_for("$")
    terminal.enter(ABOVE[0].removeprefix("$ "))
    terminal.wait(lambda view: has_one_bar(view) and is_at_prompt(view), "the prompt above the bar")


@pytest.fixture
def terminal(tmux: Tmux) -> Terminal:
    terminal = tmux.terminal("/bin/sh", rows=ROWS, columns=COLUMNS)
    begin(terminal)
    return terminal


@pytest.fixture
def in_gnu_screen(tmux: Tmux) -> Terminal:
    terminal = tmux.terminal("screen", "-c", "/dev/null", "/bin/sh", rows=ROWS, columns=COLUMNS)
    begin(terminal)
    return terminal


def is_at_prompt(view: View) -> bool:
    column, row = view.cursor
    return column == 2 and view.rows[row] == "$"


def has_one_bar(view: View) -> bool:
    return [bool(BAR.fullmatch(row)) for row in view.rows] == [False] * (len(view.rows) - 1) + [True]


def assert_all_there(terminal: Terminal, *commands: str) -> None:
    """What was above the session, its lines, and what is printed next below them; one bar."""
    terminal.enter("echo af''ter")

    def is_whole(view: View) -> bool:
        shown = tuple(row for row in view.rows[:-1] if row)
        below = (*(f"$ {command}" for command in commands), "$ echo af''ter", "after", "$")
        return shown[: len(ABOVE)] == ABOVE and shown[-len(below) :] == below and has_one_bar(view)

    terminal.wait(is_whole, "all that was there, in order")


PROGRAMS: list[tuple[str, Callable[[View], bool], str]] = [
    ("less text", lambda view: view.rows[-2] == "text", "q"),
    ("vim -u NONE -i NONE -N text", lambda view: view.rows[0] == "line 0", ":q\r"),
    ("man ./page.1", lambda view: "PAGE(1)" in view.rows[0], "q"),
]
programs = pytest.mark.parametrize(("command", "is_shown", "leave"), PROGRAMS, ids=["less", "vim", "man"])


@programs
def test_a_program_in_the_alternate_screen(
    terminal: Terminal, command: str, is_shown: Callable[[View], bool], leave: str
) -> None:
    terminal.enter(command)
    terminal.wait(lambda view: is_shown(view) and has_one_bar(view), command)
    terminal.type(leave)
    terminal.wait(lambda view: is_at_prompt(view) and has_one_bar(view), "the prompt after it")
    assert_all_there(terminal, command)


def test_less_in_gnu_screen(in_gnu_screen: Terminal) -> None:
    in_gnu_screen.enter("printf '\\0337'; less -X text")
    in_gnu_screen.wait(lambda view: view.rows[-2] == "text" and has_one_bar(view), "less")
    in_gnu_screen.type("q")
    in_gnu_screen.wait(lambda view: is_at_prompt(view) and has_one_bar(view), "the prompt after less")
    in_gnu_screen.enter("clear")
    in_gnu_screen.wait(lambda view: view.rows[0] == "$" and has_one_bar(view), "a clear screen")
