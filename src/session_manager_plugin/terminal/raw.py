"""Raw mode of a terminal, given back on every way out."""

from __future__ import annotations

import atexit
import contextlib
import signal
import termios
from types import TracebackType
from typing import Any, Self

_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


def _raw_attributes(saved: list[Any], *, keep_signals: bool) -> list[Any]:
    """What cfmakeraw(3) makes of `saved`, which is left alone.

    With `keep_signals` Ctrl-C and its kin still send signals, and a line feed written still begins a line.

    The full raw mode, not `stty cbreak`, so that every key reaches the far end: Ctrl-S, Ctrl-Q, Ctrl-V and Ctrl-Z
    too (reference defect U7: they are kept by the local line discipline).
    """
    raw = list(saved)
    raw[_IFLAG] &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    raw[_LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN)
    if not keep_signals:
        raw[_OFLAG] &= ~termios.OPOST
        raw[_LFLAG] &= ~termios.ISIG
    raw[_CFLAG] = raw[_CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    raw[_CC] = list(saved[_CC])
    raw[_CC][termios.VMIN] = 1
    raw[_CC][termios.VTIME] = 0
    return raw


class RawMode:
    """The raw mode of one terminal; while it is active an atexit handler stands by to restore the terminal.

    All changes are made with TCSANOW. TCSADRAIN would wait for the output to leave, which on a stuck terminal is
    for ever, and needs no waiting for: the kernel applies OPOST when bytes are written, not when they leave.
    TCSAFLUSH would throw away what was typed ahead.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: list[Any] | None = None

    @property
    def active(self) -> bool:
        """Whether there is something to restore."""
        return self._saved is not None

    def enter(self, *, keep_signals: bool = False) -> None:
        """Saves the terminal's attributes and switches to raw mode; what was typed ahead stays readable.

        `keep_signals` is for the time in which keys are read that are not the far end's yet: Ctrl-C interrupts, and
        what is written is processed as usual.

        When already active only the raw mode is set again and what was saved first is kept: call it on SIGCONT
        (reference defect U8), since a shell sets its own modes while a job is stopped. A process in the background
        is stopped with SIGTTOU until it is in the foreground.

        Raises OSError: ENOTTY if it is not a terminal, EIO if it has hung up.
        """
        was_active = self.active
        try:
            # Changes nothing, but stops us here while we are in the background. Being stopped in tcsetattr would be
            # too late: the attributes saved would be those of the line editor of the shell that owns the terminal.
            termios.tcflow(self._fd, termios.TCOON)
            saved = termios.tcgetattr(self._fd) if self._saved is None else self._saved
            # First remember, then change: a signal handler that runs in between must be able to restore.
            self._saved = saved
            if not was_active:
                atexit.register(self.restore)
            termios.tcsetattr(self._fd, termios.TCSANOW, _raw_attributes(saved, keep_signals=keep_signals))
        except termios.error as error:
            if not was_active:
                self.forget()
            raise OSError(*error.args) from error

    def restore(self) -> None:
        """Puts the saved attributes back exactly; does nothing when not active.

        Never raises when the terminal has gone. May be called at any moment, from a signal handler too, also one
        that interrupts this very method, and from the background (SIGTTOU does not stop it).
        """
        saved = self._saved
        if saved is None:
            return
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            # EIO: hung up; ENOTTY, EBADF: the descriptor is no terminal any more. Nothing is left to restore then.
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._fd, termios.TCSANOW, saved)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        # Last: until here a handler that interrupts us and ends the process has to find what to restore.
        self.forget()

    def forget(self) -> None:
        """Leave the terminal as it is: its modes are another job's now. Idempotent."""
        self._saved = None
        atexit.unregister(self.restore)

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.restore()
