"""RawMode on real ptys: what it changes, and that it is undone on every way out."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

import session_manager_plugin
from session_manager_plugin.terminal.raw import RawMode
from tests.support.waiting import DEADLINE
from tests.test_terminal.conftest import Pty

SOURCE = str(Path(session_manager_plugin.__file__).parents[1])


def read_all(fd: int, length: int) -> bytes:
    """Reads until `length` bytes have come, or none comes for two seconds."""
    data = b""
    while len(data) < length and select.select([fd], [], [], 2)[0]:
        data += os.read(fd, 4096)
    return data


def run(terminal: Pty, script: str) -> subprocess.Popen[bytes]:
    """Runs a Python script in a session of its own with the terminal as its stdin."""
    return subprocess.Popen(
        [sys.executable, "-c", "from session_manager_plugin.terminal.raw import RawMode\n" + script],
        stdin=terminal.slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": SOURCE},
    )


@pytest.fixture
def saved(terminal: Pty) -> list[Any]:
    """Attributes with some marks of their own, set on the terminal."""
    attributes = termios.tcgetattr(terminal.slave)
    attributes[0] |= termios.ISTRIP | termios.INLCR
    attributes[3] &= ~termios.ECHOE
    attributes[6][termios.VINTR] = b"\x07"
    termios.tcsetattr(terminal.slave, termios.TCSANOW, attributes)
    return termios.tcgetattr(terminal.slave)


def test_raw_is_the_full_raw_mode(terminal: Pty) -> None:
    with RawMode(terminal.slave):
        iflag, oflag, cflag, lflag, _, _, cc = termios.tcgetattr(terminal.slave)
    for name in ("IGNBRK", "BRKINT", "PARMRK", "ISTRIP", "INLCR", "IGNCR", "ICRNL", "IXON"):
        assert not iflag & getattr(termios, name), name
    assert not oflag & termios.OPOST
    for name in ("ECHO", "ECHONL", "ICANON", "ISIG", "IEXTEN"):
        assert not lflag & getattr(termios, name), name
    assert cflag & termios.CSIZE == termios.CS8
    assert not cflag & termios.PARENB
    assert (cc[termios.VMIN], cc[termios.VTIME]) == (1, 0)


def test_signals_may_be_kept(terminal: Pty, saved: list[Any]) -> None:
    """While keys are read that are nobody's yet: no echo, no lines, but Ctrl-C interrupts, and lines are written."""
    raw = RawMode(terminal.slave)
    raw.enter(keep_signals=True)
    iflag, oflag, _, lflag, _, _, cc = termios.tcgetattr(terminal.slave)
    assert (oflag, cc[termios.VINTR]) == (saved[1], saved[6][termios.VINTR])
    assert lflag & termios.ISIG
    assert not lflag & (termios.ECHO | termios.ICANON | termios.IEXTEN)
    assert not iflag & (termios.ICRNL | termios.IXON)
    raw.enter()
    assert not termios.tcgetattr(terminal.slave)[3] & termios.ISIG
    raw.restore()
    assert termios.tcgetattr(terminal.slave) == saved


def test_every_byte_typed_arrives_as_it_is(terminal: Pty) -> None:
    with RawMode(terminal.slave):
        typed = bytes(range(256))
        os.write(terminal.master, typed)
        assert read_all(terminal.slave, 256) == typed


def test_normal_end_restores(terminal: Pty, saved: list[Any]) -> None:
    raw = RawMode(terminal.slave)
    assert not raw.active
    raw.enter()
    assert raw.active
    assert termios.tcgetattr(terminal.slave) != saved
    raw.restore()
    assert not raw.active
    assert termios.tcgetattr(terminal.slave) == saved


def test_restore_twice_leaves_alone_what_came_after_the_first(terminal: Pty) -> None:
    raw = RawMode(terminal.slave)
    raw.enter()
    raw.restore()
    changed = termios.tcgetattr(terminal.slave)
    changed[3] &= ~termios.ECHO
    termios.tcsetattr(terminal.slave, termios.TCSANOW, changed)
    raw.restore()
    assert termios.tcgetattr(terminal.slave) == changed


def test_exception_restores(terminal: Pty, saved: list[Any]) -> None:
    with pytest.raises(ZeroDivisionError), RawMode(terminal.slave):
        _ = 1 / 0
    assert termios.tcgetattr(terminal.slave) == saved


@pytest.mark.parametrize(
    ("last_words", "status"),
    [
        ("sys.exit(3)", 3),
        ("raise RuntimeError('nobody catches this')", 1),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGHUP)", -signal.SIGHUP),
        ("os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
    ],
)
def test_process_that_ends_without_a_word_restores(
    terminal: Pty, saved: list[Any], last_words: str, status: int
) -> None:
    process = run(
        terminal,
        f"""
import os, signal, sys
raw = RawMode(0)
def handler(number, frame):
    raw.restore()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
signal.signal(signal.SIGTERM, handler)
signal.signal(signal.SIGHUP, handler)
raw.enter()
print(raw.active, flush=True)
{last_words}
""",
    )
    out, _ = process.communicate(timeout=DEADLINE)
    assert out == b"True\n"
    assert process.returncode == status
    assert termios.tcgetattr(terminal.slave) == saved


