"""The progress of a copy at a terminal."""

from __future__ import annotations

import os
import re
import tty

import pytest

from session_manager_plugin.cli.copy_progress import copy_progress
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
        erased, _, behind = before.rpartition(b"\x1b[2K")
        assert erased
        assert not re.sub(rb"\x1b\[[?0-9;]*[A-Za-z]|[\r\n]", b"", behind)
    assert output.endswith(b"end")


@pytest.mark.parametrize("quiet", [True, False])
def test_without_a_terminal_or_when_quiet_nothing_is_shown(quiet: bool) -> None:
    reading, writing = os.pipe()
    environment = Environment(
        stderr=writing, variables={"TERM": "xterm", "NO_COLOR": "1"}, is_terminal=lambda _fd: quiet, quiet=quiet
    )
    assert _shown(environment, reading) == b"smp: other: No such file or directory\nend"
