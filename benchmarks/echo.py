"""How much of an hour of typing predictive echo draws at once: ``python -m benchmarks.echo [SECONDS]``.

First ``SESSIONS`` programs run side by side on pseudo-terminals, without a link, and are sent invented but realistic
keys (``tests/support/typing_day.py``) at the pace of a person, each for ``SECONDS`` (default: 300, together an hour).
Keys and output are recorded with their times. Then each recording is replayed through the client's screen and
predictor with a clock that is a number: a link of 150 ms ± 30 ms, with acknowledgements, delays what was recorded.
xterm.js judges what the person sees (``tests/support/echo_judge.py``). A busy machine delays the recorded programs, but
not the replay.

``python -m benchmarks.echo --cast FILE...`` replays people's own recordings of a terminal instead: asciicasts of any
version, at the size of their terminal. Without input in the recording, the keys are derived from the output; recordings
in which a script seems to type are named and left out (``tests/support/recorded_typing.py``).
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import pty
import random
import select
import shutil
import signal
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from session_manager_plugin.protocol.reliable import RoundTripEstimator, StreamProgress
from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.predict_mode import PredictMode
from session_manager_plugin.terminal.predicted_echo import PredictedEcho
from session_manager_plugin.terminal.screen import Screen
from tests.support.echo_judge import COLUMNS, ROWS, Figures, Written, count_keys, life
from tests.support.emulator import live
from tests.support.recorded_typing import Recorded, read_cast, recorded_typing
from tests.support.typing_day import Program, TypingDay

ONE_WAY, JITTER = 0.075, 0.015
_MOMENT = 1e-6
"""Seconds before a key at which the screen is looked at: the replay draws a key at the time at which it is typed."""
_HIGHLIGHTING = "/usr/share/zsh-syntax-highlighting/zsh-syntax-highlighting.zsh"
_SUGGESTIONS = "/usr/share/zsh-autosuggestions/zsh-autosuggestions.zsh"
SESSIONS = (
    ("bash", Program.BASH, "set -o emacs\n"),
    ("bash, colours", Program.BASH, r"PS1='\[\e[1;32m\]\u@\h\[\e[0m\]:\w\$ '" + "\n"),
    ("bash, two lines", Program.BASH, r"PS1='\n\w\n\$ '" + "\n"),
    ("dash", Program.DASH, ""),
    ("dash", Program.DASH, ""),
    ("zsh", Program.ZSH, "PROMPT='%n:%~%# '\n"),
    ("zsh, highlighting", Program.ZSH, f"source {_HIGHLIGHTING}\nPROMPT='%n:%~%# '\n"),
    ("zsh, suggestions", Program.ZSH, f"source {_SUGGESTIONS}\nsource {_HIGHLIGHTING}\nRPROMPT='%T'\n"),
    ("fish", Program.FISH, ""),
    ("fish", Program.FISH, ""),
    ("Python", Program.PYTHON, ""),
    ("Python", Program.PYTHON, ""),
)


def record(seed: int, program: Program, rc: str, seconds: float, home: Path) -> Recorded:
    """Run ``program`` and type for ``seconds``."""
    for name in (".bashrc", ".zshrc"):
        (home / name).write_text(rc)
    (home / "lines").write_text("".join(f"line {number}\n" for number in range(300)))
    (home / "ask").write_text("stty -echo; printf 'password: '; read x; stty echo; echo\n")
    argv = program.value.split()
    argv[0] = shutil.which(argv[0]) or sys.exit(f"{argv[0]} is not installed")
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "PS1": "$ ",
        **dict.fromkeys(("PAGER", "SYSTEMD_PAGER", "GIT_PAGER"), "cat"),
    }
    pid, master = pty.fork()
    if not pid:
        os.chdir(home)
        os.execve(argv[0], argv, environment)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    recorded = Recorded([], [])
    began_at = time.monotonic()

    def read(duration: float) -> None:
        until = time.monotonic() + duration
        while (left := until - time.monotonic()) > 0:
            if select.select([master], [], [], left)[0]:
                recorded.output.append(Written(time.monotonic() - began_at, os.read(master, 65536)))

    read(3.0)
    for keystroke in TypingDay(seed, program).endless():
        read(keystroke.pause)
        recorded.typed.append((time.monotonic() - began_at, keystroke))
        os.write(master, keystroke.key)
        if time.monotonic() - began_at > seconds + 3.0:
            break
    read(3.0)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(master)
    return recorded


class Replay:
    """A recorded session behind a slow link."""

    def __init__(self, recorded: Recorded, seed: int, mode: PredictMode = PredictMode.AUTO) -> None:
        self.written: list[Written] = []
        self.remote: list[Written] = []
        """What the remote's output alone would write."""
        self._dice = random.Random(seed)
        self._now = self._up = self._down = 0.0
        self._sent = self._acknowledged = self._count = 0
        self._acknowledged_at = 0.0
        self._estimator = RoundTripEstimator()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._screen, self._echo = Screen(), PredictedEcho(mode)
        size = TerminalSize(recorded.columns, recorded.rows)
        self._echo.resize(size, self._screen)
        self._screen.start(size, bar=False)
        self._screen.feed(b"\x1b[H")  # the cursor's place is known, as it is with the bar
        self._play(recorded)

    def _play(self, recorded: Recorded) -> None:
        moments = [(at, True, keystroke.key) for at, keystroke in recorded.typed]
        moments += [(at, False, data) for at, data in recorded.output]
        for at, is_key, data in sorted(moments, key=lambda moment: moment[:2]):  # outputs of one moment stay in order
            self._wait(at)
            if is_key:
                self._key(data)
            else:  # the program has it later, by the time that its keys take
                self._at(max(self._up, at + ONE_WAY), self._output_of(data))
        self._wait(self._now + 5.0)

    def _key(self, data: bytes) -> None:
        number, sent_at = self._sent + 1, self._now
        self._sent = number
        self._write(self._echo.typed(data, self._screen, self._progress, self._now))
        self._up = max(self._up, self._now + self._latency())

        def acknowledged() -> None:
            self._acknowledged, self._acknowledged_at = number, self._now
            self._estimator.sample(self._now - sent_at)

        self._at(self._up, lambda: self._send_back(acknowledged))

    def _output_of(self, data: bytes) -> Callable[[], None]:
        def arrived() -> None:
            self.remote.append(Written(self._now, data))
            self._write(self._echo.output(data, self._screen, self._progress, self._now))

        return lambda: self._send_back(arrived)

    def _send_back(self, arrives: Callable[[], None]) -> None:
        self._down = max(self._down, self._now + self._latency())
        self._at(self._down, arrives)

    def _wait(self, until: float) -> None:
        while True:
            due_at = self._echo.next_timeout(self._now)
            event_at = self._events[0][0] if self._events else None
            instants = [instant for instant in (due_at, event_at) if instant is not None and instant <= until]
            if not instants:
                break
            self._now = min(instants)
            if self._now == event_at:
                heapq.heappop(self._events)[2]()
            else:
                self._write(self._echo.update(self._screen, self._progress, self._now))
        self._now = until

    def _at(self, instant: float, happens: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (instant, self._count, happens))

    def _latency(self) -> float:
        return ONE_WAY + self._dice.uniform(-JITTER, JITTER)

    @property
    def _progress(self) -> StreamProgress:
        smoothed = self._estimator.smoothed if self._estimator.is_measured else None
        return StreamProgress(self._sent, self._acknowledged, self._acknowledged_at, smoothed)

    def _write(self, data: bytes) -> None:
        if data:
            self.written.append(Written(self._now, data))


