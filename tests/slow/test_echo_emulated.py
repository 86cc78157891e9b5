"""Predictive echo, seen in a terminal emulator (xterm.js): the screen ends as without predictions."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from session_manager_plugin.protocol.reliable import StreamProgress
from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.predict_mode import PredictMode
from session_manager_plugin.terminal.predicted_echo import PredictedEcho
from session_manager_plugin.terminal.screen import Screen
from tests.support.emulator import Life, Look, live, need_emulator
from tests.support.screen_streams import StreamMaker

COLUMNS, ROWS = 30, 9
STREAMS = int(os.environ.get("SMP_TEST_ECHO_STREAMS", "500"))
"""docs/echo.md counts 10,000."""
BATCHES = 5
BAR = b"\x1b[7m connected \x1b[0m 23 ms"
# Ends what may be unfinished, and a wrap that is due: not all terminals restore that with the cursor.
END = b"\x18\x1b\\\r"
KEYS = [
    *"abcdefghijklmnopqrstuvwxyz0123456789  ----",
    "\u00e9",
    "\u6f22",
    "\x7f",
    "\x7f",
    "\x1b[D",
    "\x1b[C",
    "\x1b[A",
    "\t",
    "\r",
    "e\u0301",
]
PROMPTS = [
    "\r\n\x1b[?2004h$ ",
    "\r\n\x1b[K\x1b[?2004h\x1b[1;32muser@host\x1b[0m:~$ ",
    "\r\n\x1b[m\x1b[J> \x1b[?2004h\x1b[20C12:34\x1b[25D",
    "\x1b[H\x1b[2J\x1b[?2004h\u6f22\u5b57 $ \x1b[2msuggestion\x1b[m\x1b[10D",
    "\r\n\x1b[m\x1b[J$ ",
]
ECHOES = {"\x7f": "\x08\x1b[K", "\x1b[D": "\x08", "\x1b[C": "\x1b[C", "\x1b[A": "\x07", "\t": "tab", "\r": "\r\n"}


@pytest.fixture(autouse=True)
def _emulator() -> None:
    need_emulator()


class Typed:
    """A terminal with predictions in which somebody types, while anything is written to it."""

    def __init__(self, seed: int, mode: PredictMode = PredictMode.ALWAYS) -> None:
        self.dice = random.Random(seed)
        self.has_bar = seed % 3 == 0
        rows = ROWS + self.has_bar
        self.life = Life(COLUMNS, rows)
        self.remote = b""
        self.drawn = 0
        self.drawn_on_alternate = 0
        self._maker = StreamMaker(seed, COLUMNS, ROWS)
        self._screen, self._echo = Screen(), PredictedEcho(mode)
        self._sent = self._acknowledged = 0
        self._now = 0.0
        self._unechoed: list[str] = []
        size = TerminalSize(COLUMNS, rows)
        self.life.write(self._echo.resize(size, self._screen))
        self.life.write(self._screen.start(size, bar=self.has_bar))
        self._draw()
        self._output(b"\x1b[H")

    @property
    def _progress(self) -> StreamProgress:
        return StreamProgress(self._sent, self._acknowledged, self._now, self.dice.choice((0.01, 0.05, 0.1, 0.2)))

    def _output(self, data: bytes) -> None:
        self.remote += data
        for chunk in self._maker.chunks(data) if self.dice.random() < 0.3 else [data]:
            self._now += self.dice.choice((0.0, 0.02))
            self.life.write(self._echo.output(chunk, self._screen, self._progress, self._now))
            if self.dice.random() < 0.1:
                self._draw()

    def _draw(self) -> None:
        if self.has_bar:
            self.life.write(self._echo.aside(self._screen.draw(BAR), self._screen, self._now))

    def _type(self, key: str) -> None:
        self._sent += 1
        written = self._echo.typed(key.encode(), self._screen, self._progress, self._now)
        self.drawn += bool(written)
        self.life.write(written)
        self._unechoed.append(key)

    def _wait(self) -> None:
        self._now += self.dice.choice((0.01, 0.06, 0.3))
        self._acknowledged = self.dice.randint(self._acknowledged, self._sent)
        self.life.write(self._echo.update(self._screen, self._progress, self._now))

    def _echo_some(self, count: int) -> None:
        for key in self._unechoed[:count]:
            self._output(ECHOES.get(key, key).encode())
        del self._unechoed[:count]
        self._acknowledged = self.dice.randint(
            self._acknowledged, max(self._acknowledged, self._sent - len(self._unechoed))
        )

    def _settle(self) -> None:
        """Let all keys be answered, as far as they are echoed."""
        for _ in range(2):
            self._acknowledged = self._sent
            self._now += 0.1
            self.life.write(self._echo.update(self._screen, self._progress, self._now))

    def live(self, lines: int) -> None:
        """Type some lines, of which most are echoed well, while anything else is written; then let all be answered."""
        for _ in range(lines):
            self._unechoed.clear()
            self._output(self.dice.choice(PROMPTS).encode())
            self._settle()
            self._type(self.dice.choice("abc"))
            self._echo_some(1)
            self._acknowledged = self._sent
            for _ in range(self.dice.randint(2, 20)):
                happens = self.dice.random()
                if happens < 0.55:
                    self._type(self.dice.choice(KEYS))
                elif happens < 0.8:
                    self._echo_some(self.dice.randint(1, 3))
                elif happens < 0.9:
                    self._wait()
                elif happens < 0.95:
                    self._draw()
                else:
                    self._output(self._maker.stream(1))
        self._output(END)
        self._now += 1.0
        self._settle()
        self._draw()


def assert_same(direct: Look, shown: Look, typed: Typed, seed: int) -> None:
    if typed.has_bar:
        assert shown.rows.pop() == " connected  23 ms"
        shown.cells.pop()
    difference = f"seed {seed}\nwithout predictions\n{direct}\nwith\n{shown}\n{typed.remote!r}"
    for part in ("rows", "cells", "cursor", "history", "region", "modes", "alternate"):
        assert getattr(direct, part) == getattr(shown, part), f"{part}, {difference}"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_the_screen_ends_as_without_predictions(batch: int) -> None:
    seeds = range(batch, STREAMS, BATCHES)
    all_typed: dict[int, Typed] = {}

    def lives() -> Iterator[Life]:
        for seed in seeds:
            typed = all_typed[seed] = Typed(seed)
            typed.live(4)
            yield Life(COLUMNS, ROWS).write(typed.remote).look()
            yield typed.life.look()

    looks = live(lives())
    drawn = 0
    for seed in seeds:
        (direct,), (shown,) = next(looks), next(looks)
        typed = all_typed.pop(seed)
        drawn += typed.drawn
        assert_same(direct, shown, typed, seed)
    assert drawn > len(seeds), "hardly anything was predicted"
