"""An hour of somebody's work at prompts: seeded keys for shells and Python, with editors and pagers in between.

The lines and mistakes are invented. The times are those of ``Typist``: five to six keys a second within a word, which
is faster than the 4.2 a second that Dhakal et al. measured (*Observations on Typing from 136 Million Keystrokes*, CHI
2018), pauses between words, and long ones between lines.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from enum import Enum

from tests.support.typist import LINES, Keystroke, Typist

HOME, END, WORD, LINE, SEARCH, CANCEL = b"\x01", b"\x05", b"\x17", b"\x15", b"\x12", b"\x03"
UP, DOWN, LEFT, RIGHT = b"\x1b[A", b"\x1b[B", b"\x1b[D", b"\x1b[C"

_PYTHON = (
    "import os, sys, json",
    "numbers = [3, 1, 2]",
    "sorted(numbers, reverse=True)",
    "len('a text of some length') * 2",
    "print({name: len(name) for name in ('a', 'bb')})",
    "os.path.join('var', 'log')",
    "json.dumps({'a': [1, 2, 3]}, indent=1)",
    "undefined_name + 1",
    "sum(range(100))",
)
_FISH = tuple(line.replace("; do ", "; ").replace("; done", "; end") for line in LINES)
_BLOCKS = (
    ("for number in numbers:", "    print(number * 2)", ""),
    ("def double(value):", "    return 2 * value", ""),
    ("if numbers:", "    print('some')", ""),
)
_PROSE = (
    "The service listens on port 8080.",
    "timeout: 30",
    "# restart it after a change",
    "server_name www.example.com;",
    "- name: install the package",
)


class Program(Enum):
    """What reads the keys. The value is a shell, or a program that ``sh`` can start."""

    BASH = "bash"
    DASH = "dash"
    ZSH = "zsh"
    FISH = "fish"
    PYTHON = "python3 -q"


class TypingDay:
    """Endless keys for one program, with what it starts."""

    def __init__(self, seed: int, program: Program) -> None:
        self._dice = random.Random(seed)
        self._program = program
        self._edits = program is not Program.DASH
        self._lines = {Program.PYTHON: _PYTHON, Program.FISH: _FISH}.get(program, LINES)
        self._typist = Typist(seed, self._lines, edits=self._edits)

    def endless(self) -> Iterator[Keystroke]:
        """The keys, each with the pause before it."""
        shell: list[Callable[[], Iterator[Keystroke]]] = [self._vim, self._less, self._top, self._password]
        edits: list[Callable[[], Iterator[Keystroke]]] = [self._correct_inside, self._start_again, self._search]
        while True:
            chance = self._dice.random()
            if chance < 0.72:
                yield from self._typist.keys(1)  # a line
            elif chance < 0.86 and self._edits:
                yield from self._dice.choice(edits)()
            elif self._program is Program.PYTHON:
                yield from self._block()
            elif chance < 0.93:
                yield from self._dice.choice(shell)()
            else:
                yield from self._dice.choice((self._erase_words, self._paste))()

    def _pause(self, median: float = 0.16) -> float:
        return min(2.0, max(0.03, median * self._dice.lognormvariate(0.0, 0.45)))

    def _text(self, text: str, first: float = 1.0) -> Iterator[Keystroke]:
        for place, character in enumerate(text):
            yield Keystroke(self._pause() if place else first, character.encode())

    def _repeated(self, key: bytes, least: int, most: int, median: float = 0.2) -> Iterator[Keystroke]:
        for _ in range(self._dice.randint(least, most)):
            yield Keystroke(self._pause(median), key)

    def _enter(self) -> Keystroke:
        return Keystroke(self._pause(0.4), b"\r")

    # --- at the prompt

    def _correct_inside(self) -> Iterator[Keystroke]:
        """Go back into the line, insert and delete something, and return to its end."""
        yield from self._text(self._dice.choice(self._lines))
        if self._dice.random() < 0.3:
            yield Keystroke(self._pause(0.5), HOME)
            yield from self._repeated(RIGHT, 1, 4)
        else:
            yield from self._repeated(LEFT, 2, 8)
        yield from self._text(self._dice.choice("abc-"), 0.3)
        yield from self._repeated(b"\x7f", 1, 2)
        yield Keystroke(self._pause(0.4), END)
        yield from self._text(self._dice.choice((" x", "", "y")), 0.4)
        yield self._enter()

    def _start_again(self) -> Iterator[Keystroke]:
        """Discard what is typed, or cancel it, and type another line."""
        yield from self._text(self._dice.choice(self._lines)[: self._dice.randint(3, 12)])
        yield Keystroke(self._pause(0.6), self._dice.choice((LINE, CANCEL)))
        yield from self._text(self._dice.choice(self._lines), 0.6)
        yield self._enter()

    def _search(self) -> Iterator[Keystroke]:
        """Search the history, look at what is found, and change the line."""
        yield Keystroke(1.0, UP if self._program is Program.FISH else SEARCH)
        if self._program is not Program.FISH:
            yield from self._text(self._dice.choice(self._lines)[:3], 0.4)
            yield Keystroke(self._pause(0.5), END)
        yield from self._text("z", 0.5)
        yield from self._repeated(b"\x7f", 1, 1, 0.4)
        yield self._enter()

    def _erase_words(self) -> Iterator[Keystroke]:
        yield from self._text("echo one two three")
        yield from self._repeated(WORD, 1, 2, 0.4)
        yield from self._text("four", 0.4)
        yield self._enter()

    def _paste(self) -> Iterator[Keystroke]:
        lines = self._dice.sample(self._lines, self._dice.choice((1, 1, 3)))
        text = "\r".join(lines).encode()
        if self._edits:
            text = b"\x1b[200~" + text + b"\x1b[201~"
        yield Keystroke(1.5, text)
        yield Keystroke(self._pause(0.8), b"\r")

    def _block(self) -> Iterator[Keystroke]:
        for line in self._dice.choice(_BLOCKS):
            yield from self._text(line, 0.7)
            yield self._enter()

    # --- programs that the shell starts

    def _vim(self) -> Iterator[Keystroke]:
        yield from self._text("vim -u NONE notes")
        yield self._enter()
        yield Keystroke(1.2, b"o")
        for _ in range(self._dice.randint(1, 3)):
            yield from self._text(self._dice.choice(_PROSE), 0.5)
            yield self._enter()
        yield Keystroke(self._pause(0.4), b"\x1b")
        yield from self._repeated(b"k", 1, 3, 0.25)
        yield from self._text(self._dice.choice(("A;", "x", "dd", "0w")), 0.5)
        yield Keystroke(self._pause(0.4), b"\x1b")
        yield from self._text("/port\r" if self._dice.random() < 0.5 else "j", 0.6)
        yield from self._text(":wq\r", 0.6)

    def _less(self) -> Iterator[Keystroke]:
        yield from self._text("less lines")
        yield self._enter()
        yield Keystroke(1.0, b" ")
        yield from self._repeated(b"j", 2, 6)
        yield from self._text("/line 4\r", 0.6)
        yield from self._repeated(b"n", 1, 3, 0.4)
        yield Keystroke(0.6, b"q")

    def _top(self) -> Iterator[Keystroke]:
        yield from self._text("top -d 1")
        yield self._enter()
        yield Keystroke(2.0, b"M")
        yield Keystroke(1.0, b"P")
        yield Keystroke(1.5, b"q")

    def _password(self) -> Iterator[Keystroke]:
        yield from self._text("sh ask")
        yield self._enter()
        yield from self._text("QWXZ", self._dice.choice((0.05, 0.8, 1.5)))
        yield self._enter()
