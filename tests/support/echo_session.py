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
from pathlib import Path

from tests.support.echo_judge import AT_ONCE, COLUMNS, JITTER, LATENCY, ROWS, Figures, Written, count_keys, life
from tests.support.emulator import live
from tests.support.typist import Keystroke
from tests.support.waiting import DEADLINE

_numbers = itertools.count()
"""A recording of its own for each session: a file that exists is not written over."""


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
        (looks,) = live([life(self.written, [written.at for written in self.written])])
        return {row for look in looks for row in look.rows}

    def figures(self, at_once: float = AT_ONCE) -> Figures:
        """Count the printable keys that were on the screen within `at_once` seconds, and the wrong ones."""
        return count_keys(self.typed, self.written, self.remote_written(), at_once)

    def assert_same_screen(self) -> None:
        """The screen ends as the remote's output alone shows it."""
        end = self.settled_at
        shown, remote = live([life(self.written, [end]), life(self.remote_written(), [end])])
        for part in ("rows", "cells", "cursor", "history", "alternate"):
            assert getattr(shown[0], part) == getattr(remote[0], part), f"{part}\n{shown[0]}\n{remote[0]}"
