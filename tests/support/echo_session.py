"""`smp demo` on a slow link in a terminal, typed at with the times of a person, and judged by a terminal emulator."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.emulator import Life, Look, live
from tests.support.typist import Keystroke
from tests.support.waiting import DEADLINE

COLUMNS, ROWS = 80, 24
LATENCY, JITTER = 0.150, 0.030
AT_ONCE = 0.005
"""Seconds within which a predicted key is on the screen."""
REPAIRED = LATENCY + JITTER + 0.1
"""Seconds within which a wrong prediction is taken back."""
_ECHOED = 1.5
"""Seconds within which the echo arrives on a busy machine, too."""
_numbers = itertools.count()
"""A recording of its own for each session: a file that exists is not written over."""


class Written(NamedTuple):
    """What was written to the terminal, and when."""

    at: float
    data: bytes


@dataclass
class Figures:
    """What was counted while somebody typed."""

    printable: int = 0
    at_once: int = 0
    wrong: int = 0
    unrepaired: int = 0
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        share = self.at_once / max(1, self.printable)
        return f"{self.printable} keys, {share:.1%} at once, {self.wrong} wrong, {self.unrepaired} of them not repaired"


class EchoSession:
    """A context manager. `typed` are the keys and `written` the output, both with times."""

    def __init__(
        self,
        smp: str,
        shell: str,
        environment: Mapping[str, str],
        directory: Path,
        *,
        predict: str = "always",
        latency: float = LATENCY,
        jitter: float = JITTER,
        status: str = "off",
    ) -> None:
        self.recording = directory / f"{next(_numbers)}.cast"
        self.typed: list[tuple[float, Keystroke]] = []
        self.written: list[Written] = []
        self.settled_at = 0.0
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            [
                *(smp, "demo", "-q", "--latency", f"{latency}s", "--jitter", f"{jitter}s"),
                *("--predict", predict, "--status", status, "--record", str(self.recording)),
            ],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment, "SHELL": shell, "TERM": "xterm-256color", "LANG": "C.UTF-8"},
            cwd=directory,
            start_new_session=True,
        )
        os.close(slave)

    def __enter__(self) -> EchoSession:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    @property
    def output(self) -> bytes:
        """All that was written."""
        return b"".join(written.data for written in self.written)

    def run(self, seconds: float) -> None:
        """Read what is written for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self._read(left):
            pass

    def wait_for(self, text: bytes, deadline: float = DEADLINE) -> None:
        """Read until `text` was written behind what is written now."""
        start = len(self.output)
        until = time.monotonic() + deadline
        while text not in self.output[start:]:
            if not self._read(until - time.monotonic()):
                raise AssertionError(f"{text!r} did not come: {self.output[start:]!r}")

    def wait_for_output(self, deadline: float = DEADLINE) -> None:
        """Read until anything was written."""
        if not self._read(deadline):
            raise AssertionError("nothing was written")

    def settle(self, quiet: float = 0.8, deadline: float = DEADLINE) -> None:
        """Read until nothing was written for `quiet` seconds."""
        until = time.monotonic() + deadline
        while time.monotonic() < until:
            count = len(self.written)
            self.run(quiet)
            if len(self.written) == count:
                break
        self.settled_at = time.monotonic()

    def type(self, keys: Iterable[Keystroke]) -> None:
        """Type with pauses."""
        for keystroke in keys:
            self.run(keystroke.pause)
            self.typed.append((time.monotonic(), keystroke))
            os.write(self._master, keystroke.key)

    def enter(self, line: str) -> None:
        """Type a line that is not counted, at once."""
        os.write(self._master, line.encode() + b"\r")

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        """End the session, which completes the recording."""
        self.process.terminate()
        until = time.monotonic() + DEADLINE
        while self._read(until - time.monotonic()):
            pass
        self.process.wait(DEADLINE)

    def _read(self, seconds: float) -> bool:
        """Read once; whether there was something within `seconds`."""
        if seconds <= 0 or not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        self.written.append(Written(time.monotonic(), data))
        return bool(data)

    # --- judging

    def remote_written(self) -> list[Written]:
        """What the remote has written, from the recording, by the clock of `written`."""
        _, *events = [json.loads(line) for line in self.recording.read_text().splitlines()]
        output: list[tuple[float, bytes]] = [(at, data.encode()) for at, code, data in events if code == "o"]
        # The first of it is written to the terminal unchanged, when it arrives.
        offset = self.written[0].at - output[0][0]
        return [Written(at + offset, data) for at, data in output]

    def rows_ever_shown(self) -> set[str]:
        """The rows of the screen at each moment."""
        (looks,) = live([_life(self.written, [written.at for written in self.written])])
        return {row for look in looks for row in look.rows}

    def figures(self, at_once: float = AT_ONCE) -> Figures:
        """Count the printable keys that were on the screen within `at_once` seconds, and the wrong ones."""
        keys = [(at, keystroke) for at, keystroke in self.typed if keystroke.is_printable]
        moments = sorted({at + after for at, _ in keys for after in (0.0, at_once, REPAIRED, _ECHOED)})
        shown, remote = live([_life(self.written, moments), _life(self.remote_written(), moments)])
        looks = dict(zip(moments, zip(shown, remote, strict=True), strict=True))
        figures = Figures()
        for at, keystroke in keys:
            figures.printable += 1
            before, after = looks[at][0], looks[at + at_once][0]
            (column, row), character = before.cursor, keystroke.key.decode()
            if after.cursor != (column + 1, row) or after.rows[row].ljust(COLUMNS)[column] != character:
                continue
            figures.at_once += 1
            prefix = after.rows[row].ljust(column + 1)[: column + 1]
            (repaired, early), (_, truth) = looks[at + REPAIRED], looks[at + _ECHOED]
            if not _has_prefix(early, prefix) and not _has_prefix(truth, prefix):
                figures.wrong += 1
                figures.unrepaired += _has_prefix(repaired, prefix)
                figures.examples.append(f"{character!r} in {prefix!r}; then {truth.rows[row]!r}")
        return figures

    def assert_same_screen(self) -> None:
        """The screen ends as the remote's output alone shows it."""
        end = self.settled_at
        shown, remote = live([_life(self.written, [end]), _life(self.remote_written(), [end])])
        for part in ("rows", "cells", "cursor", "history", "alternate"):
            assert getattr(shown[0], part) == getattr(remote[0], part), f"{part}\n{shown[0]}\n{remote[0]}"


def _has_prefix(look: Look, prefix: str) -> bool:
    return any(row.ljust(COLUMNS).startswith(prefix) for row in [*look.rows, *look.history[-50:]])


def _life(written: list[Written], moments: list[float]) -> Life:
    life = Life(COLUMNS, ROWS)
    place: Any = 0
    for moment in moments:
        while place < len(written) and written[place].at <= moment:
            life.write(written[place].data)
            place += 1
        life.look()
    return life
