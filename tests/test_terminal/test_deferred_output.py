"""Output that is followed later, when the state is needed: the same comes out as when it is followed at once."""

from __future__ import annotations

import random
import re

import pytest

from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.screen import Screen
from tests.support.screen_streams import StreamMaker

SIZE = TerminalSize(40, 12)


def without_bar() -> Screen:
    screen = Screen()
    screen.start(SIZE, bar=False)
    return screen


def what_is_left(screen: Screen) -> list[object]:
    """Everything that depends on the output so far."""
    return [
        screen.at_boundary,
        screen.takes_overlay,
        screen.reports_unasked,
        screen.take_questions(),
        screen.take_asked(),
        screen.draw_notice(b"trouble"),
        screen.column,
        screen.rows_below,
        screen.pen,
        screen.again(),
        screen.leave(),
    ]


def sequences(data: bytes) -> list[bytes]:
    """In an order of their own: modes may be set in any."""
    return sorted(re.findall(rb"\x1b[^\x1b]*", data))


def drawing(dice: random.Random, size: int) -> bytes:
    """Redraws of `size` bytes at least."""
    out = bytearray()
    while len(out) < size:
        out += b"\x1b[%d;%dH\x1b(B\x1b[%dmsome text\x1b[K" % (
            dice.randrange(1, 12),
            dice.randrange(1, 40),
            dice.randrange(30, 38),
        )
    return bytes(out)


def test_followed_later_is_as_followed_at_once() -> None:
    for seed in range(60):
        maker = StreamMaker(seed, SIZE.columns, SIZE.rows)
        stream = maker.stream(20)
        whole, later, at_once = without_bar(), without_bar(), without_bar()
        assert whole.feed(stream) == stream
        for piece in maker.chunks(stream):
            assert later.feed(piece) == at_once.feed(piece) == piece
            at_once.rows_below  # noqa: B018, reading it follows what was deferred
        left = what_is_left(at_once)
        assert what_is_left(later) == left, seed
        assert what_is_left(whole) == left, seed


def test_binary_data_in_any_pieces() -> None:
    """How much of it is one piece decides whether it is followed exactly; a position that is known is the same one."""
    for seed in range(60):
        dice = random.Random(seed)
        stream = b"".join(dice.randbytes(200) + dice.choice((b"", b"\r", b"\x1b[3;5H", b"\n" * 12)) for _ in range(3))
        whole, pieces = without_bar(), without_bar()
        assert whole.feed(stream) == stream
        cuts = sorted(dice.sample(range(len(stream)), 9))
        fed = [pieces.feed(stream[start:end]) for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        assert b"".join(fed) == stream
        for known in ({whole.column, pieces.column}, {whole.rows_below, pieces.rows_below}):
            assert len(known - {None}) <= 1, (seed, known)
        assert sequences(whole.leave()) == sequences(pieces.leave()), seed


@pytest.mark.parametrize("chunk_size", [331, 4096, 100_000])
def test_more_drawing_than_is_kept_leaves_modes_and_attributes(chunk_size: int) -> None:
    dice = random.Random(1)
    stream = b"\x1b[?2004h\x1b[1;31m\x0e\x1b[?25l" + drawing(dice, 40_000) + b"\x1b[?2026h"
    stream += b"text\r\n" * 10_000 + b"\x1b[5;7H"
    screen, at_once = without_bar(), without_bar()
    for start in range(0, len(stream), chunk_size):
        screen.feed(stream[start : start + chunk_size])
        at_once.feed(stream[start : start + chunk_size])
        at_once.rows_below  # noqa: B018, reading it follows what was deferred
    assert screen.column == at_once.column == 6
    assert screen.rows_below == at_once.rows_below == 7
    assert screen.pen == at_once.pen
    assert sequences(screen.again()) == sequences(at_once.again())
    assert sequences(screen.leave()) == sequences(at_once.leave())


def test_a_position_that_was_skipped_is_not_known() -> None:
    screen = without_bar()
    screen.feed(b"\x1b[3;4H")
    assert screen.column == 3
    for _ in range(100):
        screen.feed(b"\x1b[31m\x1b[m" * 50)
    assert screen.column is None
    assert screen.rows_below is None
    screen.feed(b"\r" + b"\n" * SIZE.rows)
    assert (screen.column, screen.rows_below) == (0, 0)


@pytest.mark.parametrize(
    ("sequence", "undone"),
    [
        (b"\x1b[?2004h", b"\x1b[?2004l"),
        (b"\x1b[?25l", b"\x1b[?25h"),
        (b"\x1b[?1049h", b"\x1b[?1049l"),
        (b"\x1b[2;5r", b"\x1b[r"),
        (b"\x1b[31m", b"\x1b[m"),
        (b"\x1b(0", b"\x1b(B"),
        (b"\x1b]4;1;red\x1b\\", b"\x1b]104;1\x07"),
        (b"\xc2\x9b5 q", b"\x1b[0 q"),
    ],
)
def test_a_sequence_in_two_chunks_behind_much_drawing(sequence: bytes, undone: bytes) -> None:
    before = drawing(random.Random(2), 20_000) + b"\x1b[m"
    for place in range(1, len(sequence)):
        screen = without_bar()
        assert screen.feed(before + sequence[:place]) == before + sequence[:place]
        assert screen.feed(sequence[place:] + b"text") == sequence[place:] + b"text"
        assert undone in screen.leave(), place


def test_a_character_in_two_chunks() -> None:
    for place in (1, 2):
        screen = without_bar()
        screen.feed(b"\x1b[H" + "漢".encode()[:place])
        screen.feed("漢".encode()[place:])
        assert screen.column == 2


def test_the_bar_begins_where_the_deferred_output_has_left_the_cursor() -> None:
    screen = without_bar()
    screen.feed(b"\x1b7\x1b[5;9Htext")
    taken = screen.take_row(may_ask=True)
    assert taken is not None
    assert taken.startswith(b"\x1b[r\x1b[5;13H")


def test_a_repeated_character_behind_a_notice_moves_the_cursor() -> None:
    screen = without_bar()
    screen.feed(b"\x1b[Hab")
    screen.draw_notice(b"trouble")
    screen.feed(b"\x1b[5b\x1b[6n")
    assert screen.column is None or screen.column == 7
