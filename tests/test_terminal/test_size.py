"""TerminalSize and SizeWatcher on real ptys."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import session_manager_plugin
from session_manager_plugin.session.protocols import DEFAULT_SIZE, TerminalSize
from session_manager_plugin.terminal.size import SizeWatcher, terminal_size
from tests.support.waiting import DEADLINE
from tests.test_terminal.conftest import Pty


def set_size(terminal: Pty, columns: int, rows: int) -> None:
    termios.tcsetwinsize(terminal.master, (rows, columns))


class Sizes:
    """A callback that remembers, and can be waited for."""

    def __init__(self) -> None:
        self.seen: list[TerminalSize] = []
        self._called = asyncio.Event()

    def __call__(self, size: TerminalSize) -> None:
        self.seen.append(size)
        self._called.set()

    async def next(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self._called.wait()
        self._called.clear()


def test_first_terminal_with_a_size_counts(terminal: Pty, tmp_path: Path) -> None:
    set_size(terminal, 132, 43)
    with (tmp_path / "file").open("wb") as file:
        assert terminal_size(file.fileno(), terminal.slave) == TerminalSize(columns=132, rows=43)
        assert terminal_size(file.fileno()) is None
    assert terminal_size(-1) is None
    assert terminal_size() is None


@pytest.mark.parametrize(("columns", "rows"), [(0, 0), (80, 0), (0, 24)])
def test_size_of_nothing_is_no_size(terminal: Pty, columns: int, rows: int) -> None:
    set_size(terminal, columns, rows)
    assert terminal_size(terminal.slave) is None


def test_default_size() -> None:
    assert DEFAULT_SIZE == (80, 24)


async def test_burst_gives_one_call_with_the_last_size(terminal: Pty) -> None:
    set_size(terminal, 80, 24)
    sizes = Sizes()
    watcher = SizeWatcher(sizes, terminal.slave)
    watcher.start()
    assert watcher.size == (80, 24)
    for columns in range(81, 100):
        set_size(terminal, columns, 24)
        os.kill(os.getpid(), signal.SIGWINCH)
    await sizes.next()
    set_size(terminal, 100, 30)
    os.kill(os.getpid(), signal.SIGWINCH)
    await sizes.next()
    watcher.stop()
    assert sizes.seen == [(99, 24), (100, 30)]


async def test_a_terminal_that_was_resized_to_and_fro_is_reported(terminal: Pty) -> None:
    """It has forgotten its scroll region."""
    set_size(terminal, 80, 24)
    sizes = Sizes()
    watcher = SizeWatcher(sizes, terminal.slave)
    watcher.start()
    set_size(terminal, 50, 18)
    set_size(terminal, 80, 24)
    os.kill(os.getpid(), signal.SIGWINCH)
    await sizes.next()
    watcher.stop()
    assert sizes.seen == [(80, 24)]


async def test_same_size_is_not_reported(terminal: Pty) -> None:
    set_size(terminal, 80, 24)
    sizes = Sizes()
    watcher = SizeWatcher(sizes, terminal.slave)
    watcher.start()
    watcher.check()
    set_size(terminal, 0, 0)
    watcher.check()
    assert (watcher.size, sizes.seen) == ((80, 24), [])
    set_size(terminal, 90, 24)
    watcher.check()
    watcher.check()
    watcher.stop()
    assert sizes.seen == [(90, 24)]


async def test_nothing_is_reported_after_stop(terminal: Pty) -> None:
    set_size(terminal, 80, 24)
    stopped, going = Sizes(), Sizes()
    first, second = SizeWatcher(stopped, terminal.slave), SizeWatcher(going, terminal.slave)
    first.start()
    set_size(terminal, 90, 24)
    os.kill(os.getpid(), signal.SIGWINCH)
    await stopped.next()
    set_size(terminal, 95, 24)
    for turn in range(6):  # enough turns of the loop for both signals to be pending
        if turn < 2:
            os.kill(os.getpid(), signal.SIGWINCH)
        await asyncio.sleep(0)
    first.stop()
    first.stop()
    assert signal.getsignal(signal.SIGWINCH) is signal.SIG_DFL
    second.start()
    set_size(terminal, 91, 24)
    os.kill(os.getpid(), signal.SIGWINCH)
    await going.next()
    second.stop()
    assert (stopped.seen, going.seen) == ([(90, 24)], [(91, 24)])


async def test_two_watchers_do_not_disturb_each_other(terminal: Pty) -> None:
    first, second = Sizes(), Sizes()
    watchers = [SizeWatcher(sizes, terminal.slave) for sizes in (first, second)]
    for watcher in watchers:
        watcher.start()
    set_size(terminal, 100, 30)
    os.kill(os.getpid(), signal.SIGWINCH)
    await first.next()
    await second.next()
    watchers[0].stop()
    set_size(terminal, 101, 31)
    os.kill(os.getpid(), signal.SIGWINCH)
    await second.next()
    watchers[1].stop()
    assert first.seen == [TerminalSize(100, 30)]
    assert second.seen == [TerminalSize(100, 30), TerminalSize(101, 31)]


def test_module_needs_nothing_posix_only() -> None:
    script = """
import sys
for name in ("termios", "fcntl", "tty", "pty", "pwd"):
    sys.modules[name] = None
import session_manager_plugin.terminal.size
"""
    source = str(Path(session_manager_plugin.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, env={**os.environ, "PYTHONPATH": source}
    )
    assert (result.returncode, result.stderr) == (0, b"")
