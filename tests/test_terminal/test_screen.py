"""ReservedRow: what it follows, and what it makes of the screen of a terminal emulator."""

from __future__ import annotations

import os
import random
import select
import subprocess
import termios
import tracemalloc
from collections.abc import Iterable
from typing import Any, cast

import pyte
import pytest

from session_manager_plugin.terminal.screen import ReservedRow
from session_manager_plugin.terminal.size import TerminalSize
from tests.test_terminal.conftest import Pty

COLUMNS, ROWS = 40, 12
SIZE = TerminalSize(COLUMNS, ROWS)
BAR = b"\x1b[7m connected \x1b[0m  23 ms"
BAR_TEXT = " connected   23 ms"


class Screen(pyte.HistoryScreen):
    """pyte's screen, but that DECSC fills one slot, as in terminals, and keeps a wrap that is due."""

    def restore_cursor(self) -> None:
        saved = self.savepoints[-1] if self.savepoints else None
        column = self.cursor.x if saved is None else saved.cursor.x
        super().restore_cursor()
        self.cursor.x = column
        if saved is not None:
            super().save_cursor()

    def save_cursor(self) -> None:
        self.savepoints.clear()
        super().save_cursor()


class Emulator:
    """A terminal of which everything can be looked at."""

    def __init__(self, columns: int, rows: int) -> None:
        self.screen = Screen(columns, rows, history=1000)
        self._stream = pyte.ByteStream(self.screen)

    def write(self, data: bytes) -> None:
        self._stream.feed(data)

    @property
    def text(self) -> list[str]:
        return [row.rstrip() for row in self.screen.display]

    @property
    def cursor(self) -> tuple[int, int]:
        return self.screen.cursor.y, self.screen.cursor.x

    def contents(self, rows: int) -> dict[str, Any]:
        """All of the first `rows` rows with their colours, the scrollback, the cursor."""
        buffer = self.screen.buffer
        columns = range(self.screen.columns)
        history = cast("Iterable[Any]", self.screen.history.top)
        return {
            "rows": [[buffer[row][column] for column in columns] for row in range(rows)],
            "history": ["".join(line[column].data for column in columns) for line in history],
            "cursor": (*self.cursor, self.screen.cursor.attrs),
        }


class WithBar:
    """The emulator and a ReservedRow, wired as a session does it."""

    def __init__(self, size: TerminalSize = SIZE) -> None:
        self.emulator = Emulator(*size)
        self.row = ReservedRow()
        self.emulator.write(self.row.start(size))
        self.draw()

    def draw(self) -> None:
        self.emulator.write(self.row.draw(BAR))

    def output(self, data: bytes) -> None:
        """A chunk of the remote's output; the bar is drawn as soon as it may be."""
        self.emulator.write(data)
        self.row.feed(data)
        self.draw()


def without_bar(stream: bytes) -> dict[str, Any]:
    """What the stream makes of a terminal that has one row fewer for good."""
    emulator = Emulator(COLUMNS, ROWS - 1)
    emulator.write(stream)
    return emulator.contents(ROWS - 1)


def shell_stream() -> bytes:
    """What a plain shell's user might see: colours, wrapping, scrolling, line editing, clearing, UTF-8."""
    prompt = b"\x1b]0;user@host: ~\x07\x1b[01;32muser@host\x1b[00m:\x1b[01;34m~\x1b[00m$ "
    return b"".join(
        [
            prompt + b"ls\r\n\x1b[0m\x1b[01;34mdir\x1b[0m  \x1b[01;32mrun.sh\x1b[0m  file\r\n",
            prompt
            + b"echo h\xc3\xa9llo \xe2\x82\xac \xf0\x9f\x98\x80\r\nh\xc3\xa9llo \xe2\x82\xac \xf0\x9f\x98\x80\r\n",
            prompt + b"a line that is longer than the terminal is wide, so that it wraps\r\n",
            b"".join(b"\x1b[3%dmline %d\x1b[m\r\n" % (number % 8, number) for number in range(40)),
            prompt + b"wrng\b\b\x1b[1P\x1b[C\x1b[1@x\x1b[K\r\nbash: wrng: command not found\r\n",
            prompt + b"\x1b[H\x1b[2J\x1b[3J" + prompt + b"after clear\r\n",
            prompt + b"\r\x1b[K\x1b[J" + prompt + b"\x1b(0lqqk\x1b(B\r\n",
            b"\x1b7\x1b[5;10Hthere\x1b8here\r\n",
            b"".join(b"more %d\r\n" % number for number in range(15)),
            prompt,
        ]
    )


