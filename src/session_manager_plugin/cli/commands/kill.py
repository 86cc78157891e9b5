"""``smp kill``: ends sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from session_manager_plugin.cli.aws_options import aws_options
from session_manager_plugin.cli.click_options import command
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.exit_status import ExitStatus
from session_manager_plugin.errors import SessionManagerError, UsageError

if TYPE_CHECKING:
    from session_manager_plugin.aws.settings import AwsSettings
    from session_manager_plugin.cli.signals import Interruption

_EXAMPLES = """
smp kill alice-0123456789abcdef0
smp kill --mine
"""


@command("kill", examples=_EXAMPLES)
@click.argument("sessions", nargs=-1, metavar="[SESSION]...")
@click.option("--mine", is_flag=True, help="Terminate all your active sessions.")
@aws_options
def kill(environment: Environment, *, sessions: tuple[str, ...], mine: bool, settings: AwsSettings) -> int:
    """Terminate sessions.

    SESSION is a session's id; smp ls --sessions lists yours. The exit status is 255 if one could not be terminated.
    """
    import asyncio

    from session_manager_plugin.aws.session_list import list_own_sessions, terminate_sessions
    from session_manager_plugin.aws.threads import in_thread
    from session_manager_plugin.cli.render import tell, tell_error
    from session_manager_plugin.cli.signals import run

    if bool(sessions) == mine:
        raise UsageError("give the ids of sessions, or --mine" + (", not both" if mine else ""))
    if not all(map(str.strip, sessions)):
        raise UsageError("the id of a session is empty")
    outcomes: dict[str, SessionManagerError | None] = {}

    def work() -> None:
        ids = [each.id for each in list_own_sessions(settings, history=False)] if mine else list(sessions)
        terminate_sessions(settings, ids, outcomes.__setitem__)

    async def main(_interruption: Interruption) -> None:
        await asyncio.wrap_future(in_thread(work))

    try:
        run(main)
    finally:
        for session_id, error in outcomes.items():
            if error is not None:
                tell_error(environment, error)
            elif not environment.quiet:
                tell(environment, f"session {session_id} terminated", error=False)
    if not outcomes and not environment.quiet:
        tell(environment, "you have no active session", error=False)
    return ExitStatus.FAILURE if any(outcomes.values()) else ExitStatus.SUCCESS
