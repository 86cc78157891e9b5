"""`smp demo`: a sandbox and a session with it, in one process."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from session_manager_plugin.cli.click_options import command
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.session_options import terminal_options
from session_manager_plugin.errors import SessionExpired

if TYPE_CHECKING:
    from session_manager_plugin.agent import Sandbox
    from session_manager_plugin.cli.exit_status import Exit
    from session_manager_plugin.cli.process import Process
    from session_manager_plugin.cli.run_options import TerminalOptions
    from session_manager_plugin.cli.session import Ending
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


@command("demo", examples=_EXAMPLES, groups={"Terminal": ("status", "escape_char", "record")})
@terminal_options
def demo(environment: Environment, *, options: TerminalOptions) -> Exit:
    """Try a session on this machine.

    Runs a Session Manager on loopback (smp sandbox) and joins a session with it: your shell, behind a message
    gateway, a websocket and an agent with a pseudo-terminal. No AWS account is involved. Leave it as you leave
    a shell.
    """
    from session_manager_plugin.agent import Sandbox
    from session_manager_plugin.cli.exit_status import exit_of_outcome
    from session_manager_plugin.cli.process import run_process
    from session_manager_plugin.cli.render import tell_ending, tell_note
    from session_manager_plugin.cli.session import run_terminal_session
    from session_manager_plugin.library import connect

    # The sandbox shares this process, and so its end: no way of dying leaves a shell or an open port behind. It
    # shares the event loop too; nothing in either of them blocks it.
    shell = environment.variables.get("SHELL", "")
    if not os.access(shell, os.X_OK):
        shell = "sh"
    environment.take("SMP_TOKEN")

    async def main(process: Process) -> Ending:
        async with Sandbox(shell=shlex.quote(shell)) as sandbox:
            started = await sandbox.start_session()
            assert started.token is not None
            resumer = _Resumer(sandbox, started.session_id)
            session = connect(started.stream_url, started.token, resume_service=resumer)
            return await run_terminal_session(session, process, options)

    name = os.path.basename(shell)
    tell_note(environment, f"this is a demo: {name} here, through a local Session Manager; exit leaves it")
    ending = run_process(environment, main)
    tell_ending(environment, ending)
    if ending.outcome.is_normal:
        tell_note(environment, WHAT_NEXT)
    return exit_of_outcome(ending.outcome)