def chunks(data: bytes, seed: int) -> list[bytes]:
    """`data` cut at seeded places; short and long pieces."""
    source = random.Random(seed)
    pieces = []
    position = 0
    while position < len(data):
        length = source.choice([1, 2, 3, 7, 50, 300])
        pieces.append(data[position : position + length])
        position += length
    return pieces


# The stream without DECSC and DECRC: the bar is drawn with them, and there is one slot only.
STREAM = shell_stream().replace(b"\x1b7", b"").replace(b"\x1b8", b"")


def test_rows_above_the_bar_are_those_of_a_terminal_of_one_row_fewer() -> None:
    terminal = WithBar()
    terminal.output(shell_stream())
    assert terminal.emulator.contents(ROWS - 1) == without_bar(shell_stream())
    assert terminal.emulator.text[-1] == BAR_TEXT


@pytest.mark.parametrize("seed", range(20))
def test_chunks_make_no_difference(seed: int) -> None:
    terminal = WithBar()
    for chunk in chunks(STREAM, seed):
        terminal.output(chunk)
    assert terminal.emulator.contents(ROWS - 1) == without_bar(STREAM)
    assert terminal.emulator.text[-1] == BAR_TEXT


def test_split_at_every_byte_makes_no_difference() -> None:
    stream = (
        b"".join(b"\x1b[3%dmline %d\x1b[m\r\n" % (number % 8, number) for number in range(ROWS))
        + b"\x1b[01;32mh\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\x1b[00m\x1b]0;title\x1b\\\x1b(0lqk\x1b(B"
        + b"a line that is longer than the terminal is wide\r\n\x1b[H\x1b[J$ \x1b[2;5r\x1b[4;1Ha\r\nb\r\nc\x1b[r"
    )
    expected = without_bar(stream)
    for position in range(len(stream)):
        terminal = WithBar()
        terminal.output(stream[:position])
        terminal.output(stream[position:])
        assert terminal.emulator.contents(ROWS - 1) == expected, position
        assert terminal.emulator.text[-1] == BAR_TEXT


def test_a_real_shell(terminal: Pty) -> None:
    termios.tcsetwinsize(terminal.master, (ROWS - 1, COLUMNS))
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=terminal.slave,
        stdout=terminal.slave,
        stderr=terminal.slave,
        start_new_session=True,
        env={"TERM": "xterm-256color", "PATH": os.environ["PATH"], "PS1": "\\u@\\h:\\w\\$ ", "LC_ALL": "C.UTF-8"},
    )
    os.write(terminal.master, b"seq 1 50\nprintf '\\e[1;31mred\\e[m\\n%.0s' 1 2 3\nclear\necho $COLUMNS $LINES\n")
    os.write(terminal.master, b"seq -s ' ' 1 40\nexit\n")
    os.close(terminal.slave)
    pieces: list[bytes] = []
    while select.select([terminal.master], [], [], 20)[0]:
        try:
            pieces.append(os.read(terminal.master, 4096))
        except OSError:
            break
    assert shell.wait(20) == 0
    output = b"".join(pieces)
    assert b"40 11" in output
    for seed in range(5):
        with_bar = WithBar()
        for chunk in chunks(output, seed):
            with_bar.output(chunk)
        assert with_bar.emulator.contents(ROWS - 1) == without_bar(output)
        assert with_bar.emulator.text[-1] == BAR_TEXT


