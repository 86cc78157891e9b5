"""A terminal that can be looked at: programs in a private tmux server, driven by keys, read back as rows of cells."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.programs import PATIENCE, need
from tests.support.waiting import DEADLINE

_INTERVAL = 0.02
"""Seconds between two looks: tmux tells nobody when a screen has changed."""

_STATE = (
    "#{cursor_x},#{cursor_y} cursor=#{cursor_flag} alternate=#{alternate_on}"
    " region=#{scroll_region_upper}-#{scroll_region_lower}"
    " origin=#{origin_flag} wrap=#{wrap_flag} insert=#{insert_flag}"
    " keypad=#{keypad_flag},#{keypad_cursor_flag} mouse=#{mouse_any_flag}"
)


def shell_environment(home: Path, scripts: Path) -> dict[str, str]:
    """An environment in which a shell looks the same everywhere: its prompt is "$ ", nothing is configured in `home`,
    and the commands in `scripts` come first."""
    return {
        "PATH": f"{scripts}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": PATIENCE,
        "HOME": str(home),
        "SHELL": "/bin/sh",
        "PS1": "$ ",
        "LANG": "C.UTF-8",
    }


@dataclass(frozen=True)
class View:
    """What a terminal shows at one moment."""

    rows: tuple[str, ...]
    """The text of each row, without blanks at the end."""
    painted: tuple[str, ...]
    """The same with attributes and colours, as SGR sequences."""
    state: str
    """Where the cursor is (column, row, from 0), the scroll region, and the modes."""

    def __str__(self) -> str:
        return "\n".join([self.state, *(f"{number:3} |{row}" for number, row in enumerate(self.rows))])

    @property
    def cursor(self) -> tuple[int, int]:
        """Column and row, counted from 0."""
        column, row = self.state.split(" ", 1)[0].split(",")
        return int(column), int(row)


class Tmux:
    """A tmux server of its own, without anybody's configuration; all its terminals die with it.

    `env` is the whole environment of the programs, but for what tmux adds (TERM=xterm-256color, TMUX).
    """

    def __init__(self, env: Mapping[str, str], directory: Path) -> None:
        need("tmux")
        # A socket's path must be short, which those of pytest's directories are not.
        self._sockets = tempfile.TemporaryDirectory(prefix="tmux-")
        self._env = {**env, "TMUX_TMPDIR": self._sockets.name}
        self._directory = directory
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Without a terminal there has never been a server.
        self._run("kill-server", check=False)
        self._sockets.cleanup()

    def terminal(self, *argv: str, rows: int = 24, columns: int = 80) -> Terminal:
        """A new terminal of this size in which `argv` runs."""
        self._count += 1
        name = f"terminal{self._count}"
        self.command(
            *(
                "start-server",
                ";",
                "set",
                "-g",
                "default-terminal",
                "xterm-256color",
                ";",
                "set",
                "-g",
                "status",
                "off",
            ),
            *(";", "set", "-g", "remain-on-exit", "on"),
            *(";", "new-session", "-d", "-s", name, "-x", str(columns), "-y", str(rows)),
            *("-c", str(self._directory), *argv),
        )
        return Terminal(self, name)

    def command(self, *arguments: str) -> str:
        """Carry out a tmux command; gives its output."""
        return self._run(*arguments, check=True)

    def _run(self, *arguments: str, check: bool) -> str:
        finished = subprocess.run(
            ["tmux", "-u", "-L", "private", "-f", "/dev/null", *arguments],
            env=self._env,
            cwd=self._directory,
            capture_output=True,
            timeout=DEADLINE,
        )
        if check and finished.returncode != 0:
            raise AssertionError(f"tmux {arguments}: {finished.stderr.decode(errors='replace')}")
        return finished.stdout.decode()


class Terminal:
    """One terminal of a `Tmux`: typed at, looked at, resized, closed. Every wait has a deadline."""

    def __init__(self, tmux: Tmux, name: str) -> None:
        self._tmux = tmux
        self._target = f"{name}:"

    @property
    def pid(self) -> int:
        """The process that was started in it."""
        return int(self._ask("#{pane_pid}"))

    @property
    def device(self) -> str:
        """The path of the terminal's device."""
        return self._ask("#{pane_tty}")

    @property
    def exit_status(self) -> int | None:
        """What the program ended with, 128 + n for a signal; None while it runs."""
        dead, status, signal = self._ask("#{pane_dead},#{pane_dead_status},#{pane_dead_signal}").split(",")
        if dead != "1":
            return None
        return int(status) if status else 128 + int(signal)

    def type(self, text: str) -> None:
        """Type `text` as it is."""
        self._tmux.command("send-keys", "-t", self._target, "-l", "--", text)

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names for them: `Enter`, `C-c`, `Escape`, `PageDown`."""
        self._tmux.command("send-keys", "-t", self._target, "--", *keys)

    def enter(self, line: str) -> None:
        """Type a line and Enter."""
        self.type(line)
        self.press("Enter")

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size, as by dragging its window's corner."""
        self._tmux.command("resize-window", "-t", self._target, "-x", str(columns), "-y", str(rows))

    def close(self) -> None:
        """Close the window: what runs in it hears of it as it does from any terminal emulator."""
        self._tmux.command("kill-session", "-t", self._target)

    def view(self) -> View:
        """What is shown now."""
        lines = self._tmux.command(
            *("display-message", "-p", "-t", self._target, _STATE),
            *(";", "capture-pane", "-p", "-t", self._target),
            *(";", "capture-pane", "-p", "-e", "-t", self._target),
        ).split("\n")
        count = len(lines) // 2 - 1
        rows = tuple(line.rstrip() for line in lines[1 : 1 + count])
        return View(rows, tuple(lines[1 + count : 1 + 2 * count]), state=lines[0])

    def history(self) -> list[str]:
        """The rows that have scrolled off the top, oldest first."""
        # Without any, the row "-1" would be the first one shown.
        if self._ask("#{history_size}") == "0":
            return []
        return self._tmux.command("capture-pane", "-p", "-S", "-", "-E", "-1", "-t", self._target).splitlines()

    def wait(self, reached: Callable[[View], object], what: str) -> View:
        """Look until `reached` gives something true for what is shown; gives that view."""
        ends_at = time.monotonic() + DEADLINE
        while not reached(view := self.view()):
            if time.monotonic() > ends_at:
                raise AssertionError(f"{what}: not seen. Shown is\n{view}")
            time.sleep(_INTERVAL)
        return view

    def wait_for(self, text: str) -> View:
        """Look until `text` stands in a row."""
        return self.wait(lambda view: any(text in row for row in view.rows), repr(text))

    def _ask(self, variable: str) -> str:
        return self._tmux.command("display-message", "-p", "-t", self._target, variable).rstrip("\n")
