"""Signals: the first one cancels the program's coroutine; after the clean-up the process ends by that signal.

The order at the end is: the terminal is given back, the session is said goodbye to, the default action of the signal is
taken, so that our caller sees what ended us. A second signal does not wait for the goodbye.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NoReturn, ParamSpec, TypeVar

from session_manager_plugin.aws.helpers import ended_helpers
from session_manager_plugin.cli.exit_status import Signalled, die_of
from session_manager_plugin.utils.logging import get_logger

LEAVE_LIMIT = 2.0
"""Seconds from a signal to the end of the process, whatever hangs."""
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
_HANG_UP = getattr(signal, "SIGHUP", None)
_HANDLED = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))

_PACKAGE = __name__.partition(".")[0]

T = TypeVar("T")
P = ParamSpec("P")


def handled_signals() -> list[int]:
    """Return the signals that ask the program to leave.

    SIGINT and SIGQUIT also if our parent had them ignored, as the AWS CLI does; SIGHUP not, since that is what nohup(1)
    asks for.
    """
    return [number for number in _HANDLED if number != _HANG_UP or signal.getsignal(number) is not signal.SIG_IGN]


class RunningSession:
    """One session of the process: the task that runs it, and what signals mean to it."""

    def __init__(self, offer: Callable[[int], bool], ending: Callable[[], bool]) -> None:
        """`offer` is called with a signal first and returns whether the session takes it; `ending` returns whether the
        session is ending because of a signal that it took. Made in the task that runs the session."""
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.offer = offer
        self.ending = ending
        self.leaving = False
        """Set while the session is closed, which a signal must not cut short."""
        self.restore: Callable[[], None] = lambda: None
        """Restores the terminal, if the session has it."""
        self.error: Exception | None = None
        """What ends this session, and no other."""
        self.taken_at: float | None = None
        """The instant (of the event loop) of the signal that the session took and is ending because of."""

    def fail(self, error: Exception) -> None:
        """End the session because of `error`; the first one counts."""
        if self.error is None:
            self.error = error
            self.restore()
            self.cancel()

    def cancel(self) -> None:
        """Cancel the task unless the session is being closed."""
        if not self.leaving:
            self.task.cancel()

    def time_left(self, limit: float) -> float:
        """Return what is left of `limit` seconds since the session took a signal; all of it, if it took none."""
        if self.taken_at is None:
            return limit
        return max(0.1, self.taken_at + limit - asyncio.get_running_loop().time())


class Interruption:
    """The request to leave, by a signal or by what is as good as one, for every session of the process.

    A signal is offered to each session. Those that do not take it are cancelled, if another one takes it; if none does,
    the program leaves: all sessions are cancelled, and the program's task where there is no session. A program with
    several sessions awaits their tasks; each ends with an outcome of its own.
    """

    def __init__(self, task: asyncio.Task[Any], die: Callable[[int], NoReturn]) -> None:
        self._task = task
        self._die = die
        self._loop = asyncio.get_running_loop()
        self._handled = handled_signals()
        self._signalled: Signalled | None = None
        self._fault: Exception | None = None
        self._sessions: list[RunningSession] = []
        self.restore: Callable[[], None] = lambda: None
        """Called first when the program leaves: restores the terminal."""
        self.continued: Callable[[], None] = lambda: None
        """Called on SIGCONT: puts the terminal into the session's modes again."""
        self._suspends = False

    @property
    def number(self) -> int | None:
        """The signal, once there was one."""
        return None if self._signalled is None else self._signalled.number

    @contextlib.contextmanager
    def session(
        self, offer: Callable[[int], bool] = lambda _number: False, ending: Callable[[], bool] = lambda: False
    ) -> Iterator[RunningSession]:
        """Register a session that the running task runs, for the length of the block; see `RunningSession`."""
        running = RunningSession(offer, ending)
        self._sessions.append(running)
        try:
            yield running
        finally:
            self._sessions.remove(running)

    def interrupt(self, number: int, reason: str = "") -> None:
        """Leave as if signal `number` had been received, for `reason` if it has not. A second time: at once.

        Except for SIGHUP, which nobody sends out of impatience: when a terminal is closed, the kernel sends one for the
        terminal and another when the session leader dies of the first.
        """
        if self.number is None and not reason and self._offer(number):
            return
        if self._signalled is not None:
            if number != _HANG_UP:
                self._die(number)
            elif reason:
                self._signalled.explain(reason)  # the kernel's SIGHUP was faster than our own notice of its cause
            return
        self._signalled = Signalled(number, reason)
        self.restore()
        self._obey_the_next(number)
        self._cancel()

    def _offer(self, number: int) -> bool:
        """Offer a signal to the sessions; return whether one of them took it."""
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
        """From here on a signal ends the process even if the event loop is stuck, and so does a time limit."""
        for other in self._handled:
            self._loop.remove_signal_handler(other)
            signal.signal(other, signal.SIG_IGN if other == _HANG_UP else lambda number, _frame: self._die_now(number))
        self._loop.call_later(LEAVE_LIMIT, self._die_now, number)

    def _die_now(self, number: int) -> None:
        self.restore()
        self._die(number)

    def fail(self, error: Exception) -> None:
        """Leave because of `error`, a fault of our own that nothing caught."""
        if self.number is not None or self._fault is not None:
            return
        self._fault = error
        self.restore()
        self._cancel()

    def suspend_with(self, suspend: Callable[[], None]) -> None:
        """Have SIGTSTP call `suspend`, which stops us in a way of its own, also where our parent has it ignored."""
        self._loop.add_signal_handler(signal.SIGTSTP, suspend)
        self._suspends = True

    @property
    def error(self) -> Exception | None:
        """The exception that ends the program, if it was asked to leave."""
        if self._fault is not None:
            return self._fault
        return self._signalled

    def _uncaught(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that a callback of the event loop, or a task that nobody awaits, has raised.

        One that passed through our code is a fault of ours, and ends the session. One of a library alone is logged:
        its callbacks also run for connections that are being set up or were given up, and of a connection in use its
        protocol is told the end. So is an `OSError`, which is the network's.
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
        before = {number: signal.getsignal(number) for number in self._handled}
        try:
            for number in self._handled:
                self._loop.add_signal_handler(number, self.interrupt, number)
            self._loop.add_signal_handler(signal.SIGCONT, lambda: self.continued())
            yield
        finally:
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
    """Run a coroutine to its end in an event loop of its own; a signal cancels it.

    Gives what it returns, or raises `Signalled` when a signal came and it did not. It has `LEAVE_LIMIT` seconds to
    clean up; then, and on a second signal, `die` is called with the number. No credential process is left behind.
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
            if isinstance(error, Exception):  # in cleaning up; our caller is to see the signal nevertheless
                get_logger(__name__).error("while leaving: %s", error)
            raise interruption.error from error


class _AbandonedThreads(ThreadPoolExecutor):
    """Runs work in threads that the program does not wait for at its end: a DNS query may take long."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn` in a thread of its own."""
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
