"""xterm.js without a window: a terminal emulator in another process, fed with bytes and looked at."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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

    def write(self, data: bytes) -> Life:
        """The emulator gets `data`."""
        if data:
            self.steps.append({"write": base64.b64encode(data).decode()})
        return self

    def resize(self, columns: int, rows: int) -> Life:
        """Its window gets another size."""
        self.steps.append({"resize": [columns, rows]})
        return self

    def look(self) -> Life:
        """It is looked at."""
        self.steps.append({"look": True})
        return self


def need_emulator() -> None:
    """Skip the test where there is no emulator; fail it where SMP_TEST_REQUIRE_PROGRAMS wants one."""
    if shutil.which("node") is not None and (DIRECTORY / "node_modules" / "@xterm").is_dir():
        return
    reason = "node, or `npm ci --prefix tests/support/xterm`, is missing: the terminal emulator of this test"
    if os.environ.get("SMP_TEST_REQUIRE_PROGRAMS"):
        pytest.fail(reason)
    pytest.skip(reason)


def live(lives: Iterable[Life]) -> Iterator[list[Look]]:
    """What each of `lives` shows at its looks, in order. They are carried out one after the other, by one process."""
    with subprocess.Popen(["node", "driver.js"], cwd=DIRECTORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as node:
        assert node.stdin is not None
        try:
            for life in lives:
                yield [_look(each) for each in _carry_out(node, life, life.steps)]
        finally:
            node.stdin.close()


class Emulator:
    """An emulator that is answered to while it lives: a context manager."""

    def __init__(self, columns: int, rows: int, *, plain: bool = False) -> None:
        self._life = Life(columns, rows, plain=plain)

    def __enter__(self) -> Emulator:
        self._node = subprocess.Popen(
            ["node", "driver.js"], cwd=DIRECTORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
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
        return _look(_carry_out(self._node, self._life, [{"look": True}], keep=True)[0])


def live_one(life: Life) -> list[Look]:
    """What one of them shows at its looks."""
    (looks,) = live([life])
    return looks


def _carry_out(
    node: subprocess.Popen[bytes], life: Life, steps: list[dict[str, Any]], *, keep: bool = False
) -> list[Any]:
    assert node.stdin is not None
    assert node.stdout is not None
    request = {"columns": life.columns, "rows": life.rows, "plain": life.plain, "keep": keep, "steps": steps}
    node.stdin.write(json.dumps(request).encode() + b"\n")
    node.stdin.flush()
    answer = node.stdout.readline()
    assert answer, "the emulator has died"
    answered: list[Any] = json.loads(answer)
    return answered


def _look(shown: dict[str, Any]) -> Look:
    shown["cursor"] = tuple(shown["cursor"])
    shown["region"] = tuple(shown["region"])
    shown["typed"] = base64.b64decode(shown["typed"])
    return Look(**shown)
