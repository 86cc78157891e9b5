"""What a person sees: programs in a session draw what they draw without one, in a real terminal emulator (tmux)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.conftest import BIN
from tests.support.programs import need
from tests.support.tmux import Terminal, Tmux, View, shell_environment

PROMPT = "$ "
ROWS, COLUMNS = 24, 80
BAR = re.compile(r" connected +(local us-east-1 +)?\d+(\.\d)? ms .*~\? help")
TEXT_LINES = 120
SCREENS = Path(__file__).parents[2] / "docs" / "screens"


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    home = tmp_path / "home"
    home.mkdir()
    (home / "text").write_text(text())
    for number in range(40):
        (home / f"file-{number:02}").touch()
    with Tmux(shell_environment(home, BIN), home) as running:
        yield running


def text() -> str:
    """Lines shorter and longer than a row, wide and combining characters, tabs; "needle" here and there."""
    wide = "漢字かな交じり文、全角文字。"
    tails = ["", " long" * 30, f" {wide * 7}", "\ttab\ttab", " a needle in it", " e\u0301a\u0308 combined"]
    return "".join(f"line {number}{tails[number % len(tails)]}\n" for number in range(1, TEXT_LINES + 1))


@dataclass
class Pair:
    """The same shell twice: by itself in one terminal, in a session in the other. The same keys go to both."""

    direct: Terminal
    session: Terminal
    bar: bool
    """Whether the session has a bar, and its terminal one row more for it."""
    same: Callable[[View, View], bool]

    def type(self, text: str) -> None:
        self.direct.type(text)
        self.session.type(text)

    def press(self, *keys: str) -> None:
        self.direct.press(*keys)
        self.session.press(*keys)

    def enter(self, line: str) -> None:
        self.type(line)
        self.press("Enter")

    def resize(self, columns: int, rows: int) -> None:
        """Give both shells this many rows."""
        self.direct.resize(columns, rows)
        self.session.resize(columns, rows + self.bar)

    def wait(self, reached: Callable[[View], object], what: str) -> View:
        """Wait until the shell by itself shows what was asked for, and the other one shows the same."""
        views: list[View] = []

        def both(shown: View) -> bool:
            views[:] = [self.direct.view(), shown]
            return bool(reached(views[0])) and self.same(*views)

        try:
            return self.session.wait(both, what)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\nand by itself\n{views[0]}") from None

    def wait_for(self, text: str) -> View:
        return self.wait(lambda view: any(text in row for row in view.rows), repr(text))


def equal(direct: View, session: View) -> bool:
    return direct == session


def above_the_bar(direct: View, session: View) -> bool:
    """Whether the last row is the bar, and all else is as in a terminal that has one row fewer."""
    above = View(session.rows[:-1], session.painted[:-1], session.state)
    return above == direct and has_a_bar(session)


def shell(tmux: Tmux, *, rows: int = ROWS) -> Terminal:
    terminal = tmux.terminal("/bin/sh", rows=rows, columns=COLUMNS)
    terminal.wait_for("$")
    return terminal


def shells(tmux: Tmux, *, bar: bool, rows: int = ROWS, same: Callable[[View, View], bool] | None = None) -> Pair:
    """A cleared shell by itself and one in `smp demo`, both of this many rows."""
    direct = shell(tmux, rows=rows)
    session = shell(tmux, rows=rows + bar)
    session.enter(f"smp demo --status {'bar' if bar else 'off'}")
    session.wait(lambda view: view.rows[1].startswith("smp: ") and at_the_prompt(view), "the prompt of the session")
    pair = Pair(direct, session, bar, same or (above_the_bar if bar else equal))
    pair.enter("clear")
    pair.wait(at_the_top, "a clear screen")
    return pair


def at_the_top(view: View) -> bool:
    return view.rows[0] == "$" and not any(view.rows[1:])


def at_the_prompt(view: View) -> bool:
    column, row = view.cursor
    return column == len(PROMPT) and view.rows[row] == "$"


def at_the_prompt_below(text: str) -> Callable[[View], bool]:
    return lambda view: at_the_prompt(view) and text in view.rows[view.cursor[1] - 1]


def ends_with(text: str) -> Callable[[View], bool]:
    return lambda view: view.rows[-1].endswith(text)


def starts_with(text: str) -> Callable[[View], bool]:
    return lambda view: view.rows[0].startswith(text)


@pytest.mark.parametrize("bar", [False, True], ids=["off", "bar"])
def test_vim(tmux: Tmux, bar: bool) -> None:
    need("vim")
    pair = shells(tmux, bar=bar)
    pair.enter("vim -u NONE -i NONE -nN -c 'set ruler hlsearch showcmd' text")
    pair.wait(ends_with("Top"), "the first page")
    pair.press("C-f")
    pair.press("C-f")
    view = pair.wait(lambda view: view.rows[-1].endswith("%") and "1,1" not in view.rows[-1], "a later page")
    assert any("漢字" in row for row in view.rows)
    pair.type("60Gzz")
    pair.wait_for("60,1")
    pair.press("C-e")  # scrolls by one row
    pair.press("C-e")
    pair.type("M")
    pair.type("oNew 新しい行 text")
    pair.wait_for("New 新しい行 text")
    pair.wait_for("-- INSERT --")
    pair.press("Escape")
    pair.wait(lambda view: "INSERT" not in view.rows[-1], "the end of the insertion")
    pair.enter("/needle")
    pair.wait_for("/needle")
    pair.wait(lambda view: any("needle\x1b" in row for row in view.painted), "the highlighted matches")
    pair.type("n")
    pair.enter(":split")
    pair.wait(lambda view: sum("text [+]" in row for row in view.rows) == 2, "two windows")
    pair.press("C-w", "j")
    pair.type("G")
    pair.wait_for(f"line {TEXT_LINES}")
    pair.resize(100, 30)
    pair.wait(lambda view: len(view.rows) == 30 and "text [+]" in view.rows[-2], "the larger screen")
    pair.resize(60, 16)
    pair.wait(lambda view: len(view.rows) == 16 and "text [+]" in view.rows[-2], "the smaller screen")
    pair.enter(":qa!")
    pair.wait(at_the_prompt, "the prompt after vim")


@pytest.mark.parametrize("bar", [False, True], ids=["off", "bar"])
def test_less(tmux: Tmux, bar: bool) -> None:
    need("less")
    pair = shells(tmux, bar=bar)
    pair.enter("less text")
    pair.wait(ends_with("text"), "the file's name at the bottom")
    pair.press("PageDown")
    pair.press("PageDown")
    pair.wait(lambda view: view.rows[-1] == ":" and not view.rows[0].startswith("line 1"), "the third page")
    pair.enter("/needle")
    pair.wait(lambda view: any("needle\x1b" in row for row in view.painted), "the highlighted matches")
    pair.type("b")
    pair.type("G")
    pair.wait(ends_with("(END)"), "the end")
    pair.type("g")
    pair.wait(starts_with("line 1 "), "the beginning")
    pair.resize(70, 18)
    # The whole page, painted for the new size: less discards a key that it reads while a SIGWINCH is pending.
    pair.wait(
        lambda view: len(view.rows) == 18 and view.rows[0].startswith("line 1 ") and view.rows[-1] == ":",
        "the smaller screen",
    )
    pair.type("q")
    pair.wait(at_the_prompt, "the prompt after less")


@pytest.mark.parametrize("bar", [False, True], ids=["off", "bar"])
def test_top(tmux: Tmux, bar: bool) -> None:
    need("top")
    if sys.platform != "linux":
        pytest.skip("this test knows the labels and keys of Linux's top only")
    rows = 13  # The test itself has enough processes to fill it.

    def same(direct: View, session: View) -> bool:
        if bar and not has_a_bar(session):
            return False
        above = View(session.rows[: len(direct.rows)], session.painted[: len(direct.rows)], session.state)
        return layout_of_top(direct) == layout_of_top(above)

    pair = shells(tmux, bar=bar, rows=rows, same=same)
    pair.enter("top -d 30")
    pair.wait(is_full_of_processes, "a full screen")
    pair.resize(100, rows - 2)
    pair.wait(lambda view: len(view.rows) == rows - 2 and is_full_of_processes(view), "the smaller screen, full")
    pair.type("t")  # another summary
    pair.wait(lambda view: "[" in view.rows[2], "the summary with bars")
    pair.type("q")
    pair.wait(at_the_prompt, "the prompt after top")
    assert pair.session.view().cursor[1] == pair.direct.view().cursor[1]


def is_full_of_processes(view: View) -> bool:
    return " PID " in view.rows[6] and all(view.rows[7:])


def layout_of_top(view: View) -> tuple[object, ...]:
    """Its labels with their attributes, and the number of rows it fills."""
    words = [re.findall(r"[A-Za-z%][A-Za-z%()/]+", row) for row in view.rows[1:5]]
    heading = [row for row in view.painted if " PID " in row]
    modes = view.state.partition(" ")[2]
    return view.rows[0].startswith("top -"), words, heading, sum(bool(row) for row in view.rows), modes


def test_shell_above_the_bar(tmux: Tmux) -> None:
    pair = shells(tmux, bar=True)
    pair.enter("stty size; ls")
    pair.wait_for("file-39")
    pair.enter("seq 1000 1060")
    pair.wait(at_the_prompt_below("1060"), "the last number")
    pair.enter("tail -n 12 text")
    pair.wait(at_the_prompt_below(f"line {TEXT_LINES}"), "the last line")
    # A line that is longer than a row while it is typed, at the bottom.
    pair.type("echo " + "0123456789" * 20)
    pair.wait(lambda view: view.cursor == (47, ROWS - 1), "the long line")
    pair.press("BSpace", "BSpace")
    pair.wait(lambda view: view.cursor == (45, ROWS - 1), "the long line, two shorter")
    pair.press("C-c")
    pair.wait(at_the_prompt_below("34567^C"), "the prompt after Ctrl-C")
    pair.enter("sh -c 'printf %s no-newline; exit 3' || printf ' %s\\n' status-$?")
    pair.wait(at_the_prompt_below("no-newline status-3"), "the status")
    pair.enter("for i in 1 2 3 4 5 6 7 8 9; do printf '%s' \"$i 漢字かな交じり文\"; done; echo; echo end")
    pair.wait(at_the_prompt_below("end"), "the prompt after wide characters")
    # What has scrolled off the top can be scrolled back to.
    scrolled = pair.direct.history()
    assert "1000" in scrolled
    assert pair.session.history()[-len(scrolled) :] == scrolled
    pair.enter("clear")
    pair.wait(at_the_top, "a clear screen")


def test_man_above_the_bar(tmux: Tmux) -> None:
    need("man")
    pair = shells(tmux, bar=True)
    title = "printf '.TH PAGE 1\\n.SH NAME\\npage \\\\- one\\n.SH TEXT\\n'"
    pair.enter(f"({title}; seq -f '.PP %g' 1 90 | tr ' ' '\\n') > page.1; clear")
    pair.wait(at_the_top, "a clear screen")
    pair.enter("man ./page.1")
    pair.wait(lambda view: "Manual page" in view.rows[-1], "the first page")
    pair.press("PageDown")
    pair.wait(lambda view: "Manual page" in view.rows[-1] and "PAGE" not in view.rows[0], "the second page")
    pair.type("q")
    pair.wait(at_the_prompt, "the prompt after man")


def test_reset_and_clear_above_the_bar(tmux: Tmux) -> None:
    pair = shells(tmux, bar=True)
    pair.enter("seq 100 130; tput smcup; tput csr 3 7; tput smacs")
    pair.enter("reset")
    pair.wait(at_the_top, "a fresh screen")
    pair.enter("seq 200 240; clear")
    pair.wait(at_the_top, "a clear screen")
    pair.enter("seq 300 340")
    pair.wait(at_the_prompt_below("340"), "text that scrolls above the bar")


@pytest.mark.parametrize(
    ("commands", "seen"),
    [
        ("tput cup 99 0; printf last; tput cup 2 0; echo third", "third"),
        ("tput csr 2 9; tput cup 9 0; seq 40 60; tput csr 0 $(($(tput lines) - 1)); echo; echo region", "region"),
        ("tput csr 0 $(tput lines); tput cup 5 0; echo whole", "whole"),
        ("tput sc; tput cup 20 0; sleep 1.2; printf there; tput rc; echo here", "here"),
        ("tput smcup; tput cup 30 3; printf alternate; tput rmcup; echo normal", "normal"),
        ("tput indn 3; tput cup 0 0; tput ri; tput il 2; tput dl 1; echo edited", "edited"),
        ("seq 1 30; tput cup 12 0; tput ed; echo erased", "erased"),
    ],
)
def test_tput_above_the_bar(tmux: Tmux, commands: str, seen: str) -> None:
    pair = shells(tmux, bar=True)
    pair.enter(commands)
    pair.wait(at_the_prompt_below(seen), seen)


def test_a_nested_tmux_above_the_bar(tmux: Tmux) -> None:
    pair = shells(tmux, bar=True)
    # A server for each terminal; its own status line would tell the time.
    inner = "tmux -f /dev/null -S $T/s new sh \\; set status-right '' \\; set status-left nested"
    pair.enter(f"unset TMUX; T=$(mktemp -d); {inner}")
    pair.wait(lambda view: view.rows[-1].startswith("nested"), "the inner tmux")
    pair.enter("seq 1 40")
    pair.wait(lambda view: "40" in view.rows, "the last number")
    pair.press("C-b", "%")
    pair.wait(lambda view: "\u2502" in view.rows[3], "two panes")
    pair.enter("seq 1 60")
    pair.wait(lambda view: any("60" in row for row in view.rows), "the last number")
    pair.resize(70, 18)
    pair.wait(lambda view: len(view.rows) == 18 and view.rows[-1].startswith("nested"), "the smaller screen")
    pair.enter("exit")
    pair.enter("exit")
    pair.wait(lambda view: at_the_prompt(view) and any("[exited]" in row for row in view.rows), "the end of tmux")


def test_binary_garbage_above_the_bar(tmux: Tmux) -> None:
    terminal = shell(tmux)
    terminal.enter("smp demo --status bar")
    terminal.wait(has_a_bar, "the bar")
    terminal.enter("head -c 300000 $(command -v sh) | cat; printf '\\030\\033\\\\'; reset; echo do''ne")
    terminal.wait(lambda view: has_a_bar(view) and any(row == "done" for row in view.rows), "the bar after it")
    terminal.enter("seq 1000 1060")
    terminal.wait(lambda view: view.rows[-3:-1] == ("1060", "$") and has_a_bar(view), "text that scrolls above the bar")


def test_a_program_that_was_killed_leaves_no_traces(tmux: Tmux) -> None:
    need("vim")
    terminal = shell(tmux)
    terminal.enter("smp demo --status bar")
    terminal.wait(has_a_bar, "the bar")
    terminal.enter("vim -u NONE -i NONE -nN text")
    terminal.wait(lambda view: "alternate=1" in view.state and has_a_bar(view), "vim above the bar")
    terminal.press("C-z")
    terminal.wait(lambda view: "alternate=0" in view.state and has_a_bar(view), "the shell")
    terminal.enter("fg")
    terminal.wait(lambda view: "alternate=1" in view.state and has_a_bar(view), "vim again")
    # The client is told to end in the middle.
    there = subprocess.run(
        ["ps", "-o", "pid=,args=", "-t", terminal.device], capture_output=True, check=True, text=True
    )
    (client,) = [int(line.split()[0]) for line in there.stdout.splitlines() if "smp demo" in line]
    os.kill(client, signal.SIGTERM)
    view = terminal.wait(lambda view: at_the_prompt(view) and "alternate=0" in view.state, "the shell below")
    assert f"region=0-{ROWS - 1} " in view.state
    assert "cursor=1" in view.state
    assert "keypad=0,0" in view.state
    assert not any("Ctrl-D leaves" in row for row in view.rows)


def test_a_flood_above_the_bar(tmux: Tmux) -> None:
    pair = shells(tmux, bar=True)
    pair.enter("yes")
    for terminal in (pair.direct, pair.session):
        terminal.wait(lambda view: view.rows[ROWS // 2] == "y", "a screen full of it")
    pair.press("C-c")
    # How much of it was shown differs, and so does what is left of its last line.
    # The kernel sends the signal before it echoes the key, so that the prompt may come first.
    for terminal in (pair.direct, pair.session):
        terminal.wait(lambda view: at_the_prompt(view) or view.rows[view.cursor[1]] == "$ ^C", "the prompt")
    pair.enter("clear")
    pair.wait(at_the_top, "a clear screen")


def test_resizes_with_the_bar(tmux: Tmux) -> None:
    terminal = shell(tmux)
    terminal.enter("smp demo --status bar")
    terminal.wait(has_a_bar, "the bar")
    terminal.enter("seq 1000 1060")
    terminal.wait(lambda view: view.rows[-3:-1] == ("1060", "$"), "the last number")
    for columns, rows in [(80, 30), (80, 12), (70, 12), (110, 40), (110, 4), (80, 24)]:
        terminal.resize(columns, rows)
        # tmux itself makes the scroll region the whole screen again.
        settled = f" region=0-{rows - 2} "
        terminal.wait(partial(has_a_bar_and, settled), f"the bar in row {rows}")
        terminal.enter("stty size")
        view = terminal.wait(at_the_prompt_below(f"{rows - 1} {columns}"), "the new size at the far end")
        assert sum("leaves" in row for row in view.rows) == 1
        assert view.rows[-1].startswith(" connected ")


def test_quick_resizes_leave_nothing_of_the_bar(tmux: Tmux) -> None:
    terminal = shell(tmux)
    terminal.enter("smp demo")
    terminal.wait(has_a_bar, "the bar")
    terminal.enter("echo " + "x" * 150)
    terminal.wait(at_the_prompt_below("xxx"), "the prompt")
    terminal.type("echo " + "0123456789" * 10)
    terminal.wait(lambda view: "789" in view.rows[view.cursor[1]], "the line that is typed")
    for sizes in [
        [(50, 18), (100, 30)],
        [(50, 18), (80, 24)] * 10,
        [(79, 12), (40, 30), (120, 40), (81, 9), (80, 24)],
    ]:
        for columns, rows in sizes:
            terminal.resize(columns, rows)
        view = terminal.wait(partial(has_a_bar_and, f" region=0-{sizes[-1][1] - 2} "), "the bar in the last row")
        above = [*terminal.history(), *view.rows[:-1]]
        assert not [row for row in above if " connected " in row or "~?" in row.replace("try ~?", "")], view


def has_a_bar(view: View) -> bool:
    return BAR.fullmatch(view.rows[-1]) is not None


def has_a_bar_and(state: str, view: View) -> bool:
    return has_a_bar(view) and state in view.state


def picture(view: View) -> str:
    """What is shown, with what differs from time to time made the same."""

    def same_bar(found: re.Match[str]) -> str:
        left = f" connected   local us-east-1  23.1 ms  {'▁▂▁'}"
        return left + "exit or Ctrl-D leaves, ~? help".rjust(COLUMNS - len(left))

    return "".join(f"{BAR.sub(same_bar, row)}\n" for row in view.rows)


def assert_documented(name: str, view: View) -> None:
    """Compare with docs/screens/NAME.txt; SMP_TEST_WRITE_SCREENS=1 writes that instead."""
    path = SCREENS / f"{name}.txt"
    if os.environ.get("SMP_TEST_WRITE_SCREENS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(picture(view), encoding="utf-8")
    assert picture(view) == path.read_text(encoding="utf-8")


def test_documented_screens(tmux: Tmux) -> None:
    need("less")
    terminal = shell(tmux, rows=12)
    terminal.enter("smp demo --status bar")
    terminal.wait(has_a_bar, "the bar")
    terminal.enter("ls file-0*")
    terminal.wait(lambda view: at_the_prompt(view) and "file-09" in " ".join(view.rows), "the files")
    assert_documented("shell", terminal.view())
    terminal.enter("less text")
    assert_documented("less", terminal.wait(lambda view: view.rows[-2] == "text" and has_a_bar(view), "the file"))


def test_the_bars_row_is_given_back(tmux: Tmux) -> None:
    terminal = shell(tmux)
    terminal.enter("stty -g > before; smp demo --status bar")
    terminal.wait(has_a_bar, "the bar")
    terminal.enter("seq 1000 1060")
    terminal.wait(lambda view: view.rows[-3:-1] == ("1060", "$"), "the last number")
    terminal.enter("exit")
    terminal.wait_for("smp: session")
    view = terminal.wait(at_the_prompt, "the prompt of the shell below")
    assert f"region=0-{ROWS - 1} " in view.state
    assert not any("Ctrl-D leaves" in row for row in view.rows)
    terminal.enter("stty -g > after; cmp before after && echo sa'me'")
    terminal.wait_for("same")
    terminal.enter("seq 2000 2060")
    terminal.wait(lambda view: view.rows[-2:] == ("2060", "$"), "the last number, one row lower")
