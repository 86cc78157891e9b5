"""A program on a pseudo-terminal of its own, driven from an event loop.

The program is started with ``posix_spawn``, not ``fork``: this process may have threads (the loop's executor,
a test runner's), and after a fork in such a process only async-signal-safe code may run, which rules out
Python code between fork and exec, so ``pty.fork`` and ``preexec_fn``. What is left to do there, taking the
terminal as controlling terminal, is done by ``/bin/sh``: as leader of a new session it opens the terminal,
which acquires it, and then becomes the program. ``posix_spawn`` also gives every signal its default action,
which ``subprocess`` cannot: a sandbox started in the background by a script ignores SIGINT, and Ctrl-C would
not interrupt anything in its shells.

Nothing here blocks. Output is read when the owner asks; input that the terminal does not take yet is kept,
and the owner, who sees ``input_size``, decides when that is too much.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
import signal
import struct
import termios
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

KILL_DELAY = 1.0
"""Seconds between SIGHUP and SIGKILL."""

_TAKE_TERMINAL = ': <>"$0"; exec "$@"'
_WRITE_SIZE = 64 * 1024
_LAST_OUTPUT_SIZE = 2 * 1024 * 1024
"""Bytes: more than a terminal's buffer holds (Linux: 640 KiB twice), so all that a program wrote before it exited."""
_MAX_WINDOW_SIDE = 0xFFFF


class Shell:
    """One program, its terminal and everything it starts there.

    ``on_output`` is called while there is something to ``read`` (after ``set_reading(True)``),
    ``on_input_taken`` when all input has been taken by the terminal. Call order: ``start``, anything else,
    ``close``.
    """

    def __init__(
        self, argv: Sequence[str], *, on_output: Callable[[], None], on_input_taken: Callable[[], None]
    ) -> None:
        self._argv = argv
        self._on_output = on_output
        self._on_input_taken = on_input_taken
        self._loop = asyncio.get_running_loop()
        self._master = -1
        self._pid = 0
        self._input = bytearray()
        self._reading = False
        self._writing = False
        self._exited = asyncio.Event()
        self._last_output_size = _LAST_OUTPUT_SIZE
        self.at_end = False
        """Whether all output has been read and there will be no more."""

    @property
    def input_size(self) -> int:
        """Bytes of input that the terminal has not taken yet."""
        return len(self._input)

    @property
    def pid(self) -> int:
        """The program's process id, which is also its session's; 0 before ``start``."""
        return self._pid

    def start(self) -> None:
        """Start the program, in the current directory. Raises ``OSError``.

        The size of the terminal is 0 × 0 until ``resize``, as the official agent leaves it.
        """
        if shutil.which(self._argv[0]) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._argv[0])
        master, slave = os.openpty()
        try:
            os.set_blocking(master, False)
            self._pid = os.posix_spawn(
                "/bin/sh",
                ["sh", "-c", _TAKE_TERMINAL, os.ttyname(slave), *self._argv],
                _environment(),
                file_actions=[(os.POSIX_SPAWN_DUP2, slave, descriptor) for descriptor in range(3)],
                setsid=True,
                setsigmask=(),
                setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
            )
        except OSError:
            os.close(master)
            raise
        finally:
            os.close(slave)
        self._master = master
        # A thread, because it is the one way to await a process that works on every platform and every event loop.
        threading.Thread(target=self._reap, name=f"wait for {self._pid}", daemon=True).start()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):  # somebody else in this process reaped it
            os.waitpid(self._pid, 0)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._process_exited)

    def _process_exited(self) -> None:
        self._exited.set()
        if self._reading:
            self._on_output()

    # Output.

    def set_reading(self, wanted: bool) -> None:
        """Whether ``on_output`` is to be called."""
        if wanted == self._reading or self._master < 0:
            return
        self._reading = wanted
        if not wanted:
            self._loop.remove_reader(self._master)
            return
        self._loop.add_reader(self._master, self._on_output)
        if self._exited.is_set():
            # With the terminal kept open by a process in the background, no end of file would ever show.
            self._loop.call_soon(self._on_output)

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes of output; empty when there is none now. Look at ``at_end`` afterwards.

        The end is when nobody has the terminal open any more, or when the program has exited and what it had
        written is read: a process it left in the background does not keep the session open, silent or not.
        """
        if self._master < 0:
            return b""
        try:
            data = os.read(self._master, size)
        except BlockingIOError:
            self.at_end = self._exited.is_set()
            return b""
        except OSError as error:
            if error.errno != errno.EIO:  # what Linux says when the last user of the terminal is gone
                raise
            data = b""
        if self._exited.is_set():
            self._last_output_size -= len(data)
        self.at_end = not data or self._last_output_size <= 0
        return data

    # Input.

    def write(self, data: bytes | bytearray) -> None:
        """Type ``data`` on the terminal, behind what it has not taken yet."""
        if self._master < 0:
            return
        self._input += data
        if not self._writing:
            self._write_input()

    def _write_input(self) -> None:
        try:
            while self._input:
                written = os.write(self._master, self._input[:_WRITE_SIZE])
                del self._input[:written]
        except BlockingIOError:
            if not self._writing:
                self._writing = True
                self._loop.add_writer(self._master, self._write_input)
            return
        except OSError:
            self._input.clear()  # EIO: nobody has the terminal open, so nobody can read it
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._master)
            self._on_input_taken()

    def resize(self, columns: int, rows: int) -> None:
        """Set the terminal's size; each side is limited to what 16 bits hold."""
        if self._master < 0:
            return
        sides = [min(max(side, 0), _MAX_WINDOW_SIDE) for side in (rows, columns)]
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", *sides, 0, 0))

    # The end.

    async def close(self) -> None:
        """Hang up: the terminal is closed and every process of the session gets SIGHUP, and SIGKILL
        ``KILL_DELAY`` seconds later if it is still there. Returns when they are gone.

        Only a process that left the session with ``setsid`` escapes. Where there is no ``/proc``, neither do
        jobs in the background get more than the shell gives them.
        """
        if not self._pid or self._master < 0:
            return
        self.set_reading(False)
        if self._writing:
            self._loop.remove_writer(self._master)
            self._writing = False
        self._input.clear()
        os.close(self._master)
        self._master = -1
        deadline = self._loop.time() + KILL_DELAY
        self._signal(signal.SIGHUP)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._exited.wait(), KILL_DELAY)
        if not self._exited.is_set() or _session_members(self._pid):
            await asyncio.sleep(deadline - self._loop.time())
            self._signal(signal.SIGKILL)
        await self._exited.wait()

    def _signal(self, number: signal.Signals) -> None:
        if not self._exited.is_set():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, number)
        for pid in _session_members(self._pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def _environment() -> dict[str, str]:
    """This process's environment as the official agent passes it on, without what describes another terminal."""
    environment = {"LANG": "C.UTF-8", **os.environ, "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES"):
        environment.pop(name, None)
    return environment


def _session_members(session_id: int) -> list[int]:
    """The living processes of a session; none where there is no Linux ``/proc`` (proc(5), ``stat``)."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just gone
            # The name in parentheses may hold anything, so the fields are counted from behind it.
            state, _, _, session = stat.read_text(errors="replace").rpartition(")")[2].split()[:4]
            if int(session) == session_id and state not in "ZX":
                members.append(int(stat.parent.name))
    return members
