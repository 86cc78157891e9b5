"""The progress of a copy at a terminal."""

from __future__ import annotations

import io
import os
import re
import tty

import pytest
from rich.cells import cell_len
from rich.console import Console

from session_manager_plugin.cli.copy_bar import CopyBar
from session_manager_plugin.cli.copy_progress import LONG_CHECK_SIZE, CopyProgressLine, copy_progress
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.render import tell
from session_manager_plugin.transfer.report import Progress


def _shown(environment: Environment, terminal: int) -> bytes:
    with copy_progress(environment) as line:
        line.show(Progress("directory/file\x1b[31m", 500_000, 1_000_000))
        with line.hidden():
            tell(environment, "other: No such file or directory")
        line.show(Progress("directory/file\x1b[31m", 1_000_000, 1_000_000))
    os.write(environment.stderr, b"end")
    output = b""
    while not output.endswith(b"end"):
        output += os.read(terminal, 65536)
    return output


def test_messages_stand_on_lines_of_their_own_and_the_progress_is_erased() -> None:
    terminal, inner = os.openpty()
    tty.setraw(inner)
    environment = Environment(stderr=inner, variables={"TERM": "xterm", "NO_COLOR": "1"})
    output = _shown(environment, terminal)
    assert b"0.5/1.0 MB" in output
    assert b"\x1b[31m" not in output
    assert b"\x1b[?25h" in output.rpartition(b"\x1b[?25l")[2]  # the cursor is shown again
    for text in (b"smp: other: No such file or directory\n", b"end"):
        before = output.partition(text)[0]
        erased, _, behind = before.rpartition(b"\r\x1b[J")
        assert erased
        assert not re.sub(rb"\x1b\[[?0-9;]*[A-Za-z]|[\r\n]", b"", behind)
    assert output.endswith(b"end")


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_the_line_fits_the_terminal(width: int) -> None:
    for checking in (0, 5 << 30):
        drawn = io.StringIO()
        with CopyBar(Console(file=drawn, width=width, force_terminal=True, no_color=True), -1) as bar:
            line = CopyProgressLine(Environment(), bar)
            line.show(Progress("directory/a name of some length", 5 << 30, 10 << 30, checking))
            bar.refresh()
        lines = [re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", text) for text in re.split("[\r\n]+", drawn.getvalue())]
        assert max(map(len, lines)) <= width
        assert any(text.startswith("checking a n" if checking else "a name of") for text in lines)
        assert any(("50%" if width == 20 else "5.4/10.7 GB") in text for text in lines)


@pytest.mark.parametrize("name", ["directory/file", "x" * 300, "字" * 60, "new\nline\x1b[2J", os.fsdecode(b"\xff")])
def test_the_cursor_stays_at_the_beginning_of_one_row(name: str) -> None:
    """A narrower terminal wraps the line; what follows the cursor can then be erased."""
    drawn = io.StringIO()
    with CopyBar(Console(file=drawn, width=40, force_terminal=True, no_color=True), -1) as bar:
        CopyProgressLine(Environment(), bar).show(Progress(name, 1, 2))
        bar.refresh()
    *drawings, after = drawn.getvalue().split("\r\x1b[J")
    assert after == "\x1b[?25h"
    for drawing in drawings[1:]:
        shown, end = drawing[:-1], drawing[-1]
        assert end == "\r"
        assert not re.search(r"[\r\n]|\x1b\[2J", shown)
        assert cell_len(re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", shown)) <= 40


def test_a_signal_erases_the_line_at_once() -> None:
    terminal, inner = os.openpty()
    tty.setraw(inner)
    environment = Environment(stderr=inner, variables={"TERM": "xterm", "NO_COLOR": "1"})
    with copy_progress(environment) as line:
        line.show(Progress("file", 500_000, 1_000_000))
        line.erase()
        output = b""
        while b"\r\x1b[J\x1b[?25h" not in output:
            output += os.read(terminal, 65536)


def test_a_terminal_without_ansi_sequences_shows_that_a_large_file_is_checked() -> None:
    reading, writing = os.pipe()
    environment = Environment(stderr=writing, variables={"TERM": "dumb"}, is_terminal=lambda _fd: True)
    with copy_progress(environment) as line:
        for checking in (0, 1, LONG_CHECK_SIZE):
            line.show(Progress("directory/file", 1 << 30, 1 << 30, checking))
    assert os.read(reading, 65536) == b"smp: directory/file: checking\n"


@pytest.mark.parametrize("quiet", [True, False])
def test_without_a_terminal_or_when_quiet_nothing_is_shown(quiet: bool) -> None:
    reading, writing = os.pipe()
    environment = Environment(
        stderr=writing, variables={"TERM": "xterm", "NO_COLOR": "1"}, is_terminal=lambda _fd: quiet, quiet=quiet
    )
    assert _shown(environment, reading) == b"smp: other: No such file or directory\nend"
