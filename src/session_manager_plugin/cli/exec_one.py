"""``smp exec`` on one target: the command uses our standard streams."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.signing import OpeningSigner
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.exit_status import Exit, ExitStatus, exit_of_outcome
from session_manager_plugin.cli.process import Process, run_process
from session_manager_plugin.cli.render import tell, tell_ending, tell_note
from session_manager_plugin.cli.run_options import TerminalOptions, TimeLimit
from session_manager_plugin.cli.session import Ending, run_terminal_session
from session_manager_plugin.cli.signals import INTERRUPT_PATIENCE
from session_manager_plugin.cli.standard_input import can_read_terminal, has_input, watched_input
from session_manager_plugin.cli.target_argument import target_label
from session_manager_plugin.errors import UsageError
from session_manager_plugin.execution.remote_command import RemoteCommand, Via, attempt_ways
from session_manager_plugin.library import start
from session_manager_plugin.session.outcome import Outcome
from session_manager_plugin.session.protocols import DEFAULT_SIZE, TerminalSize
from session_manager_plugin.terminal.size import terminal_size
from session_manager_plugin.utils.link_options import LinkOptions

BACKGROUND_PATIENCE = 10.0
"""Seconds that a command with a program in the background has to end, until the user is told what it waits for."""
_WAITING = "waiting for the command, and what it started, to end; Ctrl-C again leaves"
_BACKGROUND = (
    "still waiting: a command has ended when its programs in the background have closed their outputs too, as by "
    ">/dev/null 2>&1"
)
_NO_INPUT = "the agent passes no standard input to a command"
_READERS = frozenset(("bash", "cat", "dash", "fish", "ksh", "perl", "psql", "python", "python3", "sh", "tee", "zsh"))
"""Commands that read standard input if they have no arguments, and end at once without it."""


@dataclass(frozen=True)
class SingleRun:
    """A command and the target to run it on."""

    target: str
    command: RemoteCommand
    via: Via
    timeout: float | None
    """Seconds; None for no limit."""
    reason: str
    aws: AwsSettings
    link: LinkOptions


def run_one(environment: Environment, single: SingleRun, options: TerminalOptions) -> Exit:
    """Run the command with the standard streams. Returns the exit status. Raises ``UsageError``.

    Status line, escapes and recording of ``options`` are for ``Via.TERMINAL``.
    """
    if single.via in (Via.AUTO, Via.DOCUMENT):
        single.command.session_request(Via.DOCUMENT)
        if has_input(environment.stdin):
            raise UsageError(f"{_NO_INPUT}: redirect it from /dev/null, or use --via shell, which does")
    elif single.via is Via.SHELL and environment.is_input_closed:
        raise UsageError("standard input is closed: redirect it from /dev/null, or from what the command is to read")
    label = target_label(environment, single.aws, single.target)
    options = dataclasses.replace(options, is_shell=False, label=label)
    if single.via is not Via.TERMINAL:
        options = dataclasses.replace(options, status=None, escape_character=None)
    ending = Ending("")
    is_input_lost = False

    def lose_input() -> None:
        nonlocal is_input_lost
        is_input_lost = True
        tell(environment, f"{_NO_INPUT}; --via shell does")

    async def main(process: Process) -> Outcome:
        limit = None if single.timeout is None else TimeLimit.from_now(single.timeout)

        async def attempt(via: Via) -> Outcome:
            nonlocal ending, is_input_lost
            is_input_lost = False
            if via is Via.TERMINAL and not single.target.startswith("ecs:"):  # a container runs the words without sh
                request, handlers = single.command.in_terminal(_remote_size(environment, options))
            else:
                request = single.command.session_request(via)
                handlers = single.command.handlers(via, has_input=_has_input(environment))
            document, parameters = request
            session = start(
                single.target,
                document=document,
                parameters=parameters,
                reason=single.reason,
                aws=single.aws,
                link=single.link,
                signer=OpeningSigner(single.aws, tell=partial(tell_note, environment)),
            )
            with contextlib.ExitStack() as block:
                if via is Via.DOCUMENT:
                    block.enter_context(watched_input(environment.stdin, lose_input))
                    block.enter_context(_refused_keys(environment))
                    if single.command.has_background:
                        _note_later(environment, block, BACKGROUND_PATIENCE, _BACKGROUND)
                note_waiting = partial(_note_later, environment, block, INTERRUPT_PATIENCE, _WAITING)
                run_options = dataclasses.replace(
                    options,
                    handlers=handlers,
                    time_limit=limit,
                    interrupted=None if via is Via.TERMINAL else note_waiting,
                )
                ending = await run_terminal_session(session, process, run_options)
            if via is Via.DOCUMENT and ending.outcome.status == 0 and _expects_input(environment, single.command):
                tell_note(environment, f"{_NO_INPUT}; -t runs it in a terminal")
            return ending.outcome

        return await attempt_ways(single.via, attempt, partial(tell_note, environment))

    outcome = run_process(environment, main)
    if not outcome.is_normal:
        tell_ending(environment, ending._replace(outcome=outcome))
    end = exit_of_outcome(outcome)
    return Exit(ExitStatus.FAILURE, failed=True) if is_input_lost and not end.status else end


def _remote_size(environment: Environment, options: TerminalOptions) -> TerminalSize:
    """Return the size of the command's terminal: ours, without the row of a bar."""
    size = terminal_size(environment.stdout, environment.stdin, environment.stderr) or DEFAULT_SIZE
    if options.status is None:
        return size
    from session_manager_plugin.terminal.display import first_remote_size

    return first_remote_size(options.status, size)


def _has_input(environment: Environment) -> bool:
    """Whether standard input is for the command, if it can be passed on. A terminal is not, in the background."""
    return not environment.is_terminal(environment.stdin) or can_read_terminal(environment.stdin)


def _expects_input(environment: Environment, command: RemoteCommand) -> bool:
    """Whether the command, started at a terminal, is a program that reads its standard input to the end."""
    return environment.is_terminal(environment.stdin) and command.line.removeprefix("exec ") in _READERS


def _note_later(environment: Environment, block: contextlib.ExitStack, seconds: float, sentence: str) -> None:
    """Write an informative message after some seconds, unless ``block`` has ended."""
    block.callback(asyncio.get_running_loop().call_later(seconds, tell_note, environment, sentence).cancel)


@contextlib.contextmanager
def _refused_keys(environment: Environment) -> Iterator[None]:
    """During the block, write a message once if something is typed, because the command does not receive it."""
    loop, fd = asyncio.get_running_loop(), environment.stdin
    if not can_read_terminal(fd):
        yield
        return

    def typed() -> None:
        loop.remove_reader(fd)
        tell_note(environment, f"{_NO_INPUT}; -t runs it in a terminal")

    loop.add_reader(fd, typed)
    try:
        yield
    finally:
        loop.remove_reader(fd)
