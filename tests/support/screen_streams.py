"""Streams of terminal output as programs send them, and as no program should: seeded, from a grammar."""

from __future__ import annotations

import random
from collections.abc import Callable

_WORDS = [
    "a",
    "file",
    "the quick brown fox",
    "x" * 17,
    "\u6f22\u5b57\u304b\u306a",
    "e\u0301",
    "\u2026",
    "\u00e9t\u00e9",
    "\U0001f600",
    "y" * 30,
    "na\u00efve \u6587",
    "z" * 29,
    " ",
    "0123456789",
]
_SGR = [
    "",
    "0",
    "1",
    "31",
    "01;34",
    "38;5;208",
    "48;2;10;20;30",
    "7",
    "27",
    "4",
    "24",
    "0;32",
    "39;49",
    "97;41",
    "2;3",
    "22",
]


class StreamMaker:
    """Makes streams for a terminal of this size, which do the same whether or not there is a row below it.

    Without `needs_row` the row need not be known for that: the scroll region is left alone, and each cursor that is
    saved is restored at most once.
    """

    def __init__(self, seed: int, columns: int, rows: int, *, needs_row: bool = True) -> None:
        self.source = random.Random(seed)
        self.needs_row = needs_row
        self.columns, self.rows = columns, rows
        # Whether the two screens share their tab stops differs from terminal to terminal.
        self.sets_tabs = self.source.random() < 0.3

    def stream(self, length: int) -> bytes:
        """About `length` sequences and pieces of text, from wherever the cursor is."""
        chosen = [(kind, weight) for kind, weight in _KINDS if self.needs_row or kind not in _NEED_ROW]
        kinds, weights = zip(*chosen, strict=True)
        return b"".join(kind(self) for kind in self.source.choices(kinds, weights, k=length))

    def before(self) -> bytes:
        """What stands on the screen when a session begins: some lines, one of them not complete."""
        lines = b"".join(b"before %d\r\n" % number for number in range(self.source.randint(0, self.rows + 4)))
        return lines + self.source.choice([b"", b"", b"$ smp", b"x" * (self.columns - 1)])

    def chunks(self, data: bytes, *, keeps_clusters: bool = False) -> list[bytes]:
        """`data` cut at random places, sometimes at every byte; on request not before a combining character."""
        longest = self.source.choice([1, 5, 40, 400])
        pieces, position = [], 0
        while position < len(data):
            end = position + self.source.randint(1, longest)
            while keeps_clusters and data[end : end + 1] in (b"\xcc", b"\x81"):
                end += 1
            pieces.append(data[position:end])
            position = end
        return pieces

    def number(self) -> int:
        """A row or column, sometimes one that is not there."""
        return self.source.choice(
            [
                0,
                1,
                2,
                self.rows - 1,
                self.rows,
                self.rows + 1,
                self.rows + 2,
                99,
                999,
                self.source.randint(1, self.rows),
            ]
        )

    def small(self) -> str:
        """A count, often left out."""
        return self.source.choice(["", "", "0", "1", "2", "3", "9", "99", str(self.source.randint(1, self.rows + 3))])

    def text(self) -> bytes:
        return "".join(self.source.choices(_WORDS, k=self.source.randint(1, 4))).encode()

    def lines(self) -> bytes:
        end = self.source.choice([b"\r\n", b"\r\n", b"\n", b"\r\n\r\n"])
        return b"".join(self.text() + end for _ in range(self.source.randint(1, 5)))

    def many_lines(self) -> bytes:
        return b"".join(b"line %d of many\r\n" % number for number in range(self.source.randint(1, 3 * self.rows)))

    def control(self) -> bytes:
        return self.source.choice(
            [b"\r", b"\n", b"\r\n", b"\b", b"\t", b"\x07", b"\x0b", b"\x0c", b"\x0e", b"\x0f", b"\x00"]
        )

    def attributes(self) -> bytes:
        return b"\x1b[%bm" % self.source.choice(_SGR).encode()

    def position(self) -> bytes:
        return b"\x1b[%d;%d%b" % (
            self.number(),
            self.source.randint(0, self.columns + 3),
            self.source.choice([b"H", b"f"]),
        )

    def row(self) -> bytes:
        return b"\x1b[%dd" % self.number()

    def movement(self) -> bytes:
        return b"\x1b[%b%b" % (self.small().encode(), self.source.choice(list("ABCDEFGaeIZ`")).encode())

    def edit(self) -> bytes:
        return b"\x1b[%b%b" % (self.small().encode(), self.source.choice(list("LMPX@ST")).encode())

    def erase(self) -> bytes:
        return b"\x1b[%b%b" % (
            self.source.choice([b"", b"0", b"1", b"2", b"3", b"?"]),
            self.source.choice([b"J", b"J", b"K"]),
        )

    def margins(self) -> bytes:
        if self.source.random() < 0.3:
            return self.source.choice([b"\x1b[r", b"\x1b[;r", b"\x1b[1r", b"\x1b[0;0r"])
        return b"\x1b[%d;%dr" % (self.number(), self.number())

    def save(self) -> bytes:
        return self.source.choice(
            [b"\x1b7", b"\x1b8", b"\x1b7", b"\x1b8", b"\x1b[s", b"\x1b[u", b"\x1b[?1048h", b"\x1b[?1048l"]
        )

    def index(self) -> bytes:
        return self.source.choice([b"\x1bD", b"\x1bE", b"\x1bM"])

    def reset(self) -> bytes:
        return self.source.choice([b"\x1bc", b"\x1b[!p"])

    def alternate(self) -> bytes:
        if self.sets_tabs:
            return b""
        # Whether margins are kept differs from terminal to terminal; programs set them after the switch.
        mode = self.source.choice([b"1049", b"1049", b"1047", b"47"])
        return b"\x1b[r\x1b[?%b%b" % (mode, self.source.choice([b"h", b"l"]))

    def mode(self) -> bytes:
        if self.source.random() < 0.1:  # What becomes of half a wide character differs from terminal to terminal.
            return b"\x1b[?7lno wrapping, so that only the last character is left\x1b[?7h"
        number = self.source.choice([b"?6", b"?25", b"?1", b"?2004", b"?1002", b"4", b"?5", b"?2048"])
        return b"\x1b[%b%b" % (number, self.source.choice([b"h", b"l"]))

    def visit(self) -> bytes:
        """A program in the alternate screen, from its beginning to its end."""
        if self.sets_tabs:
            return b""
        inside = b"".join(kind(self) for kind in self.source.choices(_INSIDE, k=3))
        return b"\x1b[?1049h\x1b[H" + inside + b"\x1b[r\x1b[?6l\x1b[?1049l"

    def repeat(self) -> bytes:
        return self.source.choice([b"a", b"x ", "漢".encode()]) + b"\x1b[%bb" % self.small().encode()

    def alignment(self) -> bytes:
        return b"\x1b[r\x1b#8"  # whether it resets the margins differs from terminal to terminal

    def character_set(self) -> bytes:
        return self.source.choice([b"\x1b(0", b"\x1b(B", b"\x1b)0", b"\x1b)B", b"\x1bn", b"\x1b*0"])

    def string(self) -> bytes:
        content = self.source.choice(
            ["title", "\u6f22[r", "\x1b7"[1:] + "c[2J", "8;;http://example.com/\u00e9", "8;;", "4;1;?[99;99H"]
        )
        begin = self.source.choice(["\x1b]0;", "\x1b]", "\x1bP1$q", "\x1b_", "\x1b^", "\x1bX"])
        if not begin.startswith("\x1b]"):
            content = content.encode("ascii", "ignore").decode()
        end = "\x1b\\" if not begin.startswith("\x1b]") else self.source.choice(["\x1b\\", "\x07"])
        return (begin + content + end).encode()

    def tabs(self) -> bytes:
        return self.source.choice([b"\x1bH", b"\x1b[g", b"\x1b[3g"]) if self.sets_tabs else b"\t\t"

    def nasty(self) -> bytes:
        return self.source.choice(
            [
                b"\x1b[\r!p",
                b"\x1b[3\n1m",
                b"\x1b[99\x0899H",
                b"\x1b\x1b[r",
                b"\x1b[31\x1b[r",
                b"\x1b[2\x18J",
                b"\x1b\x1ac",
                b"\x1b[?99999h",
                b"\x1b[1;2;3;4;5;6;7;8;9H",
                b"\x1b[99999999999999B",
                b"\x1b[>4;1m",
                b"\x1b[2 q",
                b"\x1b[1$}",
                b"\x1b[?r",
                b"\x1b[?1;2c",
                b"\x1b[=c",
                b"\x1b[:r",
                b"\x1b\r[99;99H",
                b"\x1b(\r0",
                b"\x1b]0;a\x18",
                b"\x1bP1$r\x1b[2J",
                b"\xc2\x9b2J",
                b"\xc2\x9b99;99H",
                b"\xc2\x84",
                b"\xc2\x85",
                b"\xc2\x9d0;t\xc2\x9c",
                b"\xe2\x9b\x84",
                b"\x7f",
                b"\x1b[;H",
                b"\x1b[00002J",
                b"\x1b[?2J",
            ]
        )

    def garbage(self) -> bytes:
        noise = self.source.choices(
            [
                b"\x1b",
                b"[",
                b";",
                b"?",
                b"9",
                b"1",
                b"2",
                b"H",
                b"J",
                b"m",
                b"r",
                b"\n",
                b"\r",
                b"a",
                b"B",
                b"d",
                b"L",
                b"7",
                b"8",
                b"S",
                b"A",
                b"M",
                b"#",
            ],
            k=12,
        )
        return b"".join(noise) + b"\x18"

    def full_screen(self) -> bytes:
        """What an editor does: paint all rows, the last one too, and scroll a part."""
        rows = b"".join(
            b"\x1b[%d;1H~%b\x1b[K" % (row, self.text()[:10].decode(errors="ignore").encode())
            for row in range(1, self.rows + 1)
        )
        part = b"\x1b[2;%dr\x1b[%d;1H\r\n%b\x1b[r" % (self.rows - 1, self.rows - 1, self.text())
        if self.sets_tabs:
            return rows + part
        return b"\x1b[?1049h\x1b[?1h\x1b=\x1b[H\x1b[2J" + rows + part + b"\x1b[%d;1H:" % self.rows

    def leave_full_screen(self) -> bytes:
        return b"\x1b[%d;1H\x1b[?1l\x1b>\x1b[r%b" % (self.rows, b"" if self.sets_tabs else b"\x1b[?1049l")

    def progress(self) -> bytes:
        """What apt does: a row at the bottom that does not scroll."""
        rows = self.rows
        return b"\n\x1b7\x1b[1;%dr\x1b8\x1b[1A" % (rows - 1) + b"".join(
            b"Setting up %d\r\n\x1b7\x1b[%d;1H\x1b[42mProgress: %d%%\x1b[49m\x1b8" % (step, rows, step)
            for step in range(3)
        )


