"""`smp exec`: runs a command on a target and ends with its exit status."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from session_manager_plugin.cli.aws_options import aws_options
from session_manager_plugin.cli.click_options import (
    Choice,
    Command,
    Seconds,
    command,
)
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.session_options import link_options, terminal_options
from session_manager_plugin.cli.target_argument import TargetName
from session_manager_plugin.errors import UsageError

if TYPE_CHECKING:
    from session_manager_plugin.aws.settings import AwsSettings
    from session_manager_plugin.cli.exit_status import Exit
    from session_manager_plugin.cli.run_options import TerminalOptions
    from session_manager_plugin.utils.link_options import LinkOptions

_EXAMPLES = """
smp exec web-1 -- uptime
smp exec web-1 -- journalctl -u nginx -n 20 2>errors.txt
smp exec web-1 --shell -- 'df -h | grep /data'      (run by sh -c)
smp exec -t web-1 -- top      (with a terminal)
smp exec web-1 --via shell -- psql shop < report.sql      (with standard input)
"""


class _ExecCommand(Command):
    """Everything behind the first `--` is the remote command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what is in front of `--`; the command's words become the parameter `words`."""
        end = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:end])
        ctx.params["words"] = tuple(args[end + 1 :])
        return rest


@command(
    "exec",
    examples=_EXAMPLES,
    groups={
        "Command": ("shell", "terminal", "via", "timeout"),
        "AWS": ("region", "profile"),
    },
    cls=_ExecCommand,
)
@click.argument("targets", nargs=-1, type=TargetName(), metavar="TARGET -- COMMAND...")
@click.option("--shell", is_flag=True, help="Run the command by sh -c, as ssh does. Its words are joined with spaces.")
@click.option("-t", "--terminal", is_flag=True, help="Run the command in a terminal, as for top or sudo.")
@click.option(
    "--via",
    type=Choice("auto", "document", "shell"),
    default="auto",
    show_default=True,
    help="How the command is run. document runs it by AWS-StartNonInteractiveCommand, which keeps its outputs apart. "
    "shell types it into a shell session: standard error is part of the output, and standard input is passed on. auto "
    "takes the shell where the document is denied or the target's agent is older than 3.1.1511.0.",
)
@click.option(
    "--timeout",
    type=Seconds(zero=False),
    help="Seconds that the command may take. Its start is included; then the session is terminated, and the exit "
    "status is 124. Example: 60.",
)
@click.option("--reason", metavar="TEXT", default="", help="Reason, which AWS keeps with the session.")
@aws_options
@link_options
@terminal_options
def exec(
    environment: Environment,
    *,
    targets: tuple[str, ...],
    words: tuple[str, ...],
    shell: bool,
    terminal: bool,
    via: str,
    timeout: float | None,
    reason: str,
    settings: AwsSettings,
    link: LinkOptions,
    options: TerminalOptions,
) -> Exit:
    """Run a command on a target, with its two outputs apart and its exit status.

    TARGET is what smp start takes: an id, a name, an address or tag:KEY=VALUE. The command follows after --. Its words
    reach the program on the target as they are, and no shell there reads them, unless --shell is given.

    Both outputs arrive while the command runs. Ctrl-C interrupts the command; a second one leaves. On every way out the
    session is terminated.

    The exit status is the command's; 255 if it was killed by a signal or something failed here, which a message
    says, and 124 after --timeout.

    Without a terminal a command has no standard input: the agent passes none on. What is waiting there is refused, and
    --via shell delivers it.
    """
    from session_manager_plugin.cli.exec_one import SingleRun, run_one
    from session_manager_plugin.execution.remote_command import Via, command_of

    if not words:
        raise UsageError("no command: it follows after --, as in smp exec TARGET -- uptime")
    if not targets:
        raise UsageError("no TARGET: give an id, a name, an address or tag:KEY=VALUE before --; smp ls lists them")
    if terminal and via != "auto":
        raise UsageError("-t and --via exclude each other")
    single = SingleRun(
        target=targets[0],
        command=command_of(words, shell=shell),
        via=Via.TERMINAL if terminal else Via(via),
        timeout=timeout,
        reason=reason,
        aws=settings,
        link=link,
    )
    return run_one(environment, single, options)
