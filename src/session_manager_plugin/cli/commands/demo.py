"""``smp demo``: a sandbox and a session with it, in one process."""

from __future__ import annotations

import dataclasses
import os
import shlex
from typing import TYPE_CHECKING

import click

from session_manager_plugin.cli.click_options import command
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.fault_options import latency_options, link_faults
from session_manager_plugin.cli.own_command import typed_command
from session_manager_plugin.cli.session_options import terminal_options
from session_manager_plugin.errors import SessionExpired

if TYPE_CHECKING:
    from session_manager_plugin.agent import Sandbox
    from session_manager_plugin.cli.exit_status import Exit
    from session_manager_plugin.cli.process import Process
    from session_manager_plugin.cli.run_options import TerminalOptions
    from session_manager_plugin.cli.session import Ending
    from session_manager_plugin.session.protocols import ResumedSession

WHAT_TO_TRY = "try ~? (escapes), ~r (cut the link)"
BAD_LINK = "{smp} demo --faults (a bad link)"
WHAT_NEXT = "next: {smp} start, for your instances; {smp} sandbox, for a local account"
CUT_EVERY = 20_000
"""Bytes after which the websocket of a bad link is cut: some screenfuls."""

_EXAMPLES = """
smp demo
smp demo --faults                            with a bad link
smp demo --latency 150ms --predict always    with a slow one
echo 'uname -a; exit' | smp demo
"""


class _Resumer:
    """Resumes a session of a sandbox in this process, without the API and an SDK."""

    def __init__(self, sandbox: Sandbox, session_id: str) -> None:
        self._sandbox = sandbox
        self._session_id = session_id

    async def resume_session(self) -> ResumedSession:
        """See ``ResumeService``."""
        from session_manager_plugin.session.protocols import ResumedSession

        resumed = self._sandbox.resume(self._session_id)
        if resumed.token is None:
            raise SessionExpired("the session is over")
        return ResumedSession(resumed.token, resumed.stream_url)


@command(
    "demo", examples=_EXAMPLES, groups={"Link": ("faults", "latency"), "Terminal": ("status", "escape_char", "record")}
)
@click.option(
    "--faults",
    is_flag=True,
    help="Have a bad link: a tenth of the messages is lost, duplicated or late, and the connection is cut after every "
    "few screens. smp sandbox has each of these as an option.",
)
@latency_options
@terminal_options
def demo(environment: Environment, *, faults: bool, latency: float, jitter: float, options: TerminalOptions) -> Exit:
    """Try a session on this machine.

    Runs a Session Manager on loopback (smp sandbox) and joins a session with it: your shell, behind a message
    gateway, a websocket and an agent with a pseudo-terminal. No AWS account is involved. Leave it as you leave
    a shell.
    """
    from session_manager_plugin.agent import Faults, MessageFaults, Sandbox
    from session_manager_plugin.agent.sandbox import TARGET
    from session_manager_plugin.cli.exit_status import exit_of_outcome
    from session_manager_plugin.cli.process import run_process
    from session_manager_plugin.cli.render import tell_ending
    from session_manager_plugin.cli.session import run_terminal_session
    from session_manager_plugin.library import connect

    # The sandbox ends with this process, however that ends, so neither a shell nor an open port is left behind. It also
    # shares the event loop, which neither side blocks.
    shell = environment.variables.get("SHELL", "")
    if not os.access(shell, os.X_OK):
        shell = "sh"
    environment.take("SMP_TOKEN")
    bad = {"drop": 0.04, "duplicate": 0.03, "delay": 0.03} if faults else {}
    messages = MessageFaults(**bad | link_faults(latency, jitter))
    link = Faults(to_client=messages, to_agent=messages, cut_every=CUT_EVERY if faults else 0, pong_delay=latency)

    async def main(process: Process) -> Ending:
        async with Sandbox(shell=shlex.quote(shell), faults=link) as sandbox:
            started = await sandbox.start_session(target=TARGET)
            assert started.token is not None
            resumer = _Resumer(sandbox, started.session_id)
            session = connect(started.stream_url, started.token, resume_service=resumer)
            named = dataclasses.replace(options, label=f"{TARGET} {sandbox.region}")
            return await run_terminal_session(session, process, named)

    name = os.path.basename(shell)
    _tell_wrapped(environment, f"this is a demo: {name} here, through a local Session Manager; exit leaves it")
    smp = typed_command(environment)
    if options.escape_character is not None and environment.has_screen:
        _tell_wrapped(environment, WHAT_TO_TRY if faults else f"{WHAT_TO_TRY}, {BAD_LINK.format(smp=smp)}")
    ending = run_process(environment, main)
    tell_ending(environment, ending)
    if ending.outcome.is_normal:
        _tell_wrapped(environment, WHAT_NEXT.format(smp=smp))
    return exit_of_outcome(ending.outcome)


def _tell_wrapped(environment: Environment, text: str) -> None:
    """Write a note; at a terminal in as many lines as it takes, so that no command in it is broken."""
    import textwrap

    from session_manager_plugin.cli.render import tell_note
    from session_manager_plugin.terminal.size import terminal_size

    size = terminal_size(environment.stderr) if environment.is_terminal(environment.stderr) else None
    width = len(text) if size is None else max(1, size.columns - len(f"{environment.program}: "))
    for line in textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False):
        tell_note(environment, line)