def test_signal_handler_that_interrupts_enter_and_restore(
    terminal: Pty, saved: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that runs just before the terminal is changed, and ends the process, finds what to restore."""
    raw = RawMode(terminal.slave)
    tcsetattr = termios.tcsetattr
    seen: list[bool] = []

    def interrupted(*arguments: Any) -> None:
        monkeypatch.setattr(termios, "tcsetattr", tcsetattr)
        seen.append(raw.active)
        raise KeyboardInterrupt

    monkeypatch.setattr(termios, "tcsetattr", interrupted)
    with pytest.raises(KeyboardInterrupt):
        raw.enter()
    raw.enter()
    monkeypatch.setattr(termios, "tcsetattr", interrupted)
    with pytest.raises(KeyboardInterrupt):
        raw.restore()
    assert seen == [True, True]
    assert raw.active
    assert signal.SIGTTOU not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    raw.restore()
    assert termios.tcgetattr(terminal.slave) == saved


def test_entering_again_keeps_what_was_saved_first(terminal: Pty, saved: list[Any]) -> None:
    """After SIGCONT: the shell has set its own modes meanwhile."""
    with RawMode(terminal.slave) as raw:
        as_raw = termios.tcgetattr(terminal.slave)
        of_the_shell = list(saved)
        of_the_shell[3] &= ~termios.ECHO
        termios.tcsetattr(terminal.slave, termios.TCSANOW, of_the_shell)
        raw.enter()
        assert termios.tcgetattr(terminal.slave) == as_raw
    assert termios.tcgetattr(terminal.slave) == saved


def test_type_ahead_survives_both_changes(terminal: Pty) -> None:
    os.write(terminal.master, b"whoami\npart of a li")
    raw = RawMode(terminal.slave)
    raw.enter()
    assert read_all(terminal.slave, 19) == b"whoami\npart of a li"
    os.write(terminal.master, b"for the shell\n")
    assert select.select([terminal.slave], [], [], 2)[0]
    raw.restore()
    assert read_all(terminal.slave, 14) == b"for the shell\n"


def test_restore_does_not_wait_for_a_window_that_reads_nothing(terminal: Pty, saved: list[Any]) -> None:
    """Shows TCSADRAIN up where a pty counts what its master has not read (BSD, macOS); Linux does not."""
    with RawMode(terminal.slave):
        os.set_blocking(terminal.slave, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(terminal.slave, b"x" * 4096)
    assert termios.tcgetattr(terminal.slave) == saved


def test_terminal_that_has_gone(terminal: Pty) -> None:
    raw = RawMode(terminal.slave)
    raw.enter()
    os.close(terminal.master)
    raw.restore()
    assert not raw.active
    with pytest.raises(OSError, match="Input/output") as caught:
        raw.enter()
    assert caught.value.errno == errno.EIO
    assert not raw.active


def test_descriptor_that_was_closed(terminal: Pty) -> None:
    raw = RawMode(terminal.slave)
    raw.enter()
    os.close(terminal.slave)
    raw.restore()
    assert not raw.active


def test_not_a_terminal(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        raw = RawMode(file.fileno())
        with pytest.raises(OSError, match="ioctl") as caught:
            raw.enter()
    assert caught.value.errno == errno.ENOTTY
    assert not raw.active


SHELL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})  # as a shell does, to take the terminal back
read_end, write_end = os.pipe()

def job(body):
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTTOU})
        body(RawMode(0))
        os._exit(7)
    return pid

def report(pid):
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        return f"stopped {os.WSTOPSIG(status)}"
    return f"exit {os.waitstatus_to_exitcode(status)}"
"""


def test_restoring_in_the_background_does_not_stop_the_process(terminal: Pty, saved: list[Any]) -> None:
    process = run(
        terminal,
        SHELL
        + """
go_read, go_write = os.pipe()
def body(raw):
    os.read(go_read, 1)
    raw.enter()
    os.write(write_end, b"r")
    os.read(go_read, 1)
    raw.restore()
pid = job(body)
os.setpgid(pid, pid)
os.tcsetpgrp(0, pid)
os.write(go_write, b"g")
os.read(read_end, 1)
os.tcsetpgrp(0, os.getpgrp())
os.write(go_write, b"g")
print(report(pid), flush=True)
""",
    )
    out, err = process.communicate(timeout=DEADLINE)
    assert (out, err) == (b"exit 7\n", b"")
    assert termios.tcgetattr(terminal.slave) == saved


def test_entering_in_the_background_saves_what_the_foreground_leaves(terminal: Pty, saved: list[Any]) -> None:
    """`smp … &`, then `fg`: the modes the shell's line editor had meanwhile are not those to restore."""
    process = run(
        terminal,
        SHELL
        + """
cooked = termios.tcgetattr(0)
of_the_editor = termios.tcgetattr(0)
of_the_editor[3] &= ~(termios.ECHO | termios.ICANON)
os.tcsetpgrp(0, os.getpgrp())
termios.tcsetattr(0, termios.TCSANOW, of_the_editor)
def body(raw):
    raw.enter()
    raw.restore()
pid = job(body)
print(report(pid), flush=True)
termios.tcsetattr(0, termios.TCSANOW, cooked)
os.tcsetpgrp(0, pid)
os.kill(pid, signal.SIGCONT)
print(report(pid), flush=True)
""",
    )
    out, err = process.communicate(timeout=DEADLINE)
    assert (out, err) == (f"stopped {int(signal.SIGTTOU)}\nexit 7\n".encode(), b"")
    assert termios.tcgetattr(terminal.slave) == saved
