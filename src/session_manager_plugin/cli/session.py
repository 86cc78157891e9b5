"""One session at the command line: opened, joined to the standard streams, and left cleanly whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.escape_commands import EscapeCommands
from session_manager_plugin.cli.exit_status import HANG_UP, Signalled
from session_manager_plugin.cli.link_news import LinkNews
from session_manager_plugin.cli.render import tell
from session_manager_plugin.cli.signals import Interruption
from session_manager_plugin.errors import ConfigurationError, OutputIncomplete, SessionEnded
from session_manager_plugin.protocol.events import SessionReady
from session_manager_plugin.session.handler_options import OpenRecording, StdinEof
from session_manager_plugin.session.protocols import Notices
from session_manager_plugin.session.runner import COMMAND, Session
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
    """How a session ended."""

    session_id: str
    status: int = 0
    """The session's own exit status, when it ended normally."""
    error: BaseException | None = None
    """What ended it, when that was no normal end."""
    began: bool = False
    """Whether anything has come from the far end: a shell counts as ready after some seconds without a word."""
    by_far_end: bool = False
    incomplete: str = ""
    """What is known to be missing of the output, where `error` does not say it itself; empty when nothing is."""
    is_stdio: bool = False
    """Whether standard input and output belonged to another program's protocol, that of `ssh` above all."""
    is_command: bool = False
    """Whether standard error showed that of a remote command."""

    @property
    def is_hang_up_of_ssh(self) -> bool:
        """Whether this is the normal end of `ssh`: it ends its ProxyCommand by SIGHUP, or just leaves it behind."""
        return self.is_stdio and isinstance(self.error, Signalled) and self.error.number == HANG_UP


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
    error: BaseException | None = None
    ready: SessionReady | None = None
    console: Console | None = None
    listener: Listener | None = None
    own_status, by_far_end = 0, False
    try:
        listener = bind() if bind is not None else None
        leave_escape = f"{show_escape_character(escape_character)}." if escape_character is not None else ""
        console = _open_console(environment, status, leave_escape)
        interruption.restore, interruption.continued = console.give_back, console.continued
        interruption.offer, interruption.ending = session.interrupt, lambda: session.interrupted
        if escape_character is not None and console.is_terminal:
            escapes = EscapeCommands(console, session, escape_character, interruption.fail)
            interruption.suspend_with(escapes.suspend)
            escapes.start()
        LinkNews(environment, session, console, leave_escape).start()
        ready = await session.open()
        _prepare_process(ready)
        if began is not None:
            began(ready)
        elif ready.customer_message and environment.is_interactive and not environment.quiet:
            tell(environment, ready.customer_message, error=False)
        if ready.session_type == "NonInteractiveCommands" or ready.is_stdio:
            await console.stop_listening()  # the input is left to the next reader, or belongs to ssh
        own_status = await session.run(
            console,
            terminal=console,
            stdin_eof=stdin_eof,
            notices=notices,
            listener=listener,
            open_recording=open_recording,
        )
        by_far_end = await _is_over(session)
    except asyncio.CancelledError:
        error = interruption.error
        if error is None:
            raise
    except SessionEnded as ended:
        # Without a text it is a normal end, however early: a command may be over before it has said anything.
        error, by_far_end = ended if ended.output else None, True
    except OutputIncomplete as missing:
        error, by_far_end = missing, True
    except Exception as failure:
        error = failure
    finally:
        interruption.leaving = True
        if console is not None:
            console.give_back()
        await _leave(session, None if by_far_end else terminate, interruption.time_left(LEAVE_TIMEOUT))
        if console is not None:
            console.close()
        if listener is not None:
            listener.close()
    if error is not None and ready is not None and environment.has_screen:
        environment.write_error("\n")  # the cursor stands behind the remote's prompt
    is_stdio = ready is not None and ready.is_stdio
    is_command = ready is not None and ready.session_type == COMMAND
    has_begun = ready is not None and session.heard
    incomplete = "" if isinstance(error, OutputIncomplete) else session.incomplete
    return Ending(session.session_id, own_status, error, has_begun, by_far_end, incomplete, is_stdio, is_command)


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


async def _is_over(session: Session) -> bool:
    """Whether the far end has closed the session."""
    try:
        async with asyncio.timeout(0):
            await session.wait()
    except TimeoutError:
        return False
    except OutputIncomplete:
        pass  # no matter: it was closed because we asked for it
    return True


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