def differing_screens(recorded: Recorded, replay: Replay) -> tuple[int, int]:
    """Compare the screen with and without predictions after each pause, and at the end.

    Returns the number of moments, and at how many of them the screens differ.
    """
    at = [typed_at for typed_at, _ in recorded.typed]
    settled = [first + 1.0 for first, second in itertools.pairwise(at) if second > first + 1.0]
    moments = [*settled, replay.written[-1].at + 1.0]
    size = recorded.columns, recorded.rows
    shown, direct = live([life(each, moments, size=size) for each in (replay.written, replay.remote)])
    pairs = list(zip(shown, direct, strict=True))
    return len(pairs), sum(
        (one.rows, one.cells, one.cursor, one.history) != (two.rows, two.cells, two.cursor, two.history)
        for one, two in pairs
    )


class Row:
    """A line of the table: the figures of one session, or of several."""

    def __init__(self) -> None:
        self.figures = Figures()
        self.keys = self.moments = self.differing = 0
        self.active = 0.0

    def judge(self, recorded: Recorded, seed: int) -> None:
        """Replay a session and judge it."""
        replay = Replay(recorded, seed)
        typed = [(at - _MOMENT, keystroke) for at, keystroke in recorded.typed]
        size = recorded.columns, recorded.rows
        self.figures = count_keys(typed, replay.written, replay.remote, size=size)
        self.keys, self.active = len(recorded.typed), recorded.active
        self.moments, self.differing = differing_screens(recorded, replay)

    def add(self, other: Row) -> None:
        """Add the figures of another row."""
        for part in ("keys", "moments", "differing", "active"):
            setattr(self, part, getattr(self, part) + getattr(other, part))
        for part in ("printable", "alternate", "at_once", "wrong", "unrepaired"):
            setattr(self.figures, part, getattr(self.figures, part) + getattr(other.figures, part))

    def __str__(self) -> str:
        differing = f"{self.differing} of {self.moments} screens differ"
        return f"{self.active / 60:6.1f} min, {self.keys:6} keys; on the main screen {self.figures}; {differing}"


def print_rows(sessions: Iterable[tuple[str, Recorded]]) -> None:
    """Replay the sessions, and print a line for each and one for all."""
    total, width = Row(), 22
    for seed, (name, recorded) in enumerate(sessions):
        row = Row()
        row.judge(recorded, seed)
        total.add(row)
        print(f"{name:{width}} {row}", flush=True)
        for example in row.figures.examples[:5]:
            print("    ", example)
    print(f"{'all':{width}} {total}")


def recordings(paths: Sequence[Path]) -> Iterator[tuple[str, Recorded]]:
    """Read asciicasts. A recording in which no person seems to type is named, and not returned."""
    for path in paths:
        try:
            session, typing = recorded_typing(read_cast(path))
        except (ValueError, KeyError, TypeError) as error:
            print(f"{path.name}: not an asciicast: {error!r}")
            continue
        if session.typed:
            yield path.name, session
        else:
            print(f"{path.name}: no person types: {len(typing.lines)} lines, {typing.scripted} more by a script")


def run_programs(seconds: float) -> Iterator[tuple[str, Recorded]]:
    """Record the programs, side by side."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as top, ThreadPoolExecutor(len(SESSIONS)) as threads:
        running = []
        for seed, (name, program, rc) in enumerate(SESSIONS):
            home = Path(top) / str(seed)
            home.mkdir()
            running.append((name, threads.submit(record, seed, program, rc, seconds, home)))
        sessions = [(name, session.result()) for name, session in running]
    yield from sessions


def main() -> None:
    """Replay recordings of a terminal, or programs that are recorded now."""
    if sys.argv[1:2] == ["--cast"]:
        print_rows(recordings([Path(name) for name in sys.argv[2:]]))
    else:
        print_rows(run_programs(float(sys.argv[1]) if len(sys.argv) > 1 else 300.0))


if __name__ == "__main__":
    main()