@pytest.mark.parametrize(
    ("before", "rows", "cursor"),
    [
        (b"", ["", "", ""], (0, 0)),
        (b"$ smp connect\r\n", ["$ smp connect", "", ""], (1, 0)),
        (b"1\r\n2\r\n$ smp", ["1", "2", "$ smp"], (2, 5)),
        (b"1\r\n2\r\n3\r\n$ smp", ["2", "3", "$ smp"], (2, 5)),
        (b"1\r\n2\r\n3\r\n\x1b[2;3r\x1b[4;1H$ smp", ["2", "3", "$ smp"], (2, 5)),  # left so by a program that died
    ],
)
def test_start_makes_room(before: bytes, rows: list[str], cursor: tuple[int, int]) -> None:
    emulator = Emulator(20, 4)
    emulator.write(before)
    row = ReservedRow()
    emulator.write(row.start(TerminalSize(20, 4)))
    assert emulator.text == [*rows, ""]
    assert emulator.cursor == cursor
    emulator.write(row.draw(BAR))
    assert emulator.text == [*rows, BAR_TEXT]
    assert emulator.cursor == cursor
    assert row.remote_size == TerminalSize(20, 3)


def test_stop_gives_the_row_back() -> None:
    terminal = WithBar()
    terminal.output(b"".join(b"%d\r\n" % number for number in range(30)) + b"\x1b[31m$ ")
    before = terminal.emulator.contents(ROWS - 1)
    terminal.emulator.write(terminal.row.stop())
    assert terminal.emulator.contents(ROWS - 1) == before
    assert terminal.emulator.text[-1] == ""
    assert terminal.emulator.screen.margins is None
    assert terminal.row.remote_size is None
    assert terminal.row.stop() == b""
    assert terminal.row.draw(BAR) == b""
    terminal.emulator.write(b"\r\n" * 5)
    assert terminal.emulator.cursor == (ROWS - 1, 0)
    terminal.emulator.write(terminal.row.start(SIZE))
    terminal.draw()
    assert terminal.emulator.text[-1] == BAR_TEXT


def test_stop_in_the_middle_of_a_sequence() -> None:
    terminal = WithBar()
    terminal.output(b"abc\x1b]0;a title that never en")
    assert not terminal.row.at_boundary
    assert terminal.row.stop().startswith(b"\x18\x1b7")
    assert terminal.row.at_boundary


def test_the_bar_keeps_colours_character_set_and_origin_mode_of_the_remote() -> None:
    # pyte knows character sets only when it has been told (ESC % @) that the encoding is not UTF-8.
    stream = b"\x1b%@\x1b[3;8r\x1b[?6h\x1b[2;2H\x1b(0\x1b[1;31;44mq"
    terminal = WithBar()
    terminal.output(stream)
    terminal.output(b"x\x1b[1;1Hq")
    assert terminal.emulator.contents(ROWS - 1) == without_bar(stream + b"x\x1b[1;1Hq")
    assert terminal.emulator.text[-1] == BAR_TEXT


