"""``ends_inside_line``, and the same question asked of a screen."""

from __future__ import annotations

import pytest

from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.line_end import ends_inside_line
from session_manager_plugin.terminal.screen import Screen


@pytest.mark.parametrize("output", [b"", b"\n", b"text\r\n", b"text\r", b"text\r\n\x1b[m", b"a\r\n\x1b[?2004l\x1b[0m"])
def test_finished_lines(output: bytes) -> None:
    assert not ends_inside_line(output)


@pytest.mark.parametrize("output", [b"$ ", b"a\r\nb", b"\n\x1b[1m$\x1b[m", b"\x1b[m", b"\xe2\x82"])
def test_unfinished_lines(output: bytes) -> None:
    assert ends_inside_line(output)


@pytest.mark.parametrize("bar", [False, True])
@pytest.mark.parametrize(
    ("output", "inside"),
    [
        (b"$ ", True),  # from a column that is not known
        (b"\r\n$ ", True),
        (b"\r\n$ exit\r\n", False),
        (b"\r\nhalf\r", False),
        (b"\r\n" + b"x" * 80, True),  # a wrap is due
        (b"\r\n$ vi\r\n\x1b[?1049h\x1b[5;7Htext", False),  # leaving restores the main screen's cursor
        (b"\r\n$ vi\x1b[?1049h\x1b[5;1H", True),
    ],
)
def test_a_screen(output: bytes, inside: bool, bar: bool) -> None:
    screen = Screen()
    screen.start(TerminalSize(80, 24), bar=bar)
    assert not screen.leaves_inside_line(b"")
    screen.feed(output)
    assert screen.leaves_inside_line(output) is inside
