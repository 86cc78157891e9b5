"""Signals: the first one cancels the program's coroutine; after the clean-up the process ends by that signal.

At the end the terminal is restored, the session is terminated and closed, and the default action of the signal is
taken, so that our caller sees the signal. A second signal, unless it follows at once, ends the process without waiting
for the session, or after ``Interruption.last_limit`` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import FrameType
from typing import Any, NoReturn, ParamSpec, Protocol, TypeVar

from session_manager_plugin.aws.helpers import ended_helpers
from session_manager_plugin.cli.exit_status import Signalled, die_of
from session_manager_plugin.utils.logging import get_logger

REPEAT_TIME = 0.1
"""Seconds in which the same signal counts once. timeout(1) sends two at a time: to its command, and to the group."""
KEY_REPEAT_TIME = 0.02
"""The same for the signals of keys, which a person can send twice within ``REPEAT_TIME``. A key that is held down
repeats after 25 ms or more."""
INTERRUPT_PATIENCE = 2.0
"""Seconds that remote commands have to end after Ctrl-C, until a message says how to leave."""
LEAVE_LIMIT = 2.0
"""Longest time from a signal to the end of the process, in seconds."""
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
_HANG_UP = getattr(signal, "SIGHUP", None)
_HANDLED = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_OF_KEYS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGQUIT") if hasattr(signal, name))

_PACKAGE = __name__.partition(".")[0]

T = TypeVar("T")
P = ParamSpec("P")


def handled_signals() -> list[int]:
    """Return the signals that end the program.

    SIGINT and SIGQUIT are handled even if our parent ignores them, as the AWS CLI does. An ignored SIGHUP (nohup(1))
    stays ignored.
    """
    return [number for number in _HANDLED if number != _HANG_UP or signal.getsignal(number) is not signal.SIG_IGN]


class Drawing(Protocol):
    """Lines that are drawn in place at the terminal."""

    def hidden(self) -> contextlib.AbstractContextManager[None]:
        """Erase the lines for the length of the block, if they are on the screen."""

    def forget(self) -> None:
        """Leave alone what was drawn: another program had the terminal."""


class RunningSession:
    """One session of the process: its task, and its handling of signals."""

    def __init__(self, offer: Callable[[int], bool], ending: Callable[[], bool]) -> None:
        """``offer`` is called with a signal and returns whether the session handles it. ``ending`` returns whether the
        session is ending because of a signal that it has handled. Create this object in the session's task."""
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.offer = offer
        self.ending = ending
        self.leaving = False
        """Whether the session is being closed, which a signal must not interrupt."""
        self.restore: Callable[[], None] = lambda: None
        """Restores the terminal, if the session uses it."""
        self.error: Exception | None = None
        """The error that ends this session, but not the others."""
        self.taken_at: float | None = None
        """When the session received the signal because of which it is ending (event loop time)."""

    def fail(self, error: Exception) -> None:
        """End the session because of ``error``. Only the first call has an effect."""
        if self.error is None:
            self.error = error
            self.restore()
            self.cancel()

    def cancel(self) -> None:
        """Cancel the task unless the session is being closed."""
        if not self.leaving:
            self.task.cancel()

    def time_left(self, limit: float) -> float:
        """Return the rest of ``limit`` seconds since the session handled a signal; ``limit`` if it has handled none."""
        if self.taken_at is None:
            return limit
        return max(0.1, self.taken_at + limit - asyncio.get_running_loop().time())


