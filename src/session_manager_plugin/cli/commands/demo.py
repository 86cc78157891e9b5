"""`smp demo`: a sandbox and a session with it, in one process."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.options import command, status_option

if TYPE_CHECKING:
    from session_manager_plugin.cli.session import Ending
    from session_manager_plugin.cli.signals import Interruption

_EXAMPLES = """
smp demo
smp demo --status off
echo 'uname -a; exit' | smp demo
"""


@command("demo", examples=_EXAMPLES)
@status_option
def demo(environment: Environment, *, status: str) -> int | BaseException:
    """Try a session on this machine.

    Runs a Session Manager on loopback (smp sandbox) and joins a session with it: your shell, behind a message
    gateway, a websocket and an agent with a pseudo-terminal. No AWS account is involved. Leave it as you leave
    a shell.
    """
    from session_manager_plugin.agent import Sandbox
    from session_manager_plugin.cli.render import tell, tell_ending
    from session_manager_plugin.cli.session import join, wants_bar
    from session_manager_plugin.cli.signals import run
    from session_manager_plugin.library import connect

    # The sandbox shares this process, and so its end: no way of dying leaves a shell or an open port behind. It
    # shares the event loop too; nothing in either of them blocks it.
    shell = environment.variables.get("SHELL", "")
    if not os.access(shell, os.X_OK):
        shell = "sh"
    environment.take("SMP_TOKEN")

    async def main(interruption: Interruption) -> Ending:
        async with Sandbox(shell=shlex.quote(shell)) as sandbox:
            started = await sandbox.start_session()
            assert started.token is not None
            return await join(
                connect(started.stream_url, started.token),
                environment,
                interruption,
                bar=wants_bar(environment, status),
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
    return ending.status if ending.error is None else ending.error
