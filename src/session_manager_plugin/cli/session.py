"""One session at the command line: opened, joined to the standard streams, and left cleanly whatever happens."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.escape_commands import EscapeCommands
from session_manager_plugin.cli.exit_status import HANG_UP, Signalled
from session_manager_plugin.cli.link_news import LinkNews
from session_manager_plugin.cli.render import tell
from session_manager_plugin.cli.signals import Interruption, RunningSession
from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.protocol.events import SessionReady
from session_manager_plugin.session.handler_options import OpenRecording, StdinEof
from session_manager_plugin.session.outcome import EndReason, Outcome, outcome_of
from session_manager_plugin.session.protocols import Notices, Streams, TerminalHold
from session_manager_plugin.session.runner import COMMAND, SessionRunner
from session_manager_plugin.session.session import Session
from session_manager_plugin.terminal.capabilities import has_margins, is_utf8
from session_manager_plugin.terminal.console import Console
from session_manager_plugin.terminal.escapes import show_escape_character
from session_manager_plugin.terminal.link_status import StatusMode
from session_manager_plugin.terminal.size import terminal_size
from session_manager_plugin.utils.logging import get_logger

if TYPE_CHECKING:
    from session_manager_plugin.session.listener import Listener

LEAVE_TIMEOUT = 1.8
"""Seconds for terminating the session and closing the websocket, together; then the process ends without. What a port
session that was interrupted has taken to end counts too."""
BAR_ROWS = 10
"""The least rows of a terminal for a bar that was not asked for."""
HINT = "exit or Ctrl-D leaves"

Terminate = Callable[[], Awaitable[None]]


class Ending(NamedTuple):
    """A session that has ended, and what a sentence about it needs to know."""

    session_id: str
    outcome: Outcome = Outcome()
    began: bool = False
    """Whether anything has come from the far end: a shell counts as ready after some seconds without a word."""
    is_stdio: bool = False
    """Whether standard input and output belonged to another program's protocol, that of `ssh` above all."""
    is_command: bool = False
    """Whether standard error showed that of a remote command."""

    @property
    def is_hang_up_of_ssh(self) -> bool:
        """Whether this is the normal end of `ssh`: it ends its ProxyCommand by SIGHUP, or just leaves it behind."""
        error = self.outcome.error
        return self.is_stdio and isinstance(error, Signalled) and error.number == HANG_UP


async def join(
    session: Session,
    environment: Environment,
    interruption: Interruption,
    *,
    status: StatusMode | None = None,
    escape_character: bytes | None = None,
    bind: Callable[[], Listener | None] | None = None,
    began: Callable[[SessionReady], None] | None = None,
    terminate: Terminate | None = None,
    notices: Notices | None = None,
    stdin_eof: StdinEof = StdinEof.EOT,
    open_recording: OpenRecording = lambda _session_id: None,
) -> Ending:
    """Run the one session that has the terminal and the standard streams; see `run_session`.

    `status` says how the state of the link is shown. `escape_character` turns the escapes on, at a terminal. `bind`
    makes the local end of a forwarded port, before anything else happens. `began` is called when the session has begun,
    before anything of it is shown; by default the far end's message, if it has one, is shown to a person.
    """
    leave_escape = f"{show_escape_character(escape_character)}." if escape_character is not None else ""
    console: Console | None = None
    listener: Listener | None = None

    def has_begun(ready: SessionReady) -> None:
        _prepare_process(ready)
        if began is not None:
            began(ready)
        elif ready.customer_message and environment.is_interactive and not environment.quiet:
            tell(environment, ready.customer_message, error=False)

    def prepare(running: RunningSession, runner: SessionRunner) -> SessionStreams:
        nonlocal console, listener
        listener = bind() if bind is not None else None
        console = _open_console(environment, status, leave_escape)
        interruption.restore, interruption.continued = console.give_back, console.continued
        running.restore = console.give_back
        if escape_character is not None and console.is_terminal:
            escapes = EscapeCommands(console, session, runner.connections, escape_character, running.fail)
            interruption.suspend_with(escapes.suspend)
            escapes.start()
        LinkNews(environment, session, console, leave_escape).start()
        return SessionStreams(console, console, console.stop_listening, listener)

    try:
        ending = await run_session(
            session,
            interruption,
            prepare,
            began=has_begun,
            terminate=terminate,
            notices=notices,
            stdin_eof=stdin_eof,
            open_recording=open_recording,
        )
    finally:
        if console is not None:
            console.close()
        if listener is not None:
            listener.close()
    if not ending.outcome.is_normal and session.began is not None and environment.has_screen:
        environment.write_error("\n")  # the cursor stands behind the remote's prompt
    return ending