class Interruption:
    """Ends the sessions of the process because of a signal, or of an event that counts as one.

    A signal is passed to each session. If at least one session handles it, the others are cancelled. If none does, the
    program ends: all sessions are cancelled, or the program's task if there is no session. A program with several
    sessions awaits their tasks; each has its own outcome.
    """

    def __init__(self, task: asyncio.Task[Any], die: Callable[[int], NoReturn]) -> None:
        self._task = task
        self._die = die
        self._loop = asyncio.get_running_loop()
        self._handled = handled_signals()
        self._signalled: Signalled | None = None
        self._received: dict[int, float] = {}
        """When each signal was last received."""
        self._fault: Exception | None = None
        self._sessions: list[RunningSession] = []
        self.restore: Callable[[], None] = lambda: None
        """Restores the terminal. Called first when the program ends."""
        self.received: Callable[[], None] = lambda: None
        """Called when SIGINT is received: the terminal has echoed ^C."""
        self.continued: Callable[[], None] = lambda: None
        """Sets the session's terminal modes again. Called on SIGCONT."""
        self.abandon: Callable[[], None] = lambda: None
        """Called when the process ends before the clean-up is complete, to say what may remain."""
        self.last_limit = 0.0
        """Seconds for the clean-up after a second signal; a third one ends the process without them."""
        self._suspends = False

    @property
    def number(self) -> int | None:
        """The number of the signal; None before a signal."""
        return None if self._signalled is None else self._signalled.number

    @contextlib.contextmanager
    def session(
        self, offer: Callable[[int], bool] = lambda _number: False, ending: Callable[[], bool] = lambda: False
    ) -> Iterator[RunningSession]:
        """Register a session of the current task during the block; see ``RunningSession``."""
        running = RunningSession(offer, ending)
        self._sessions.append(running)
        try:
            yield running
        finally:
            self._sessions.remove(running)

    def interrupt(self, number: int, reason: str = "") -> None:
        """End the program as if signal ``number`` had been received; ``reason`` explains a signal that was not. The
        second call ends the process at once.

        A second SIGHUP does not: when a terminal is closed, the kernel sends one SIGHUP for the terminal and another
        when the session leader ends because of the first.
        """
        if not reason and self._is_repeated(number):
            return
        if number == signal.SIGINT and not reason:
            self.received()
        if self.number is None and not reason and self._offer(number):
            return
        if self._signalled is not None:
            if number != _HANG_UP:
                self._die(number)
            elif reason:
                self._signalled.explain(reason)  # the kernel's SIGHUP arrived before its cause was detected
            return
        self._signalled = Signalled(number, reason)
        self.restore()
        self._received[number] = time.monotonic()  # restoring may have waited for the terminal's answers
        self._obey_the_next(number)
        self._cancel()

    def _is_repeated(self, number: int) -> bool:
        """Return whether the same signal was received just before."""
        now = time.monotonic()
        before = self._received.get(number)
        self._received[number] = now
        return before is not None and now < before + (KEY_REPEAT_TIME if number in _OF_KEYS else REPEAT_TIME)

    def _offer(self, number: int) -> bool:
        """Pass a signal to the sessions. Returns whether one of them has handled it."""
        sessions = [session for session in self._sessions if not session.leaving]
        taken = [session for session in sessions if session.offer(number)]
        if not taken:
            return False
        for session in sessions:
            if session not in taken:
                session.fail(Signalled(number))
        if all(session.ending() for session in taken):
            for session in taken:
                session.taken_at = self._loop.time()
            self._obey_the_next(number)
        return True

    def _cancel(self) -> None:
        for session in self._sessions:
            session.cancel()
        if not self._sessions:
            self._task.cancel()

    def _obey_the_next(self, number: int) -> None:
        """Make the next signal, or a time limit, end the process even if the event loop is blocked."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._handled)  # else the default action, for a moment
        try:
            for other in self._handled:
                self._loop.remove_signal_handler(other)
                signal.signal(other, signal.SIG_IGN if other == _HANG_UP else self._signalled_again)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._loop.call_later(LEAVE_LIMIT, self._die_now, number)

    def _signalled_again(self, number: int, _frame: FrameType | None) -> None:
        if self._is_repeated(number):
            return
        limit, self.last_limit = self.last_limit, 0.0
        if limit:
            signal.signal(signal.SIGALRM, lambda _number, _frame: self._die_now(number))
            signal.setitimer(signal.ITIMER_REAL, limit)
        else:
            self._die_now(number)

    def _die_now(self, number: int) -> None:
        self.restore()
        self.abandon()
        self._die(number)

    def fail(self, error: Exception) -> None:
        """End the program because of ``error``, an uncaught exception of our own code."""
        if self.number is not None or self._fault is not None:
            return
        self._fault = error
        self.restore()
        self._cancel()

    def suspend_with(self, suspend: Callable[[], None]) -> None:
        """Call ``suspend`` on SIGTSTP, even if our parent ignores that signal."""
        self._loop.add_signal_handler(signal.SIGTSTP, suspend)
        self._suspends = True

    @contextlib.contextmanager
    def drawing(self, drawing: Drawing) -> Iterator[None]:
        """Erase ``drawing`` before Ctrl-Z stops the program, and call its ``forget`` after any other stop, during the
        block."""

        def stop() -> None:
            with drawing.hidden():
                for number in (signal.SIGTSTP, signal.SIGCONT):  # the default actions
                    self._loop.remove_signal_handler(number)
                signal.raise_signal(signal.SIGTSTP)  # returns when the program is continued
                handle()

        def handle() -> None:
            self._loop.add_signal_handler(signal.SIGCONT, lambda: self.continued())
            self._loop.add_signal_handler(signal.SIGTSTP, stop)

        if _HANG_UP is None or signal.getsignal(signal.SIGTSTP) is not signal.SIG_DFL:  # Windows; a shell without jobs
            yield
            return
        self.continued = drawing.forget
        handle()
        try:
            yield
        finally:
            self._loop.remove_signal_handler(signal.SIGTSTP)
            self.continued = lambda: None

    @property
    def error(self) -> Exception | None:
        """The exception that ends the program; None if it is not ending."""
        if self._fault is not None:
            return self._fault
        return self._signalled

    def _uncaught(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an exception of a callback of the event loop, or of a task that nothing awaits.

        If our code is in its traceback, it is a bug of ours and ends the session. Exceptions of libraries alone are
        only logged: they may concern connections that were given up, and the end of a connection in use is reported to
        its protocol anyway. ``OSError``, a network error, is only logged too.
        """
        error = context.get("exception")
        get_logger(__name__).error("%s", context.get("message"), exc_info=error)
        if isinstance(error, Exception) and not isinstance(error, OSError) and _is_ours(error):
            self.fail(error)

    @contextlib.contextmanager
    def handling(self) -> Iterator[None]:
        """Handle signals for the length of the block."""
        self._loop.set_exception_handler(self._uncaught)
        if _HANG_UP is None:  # Windows: no session runs there, and Ctrl-C cancels the task by itself
            yield
            return
        before = {number: signal.getsignal(number) for number in (*self._handled, signal.SIGALRM)}
        try:
            for number in self._handled:
                self._loop.add_signal_handler(number, self.interrupt, number)
            self._loop.add_signal_handler(signal.SIGCONT, lambda: self.continued())
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number in self._handled:
                self._loop.remove_signal_handler(number)
            self._loop.remove_signal_handler(signal.SIGCONT)
            if self._suspends:
                self._loop.remove_signal_handler(signal.SIGTSTP)
            for number, handler in before.items():
                signal.signal(number, handler)


