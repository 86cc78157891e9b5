"""`smp demo`: a sandbox and a session with it, in one process."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from session_manager_plugin.cli.click_options import command, escape_option, record_options, status_option
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.errors import SessionExpired

if TYPE_CHECKING:
    from session_manager_plugin.agent import Sandbox
    from session_manager_plugin.cli.exit_status import Exit
    from session_manager_plugin.cli.session import Ending
    from session_manager_plugin.cli.signals import Interruption
    from session_manager_plugin.session.protocols import ResumedSession

WHAT_NEXT = "next: smp start, for your instances; smp sandbox, for a local account"

_EXAMPLES = """
smp demo
smp demo --status off
echo 'uname -a; exit' | smp demo
"""


class _Resumer:
    """Asks a sandbox in this process, without the detour by the API and an SDK."""

    def __init__(self, sandbox: Sandbox, session_id: str) -> None:
        self._sandbox = sandbox
        self._session_id = session_id

    async def resume_session(self) -> ResumedSession:
        """See `ResumeService`."""
        from session_manager_plugin.session.protocols import ResumedSession

        resumed = self._sandbox.resume(self._session_id)
        if resumed.token is None:
            raise SessionExpired("the session is over")
        return ResumedSession(resumed.token, resumed.stream_url)


@command("demo", examples=_EXAMPLES)
@status_option
@escape_option
@record_options
def demo(environment: Environment, *, status: str, escape_char: str, record: str | None, record_input: bool) -> Exit:
    """Try a session on this machine.

    Runs a Session Manager on loopback (smp sandbox) and joins a session with it: your shell, behind a message
    gateway, a websocket and an agent with a pseudo-terminal. No AWS account is involved. Leave it as you leave
    a shell.
    """
    from session_manager_plugin.agent import Sandbox
    from session_manager_plugin.cli.exit_status import exit_of_outcome
    from session_manager_plugin.cli.recording_options import recorder
    from session_manager_plugin.cli.render import tell, tell_ending
    from session_manager_plugin.cli.session import join, status_mode
    from session_manager_plugin.cli.signals import run
    from session_manager_plugin.library import connect
    from session_manager_plugin.terminal.escapes import parse_escape_character

    escape_character = parse_escape_character(escape_char)
    open_recording = recorder(environment, record, keeps_input=record_input)
    # The sandbox shares this process, and so its end: no way of dying leaves a shell or an open port behind. It
    # shares the event loop too; nothing in either of them blocks it.
    shell = environment.variables.get("SHELL", "")
    if not os.access(shell, os.X_OK):
        shell = "sh"
    environment.take("SMP_TOKEN")

    async def main(interruption: Interruption) -> Ending:
        with environment.queued_messages():
            async with Sandbox(shell=shlex.quote(shell)) as sandbox:
                started = await sandbox.start_session()
                assert started.token is not None
                return await join(
                    connect(started.stream_url, started.token, resume_service=_Resumer(sandbox, started.session_id)),
                    environment,
                    interruption,
                    status=status_mode(environment, status),
                    escape_character=escape_character,
                    open_recording=open_recording,
                )

    if not environment.quiet:
        name = os.path.basename(shell)
        tell(
            environment,
            f"this is a demo: {name} here, through a local Session Manager; exit leaves it",
            error=False,
        )
    ending = run(main)
    tell_ending(environment, ending)
    if ending.outcome.is_normal and not environment.quiet:
        tell(environment, WHAT_NEXT, error=False)
    return exit_of_outcome(ending.outcome)
