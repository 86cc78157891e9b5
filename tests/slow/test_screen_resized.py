"""Screen, in a terminal emulator (xterm.js) that is resized: nothing is left of an old bar."""

from __future__ import annotations

import random

import pytest

from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.screen import Screen
from tests.support.emulator import Life, live, need_emulator

LIVES = 60
WIDTHS = [40, 50, 79, 80, 81, 100, 120, 200]
HEIGHTS = [2, 9, 10, 12, 18, 23, 24, 25, 30, 50]
LONGEST = 80


def bar(columns: int) -> bytes:
    """A line as long as the status line is in a terminal of this width."""
    return b"#" * min(columns, LONGEST)


def life(seed: int, widths: list[int]) -> tuple[Life, TerminalSize]:
    """A shell with long lines above a bar, in a terminal that is resized some times; and the size at the end."""
    source = random.Random(seed)
    size = TerminalSize(source.choice(widths), source.choice([24, 12, 30]))
    terminal = Life(*size, plain=True)
    screen = Screen(10, reflow_moves_cursor=True)
    for length in [0, 75, 150] * source.choice([0, 1, 15]):
        terminal.write(b"before " + b"p" * length + b"\r\n")
    terminal.write(screen.start(size, bar=True)).write(screen.draw(bar(size.columns)))
    for _ in range(source.choice([1, 2, 5])):
        for _ in range(source.choice([0, 3, 10, 40])):
            length = source.choice([0, 10, size.columns - 6, size.columns, 150, 200])
            terminal.write(screen.feed(b"output " + b"o" * length + b"\r\n"))
        terminal.write(screen.feed(b"$ " + b"command " * source.choice([0, 2, 9, 10, 12, 15, 20])))
        for _ in range(source.choice([1, 1, 2, 3])):
            size = TerminalSize(source.choice(widths), source.choice(HEIGHTS))
            terminal.resize(*size)
            terminal.write(screen.resize(size))
            if screen.has_bar:
                terminal.write(screen.draw(bar(size.columns)))
    return terminal.look(), size


@pytest.mark.parametrize("widths", [WIDTHS, [80, 81, 100, 120, 200]], ids=["any", "wide"])
def test_nothing_is_left_of_an_old_bar(widths: list[int]) -> None:
    need_emulator()
    lives = [life(seed, widths) for seed in range(LIVES)]
    for (_, size), (look,) in zip(lives, live(terminal for terminal, _ in lives), strict=True):
        rows = [*look.history, *look.rows]
        if size.rows >= 10:
            assert rows.pop() == bar(size.columns).decode(), look
        assert not [row for row in rows if "#" in row], look
