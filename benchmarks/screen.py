"""What following the screen costs: `Screen.feed` with what programs draw, in chunks of 4 KiB."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.screen import Screen

CHUNK_SIZE = 4096
STREAM_SIZE = 1_000_000
SIZE = TerminalSize(120, 40)
_WORDS = b"root mysqld 0.0 12.3 1:02.44 /usr/sbin/sshd -D kworker/0:1 python3 systemd --user 4096 S R".split()


def redraws(dice: random.Random) -> bytes:
    """Full-screen redraws as of htop and vim: an address, then text in colours, then the row's end erased."""
    out = bytearray()
    while len(out) < STREAM_SIZE:
        for row in range(1, SIZE.rows):
            out += b"\x1b[%d;%dH" % (row, dice.choice((1, 1, 1, 12, 60)))
            for _ in range(dice.randrange(1, 5)):
                out += b"\x1b[%dm%b " % (dice.randrange(30, 38), dice.choice(_WORDS))
            out += b"\x1b[m%b\x1b[K" % dice.choice(_WORDS)
    return bytes(out)


def curses(dice: random.Random) -> bytes:
    """Redraws by curses with TERM=xterm-256color: only what has changed, with relative moves and `ESC ( B`."""
    out = bytearray()
    while len(out) < STREAM_SIZE:
        out += b"\x1b[?25l"
        for row in range(1, SIZE.rows):
            out += b"\x1b[%d;%dH\x1b(B\x1b[0;1m\x1b[38;5;%dm" % (row, dice.randrange(1, 60), dice.randrange(256))
            out += dice.choice(_WORDS) + b"\x1b[%dC\x1b(B\x1b[m" % dice.randrange(1, 9) + dice.choice(_WORDS)
            out += b"\x1b[%dG%b\x1b[K" % (dice.randrange(60, 90), dice.choice(_WORDS))
        out += b"\x1b[?25h"
    return bytes(out)


def coloured_lines(dice: random.Random) -> bytes:
    """Lines as of `git log -p --color` and `ls --color -lR`."""
    out = bytearray()
    while len(out) < STREAM_SIZE:
        words = b" ".join(dice.choices(_WORDS, k=dice.randrange(1, 12)))
        out += b"\x1b[%dm%b\x1b[m%b\r\n" % (dice.randrange(31, 37), dice.choice((b"+", b"-", b"drwxr-xr-x")), words)
    return bytes(out)


def garbage(dice: random.Random) -> bytes:
    """A binary file."""
    return dice.randbytes(STREAM_SIZE)


STREAMS: dict[str, tuple[Callable[[random.Random], bytes], float | None, float | None]] = {
    "full-screen redraws": (redraws, 0.06, 0.01),
    "redraws by curses": (curses, 0.06, 0.01),
    "coloured lines": (coloured_lines, 0.015, 0.009),
    "binary garbage": (garbage, 0.06, None),
}
"""What makes each stream, and its goals in CPU s/MB: with the bar, and without."""


def cost(stream: bytes, *, bar: bool) -> float:
    """CPU seconds for each megabyte of `stream`."""
    screen = Screen()
    screen.start(SIZE, bar=bar)
    if bar:
        screen.draw(b"the bar")
    began_at = time.process_time()
    for start in range(0, len(stream), CHUNK_SIZE):
        screen.feed(stream[start : start + CHUNK_SIZE])
    return (time.process_time() - began_at) / len(stream) * 1e6