def _is_ours(error: BaseException) -> bool:
    """Return whether code of this package is in the traceback of an exception."""
    modules = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(name.partition(".")[0] == _PACKAGE for name in modules)


def run(main: Callable[[Interruption], Coroutine[Any, Any, T]], *, die: Callable[[int], NoReturn] = die_of) -> T:
    """Run a coroutine in a new event loop and return its result. A signal cancels the coroutine.

    Raises ``Signalled`` if a signal has ended the coroutine. The clean-up may take ``LEAVE_LIMIT`` seconds; after that,
    and on a second signal, ``die`` is called with the signal's number. Credential processes are killed at the end.
    """
    with ended_helpers() as helpers:

        def end(number: int) -> NoReturn:
            helpers.end()
            die(number)

        return asyncio.run(_run(main, end))


async def _run(main: Callable[[Interruption], Coroutine[Any, Any, T]], die: Callable[[int], NoReturn]) -> T:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().set_default_executor(_AbandonedThreads())
    interruption = Interruption(task, die)
    with interruption.handling():
        try:
            return await main(interruption)
        except (asyncio.CancelledError, Exception) as error:
            if interruption.error is None:
                raise
            if isinstance(error, Exception):  # an error of the clean-up; our caller must see the signal nevertheless
                get_logger(__name__).error("while leaving: %s", error)
            raise interruption.error from error


class _AbandonedThreads(ThreadPoolExecutor):
    """Runs work in threads that the program does not wait for at its end, since a DNS query may take long."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn`` in a thread of its own."""
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future
