"""The list of targets of `smp start` in a terminal: what is shown, and that the screen is as before when it is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from session_manager_plugin.agent.background import BackgroundSandbox
from tests.e2e.conftest import BIN
from tests.support.tmux import Terminal, Tmux, shell_environment

KEYS = "Enter starts, Esc leaves"


@pytest.fixture(params=[(80, ""), (40, "1")], ids=["80 columns", "40 columns without colours"])
def terminal(request: pytest.FixtureRequest, tmp_path: Path, session_manager: BackgroundSandbox) -> Iterator[Terminal]:
    """A shell in the middle of a screen, whose `smp` finds the sandbox."""
    columns, no_color = request.param
    variables = {**shell_environment(tmp_path, BIN), **session_manager.environment, "NO_COLOR": no_color}
    with Tmux(variables, tmp_path) as tmux:
        terminal = tmux.terminal("/bin/sh", rows=16, columns=columns)
        terminal.wait_for("$")
        terminal.enter("seq 5")
        terminal.wait(lambda view: [row for row in view.rows if row][-2:] == ["5", "$"], "a used screen")
        yield terminal


@pytest.mark.parametrize("key", ["Escape", "C-c"])
def test_the_screen_is_as_before_when_none_is_chosen(terminal: Terminal, key: str) -> None:
    terminal.enter("smp start")
    view = terminal.wait(lambda view: "loading" not in str(view) and KEYS[:12] in str(view), "the list")
    assert view.rows[0].startswith("target>")
    assert any("web-1" in row for row in view.rows)
    assert not any("batch-1" in row for row in view.rows), "it is offline"
    terminal.type("web")
    terminal.wait(lambda view: not any("office" in row for row in view.rows), "a shorter list")
    terminal.press(key)
    view = terminal.wait(lambda view: [row for row in view.rows if row][-1:] == ["$"], "the prompt of the shell")
    assert [row for row in view.rows if row] == ["$ seq 5", "1", "2", "3", "4", "5", "$ smp start", "$"]
    blank = 1 if key == "C-c" else 0  # a shell begins a new line after a program that SIGINT has ended
    assert view.rows.index("$") == view.rows.index("$ smp start") + 1 + blank
    assert "alternate=0" in view.state
    assert "cursor=1" in view.state
    terminal.enter("echo status $?")
    terminal.wait_for("status 130")


def test_ctrl_z_gives_the_terminal_back_until_the_program_is_continued(terminal: Terminal) -> None:
    terminal.enter("smp start --status off")
    terminal.wait(lambda view: any("office" in row for row in view.rows), "the list")
    terminal.type("web")
    terminal.wait(lambda view: not any("office" in row for row in view.rows), "a shorter list")
    terminal.press("C-z")
    view = terminal.wait(lambda view: [row for row in view.rows if row][-1:] == ["$"], "the prompt of the shell")
    assert "alternate=0" in view.state
    terminal.enter("echo line")
    terminal.wait(lambda view: "line" in view.rows, "the echo of a usual terminal")
    terminal.enter("fg")
    terminal.wait(
        lambda view: view.rows[0] == "target> web" and any("web-1" in row for row in view.rows), "the list, filtered"
    )
    terminal.press("Escape")
    terminal.wait(lambda view: [row for row in view.rows if row][-1:] == ["$"], "the prompt of the shell")


def test_the_one_that_is_chosen_is_started(terminal: Terminal) -> None:
    terminal.enter("smp start --status off")
    terminal.wait(lambda view: any("web-2" in row for row in view.rows), "the list")
    terminal.type("web2")
    terminal.wait(lambda view: view.rows[2].startswith("> web-2"), "the best match first")
    terminal.enter("")
    view = terminal.wait(
        lambda view: view.rows[view.cursor[1]] in ("#", "$") and "alternate=0" in view.state, "a prompt"
    )
    assert view.rows[1:6] == ("1", "2", "3", "4", "5")
    terminal.type("~i")
    # Behind the name; on a narrow and low terminal in a row of its own, and the name has scrolled out.
    terminal.wait(lambda view: any("(i-0a1b2c3d4e5f60002)" in row for row in view.rows), "the target")
    terminal.enter("exit")
    terminal.wait_for("smp: session")
