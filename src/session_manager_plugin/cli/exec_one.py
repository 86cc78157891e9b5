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
from session_manager_plugin.cli.exit_status import Exit, exit_of_outcome
from session_manager_plugin.cli.process import Process, run_process
from session_manager_plugin.cli.render import tell, tell_ending, tell_note
from session_manager_plugin.cli.run_options import TerminalOptions, TimeLimit
from session_manager_plugin.cli.session import Ending, run_terminal_session
from session_manager_plugin.cli.standard_input import has_pending_input, is_stream
from session_manager_plugin.errors import UsageError
from session_manager_plugin.execution.remote_command import RemoteCommand, Via, attempt_ways
from session_manager_plugin.library import start
from session_manager_plugin.session.outcome import Outcome
from session_manager_plugin.utils.link_options import LinkOptions

_NO_INPUT = "the agent passes no standard input to a command"


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
        if has_pending_input(environment.stdin):
            raise UsageError(f"{_NO_INPUT}: redirect it from /dev/null, or use --via shell, which does")
    options = dataclasses.replace(options, is_shell=False, label=single.target)
    if single.via is not Via.TERMINAL:
        options = dataclasses.replace(options, status=None, escape_character=None)
    ending = Ending("")

    async def main(process: Process) -> Outcome:
        limit = None if single.timeout is None else TimeLimit.from_now(single.timeout)

        async def attempt(via: Via) -> Outcome:
            nonlocal ending
            document, parameters = single.command.session_request(via)
            session = start(
                single.target,
                document=document,
                parameters=parameters,
                reason=single.reason,
                aws=single.aws,
                link=single.link,
                signer=OpeningSigner(single.aws, tell=partial(tell_note, environment)),
            )
            run_options = dataclasses.replace(
                options,
                handlers=single.command.handlers(via, has_input=not environment.is_terminal(environment.stdin)),
                time_limit=limit,
            )
            with _refused_input(environment) if via is Via.DOCUMENT else contextlib.nullcontext():
                ending = await run_terminal_session(session, process, run_options)
            return ending.outcome

        return await attempt_ways(single.via, attempt, partial(tell_note, environment))

    outcome = run_process(environment, main)
    if not outcome.is_normal:
        tell_ending(environment, ending._replace(outcome=outcome))
    return exit_of_outcome(outcome)


@contextlib.contextmanager
def _refused_input(environment: Environment) -> Iterator[None]:
    """During the block, write a message once if standard input has data, because the command does not receive it."""
    loop, fd = asyncio.get_running_loop(), environment.stdin
    if not is_stream(fd):
        yield
        return

    def readable() -> None:
        loop.remove_reader(fd)
        if has_pending_input(fd):
            tell(environment, f"{_NO_INPUT}; --via shell does", error=False)

    loop.add_reader(fd, readable)
    try:
        yield
    finally:
        loop.remove_reader(fd)
