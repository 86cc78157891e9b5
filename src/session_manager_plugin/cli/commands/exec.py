"""``smp exec``: runs a command on a target and ends with its exit status."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from session_manager_plugin.cli.aws_options import aws_options
from session_manager_plugin.cli.click_options import (
    Choice,
    Command,
    FileName,
    Seconds,
    WholeNumber,
)
from session_manager_plugin.cli.click_options import command as smp_command
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.session_options import link_options, terminal_options
from session_manager_plugin.cli.target_argument import TargetName
from session_manager_plugin.errors import UsageError
from session_manager_plugin.execution.fleet import FANOUT

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
smp exec web-1 web-2 -- uptime      (each line with the name of its target)
smp exec --tag role=web -b --shell -- 'nginx -v 2>&1'      (equal outputs once)
smp exec --targets hosts.txt --batch 10% --fail-fast -- /opt/app/update
smp exec --tag role=web --via send-command --fanout 200 -b -- uptime      (thousands)
smp exec web-1 --via shell -- psql shop < report.sql      (with standard input)
"""


class _ExecCommand(Command):
    """Everything after the first ``--`` is the remote command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments before ``--``; those after it become the parameter ``words``."""
        end = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:end])
        ctx.params["words"] = tuple(args[end + 1 :])
        return rest


@smp_command(
    "exec",
    examples=_EXAMPLES,
    groups={
        "Command": ("shell", "terminal", "timeout"),
        "Several targets": ("tags", "fanout", "batch", "fold", "as_json"),
        "AWS": ("region", "profile"),
    },
    cls=_ExecCommand,
)
@click.argument("targets", nargs=-1, type=TargetName(), metavar="TARGET... -- COMMAND...")
@click.option("--shell", is_flag=True, help="Run the command by sh -c, as ssh does. Its words are joined with spaces.")
@click.option("-t", "--terminal", is_flag=True, help="Run the command in a terminal, as for top or sudo.")
@click.option(
    "--via",
    type=Choice("auto", "document", "shell", "send-command"),
    default="auto",
    show_default=True,
    help="How the command is run. document runs it by AWS-StartNonInteractiveCommand, which keeps its outputs apart. "
    "shell types it into a shell session: standard error is part of the output, and standard input is passed on. auto "
    "takes the shell where the document is denied or the target's agent is older than 3.1.1511.0. send-command has "
    "Run Command of Systems Manager run it by AWS-RunShellScript, for thousands of targets: an output then ends at its "
    "24,000 characters (standard error at 8,000).",
)
@click.option(
    "--timeout",
    type=Seconds(zero=False),
    help="Seconds that the command may take. Its start is included; then the session is terminated, and the exit "
    "status is 124. Example: 60.",
)
@click.option(
    "--targets",
    "targets_file",
    type=FileName(),
    metavar="FILE",
    help="File with further targets, one a line. - is standard input. What follows a # does not count.",
)
@click.option(
    "--tag",
    "tags",
    metavar="KEY=VALUE",
    multiple=True,
    help="All online targets with this tag. Repeated, those with all of them. Example: role=web.",
)
@click.option(
    "--fanout",
    type=WholeNumber(1),
    default=FANOUT,
    show_default=True,
    metavar="N",
    help="At most so many targets at once.",
)
@click.option(
    "--batch",
    default="",
    metavar="N|N%",
    help="So many targets in turn. The next begin when all before have ended. Example: 10%.",
)
@click.option(
    "-b",
    "--fold",
    is_flag=True,
    help="Show equal outputs once, at the end. They stand under the names of their targets.",
)
@click.option("--fail-fast", is_flag=True, help="Begin with no further target once one has failed.")
@click.option(
    "--max-errors",
    type=WholeNumber(0),
    metavar="N",
    help="Begin with no further target once more than so many have failed.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print an object a line. Its keys: target, name, status, stdout, stderr, seconds and error. "
    "Also truncated, if Run Command has kept a part only, and replaced, if U+FFFD stands for bytes that are not UTF-8.",
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
    targets_file: str | None,
    tags: tuple[str, ...],
    fanout: int,
    batch: str,
    fold: bool,
    fail_fast: bool,
    max_errors: int | None,
    as_json: bool,
    reason: str,
    settings: AwsSettings,
    link: LinkOptions,
    options: TerminalOptions,
) -> Exit:
    """Run a command on targets, with both outputs apart and the exit status.

    TARGET is what smp start takes: an id, a name, an address or tag:KEY=VALUE. The command follows after --. Its words
    reach the program on the target as they are, and no shell there reads them, unless --shell is given.

    Both outputs arrive while the command runs. Ctrl-C interrupts the command; a second one leaves. On every way out the
    session is terminated.

    The exit status is the command's; 128+n if signal n has killed it, 255 if an unknown signal has or something failed
    here, which a message says, and 124 after --timeout. Of several targets the highest counts.

    On several targets each line has the name of its target in front, those of standard error on standard error. -b
    and --json show the outputs of a target together. A target that fails stops no other. A summary follows on
    standard error. Where AWS throttles StartSession, sessions are started as fast as it allows.

    Without -t a command has no standard input: the agent passes none on. Input from a file or a pipeline is refused
    before the command begins; if other input arrives while it runs, a message says so and the exit status is not 0.
    --via shell delivers all input, as well as what is typed.
    """
    from session_manager_plugin.cli.exec_one import SingleRun, run_one
    from session_manager_plugin.cli.fleet.options import FleetRun
    from session_manager_plugin.cli.fleet.run import run_fleet
    from session_manager_plugin.cli.fleet.targets import read_target_file
    from session_manager_plugin.execution.remote_command import Via, command_of

    if not words:
        raise UsageError("no command: it follows after --, as in smp exec TARGET -- uptime")
    several = targets_file is not None or bool(tags) or len(targets) > 1
    if not targets and not several:
        raise UsageError("no TARGET: give an id, a name, an address or tag:KEY=VALUE before --; smp ls lists them")
    if terminal and via != "auto":
        raise UsageError("-t and --via exclude each other")
    command = command_of(words, shell=shell)
    if several or fold or as_json or via == "send-command":
        if terminal:
            raise UsageError("-t is for one target, without -b and --json")
        if fold and as_json:
            raise UsageError("-b and --json exclude each other")
        return run_fleet(
            environment,
            FleetRun(
                names=(*targets, *(read_target_file(targets_file, environment.stdin) if targets_file else ())),
                tags=tags,
                command=command,
                via=None if via == "send-command" else Via(via),
                fanout=fanout,
                batch=batch,
                max_errors=0 if fail_fast else max_errors,
                timeout=timeout,
                reason=reason,
                folds=fold,
                as_json=as_json,
                aws=settings,
                link=link,
            ),
        )
    single = SingleRun(
        target=targets[0],
        command=command,
        via=Via.TERMINAL if terminal else Via(via),
        timeout=timeout,
        reason=reason,
        aws=settings,
        link=link,
    )
    return run_one(environment, single, options)
