"""Screen, seen in a terminal emulator (xterm.js): the rows above the bar are those of a terminal one row shorter."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.screen import Screen
from session_manager_plugin.terminal.terminal_reports import TerminalReports
from tests.support.emulator import Emulator, Life, Look, live, live_one, need_emulator
from tests.support.screen_streams import StreamMaker

COLUMNS, ROWS = 30, 9
SIZE = TerminalSize(COLUMNS, ROWS)
BAR = b"\x1b[7m connected \x1b[0m 23 ms"
BAR_TEXT = " connected  23 ms"
STREAMS = int(os.environ.get("SMP_TEST_STREAMS", "10000"))
LENGTH = 12
BATCHES = 10
# Ends what may be unfinished, and a wrap that is due: not all terminals restore that with the cursor.
LEAVE = b"\x18\x1b\\\x1b[?1049l\x1b[?6l\x1b[r"
END = b"\x18\x1b\\\r"


@pytest.fixture(autouse=True)
def _emulator() -> None:
    need_emulator()


class Shared:
    """The emulator's life with a bar, wired as a session does it."""

    def __init__(self, size: TerminalSize = SIZE, before: bytes = b"") -> None:
        self.screen = Screen()
        self.life = Life(*size).write(before)
        self.life.write(self.screen.start(size, bar=True)).write(self.screen.draw(BAR))

    def output(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self.life.write(self.screen.feed(chunk))

    def draw(self) -> None:
        self.life.write(self.screen.draw(BAR))

    def resize(self, columns: int, rows: int) -> None:
        self.life.resize(columns, rows)
        self.life.write(self.screen.resize(TerminalSize(columns, rows)))
        self.draw()


def assert_same(direct: Look, shared: Look, what: object) -> None:
    difference = f"{what}\nby itself\n{direct}\nabove the bar\n{shared}"
    assert shared.rows[-1] == BAR_TEXT, difference
    assert shared.rows[:-1] == direct.rows, difference
    assert shared.cells[:-1] == direct.cells, difference
    assert shared.cursor == direct.cursor, difference
    assert shared.history == direct.history, difference
    assert shared.region == direct.region, difference
    assert shared.modes == direct.modes, difference
    assert shared.alternate == direct.alternate, difference


class Answered:
    """The same, with answers of the emulator, which is asked where the cursor is."""

    def __init__(self, emulator: Emulator, before: bytes) -> None:
        self.screen = Screen()
        self._emulator = emulator
        self._reports = TerminalReports()
        emulator.renew()
        self._unwritten = before
        self._write(self.screen.start(SIZE, bar=True))
        self.draw()

    def output(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self._write(self.screen.feed(chunk))

    def draw(self) -> None:
        self._write(self.screen.draw(BAR))

    def resize(self, columns: int, rows: int) -> None:
        self._emulator.write(self._unwritten)
        self._unwritten = b""
        self._emulator.resize(columns, rows)
        self._write(self.screen.resize(TerminalSize(columns, rows)))
        self.draw()

    def look(self) -> Look:
        self._emulator.write(self._unwritten)
        self._unwritten = b""
        return self._emulator.look()

    def _write(self, data: bytes) -> None:
        self._unwritten += data
        while self.screen.wants_position:
            question, number = self.screen.ask_position()
            self._reports.expect(number, 0.0)
            typed = self._emulator.write(self._unwritten + question)
            self._unwritten = b"".join(self.screen.locate(*position) for position in self._reports.feed(typed, 0.0)[1])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_any_stream_shows_above_the_bar_what_it_shows_by_itself(batch: int) -> None:
    """Begun in a known row."""
    seeds = range(batch, STREAMS, BATCHES)

    def lives() -> Iterator[Life]:
        for seed in seeds:
            maker = StreamMaker(seed, COLUMNS, ROWS - 1)
            stream = b"\x1b[H" + maker.stream(LENGTH) + END
            yield Life(COLUMNS, ROWS - 1).write(stream).look()
            shared = Shared()
            for chunk in maker.chunks(stream):
                shared.output(chunk)
                if maker.source.random() < 0.1:
                    shared.draw()
            yield shared.life.look()

    looks = live(lives())
    for seed in seeds:
        (direct,), (shared,) = next(looks), next(looks)
        assert_same(direct, shared, f"seed {seed}")


@pytest.mark.timeout(300)
def test_any_stream_from_an_unknown_row_without_answers() -> None:
    """Where the row need not be known, what the terminal itself restores is enough."""
    seeds = range(STREAMS // BATCHES)
    damaged: list[bool] = []

    def lives() -> Iterator[Life]:
        for seed in seeds:
            maker = StreamMaker(seed, COLUMNS, ROWS - 1, needs_row=False)
            before, stream = maker.before(), maker.stream(LENGTH) + END
            yield Life(COLUMNS, ROWS - 1).write(before + stream).look()
            shared = Shared(before=before)
            for chunk in maker.chunks(stream):
                shared.output(chunk)
                if maker.source.random() < 0.1:
                    shared.draw()
            damaged.append(shared.screen.damaged)
            yield shared.life.look()

    looks = live(lives())
    for seed in seeds:
        (direct,), (shared,) = next(looks), next(looks)
        if damaged[seed]:
            shared.rows[-1] = BAR_TEXT  # it waits until the remote's saved cursor is not needed any more
        assert_same(direct, shared, f"seed {seed}")


@pytest.mark.timeout(300)
def test_any_stream_from_an_unknown_row_with_answers() -> None:
    with Emulator(COLUMNS, ROWS - 1) as alone, Emulator(COLUMNS, ROWS) as emulator:
        for seed in range(STREAMS // BATCHES):
            maker = StreamMaker(seed, COLUMNS, ROWS - 1)
            before, stream = maker.before(), maker.stream(LENGTH) + END
            alone.renew()
            alone.write(before + stream)
            shared = Answered(emulator, before)
            for chunk in maker.chunks(stream, keeps_clusters=True):
                shared.output(chunk)
                if maker.source.random() < 0.1:
                    shared.draw()
            shared.draw()
            assert_same(alone.look(), shared.look(), f"seed {seed}")


@pytest.mark.timeout(300)
def test_any_stream_after_a_resize() -> None:
    with Emulator(COLUMNS, ROWS - 1) as alone, Emulator(COLUMNS, ROWS) as emulator:
        for seed in range(STREAMS // BATCHES):
            maker = StreamMaker(seed, COLUMNS, ROWS - 1)
            before, stream = maker.before(), maker.stream(LENGTH)
            columns, rows = maker.source.randint(len(BAR_TEXT), 60), maker.source.randint(4, 20)
            alone.renew()
            alone.write(before + stream + LEAVE)
            alone.resize(columns, rows)
            shared = Answered(emulator, before)
            shared.output(*maker.chunks(stream, keeps_clusters=True), LEAVE)
            shared.resize(columns, rows + 1)
            after = StreamMaker(seed, columns, rows)
            # As programs do, everything is painted anew, and the cursor saved. The history is rewrapped, bar and all.
            stream = b"\x1b[?47h\x1b7\x1b[?47l\x1b[H\x1b[2J\x1b[3J\x1b7" + after.stream(LENGTH) + END
            alone.write(stream)
            shared.output(*after.chunks(stream, keeps_clusters=True))
            shared.draw()
            assert_same(alone.look(), shared.look(), f"seed {seed}")


@pytest.mark.parametrize(
    "stream",
    [
        b"\x1b[3;3H\x1b7\x1b[?6h\x1b8x",
        b"\x1b[?6h\x1b[6;28r\x1b8x",
        b"\x1b[2;7r\x1b[?6h\x1b[2;2H\x1b7\x1b[?6l\x1b8x",
    ],
)
def test_origin_mode_in_a_terminal_that_does_not_save_it(stream: bytes) -> None:
    """As in VS Code: what is restored and where the bar stands are as everywhere."""
    direct = live_one(Life(COLUMNS, ROWS - 1).write(stream).look())[0]
    with Emulator(COLUMNS, ROWS, plain=True) as emulator:
        shared = Answered(emulator, b"")
        for place in range(len(stream)):
            shared.output(stream[place : place + 1])
            shared.draw()
        assert_same(direct, shared.look(), stream)


def check(stream: bytes) -> Look:
    """A stream written byte by byte, with the bar drawn after each, shows the same; gives what."""
    direct = live_one(Life(COLUMNS, ROWS - 1).write(b"\x1b[H" + stream).look())[0]
    shared = Shared()
    shared.output(b"\x1b[H")
    for place in range(len(stream)):
        shared.output(stream[place : place + 1])
        shared.draw()
    look = live_one(shared.life.look())[0]
    assert_same(direct, look, stream)
    return look


@pytest.mark.parametrize(
    "stream",
    [
        b"\x1b[5;5H\x1b7\x1b[2J\x1b[1;1Hmoved\x1b8back",
        b"\x1b[?1049h\x1b[2;4r\x1b[4;1H1\r\n2\r\n3\r\n\x1b[r\x1b[8;1H:q\x1b[?1049l$ ",
        b"\x1b[1;31mred\x1bcplain\r\n" + b"line\r\n" * 20,
        b"\x1b[3;5r\x1b[?6h\x1b[1;1Ha\x1b[9;1Hb\x1b[!pc" + b"\r\n" * 12,
        b"\x1b[1;7r\x1b[8;1H" + b"progress " * 8 + b"\n\n\n\x1b[1;1H" + b"line\r\n" * 9,
        b"x" * 30 + b"\x1b[31m" + b"y" * 31,
        "\u6f22".encode() * 40,
        b"a\r\n" * 30 + b"\x1b[3J\x1b[H\x1b[Jb",
        b"\x1b#8\x1b[99;99H\x1b[99B\x1b[9e\x1b[9Ex",
        b"\x1b[99;99Hx\r\ny\x1b[999;1Hz\x1bD\x1bE\x1b[Aw",
        b"\x1b(0lqqk\x1b(B\x1b)0\x0elq\x0flq",
        b"\x1b[4h\x1b[1;1Habc\x1b[1;2Hx\x1b[4l",
        b"\x1b[?7l" + b"z" * 40 + b"\x1b[?7hz",
        b"abc\x1b\r\x18\ndef\x1b[5\r\x1a\x1b7\x1b[H\x1b8x",
        "e\u0301a\u0308 \x1b]0;\u6f22\x07\u20ac".encode(),
    ],
)
def test_what_programs_do(stream: bytes) -> None:
    check(stream)


def test_scrollback_holds_what_has_scrolled_off() -> None:
    look = check(b"".join(b"%d\r\n" % number for number in range(30)))
    assert look.history[-1] == "22"


def test_the_answers_are_those_of_a_terminal_one_row_shorter() -> None:
    shared = Shared()
    shared.output(b"\x1b[99;99H\x1b[6n\x1bP$qr\x1b\\\x1b[18t")
    (look,) = live_one(shared.life.look())
    assert look.typed == b"\x1b[8;30R\x1bP1$r1;8r\x1b\\"
    assert shared.screen.take_answers() == [b"\x1b[8;8;30t"]


@pytest.mark.parametrize(
    ("before", "rows", "cursor"),
    [
        (b"", ["", "", ""], (0, 0)),
        (b"$ smp connect\r\n", ["$ smp connect", "", ""], (0, 1)),
        (b"1\r\n2\r\n$ smp", ["1", "2", "$ smp"], (5, 2)),
        (b"1\r\n2\r\n3\r\n$ smp", ["2", "3", "$ smp"], (5, 2)),
        (b"1\r\n2\r\n3\r\n\x1b[2;3r\x1b[4;1H$ smp", ["2", "3", "$ smp"], (5, 2)),  # left so by a program that died
    ],
)
def test_starting_makes_room(before: bytes, rows: list[str], cursor: tuple[int, int]) -> None:
    (look,) = live_one(Shared(TerminalSize(20, 4), before).life.look())
    assert look.rows == [*rows, BAR_TEXT]
    assert look.cursor == cursor


@pytest.mark.parametrize("used", [3, ROWS - 1, 40])
@pytest.mark.parametrize("size", [(COLUMNS, 20), (COLUMNS, 5), (60, ROWS), (20, 7)])
def test_a_resize_leaves_one_bar(size: tuple[int, int], used: int) -> None:
    shared = Shared()
    shared.output(b"".join(b"line %d\r\n" % number for number in range(used)) + b"$ half a com")
    shared.resize(*size)
    shared.life.look()
    shared.output(b"\r\n" * 30 + b"end")
    first, last = live_one(shared.life.look())
    assert first.rows[-1] == BAR_TEXT
    assert first.rows.count(BAR_TEXT) == 1
    assert first.cursor[1] < size[1] - 1
    assert last.rows[-2:] == ["end", BAR_TEXT]


def test_tiny_and_back() -> None:
    shared = Shared()
    shared.output(b"".join(b"line %d\r\n" % number for number in range(20)))
    for rows in (2, 1, 2, 3, ROWS):
        shared.resize(COLUMNS, rows)
        shared.output(b"\x1b[2J\x1b[H\x1b[r\x1b[99;1Hsized")
    shared.output(b"\r\n" * 20 + b"end")
    (look,) = live_one(shared.life.look())
    assert look.rows[-2:] == ["end", BAR_TEXT]
    assert look.rows.count(BAR_TEXT) == 1
    assert look.region == (0, ROWS - 2)


def test_leaving_gives_the_screen_back() -> None:
    """Of a program that was killed in the middle: alternate screen, margins, modes, colours, no cursor, a title."""
    before = b"$ smp connect\r\n"
    fresh, found = live_one(Life(*SIZE).look().write(before).look())
    shared = Shared(before=before)
    shared.output(
        b"$ vim\r\n\x1b[?1049h\x1b[?1h\x1b=\x1b[?2004h\x1b[?1002h\x1b[?1006h"
        b"\x1b[?25l\x1b[2;4r\x1b[?6h\x1b[4h\x1b[41m\x1b(0text"
    )
    shared.output(b"\x1b]0;half a title")
    shared.life.look().write(shared.screen.leave()).look().write(b"after\r\n" * 20).look()
    during, after, later = live_one(shared.life)
    assert during.alternate
    assert during.modes != fresh.modes
    assert after.modes == found.modes
    assert not after.alternate
    assert after.region == (0, ROWS - 1)
    assert after.rows == ["$ smp connect", "$ vim", *[""] * (ROWS - 2)]
    assert after.cursor == (0, 2)
    assert later.rows[: ROWS - 1] == ["after"] * (ROWS - 1)
    assert later.cells[0] == fresh.cells[0]


def test_the_bar_goes_and_comes_back() -> None:
    shared = Shared()
    shared.output(b"1\r\n2\r\n")
    shared.life.write(shared.screen.release()).look()
    shared.output(b"\x1b[99;1Hlast")
    shared.life.look().write(shared.screen.take_row(may_ask=False) or b"")
    shared.draw()
    gone, used, back = live_one(shared.life.look())
    assert gone.rows == ["1", "2", *[""] * (ROWS - 2)]
    assert gone.region == (0, ROWS - 1)
    assert used.rows[-1] == "last"
    assert back.rows[-2:] == ["last", BAR_TEXT]
    assert back.cursor == (4, ROWS - 2)


def test_garbage_leaves_the_bar_where_it_is() -> None:
    """What no terminals agree about: bytes that are no UTF-8, and C1 controls among them."""

    def lives() -> Iterator[Life]:
        for seed in range(100):
            source = StreamMaker(seed, COLUMNS, ROWS).source
            shared = Shared()
            for _ in range(20):
                shared.output(source.randbytes(source.randint(1, 200)))
            shared.output(END + b"\x1bc" + b"line\r\n" * 20)
            yield shared.life.look()

    for seed, (look,) in enumerate(live(lives())):
        assert look.rows == [*["line"] * (ROWS - 2), "", BAR_TEXT], seed


SAVED = b"\x1b[3;5H\x1b[32m\x1b7\x1b[m\x1b[HA"
"""Leaves something in the terminal's slot for DECRC: row 3, column 5, green."""


def assert_restored(life: Life) -> Look:
    """DECRC finds what `SAVED` has saved, and the cursor was behind the A."""
    (look,) = live_one(life.look())
    assert look.rows[:3] == ["AB", "", "    y"]
    (plain,) = live_one(Life(*SIZE).write(SAVED + b"B\x1b8y").look())
    assert look.cells[:3] == plain.cells[:3]
    return look


def test_a_notice_leaves_alone_what_the_remote_has_saved() -> None:
    life, screen = Life(*SIZE), Screen()
    screen.start(SIZE, bar=False)
    life.write(screen.feed(SAVED)).write(screen.draw_notice(b"trouble")).write(screen.draw_notice(b""))
    life.write(screen.feed(b"B\x1b8y"))
    assert_restored(life)


def test_a_notice_waits_for_the_place_of_the_cursor_while_the_remote_has_saved_another() -> None:
    screen = Screen()
    screen.start(SIZE, bar=False)
    screen.feed(b"\x1b[3A\x1b7")
    assert screen.draw_notice(b"trouble") == b""
    assert screen.wants_position
    _question, number = screen.ask_position()
    assert screen.locate(number, 4, 3) == b""
    drawn = screen.draw_notice(b"trouble")
    assert b"trouble" in drawn
    assert drawn.endswith(b"\x1b[4;3H")
    assert b"\x1b7" not in drawn


def test_the_bar_is_taken_away_and_what_the_remote_has_saved_is_the_terminals_again() -> None:
    shared = Shared()
    shared.output(SAVED)
    shared.draw()
    shared.life.write(shared.screen.release())
    shared.output(b"B\x1b8y")
    assert_restored(shared.life)


@pytest.mark.parametrize("is_located", [True, False])
def test_the_bar_is_shown_while_the_remote_has_saved_a_cursor(is_located: bool) -> None:
    life, screen = Life(*SIZE), Screen()
    life.write(b"\x1b[3;5H")
    screen.start(SIZE, bar=False)
    life.write(screen.feed(b"\x1b[32m\x1b7\x1b[m"))
    if is_located:
        life.write(screen.feed(b"\x1b[HA")).write(screen.take_row(may_ask=True) or b"")
    else:
        life.write(screen.feed(b"\x1b[2A\x1b[4DA"))
        assert screen.take_row(may_ask=True) is None
        _question, number = screen.ask_position()
        life.write(screen.locate(number, 1, 2)).write(screen.take_row(may_ask=True) or b"")
    life.write(screen.draw(BAR)).write(screen.feed(b"B\x1b8y"))
    look = assert_restored(life)
    assert look.rows[-1] == BAR_TEXT
    assert look.region == (0, ROWS - 2)


@pytest.mark.parametrize("split", [1, 3, 8])
def test_the_bar_is_taken_away_behind_the_alternate_screen(split: int) -> None:
    shared = Shared()
    shared.output(b"one\r\ntwo\r\n$ vim\x1b[?1049h\x1b[Hfile")
    shared.draw()
    shared.life.write(shared.screen.release()).look()
    after = b"\x1b[%d;1Hlast line\x1b[?1049l\r\n" % ROWS
    shared.output(*(after[start : start + split] for start in range(0, len(after), split)), b"$ ")
    during, back = live_one(shared.life.look())
    assert during.alternate
    assert during.rows[-1] == ""
    assert back.rows == ["one", "two", "$ vim", "$ ", *[""] * (ROWS - 4)]
    assert back.cursor == (2, 3)
    assert back.region == (0, ROWS - 1)


def test_a_session_that_ends_behind_the_alternate_screen_leaves_no_old_bar() -> None:
    shared = Shared()
    shared.output(b"one\r\n\x1b[?1049h\x1b[Hfile")
    shared.draw()
    shared.life.write(shared.screen.release()).write(shared.screen.leave())
    (back,) = live_one(shared.life.look())
    assert back.rows == ["one", *[""] * (ROWS - 1)]


@pytest.mark.parametrize("seed", range(5))
def test_many_colours_in_one_piece_are_those_of_one_by_one(seed: int) -> None:
    source = random.Random(seed)
    colours = ["38;2;%d;0;0", "48;2;0;%d;0", "38;5;%d", "48;5;%d", "38;5;%d;1", "3%d", "4;4%d", "0;38;5;%d", "7"]
    sequences = [
        b"\x1b[%bm" % source.choice(colours).replace("%d", str(source.randrange(8))).encode() for _ in range(200)
    ]
    at_once, one_by_one = Shared(), Shared()
    at_once.output(b"\x1b[H", b"".join(sequences))
    one_by_one.output(b"\x1b[H", *sequences)
    for shared in (at_once, one_by_one):
        shared.draw()
        shared.output(b"x")
    ((first,), (second,)) = live([at_once.life.look(), one_by_one.life.look()])
    assert first.cells == second.cells