_NEED_ROW = (
    StreamMaker.margins,
    StreamMaker.progress,
    StreamMaker.garbage,
    StreamMaker.save,
    StreamMaker.alternate,
    StreamMaker.leave_full_screen,
)
_INSIDE = (
    StreamMaker.text,
    StreamMaker.lines,
    StreamMaker.position,
    StreamMaker.movement,
    StreamMaker.erase,
    StreamMaker.full_screen,
)

_KINDS: list[tuple[Callable[[StreamMaker], bytes], float]] = [
    (StreamMaker.text, 12),
    (StreamMaker.lines, 6),
    (StreamMaker.many_lines, 1),
    (StreamMaker.control, 8),
    (StreamMaker.attributes, 6),
    (StreamMaker.position, 7),
    (StreamMaker.row, 2),
    (StreamMaker.movement, 8),
    (StreamMaker.edit, 4),
    (StreamMaker.erase, 4),
    (StreamMaker.margins, 4),
    (StreamMaker.save, 4),
    (StreamMaker.index, 3),
    (StreamMaker.reset, 0.5),
    (StreamMaker.alternate, 1),
    (StreamMaker.visit, 1),
    (StreamMaker.repeat, 2),
    (StreamMaker.mode, 2),
    (StreamMaker.alignment, 0.5),
    (StreamMaker.character_set, 1),
    (StreamMaker.string, 1),
    (StreamMaker.tabs, 1),
    (StreamMaker.nasty, 2),
    (StreamMaker.garbage, 1),
    (StreamMaker.full_screen, 0.5),
    (StreamMaker.leave_full_screen, 0.3),
    (StreamMaker.progress, 0.5),
]
