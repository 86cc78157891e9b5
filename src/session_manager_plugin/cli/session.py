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
from session_manager_plugin.cli.signals import Interruption
from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.protocol.events import SessionReady
from session_manager_plugin.session.handler_options import OpenRecording, StdinEof
from session_manager_plugin.session.outcome import EndReason, Outcome, outcome_of
from session_manager_plugin.session.protocols import Notices
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
"""Rows a terminal has at least before one of them is taken for a bar nobody asked for."""
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
    stdin_eof: StdinEof = StdinEof.EOT,
    notices: Notices | None = None,
    bind: Callable[[], Listener | None] | None = None,
    terminate: Terminate | None = None,
    began: Callable[[SessionReady], None] | None = None,
    escape_character: bytes | None = None,
    open_recording: OpenRecording = lambda _session_id: None,
) -> Ending:
    """Open a session and join it to the standard streams until it ends; gives how it ended, and raises nothing else.

    `status` says how the state of the link is shown. `bind` makes the local end of a forwarded port, before anything
    else happens. `began` is called when the session has begun, before anything of it is shown; by default a person is
    told the far end's message, if it has one. `escape_character` turns the escapes on, at a terminal.
    `open_recording` opens the recording of a shell.
    Whatever ends the session but the far end, the terminal is given back first; then there are `LEAVE_TIMEOUT`
    seconds for `terminate` and for closing.
    """
    outcome = Outcome()
    runner = SessionRunner(session)
    ready: SessionReady | None = None
    console: Console | None = None
    listener: Listener | None = None
    try:
        listener = bind() if bind is not None else None
        leave_escape = f"{show_escape_character(escape_character)}." if escape_character is not None else ""
        console = _open_console(environment, status, leave_escape)
        interruption.restore, interruption.continued = console.give_back, console.continued
        interruption.offer, interruption.ending = runner.interrupt, lambda: runner.interrupted
        if escape_character is not None and console.is_terminal:
            escapes = EscapeCommands(console, session, runner.connections, escape_character, interruption.fail)
            interruption.suspend_with(escapes.suspend)
            escapes.start()
        LinkNews(environment, session, console, leave_escape).start()
        ready = await session.open()
        _prepare_process(ready)
        if began is not None:
            began(ready)
        elif ready.customer_message and environment.is_interactive and not environment.quiet:
            tell(environment, ready.customer_message, error=False)
        if ready.session_type == COMMAND or ready.is_stdio:
            await console.stop_listening()  # the input is left to the next reader, or belongs to ssh
        outcome = await runner.run(
            console,
            terminal=console,
            stdin_eof=stdin_eof,
            notices=notices,
            listener=listener,
            open_recording=open_recording,
        )
    except asyncio.CancelledError:
        if interruption.error is None:
            raise
        outcome = outcome_of(interruption.error, incomplete=session.incomplete)
        if isinstance(interruption.error, Signalled):
            outcome = dataclasses.replace(outcome, reason=EndReason.INTERRUPTED)
    except Exception as failure:
        outcome = outcome_of(failure, incomplete=session.incomplete)
    finally:
        interruption.leaving = True
        if console is not None:
            console.give_back()
        await _leave(session, None if outcome.by_far_end else terminate, interruption.time_left(LEAVE_TIMEOUT))
        if console is not None:
            console.close()
        if listener is not None:
            listener.close()
    if not outcome.is_normal and ready is not None and environment.has_screen:
        environment.write_error("\n")  # the cursor stands behind the remote's prompt
    is_stdio = ready is not None and ready.is_stdio
    is_command = ready is not None and ready.session_type == COMMAND
    has_begun = ready is not None and session.heard
    return Ending(session.session_id, outcome, has_begun, is_stdio, is_command)


def status_mode(environment: Environment, choice: str, *, otherwise: StatusMode = StatusMode.BAR) -> StatusMode | None:
    """How the state of the link is shown; None where there is no screen, or one that does no more than print.

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
    """Set what a session that has begun needs for the whole process."""
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
