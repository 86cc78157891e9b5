"""Redraws, which are followed as a whole: the same comes out as when they are followed piece by piece."""

from __future__ import annotations

import random
import re

import pytest

from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.redraw import redraw_end
from session_manager_plugin.terminal.screen import Screen

SIZE = TerminalSize(40, 13)
REMOTE_ROWS = SIZE.rows - 1
FREQUENT = [
    b"text",
    b"wider than what is left of the row, so that it wraps",
    b"\r\n",
    b"\t",
    b"\x08",
    b"\xc2\xa0",
    b"\xe2\x94\x80",
    b"\x1b[m",
    b"\x1b[0;1m",
    b"\x1b[31m",
    b"\x1b[38;5;12m",
    b"\x1b[K",
    b"\x1b[1K",
    b"\x1b[2C",
    b"\x1b[9D",
    b"\x1b[3A",
    b"\x1b[2B",
    b"\x1b[7G",
    b"\x1b[2L",
    b"\x1b[M",
    b"\x1b[2P",
    b"\x1b[4@",
    b"\x1b[5X",
    b"\x1b[S",
    b"\x1b[T",
    b"\x1b(B",
    b"\x1b[?25l",
    b"\x1b[?25h",
    b"\x1b[?2026h",
    b"\x1b[?2026l",
    b"\x1b[?12l",
]
RARE = [
    b"\x1b[3d",
    b"\x1b[99d",
    b"\x1b[?12;25h",
    b"\x1b[J",
    b"\x1b[2b",
    b"\x1b[2e",
    b"\x1b[2;5r",
    b"\x1b[r",
    b"\x1b7",
    b"\x1b8",
    b"\x0e",
    b"\x0f",
    b"\x1b(0",
    b"\xc2\x9bK",
    b"\xe2\x80\x8d",
    b"\xff\xfe",
    b"\x1b[?6h",
    b"\x1b[?6l",
    b"\x1b[?7l",
    b"\x1b[?7h",
    b"\x1b]0;title\x07",
]


def stream(seed: int) -> list[bytes]:
    dice = random.Random(seed)
    pieces = []
    for _ in range(60):
        if dice.random() < 0.4:
            row, column = dice.randrange(REMOTE_ROWS + 3), dice.randrange(SIZE.columns + 3)
            ways = (b"\x1b[%d;%dH" % (row, column), b"\x1b[%dH" % row, b"\x1b[;%df" % column, b"\x1b[H")
            pieces.append(dice.choice(ways))
        pieces.append(dice.choice(FREQUENT if dice.random() < 0.97 else RARE))
    return pieces


def sequences(data: bytes) -> list[bytes]:
    """In an order of their own: modes may be set in any."""
    return sorted(re.findall(rb"\x1b[^\x1b]*", data))


@pytest.mark.parametrize("bar", [True, False])
def test_a_redraw_as_a_whole_leaves_the_same_as_its_pieces(bar: bool) -> None:
    for seed in range(200):
        pieces = stream(seed)
        data = b"".join(pieces)
        screens = [Screen(), Screen()]
        for screen in screens:
            screen.start(SIZE, bar=bar)
            screen.feed(b"\x1b[H")
        # The bar is not drawn before the end: it is drawn between chunks, which differ here.
        whole = screens[0].feed(data)
        piecewise = b"".join(map(screens[1].feed, pieces))
        if not bar:
            assert (whole, piecewise) == (data, data), seed
        after = [(screen.flush(), screen.draw_notice(b"notice"), sequences(screen.leave())) for screen in screens]
        assert after[0] == after[1], (seed, data)


@pytest.mark.parametrize("rows", [1, 7, 9, 10, 39, 99, 100, 123, 200])
def test_an_address_below_the_last_row_is_no_part_of_a_redraw(rows: int) -> None:
    for row in range(1, 400):
        for address in (b"\x1b[%dH" % row, b"\x1b[0%d;5f" % row, b"\x1b[Hx\x1b[%dd" % row):
            end = redraw_end(address, 0, rows, in_ascii=True, has_c2=False)
            assert (end == len(address)) is (row <= rows), (row, address)


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"\x1b[H\x1b[31mtext\x1b[K", 15),
        (b"text\x1b[H", 0),
        (b"\x1b[Htext\x1b[J", 7),
        (b"\x1b[Htext\x1b[2", 7),
        (b"\x1b[Htext\x0e", 7),
        (b"\x1b[Htext\x1b[?1049h", 7),
        (b"\x1b[Htext\xc2\x9b1K", 7),
        (b"\x1b[H\xc2\xa0\x1b[K", 8),
        (b"\x1b[Htext\x1b[2\rK", 7),
    ],
)
def test_where_a_redraw_ends(data: bytes, end: int) -> None:
    assert redraw_end(data, 0, 10, in_ascii=True, has_c2=b"\xc2" in data) == end
    assert redraw_end(data, 0, None, in_ascii=True, has_c2=b"\xc2" in data) == end


def test_designating_ascii_is_harmless_only_where_it_is_ascii_already() -> None:
    data = b"\x1b[Htext\x1b(B"
    assert redraw_end(data, 0, 10, in_ascii=True, has_c2=False) == len(data)
    assert redraw_end(data, 0, 10, in_ascii=False, has_c2=False) == 7
