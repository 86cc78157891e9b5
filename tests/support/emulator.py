"""xterm.js without a window: a terminal emulator in another process, fed with bytes and looked at."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

DIRECTORY = Path(__file__).parent / "xterm"


@dataclass(frozen=True)
class Look:
    """What an emulator shows at one moment."""

    rows: list[str]
    """The text of each row, without blanks at the end."""
    cells: list[str]
    """The attributes and colours of each row's cells."""
    history: list[str]
    """What has scrolled off the top, oldest first."""
    cursor: tuple[int, int]
    """Column and row, from 0."""
    title: str
    alternate: bool
    region: tuple[int, int]
    """The scroll region, first and last row, from 0."""
    modes: dict[str, Any]
    typed: bytes
    """What it has answered so far."""

    def __str__(self) -> str:
        return "\n".join([f"{self.cursor} {self.region}", *(f"{n:3} |{row}" for n, row in enumerate(self.rows))])


class Life:
    """What happens to one emulator: bytes, resizes, looks."""

    def __init__(self, columns: int, rows: int, *, plain: bool = False) -> None:
        """`plain`: xterm.js as it is; else it is made like DEC's terminals where it is unlike them."""
        self.columns, self.rows, self.plain = columns, rows, plain
        self.steps: list[dict[str, Any]] = []
        self._unwritten = b""

    def write(self, data: bytes) -> Life:
        """The emulator gets `data`."""
        self._unwritten += data
        return self

    def resize(self, columns: int, rows: int) -> Life:
        """Its window gets another size."""
        self._add({"resize": [columns, rows]})
        return self

    def look(self, *, cells: bool = True) -> Life:
        """It is looked at. Without ``cells`` attributes are not, and only the end of the history is."""
        self._add({"look": "all" if cells else "text"})
        return self

    def look_at_row(self) -> Life:
        """Its cursor's row is looked at, and the text of the row above: the other rows seem empty."""
        self._add({"look": "row"})
        return self

    def _add(self, step: dict[str, Any]) -> None:
        """Add a step behind what was written since the last one, which is one step however many pieces it had."""
        if self._unwritten:
            self.steps.append({"write": base64.b64encode(self._unwritten).decode()})
            self._unwritten = b""
        self.steps.append(step)


def need_emulator() -> None:
    """Skip the test where there is no emulator."""
    if shutil.which("node") is not None and (DIRECTORY / "node_modules" / "@xterm").is_dir():
        return
    pytest.skip("node, or `npm ci --prefix tests/support/xterm`, is missing: the terminal emulator of this test")


_BATCH = 32
"""Lives that are sent to the emulator's process at once."""
_NODE = ("node", "--max-semi-space-size=64", "driver.js")
"""Each terminal leaves much garbage behind, of which little is alive when there is more room for it."""


def _batches(lives: Iterable[Life]) -> Iterator[list[Life]]:
    remaining = iter(lives)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


def live(lives: Iterable[Life]) -> Iterator[list[Look]]:
    """What each of `lives` shows at its looks, in order. They are carried out one after the other, by one process."""
    with subprocess.Popen(_NODE, cwd=DIRECTORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as node:
        assert node.stdin is not None
        try:
            for some in _batches(lives):
                for looks in _answers(node, [_request(life, life.steps) for life in some]):
                    yield [_look(each) for each in looks]
        finally:
            node.stdin.close()


class Emulator:
    """An emulator that is answered to while it lives: a context manager."""

    def __init__(self, columns: int, rows: int, *, plain: bool = False) -> None:
        self._life = Life(columns, rows, plain=plain)

    def __enter__(self) -> Emulator:
        self._node = subprocess.Popen(_NODE, cwd=DIRECTORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(self, *_raised: object) -> None:
        self._node.communicate()

    def renew(self) -> None:
        """Begin with a fresh terminal."""
        _carry_out(self._node, self._life, [])

    def write(self, data: bytes) -> bytes:
        """The emulator gets `data`; what it types as an answer."""
        steps: list[dict[str, Any]] = [{"write": base64.b64encode(data).decode()}, {"take": True}]
        return base64.b64decode(_carry_out(self._node, self._life, steps, keep=True)[0])

    def resize(self, columns: int, rows: int) -> None:
        """Its window gets another size."""
        _carry_out(self._node, self._life, [{"resize": [columns, rows]}], keep=True)

    def look(self) -> Look:
        """What it shows."""
        return _look(_carry_out(self._node, self._life, [{"look": "all"}], keep=True)[0])


def live_one(life: Life) -> list[Look]:
    """What one of them shows at its looks."""
    (looks,) = live([life])
    return looks


def _carry_out(
    node: subprocess.Popen[bytes], life: Life, steps: list[dict[str, Any]], *, keep: bool = False
) -> list[Any]:
    return _answers(node, [_request(life, steps, keep=keep)])[0]


def _request(life: Life, steps: list[dict[str, Any]], *, keep: bool = False) -> dict[str, Any]:
    return {"columns": life.columns, "rows": life.rows, "plain": life.plain, "keep": keep, "steps": steps}


def _answers(node: subprocess.Popen[bytes], requests: list[dict[str, Any]]) -> list[list[Any]]:
    assert node.stdin is not None
    assert node.stdout is not None
    node.stdin.write(json.dumps(requests).encode() + b"\n")
    node.stdin.flush()
    answer = node.stdout.readline()
    assert answer, "the emulator has died"
    answered: list[list[Any]] = json.loads(answer)
    return answered


def _look(shown: dict[str, Any]) -> Look:
    shown["cursor"] = tuple(shown["cursor"])
    shown["region"] = tuple(shown["region"])
    shown["typed"] = base64.b64decode(shown["typed"])
    return Look(**shown)
