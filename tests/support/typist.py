"""Somebody who types shell commands: seeded, with the pauses, typing errors and corrections of a person."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

LINES = (
    "ls -la /etc/nginx",
    "cd /var/log",
    "grep -rn timeout /etc/systemd",
    "systemctl status nginx",
    "journalctl -u nginx --since today",
    "git status",
    "git log --oneline",
    "git commit -m 'Handle the empty list'",
    "docker ps",
    "docker logs --tail 100 web",
    "kubectl get pods -n production",
    "ps aux | grep python",
    "df -h",
    "du -sh /var/lib",
    "cat /etc/os-release",
    "tail -n 50 /var/log/syslog",
    "echo $PATH",
    "curl -s localhost:8080/health",
    "for f in a b c; do echo $f; done",
    "find . -name '*.conf' -mtime -1",
    "make test",
    "ssh-keygen -l -f key.pub",
    "export REGION=eu-central-1",
    "uptime",
    "free -m",
    "ls",
    "python3 --version",
    "tar tzf backup.tar.gz",
    "chmod 600 key.pem",
)
_NEIGHBOURS = "asdfghjklqwertyuiopzxcvbnm"


class Keystroke(NamedTuple):
    """One key: typed ``pause`` seconds after the one before."""

    pause: float
    key: bytes

    @property
    def is_printable(self) -> bool:
        """Whether it is a character."""
        return len(self.key) == 1 and 0x20 <= self.key[0] < 0x7F


class Typist:
    """Types lines. About 5 keys a second within a word, fewer between words, and long pauses between lines.

    `edits`: whether the program edits lines, so that arrows, completion and history are used.
    """

    def __init__(self, seed: int, lines: Sequence[str] = LINES, *, edits: bool = True) -> None:
        self._dice = random.Random(seed)
        self._lines = lines
        self._edits = edits

    def keys(self, count: int) -> Iterator[Keystroke]:
        """About `count` keys: whole lines."""
        typed = 0
        while typed < count:
            for keystroke in self._line():
                typed += 1
                yield keystroke

    def _pause(self, median: float = 0.16) -> float:
        return min(2.0, max(0.03, median * self._dice.lognormvariate(0.0, 0.45)))

    def _line(self) -> Iterator[Keystroke]:
        dice = self._dice
        first = dice.choice((0.8, 1.2, 2.0, 4.0))
        if self._edits and dice.random() < 0.12:  # a line of the history
            for _ in range(dice.randint(1, 3)):
                yield Keystroke(first, b"\x1b[A")
                first = self._pause(0.3)
            yield Keystroke(self._pause(0.6), b"\r")
            return
        line = dice.choice(self._lines)
        place = 0
        while place < len(line):
            pause, first = first or self._pause(0.25 if line[place - 1] in " /|-" else 0.16), 0.0
            chance = dice.random()
            if chance < 0.025 and line[place].isalpha():  # noticed at once or a key later
                yield Keystroke(pause, dice.choice(_NEIGHBOURS).encode())
                late = dice.random() < 0.3
                if late:
                    yield Keystroke(self._pause(), line[place].encode())
                for _ in range(1 + late):
                    yield Keystroke(self._pause(0.3), b"\x7f")
                continue
            if self._edits and chance < 0.04 and line[place] != " ":
                yield Keystroke(pause, b"\t")
                pause = self._pause(0.4)
            if self._edits and chance > 0.995 and place > 3:
                for key in (b"\x1b[D", b"\x1b[D", b"\x1b[C", b"\x1b[C"):
                    yield Keystroke(self._pause(0.3), key)
            yield Keystroke(pause, line[place].encode())
            place += 1
        yield Keystroke(self._pause(0.4), b"\r")
