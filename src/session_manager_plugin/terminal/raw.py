"""Raw mode of a terminal, with the restoring of its attributes on every way out."""

from __future__ import annotations

import atexit
import contextlib
import signal
import termios
from types import TracebackType
from typing import Any, Self

_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


def _raw_attributes(saved: list[Any], *, keep_signals: bool) -> list[Any]:
    """Return ``saved`` changed as by cfmakeraw(3).

    With ``keep_signals`` Ctrl-C, Ctrl-\\ and Ctrl-Z still send signals, and output is still processed (OPOST).

    The full raw mode rather than ``stty cbreak``, so that every key reaches the far end, Ctrl-S, Ctrl-Q, Ctrl-V and
    Ctrl-Z included (reference defect U7: the local line discipline takes them).
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
    """The raw mode of one terminal. While it is active, an atexit handler is registered that restores the terminal.

    All changes are made with TCSANOW. TCSADRAIN would wait for pending output, for ever on a stuck terminal, and is
    not needed: the kernel applies OPOST when bytes are written, not when they are transmitted. TCSAFLUSH would discard
    typed-ahead input.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: list[Any] | None = None

    @property
    def active(self) -> bool:
        """Whether there is something to restore."""
        return self._saved is not None

    def enter(self, *, keep_signals: bool = False) -> None:
        """Save the terminal's attributes and switch to raw mode. Typed-ahead input stays readable.

        ``keep_signals`` is for the time before the session is ready: Ctrl-C interrupts, and output is processed.

        If raw mode is active already, it is set again and the attributes saved first are kept. Call this on SIGCONT
        (reference defect U8), since a shell sets its own modes while a job is stopped. A process in the background is
        stopped with SIGTTOU until it is in the foreground.

        Raises ``OSError``: ENOTTY if the descriptor is not a terminal, EIO if the terminal has hung up.
        """
        was_active = self.active
        try:
            # Has no effect but to stop us here while we are in the background. A stop in tcsetattr would be too late:
            # the saved attributes would be those of the line editor of the shell that has the terminal.
            termios.tcflow(self._fd, termios.TCOON)
            saved = termios.tcgetattr(self._fd) if self._saved is None else self._saved
            # Saved before the change, so that a signal handler that runs in between can restore the terminal.
            self._saved = saved
            if not was_active:
                atexit.register(self.restore)
            termios.tcsetattr(self._fd, termios.TCSANOW, _raw_attributes(saved, keep_signals=keep_signals))
        except termios.error as error:
            if not was_active:
                self.forget()
            raise OSError(*error.args) from error

    def restore(self) -> None:
        """Restore the saved attributes. Does nothing when not active.

        Does not raise if the terminal has hung up. May be called at any time: from a signal handler, even one that
        interrupts this method, and from the background (SIGTTOU does not stop it).
        """
        saved = self._saved
        if saved is None:
            return
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            # EIO: hung up; ENOTTY, EBADF: the descriptor is no longer a terminal. There is nothing to restore.
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._fd, termios.TCSANOW, saved)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        # Last, because a signal handler that interrupts us and ends the process still needs the saved attributes.
        self.forget()

    def forget(self) -> None:
        """Drop the saved attributes: another job has the terminal and its modes. Idempotent."""
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
