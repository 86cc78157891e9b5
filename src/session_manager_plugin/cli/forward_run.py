"""Running a forward as a program, until a signal, the end of a session or of the parent process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from session_manager_plugin.cli.exit_status import HANG_UP
from session_manager_plugin.cli.parent import watched_parent
from session_manager_plugin.cli.signals import Interruption
from session_manager_plugin.forwarding.events import Trouble

if TYPE_CHECKING:
    from session_manager_plugin.cli.forward_report import ForwardReport
    from session_manager_plugin.forwarding.forward import Forward

LEAVE_TIMEOUT = 1.5
"""Seconds for terminating the sessions. After that the process ends anyway, which takes some time too."""


async def run_forward(forwarding: Forward, interruption: Interruption, report: ForwardReport) -> None:
    """Open ``forwarding``, and run it until SIGINT, which ends it normally.

    Raises the error that prevents or ends it. Another signal ends the program by that signal; the end of the parent
    process counts as SIGHUP, unless that is ignored. In every case the sessions are terminated, within
    ``LEAVE_TIMEOUT`` seconds.
    """
    stopped = asyncio.Event()

    def offer(number: int) -> bool:
        if number != signal.SIGINT or not forwarding.ports or stopped.is_set():
            return False
        stopped.set()
        return True

    with interruption.session(offer, stopped.is_set) as running, _watched_parent(interruption):
        report.watch_output(interruption.fail)
        try:
            await forwarding.open()
            with report.shown(forwarding, interruption):
                await _first_of(forwarding, stopped)
        except asyncio.CancelledError:
            if interruption.error is None:
                raise
            running.task.uncancel()
        finally:
            running.leaving = True
            if not await _close(forwarding, running.time_left(LEAVE_TIMEOUT)):
                report.handle(Trouble("the sessions could not all be terminated; smp ls --sessions lists yours"))
    if interruption.error is not None:
        raise interruption.error


async def _first_of(forwarding: Forward, stopped: asyncio.Event) -> None:
    """Wait for ``stopped``. Raises the error if the forward ends before that."""
    ended, interrupted = asyncio.ensure_future(forwarding.wait()), asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait({ended, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            ended.result()
    finally:
        ended.cancel()
        interrupted.cancel()
        await asyncio.gather(ended, interrupted, return_exceptions=True)


async def _close(forwarding: Forward, timeout: float) -> bool:
    """Close the forward; return whether that was possible in ``timeout`` seconds."""
    try:
        async with asyncio.timeout(timeout):
            await forwarding.close()
    except TimeoutError:
        return False
    return True


@contextlib.contextmanager
def _watched_parent(interruption: Interruption) -> Iterator[None]:
    """Treat the end of the parent process as SIGHUP, unless that is ignored (nohup(1))."""
    if signal.getsignal(HANG_UP) is signal.SIG_IGN:
        yield
        return
    reason = "because the program that started it has ended"
    with watched_parent(partial(interruption.interrupt, HANG_UP, reason)):
        yield
