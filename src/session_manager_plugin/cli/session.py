"""Running one session at the command line: opening it, connecting its streams, and ending it cleanly in every case."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import NamedTuple

from session_manager_plugin.cli.escape_commands import EscapeCommands
from session_manager_plugin.cli.exit_status import HANG_UP, Signalled
from session_manager_plugin.cli.link_news import LinkNews
from session_manager_plugin.cli.process import Process
from session_manager_plugin.cli.render import tell
from session_manager_plugin.cli.run_options import RunOptions, TerminalOptions, Terminate, TimeLimit
from session_manager_plugin.cli.signals import Interruption, RunningSession
from session_manager_plugin.errors import CommandTimedOut
from session_manager_plugin.protocol.events import SessionReady
from session_manager_plugin.session.outcome import EndReason, Outcome, outcome_of
from session_manager_plugin.session.protocols import Streams, TerminalHold
from session_manager_plugin.session.runner import COMMAND, SessionRunner
from session_manager_plugin.session.session import Session
from session_manager_plugin.utils.logging import get_logger

LEAVE_TIMEOUT = 1.8
"""Seconds for terminating the session and closing the websocket together. After that the process ends anyway. The time
that an interrupted port session has used for its own clean-up counts, too."""


class Ending(NamedTuple):
    """A session that has ended, with the facts for the message about it."""

    session_id: str
    outcome: Outcome = Outcome()
    began: bool = False
    """Whether any message of the far end was received. (A shell counts as ready after two silent seconds.)"""
    is_stdio: bool = False
    """Whether standard input and output belonged to another program's protocol, such as ``ssh``."""
    is_command: bool = False
    """Whether standard error belonged to a remote command."""

    @property
    def is_left_by_ssh(self) -> bool:
        """Whether ``ssh`` has ended the session: by SIGHUP to its ProxyCommand, or by a Ctrl-C for both."""
        error = self.outcome.error
        return self.is_stdio and isinstance(error, Signalled) and error.number in (HANG_UP, signal.SIGINT)


class SessionStreams(NamedTuple):
    """The streams of one session."""

    streams: Streams
    terminal: TerminalHold | None = None
    """The terminal for a shell; None without a terminal."""
    release: Callable[[], Awaitable[None]] | None = None
    """Stops reading the input, for a session that does not use it."""


async def run_terminal_session(session: Session, process: Process, options: TerminalOptions) -> Ending:
    """Run the session that uses the terminal and the standard streams; see ``run_session``.

    Unless ``options.began`` is set, a message of the far end for the user is shown.
    """
    environment = process.environment
    with contextlib.ExitStack() as opened:

        def prepare(running: RunningSession, runner: SessionRunner) -> SessionStreams:
            console = opened.enter_context(process.console(options))
            running.restore = console.give_back
            if options.escape_character is not None and console.is_terminal:
                escapes = EscapeCommands(
                    console,
                    session,
                    runner.connections,
                    options.escape_character,
                    running.fail,
                    target=options.target or options.label,
                )
                process.interruption.suspend_with(escapes.suspend)
                escapes.start()
            LinkNews(environment, session, console, options.leave_escape).start()
            return SessionStreams(console, console, console.stop_listening)

        def show_message(ready: SessionReady) -> None:
            if ready.customer_message and environment.is_interactive and not environment.quiet:
                tell(environment, ready.customer_message, error=False)

        options = dataclasses.replace(options, began=options.began or show_message)
        return await run_session(session, process.interruption, prepare, options)


async def run_session(
    session: Session,
    interruption: Interruption,
    prepare: Callable[[RunningSession, SessionRunner], SessionStreams],
    options: RunOptions,
) -> Ending:
    """Open a session and run it to its end in the current task. Raises only ``CancelledError``, if the cancellation
    does not come from ``interruption``. Any number of sessions may run at a time.

    ``prepare`` is called before the session is opened, and returns its streams. Unless the far end has closed the
    session, the terminal is restored at the end, and then terminating and closing may take ``LEAVE_TIMEOUT`` seconds.
    After ``options.time_limit`` the session ends with ``CommandTimedOut``.
    """
    outcome = Outcome()
    runner = SessionRunner(session, options.handlers)
    listener = options.listener
    with (
        interruption.session(partial(_offer, runner, options), lambda: runner.interrupted) as running,
        _limit(running, options.time_limit),
    ):
        try:
            if interruption.error is not None:
                raise interruption.error
            if options.bind is not None:
                listener = options.bind()
            streams = prepare(running, runner)
            ready = await session.open()
            _prepare_process(ready)
            if options.began is not None:
                options.began(ready)
            if streams.release is not None and (ready.session_type == COMMAND or ready.is_stdio):
                await streams.release()
            if options.awaited is not None:
                await options.awaited
            handler_options = dataclasses.replace(
                options, terminal=streams.terminal or options.terminal, listener=listener
            )
            outcome = await runner.run(streams.streams, handler_options)
        except asyncio.CancelledError:
            error = running.error or interruption.error
            if error is None:
                raise
            running.task.uncancel()
            outcome = _outcome_of(error, session)
        except Exception as failure:
            outcome = _outcome_of(failure, session)
        finally:
            running.leaving = True
            running.restore()
            if listener is not None:
                listener.close()
            terminate = None if outcome.by_far_end else options.terminate
            await _leave(session, terminate, running.time_left(LEAVE_TIMEOUT))
    ready_session = session.began
    is_stdio = ready_session is not None and ready_session.is_stdio
    is_command = ready_session is not None and ready_session.session_type == COMMAND
    return Ending(session.session_id, outcome, ready_session is not None and session.heard, is_stdio, is_command)


def _offer(runner: SessionRunner, options: RunOptions, number: int) -> bool:
    """Pass a signal to the handler of the session. Returns whether it handles the signal."""
    is_handled = runner.interrupt(number)
    if is_handled and options.interrupted is not None:
        options.interrupted()
    return is_handled


@contextlib.contextmanager
def _limit(running: RunningSession, limit: TimeLimit | None) -> Iterator[None]:
    """End the session at the limit, unless the block ends earlier."""
    if limit is None:
        yield
        return
    error = CommandTimedOut(f"the command did not end within {limit.seconds:g} s", seconds=limit.seconds)
    timer = asyncio.get_running_loop().call_at(limit.deadline, running.fail, error)
    try:
        yield
    finally:
        timer.cancel()


def _outcome_of(error: Exception, session: Session) -> Outcome:
    outcome = outcome_of(error, incomplete=session.incomplete)
    return dataclasses.replace(outcome, reason=EndReason.INTERRUPTED) if isinstance(error, Signalled) else outcome


def _prepare_process(ready: SessionReady) -> None:
    """Prepare the process for a session that has begun."""
    if ready.session_type == "Port":
        from session_manager_plugin.session.port import forwards_port

        if forwards_port(ready):
            from session_manager_plugin.cli.descriptors import raise_descriptor_limit

            raise_descriptor_limit()


async def _leave(session: Session, terminate: Terminate | None, timeout: float) -> None:
    farewells = [asyncio.ensure_future(session.close())]
    if terminate is not None:
        farewells.append(asyncio.ensure_future(terminate()))
    done, late = await asyncio.wait(farewells, timeout=timeout)
    for task in late:
        task.cancel()
    for task in done:
        if not task.cancelled() and (error := task.exception()) is not None:
            get_logger(__name__).info("leaving the session: %s", error)