@pytest.mark.parametrize(
    "sequence",
    [
        b"\x1b[r", b"\x1b[;r", b"\x1b[1r", b"\x1b[0;0r", b"\x1b[2;r", b"\x1b[1;12r", b"\x1b[3;99r", b"\x1b[11;12r",
        b"\x1bc", b"\x1b[!p", b"\x1b[J", b"\x1b[0J", b"\x1b[2J", b"\x1b[3J", b"\x1b[?J", b"\x1b[?2J",
        b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?47h", b"\x1b[?1;1047;25l",
        b"\x1b[\r!p", b"\x1b]0;title\x1b[r", b"\x1b[31\x1b[r", b"\x1bP\x1bc",
    ],
)  # fmt: skip
def test_sequences_that_damage_the_bar(sequence: bytes) -> None:
    for position in range(len(sequence) + 1):
        row = ReservedRow()
        row.start(SIZE)
        row.draw(BAR)
        assert not row.damaged
        row.feed(b"text" + sequence[:position])
        row.feed(sequence[position:] + b"text")
        assert row.damaged
        assert row.at_boundary
        drawn = row.draw(BAR)
        assert b"r" in drawn.replace(BAR, b"")
        assert not row.damaged


@pytest.mark.parametrize(
    "sequence",
    [
        b"\x1b[1;11r", b"\x1b[2;5r", b"\x1b[5;5r", b"\x1b[9;3r", b"\x1b[?1049r", b"\x1b[1;2;3r", b"\x1b[1J",
        b"\x1b[?1J",
        b"\x1b[K", b"\x1b[?25h", b"\x1b[?2004l", b"\x1b[1049h", b"\x1b[p", b"\x1b[?1p", b"\x1b]c\x07", b"\x1bPr\x1b\\",
        b"\x1b(c", b"\x1b[\x18r", b"\x1b[!\x1ap", b"c[r", b"\x1b]0;\xf0\x9f\x98\x80[r\x07", b"\x1b]8;;http://a/[2J\x1b\\",
        b"\x1b\xc3\xa9c", b"\x1b(\xc3\xa9", b"\x1bkr\x1b\\", b"\x1b[" + b"1;" * 40 + b"r",
    ],
)  # fmt: skip
def test_sequences_that_do_not(sequence: bytes) -> None:
    for position in range(len(sequence) + 1):
        row = ReservedRow()
        row.start(SIZE)
        row.draw(BAR)
        row.feed(b"text" + sequence[:position])
        row.feed(sequence[position:] + b"text")
        assert not row.damaged
        assert row.at_boundary


@pytest.mark.parametrize(
    ("sequence", "margins"),
    [
        (b"\x1b[r", b"1;11"),
        (b"\x1b[3r", b"3;11"),
        (b"\x1b[2;99r", b"2;11"),
        (b"\x1b[11;12r", b"10;11"),
        (b"\x1b[2;5r\x1b[2J", b"2;5"),
        (b"\x1b[5;5r\x1b[2J", b"1;11"),
        (b"\x1b[2;5r\x1b[!p", b"1;11"),
        (b"\x1b[2;5r\x1bc", b"1;11"),
        (b"\x1b[2;5r\x1b[?1049h", b"2;5"),
    ],
)
def test_repair_sets_the_region_the_remote_wants(sequence: bytes, margins: bytes) -> None:
    row = ReservedRow()
    row.start(SIZE)
    row.draw(BAR)
    row.feed(sequence)
    assert b"\x1b7\x1b[" + margins + b"r" in row.draw(BAR)


@pytest.mark.parametrize("sequence", [b"\x1bc", b"\x1b[!p", b"\x1b[r", b"\x1b[H\x1b[2J\x1b[3J", b"\x1b[H\x1b[J"])
def test_scrolling_after_damage(sequence: bytes) -> None:
    terminal = WithBar()
    for _ in range(2):
        terminal.output(b"some text\r\n" + sequence)
        terminal.output(b"".join(b"%d\r\n" % number for number in range(30)))
        assert terminal.emulator.text == [*map(str, range(20, 30)), "", BAR_TEXT]


@pytest.mark.parametrize(
    ("text", "boundary"),
    [
        (b"plain", True), (b"\xc3", False), (b"\xc3\xa9", True), (b"\xe2", False), (b"\xe2\x82", False),
        (b"\xe2\x82\xac", True), (b"\xf0", False), (b"\xf0\x9f", False), (b"\xf0\x9f\x98", False),
        (b"\xf0\x9f\x98\x80", True), (b"\x80\x80", True), (b"\xff", True), (b"\xc0", True), (b"\xf5\x80", True),
        (b"\xe2a", True), (b"\xe2\xc3", False), (b"\xf0\x9f\x1b[m", True), (b"\xc3\xa9\xa9", True),
        (b"\x1b", False), (b"\x1b[", False), (b"\x1b[3", False), (b"\x1b[3 ", False), (b"\x1b[3 q", True),
        (b"\x1b(", False), (b"\x1b(B", True), (b"\x1b#8", True), (b"\x1bM", True), (b"\x1b\x1b", False),
        (b"\x1b]0;a", False), (b"\x1b]0;a\x1b", False), (b"\x1b]0;a\x1b\\", True), (b"\x1b]0;a\x07", True),
        (b"\x1bP\x07", False), (b"\x1bP\x1b\\", True), (b"\x1b_a", False), (b"\x1b^a\x18", True), (b"\x1bX\x1a", True),
        (b"\x1b[\xff", False), (b"\x1b\r", False), (b"\x1b\x7f", False), (b"\x1b\x18", True), (b"\x1b(\x18", True),
    ],
)  # fmt: skip
def test_boundaries(text: bytes, boundary: bool) -> None:
    for position in range(len(text) + 1):
        row = ReservedRow()
        row.start(SIZE)
        row.draw(BAR)
        row.feed(text[:position])
        row.feed(text[position:])
        assert row.at_boundary is boundary
        assert bool(row.draw(BAR)) is boundary
        assert row.damaged is not boundary
    row = ReservedRow()
    for byte in text:
        row.feed(bytes([byte]))
    assert row.at_boundary is boundary


def test_any_split_of_any_bytes_is_followed_alike() -> None:
    """Noise made of what matters: the state after it does not depend on how it was cut."""
    source = random.Random(3)
    alphabet = [b"\x1b", b"[", b"]", b"P", b"c", b"r", b"J", b"2", b";", b"?", b"!", b"p", b"\x07", b"\\", b"\x18",
                b"(", b"\xc3", b"\xa9", b"\xf0", b"\x9f", b"a", b"\r"]  # fmt: skip
    for _ in range(300):
        noise = b"".join(source.choices(alphabet, k=40))
        whole = ReservedRow()
        whole.start(SIZE)
        whole.draw(BAR)
        whole.feed(noise)
        single = ReservedRow()
        single.start(SIZE)
        single.draw(BAR)
        for byte in noise:
            single.feed(bytes([byte]))
        assert (whole.at_boundary, whole.damaged) == (single.at_boundary, single.damaged), noise
        whole.feed(b"\x18")
        single.feed(b"\x18")
        assert whole.draw(BAR) == single.draw(BAR), noise


@pytest.mark.parametrize("used", [3, ROWS - 1, 40])
@pytest.mark.parametrize("size", [TerminalSize(COLUMNS, 20), TerminalSize(COLUMNS, 6), TerminalSize(60, ROWS)])
def test_resize_leaves_one_bar(size: TerminalSize, used: int) -> None:
    terminal = WithBar()
    terminal.output(b"".join(b"line %d\r\n" % number for number in range(used)) + b"$ half a com")
    terminal.emulator.screen.resize(size.rows, size.columns)
    terminal.emulator.write(terminal.row.resize(size))
    terminal.draw()
    assert terminal.row.remote_size == TerminalSize(size.columns, size.rows - 1)
    text = terminal.emulator.text
    assert text.count(BAR_TEXT) == 1
    assert text[-1] == BAR_TEXT
    row, column = terminal.emulator.cursor
    assert column == len("$ half a com")
    assert text[row] in {"$ half a com", ""}  # pyte cuts rows off at the top, and leaves the cursor where it was
    terminal.output(b"\r\n" * 30 + b"end")
    assert terminal.emulator.text[-2:] == ["end", BAR_TEXT]


def test_resize_in_the_middle_of_a_sequence_waits() -> None:
    terminal = WithBar()
    terminal.output(b"\x1b[3")
    size = TerminalSize(COLUMNS, 20)
    terminal.emulator.screen.resize(20, COLUMNS)
    assert terminal.row.resize(size) == b""
    assert terminal.row.draw(BAR) == b""
    terminal.output(b"1mred")
    assert terminal.emulator.text == ["red", *[""] * 18, BAR_TEXT]
    assert terminal.emulator.screen.buffer[0][0].fg == "red"
    terminal.output(b"\r\n" * 40 + b"end")
    assert terminal.emulator.text[-2:] == ["end", BAR_TEXT]


def test_sequence_without_end_is_not_collected() -> None:
    row = ReservedRow()
    row.start(SIZE)
    row.feed(b"\x1b[")
    tracemalloc.start()
    for _ in range(1000):
        row.feed(b"1;" * 512)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 10_000
    assert not row.at_boundary


def test_terminal_without_room_for_a_bar() -> None:
    row = ReservedRow()
    assert row.start(TerminalSize(80, 2)) == b""
    assert row.draw(BAR) == b""
    assert row.remote_size == TerminalSize(80, 2)
    assert row.resize(TerminalSize(80, 24)) != b""
    assert row.draw(BAR) != b""
    assert row.resize(TerminalSize(80, 1)) == b""
    assert row.stop() == b""


def test_before_start_it_only_follows() -> None:
    row = ReservedRow()
    row.feed(b"\x1b[2J\x1b[r\x1b[?1049h\x1bc\x1b[")
    assert not row.damaged
    assert not row.at_boundary
    assert row.resize(SIZE) == b""
    assert row.draw(BAR) == b""
    assert row.start(SIZE) == b""
    row.feed(b"m")
    assert b"\x1b[1;11r" in row.draw(BAR)
