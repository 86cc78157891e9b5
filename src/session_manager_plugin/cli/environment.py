"""What a command finds around itself: standard streams, facts about the terminal, environment variables."""

from __future__ import annotations

import contextlib
import locale
import math
import os
import select
import sys
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

from session_manager_plugin.errors import UsageError

_STUCK_AFTER = 0.5
"""Seconds a message waits for a stderr that takes nothing; then it is dropped, so that a stopped terminal or a full
pipe cannot keep a program from ending."""
_PIECE = 512
"""Bytes a pipe takes at once when it takes any (POSIX's least PIPE_BUF)."""


@dataclass
class Environment:
    """Streams are descriptors. Everything can be replaced, for tests."""

    program: str = "smp"
    """The name that begins every message."""
    stdin: int = 0
    stdout: int = 1
    stderr: int = 2
    variables: MutableMapping[str, str] = field(default_factory=lambda: os.environ)
    is_terminal: Callable[[int], bool] = os.isatty
    """Of a descriptor; a closed one is none."""
    system: str = os.name
    verbosity: int = 0
    """How often `-v` was given."""
    quiet: bool = False
    """Whether only errors are told."""
    color: str = "auto"
    """`auto`, `always` or `never`."""

    @property
    def is_interactive(self) -> bool:
        """Whether a person can be asked: input is typed, and messages are seen."""
        return self.is_terminal(self.stdin) and self.is_terminal(self.stderr)

    @property
    def has_screen(self) -> bool:
        """Whether a person types here and sees the output."""
        return self.is_terminal(self.stdin) and self.is_terminal(self.stdout)

    @property
    def is_dumb(self) -> bool:
        """Whether the terminal is known to do no more than print, or is unknown."""
        return self.variables.get("TERM", "dumb") in ("", "dumb")

    @property
    def is_mintty(self) -> bool:
        """Whether a person sits at a window of MSYS or Git Bash, whose terminals are pipes to Windows programs."""
        return self.system == "nt" and "MSYSTEM" in self.variables and not self.is_terminal(self.stdin)

    @property
    def state_log(self) -> Path | None:
        """The log in the user's state directory (XDG Base Directory 0.8: relative values are ignored); None without
        a home."""
        state = self.variables.get("XDG_STATE_HOME", "")
        if not os.path.isabs(state):
            home = self.variables.get("HOME", "")
            if not os.path.isabs(home):
                return None
            state = os.path.join(home, ".local", "state")
        return Path(state, "smp", "smp.log")

    def uses_color(self, fd: int) -> bool:
        """Whether what goes to `fd` may be coloured: `--color`, else NO_COLOR, CLICOLOR_FORCE and the terminal."""
        if self.color != "auto":
            return self.color == "always"
        if self.variables.get("NO_COLOR"):
            return False
        if self.variables.get("CLICOLOR_FORCE", "0") not in ("", "0"):
            return True
        return self.is_terminal(fd) and not self.is_dumb

    def take(self, name: str) -> str | None:
        """The value of a variable that holds a secret; it is removed, so that no child process gets it."""
        return self.variables.pop(name, None)

    def flag(self, name: str) -> bool:
        """Whether a variable is set, to something else than 0."""
        return self.variables.get(name, "0") not in ("", "0")

    def seconds(self, name: str, default: float, *, zero: bool) -> float:
        """A variable that holds a number of seconds; `zero` tells whether it may be 0. Raises `UsageError`."""
        text = self.variables.get(name)
        if not text:
            return default
        try:
            return parse_seconds(text, zero=zero)
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from None

    def write(self, text: str) -> None:
        """Write to standard output, all of it. Raises `BrokenPipeError` when nobody reads it, and other `OSError`."""
        data = _encode(text)
        while data:
            try:
                data = data[os.write(self.stdout, data) :]
            except BlockingIOError:  # somebody has made it non-blocking
                _takes_more(self.stdout, None)

    def write_error(self, text: str) -> None:
        """Write to standard error what it takes; there is nowhere to report a failure to."""
        data = _encode(text)
        deadline = time.monotonic() + _STUCK_AFTER
        with contextlib.suppress(OSError):
            while data and _takes_more(self.stderr, max(0.0, deadline - time.monotonic())):
                with contextlib.suppress(BlockingIOError):
                    data = data[os.write(self.stderr, data[:_PIECE]) :]


def open_standard_streams() -> None:
    """Open the null device for standard streams that are closed, as ssh does.

    Else sockets of our own would take their places.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def parse_seconds(text: str, *, zero: bool) -> float:
    """A number of seconds; raises `ValueError` for anything else. `zero` tells whether 0 is allowed."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not zero):
        raise ValueError(f"{text!r} is not a number of seconds {'from 0 on' if zero else 'above 0'}")
    return seconds


def _takes_more(fd: int, timeout: float | None) -> bool:
    """Whether `fd` takes some bytes, or fails, within `timeout` seconds (None: for ever)."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


def _encode(text: str) -> bytes:
    return text.encode(sys.stderr.encoding if sys.stderr else locale.getencoding(), "backslashreplace")
