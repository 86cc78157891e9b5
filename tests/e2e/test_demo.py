"""The README's first command, as a person sees it in a terminal of 80×24."""

from __future__ import annotations

import re
from pathlib import Path

from tests.e2e.conftest import BIN
from tests.support.tmux import Tmux, View, shell_environment

BAR = re.compile(r" connected   local us-east-1  \d+(\.\d)? ms .*~\? help")


def shown(view: View) -> list[str]:
    """The rows that are not empty."""
    return [row for row in view.rows if row]


def test_a_demo_with_a_bad_link(tmp_path: Path) -> None:
    with Tmux(shell_environment(tmp_path, BIN), tmp_path) as tmux:
        terminal = tmux.terminal("/bin/sh", rows=24, columns=80)
        terminal.wait_for("$")
        terminal.enter("smp demo --faults")
        terminal.wait(lambda view: BAR.fullmatch(view.rows[-1]) and shown(view)[-2] == "$", "a prompt and the bar")
        terminal.enter("seq 6000")
        last = [f"{number}" for number in range(5990, 6001)]
        terminal.wait(lambda view: shown(view)[-13:-1] == [*last, "$"], "all of the output, across cuts")


def test_a_demo(tmp_path: Path) -> None:
    with Tmux(shell_environment(tmp_path, BIN), tmp_path) as tmux:
        terminal = tmux.terminal("/bin/sh", rows=24, columns=80)
        terminal.wait_for("$")
        terminal.enter("smp demo")
        terminal.wait(lambda view: BAR.fullmatch(view.rows[-1]) and shown(view)[-2] == "$", "a prompt and the bar")
        terminal.enter("echo $((40+2))")
        view = terminal.wait(lambda view: shown(view)[-3:-1] == ["42", "$"], "the answer")
        assert BAR.fullmatch(view.rows[-1])
        terminal.enter("exit")
        terminal.wait(lambda view: shown(view)[-1] == "$", "the prompt of the shell below")
        terminal.enter("echo status $?")
        view = terminal.wait(lambda view: shown(view)[-2:] == ["status 0", "$"], "the exit status")
        first, introduction, to_try, *rest = shown(view)
        assert first == "$ smp demo"
        assert introduction.startswith("smp: this is a demo: sh here")
        assert to_try == "smp: try ~? (escapes), ~r (cut the link), smp demo --faults (a bad link)"
        assert [re.sub(r"session \S+", "session ID", row) for row in rest[rest.index("$ echo $((40+2))") :]] == [
            "$ echo $((40+2))",
            "42",
            "$ exit",
            "smp: session ID ended",
            "smp: next: smp start, for your instances; smp sandbox, for a local account",
            "$ echo status $?",
            "status 0",
            "$",
        ]
