"""`smp probe` as a person sees it: the checks in a real terminal emulator, at two widths, and in the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from session_manager_plugin import PLUGIN_VERSION
from session_manager_plugin.agent import Sandbox
from tests.e2e.conftest import BIN
from tests.support.fake_gateway import served
from tests.support.tmux import Terminal, Tmux, View, shell_environment

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    """Terminals in which `smp` and the sandbox's credentials are there, and an AWS CLI that needs no time."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "session-manager-plugin").symlink_to(BIN / "session-manager-plugin")
    aws = programs / "aws"
    aws.write_text("#!/bin/sh\necho aws-cli/2.30.1 Python/3.13.7 Linux/6.1\n")
    aws.chmod(0o755)
    with served(Sandbox()) as sandbox:
        variables = {
            **shell_environment(tmp_path, BIN),
            "PATH": f"{programs}:/usr/bin:/bin",
            "SMP": str(BIN / "smp"),
            "ENDPOINT": sandbox.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            **sandbox.environment,
        }
        with Tmux(variables, tmp_path) as running:
            yield running


def probe(terminal: Terminal, command: str) -> list[str]:
    """The rows that a probe has left, those that scrolled away too."""
    terminal.wait_for("$")
    terminal.enter(f"clear; {command}; echo status=$?=")
    terminal.wait(lambda view: any(re.fullmatch(r"status=\d+=", row) for row in view.rows), "the end of the probe")
    rows = [row.rstrip() for row in [*terminal.history(), *terminal.view().rows]]
    begin = max(index for index, row in enumerate(rows) if row == "this machine")
    end = max(index for index, row in enumerate(rows) if row.startswith("status="))
    return rows[begin : end + 1]


def squeezed(text: str, directory: Path) -> str:
    """`text` without what differs from run to run: times, ports, ids, and where a line is broken."""
    text = "".join(text.split()).replace("".join(str(directory).split()), "/home/alice/stuff")
    text = text.replace(f"version{PLUGIN_VERSION},", "versionV,")
    for pattern, replacement in (
        (r"\d+(\.\d)?ms", "#ms"),
        (r"=[\d./]+#?ms", "=#ms"),
        (r"127\.0\.0\.1:\d{4,5}", "127.0.0.1:PORT"),
        (r"user-0[0-9a-f]{16}", "user-ID"),
        (r"AKIA….{4}from", "AKIA…from"),
    ):
        text = re.sub(pattern, replacement, text)
    return text


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (80, 60), (120, 50)])
def test_the_table_of_a_target(tmux: Tmux, tmp_path: Path, columns: int, rows: int) -> None:
    terminal = tmux.terminal("sh", rows=rows, columns=columns)
    shown = probe(terminal, '"$SMP" probe local --endpoint-url "$ENDPOINT" --count 2')
    assert shown[-1] == "status=0="
    assert re.fullmatch(r"\d+ passed, 3 skipped \(-v shows them\)", shown[-2])
    assert not any(row.startswith("…") for row in shown)
    assert sum("StartSession" in row for row in shown) == 1  # nothing of an earlier drawing is left
    documented = (CHECKOUT / "docs" / "screens" / "probe-passing.txt").read_text("utf-8")
    assert squeezed("".join(shown[:-1]), tmp_path) == squeezed(
        documented.replace("5 sent, 5 received", "2 sent, 2 received"), tmp_path
    )


def test_a_failure_and_its_advice(tmux: Tmux) -> None:
    terminal = tmux.terminal("sh", rows=50, columns=80)
    shown = probe(terminal, '"$SMP" probe --url ws://127.0.0.1:1/v1/data-channel/x')
    assert shown[-1] == "status=1="
    (failed,) = (row for row in shown if row.startswith("✗"))
    assert re.fullmatch(r"✗  tcp IPv4 +\d+(\.\d)? ms  127\.0\.0\.1: Connection refused", failed)
    assert shown[shown.index(failed) + 1].startswith("  → check host and port: nothing listens at 127.0.0.1:1, or")


def _above_prompt(view: View) -> str:
    """The row above the prompt that waits for a command; empty while there is none."""
    rows = [row for row in view.rows if row]
    return rows[-2] if len(rows) > 1 and rows[-1] == "$" else ""


def test_ctrl_c_leaves_the_terminal_in_order(tmux: Tmux) -> None:
    terminal = tmux.terminal("sh", rows=50, columns=80)
    terminal.wait_for("$")
    terminal.enter('clear; "$SMP" probe local --endpoint-url "$ENDPOINT" --count 100000')
    terminal.wait_for("pings")
    terminal.press("C-c")
    terminal.wait(lambda view: re.fullmatch(r"\d+ passed, .*", _above_prompt(view)), "the summary above a prompt")
    terminal.enter("echo status=$?=")
    view = terminal.wait_for("status=130=")
    assert any("TerminateSession" in row for row in view.rows)
    assert view.rows.count("this machine") == 1  # it is drawn in place, also where ^C was echoed
    assert "cursor=1" in view.state