class SessionStreams(NamedTuple):
    """What one session reads and writes."""

    streams: Streams
    terminal: TerminalHold | None = None
    """Held by a shell; None where there is no terminal."""
    release: Callable[[], Awaitable[None]] | None = None
    """Leaves the input to its next reader, for a session that does not read keys."""
    listener: Listener | None = None
    """The local end of a forwarded port, if it is bound already; it is closed at the end."""


async def run_session(
    session: Session,
    interruption: Interruption,
    prepare: Callable[[RunningSession, SessionRunner], SessionStreams],
    *,
    began: Callable[[SessionReady], None] = lambda _ready: None,
    terminate: Terminate | None = None,
    notices: Notices | None = None,
    stdin_eof: StdinEof = StdinEof.EOT,
    open_recording: OpenRecording = lambda _session_id: None,
) -> Ending:
    """Open one of any number of sessions and run it to its end in the running task. Raises nothing but a cancellation
    that is not the interruption's.

    `prepare` returns the session's streams before it is opened. `began` is called when the session has begun.
    `open_recording` opens the recording of a shell. Unless the far end has closed the session, the terminal is given
    back first; then there are `LEAVE_TIMEOUT` seconds for `terminate` and for closing.
    """
    outcome = Outcome()
    runner = SessionRunner(session)
    with interruption.session(runner.interrupt, lambda: runner.interrupted) as running:
        try:
            if interruption.error is not None:
                raise interruption.error
            streams = prepare(running, runner)
            ready = await session.open()
            began(ready)
            if streams.release is not None and (ready.session_type == COMMAND or ready.is_stdio):
                await streams.release()
            outcome = await runner.run(
                streams.streams,
                terminal=streams.terminal,
                stdin_eof=stdin_eof,
                notices=notices,
                listener=streams.listener,
                open_recording=open_recording,
            )
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
            await _leave(session, None if outcome.by_far_end else terminate, running.time_left(LEAVE_TIMEOUT))
    ready_session = session.began
    is_stdio = ready_session is not None and ready_session.is_stdio
    is_command = ready_session is not None and ready_session.session_type == COMMAND
    return Ending(session.session_id, outcome, ready_session is not None and session.heard, is_stdio, is_command)


def _outcome_of(error: Exception, session: Session) -> Outcome:
    outcome = outcome_of(error, incomplete=session.incomplete)
    return dataclasses.replace(outcome, reason=EndReason.INTERRUPTED) if isinstance(error, Signalled) else outcome


def status_mode(environment: Environment, choice: str, *, otherwise: StatusMode = StatusMode.BAR) -> StatusMode | None:
    """Return how the state of the link is shown; None without a screen, or on one that can only print.

    `choice` is a `StatusMode` value or "auto". That means `otherwise`, but None on a terminal that has no margins, and
    no bar on fewer than `BAR_ROWS` rows.
    """
    if not environment.has_screen or (environment.is_dumb and choice != StatusMode.BAR.value):
        return None
    if choice != "auto":
        return StatusMode(choice)
    if not has_margins(environment.variables.get("TERM", "")):
        return None
    size = terminal_size(environment.stdout, environment.stdin)
    if otherwise is StatusMode.BAR and (size is None or size.rows < BAR_ROWS):
        return StatusMode.NOTICE
    return otherwise


def _open_console(environment: Environment, status: StatusMode | None, leave_escape: str) -> Console:
    line = None
    if status is not None:
        from session_manager_plugin.terminal.status_line import StatusLine

        line = StatusLine(
            hint=HINT,
            escape=leave_escape,
            color=environment.uses_color(environment.stdout),
            unicode=is_utf8(environment.variables),
        )
    try:
        return Console(
            environment.stdin,
            environment.stdout,
            environment.stderr,
            output=environment.output_messages.writer,
            error_output=environment.error_messages.writer,
            status_line=line,
            mode=status or StatusMode.OFF,
        )
    except OSError as error:
        raise ConfigurationError(f"standard output cannot be written to: {error.strerror}") from error


def _prepare_process(ready: SessionReady) -> None:
    """Adjust the process to the session that has begun."""
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
