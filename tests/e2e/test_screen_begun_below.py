"""A session that begins in the middle of a screen: what was above it stays, whatever is drawn since."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.conftest import BIN
from tests.support.tmux import Terminal, Tmux, View, shell_environment

BAR = re.compile(r" connected .*~\? help")
ROWS, COLUMNS = 22, 72
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
def in_gnu_screen(tmux: Tmux, tmp_path: Path) -> Terminal:
    (tmp_path / "screenrc").write_text("altscreen on\nstartup_message off\nautodetach off\n")
    terminal = tmux.terminal("screen", "-c", str(tmp_path / "screenrc"), "/bin/sh", rows=ROWS, columns=COLUMNS)
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


def has_a_page(first: str, last: str, view: View) -> bool:
    """Whether a program has painted the whole screen above the bar, for the size that the terminal has now.

    A terminal that has another size keeps the old page's first row or its last one where it was, never both. Tests
    wait for this before they type: `less` discards a key that it reads while a SIGWINCH is pending, since the signal's
    handler jumps out of the read.
    """
    return bool(re.match(first, view.rows[0]) and re.fullmatch(last, view.rows[-2])) and has_one_bar(view)


LESS = partial(has_a_page, "line 0", "text|:")
PROGRAMS: list[tuple[str, Callable[[View], bool], str]] = [
    ("less text", LESS, "q"),
    ("vim -u NONE -i NONE -N -c 'set ruler' text", partial(has_a_page, "line 0", ".*Top"), ":q\r"),
    ("man ./page.1", partial(has_a_page, r"PAGE\(1\)", " Manual page .*"), "q"),
]
programs = pytest.mark.parametrize(("command", "is_shown", "leave"), PROGRAMS, ids=["less", "vim", "man"])


@programs
def test_a_program_in_the_alternate_screen(
    terminal: Terminal, command: str, is_shown: Callable[[View], bool], leave: str
) -> None:
    terminal.enter(command)
    terminal.wait(is_shown, command)
    terminal.type(leave)
    terminal.wait(lambda view: is_at_prompt(view) and has_one_bar(view), "the prompt after it")
    assert_all_there(terminal, command)


@programs
def test_a_resize_inside_it(terminal: Terminal, command: str, is_shown: Callable[[View], bool], leave: str) -> None:
    """No old bar stays in the main screen."""
    terminal.enter(command)
    terminal.wait(is_shown, command)
    for rows in (ROWS + 6, ROWS - 2):
        terminal.resize(COLUMNS, rows)
        terminal.wait(partial(has_rows, rows, is_shown), f"{command} in {rows} rows")
    terminal.type(leave)
    terminal.wait(lambda view: is_at_prompt(view) and has_one_bar(view), "the prompt after it")
    assert_all_there(terminal, command)


def test_suspended_inside_less_and_at_the_prompt(terminal: Terminal) -> None:
    terminal.enter("less text")
    terminal.wait(LESS, "less")
    terminal.enter("")  # the next line, and the start of one
    terminal.type("~")
    terminal.press("C-z")
    terminal.wait(lambda view: is_at_prompt(view) and "alternate=0" in view.state, "the shell below")
    terminal.enter("fg")
    # It is sent two sizes, so that it paints its page again; the second one is the terminal's.
    terminal.wait(partial(has_a_page, "line 1", ":"), "less again")
    terminal.type("q")
    terminal.wait(lambda view: "alternate=0" in view.state and has_one_bar(view), "the prompt after less")
    terminal.enter("echo af''ter; seq 3")

    def is_whole(view: View) -> bool:
        shown = [row for row in view.rows if row]
        return (
            tuple(shown[: len(ABOVE)]) == ABOVE and shown[-6:-1] == ["after", "1", "2", "3", "$"] and has_one_bar(view)
        )

    terminal.wait(is_whole, "all that was there, and what is printed next")


def has_rows(rows: int, is_shown: Callable[[View], bool], view: View) -> bool:
    return len(view.rows) == rows and is_shown(view)


def test_less_in_gnu_screen(in_gnu_screen: Terminal) -> None:
    terminal = in_gnu_screen
    terminal.enter("less text")
    terminal.wait(LESS, "less")
    terminal.resize(COLUMNS, ROWS + 4)
    terminal.wait(partial(has_rows, ROWS + 4, LESS), f"less in {ROWS + 4} rows")
    terminal.type("q")
    terminal.wait(lambda view: is_at_prompt(view) and has_one_bar(view), "the prompt after less")
    assert_all_there(terminal, "less text")


def test_a_cursor_saved_in_an_unknown_row(terminal: Terminal) -> None:
    terminal.enter("printf '\\0337'; clear; printf 'at the top\\n'")
    terminal.wait(lambda view: view.rows[:2] == ("at the top", "$") and has_one_bar(view), "the bar, drawn again")
