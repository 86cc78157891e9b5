"""``smp forward``: local ports and SOCKS servers on a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from session_manager_plugin.cli.aws_options import aws_options
from session_manager_plugin.cli.click_options import WholeNumber, command
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.exit_status import Exit, ExitStatus
from session_manager_plugin.cli.session_options import link_options
from session_manager_plugin.cli.target_argument import TargetName
from session_manager_plugin.errors import ForwardEnded, UsageError

if TYPE_CHECKING:
    from session_manager_plugin.aws.settings import AwsSettings
    from session_manager_plugin.cli.process import Process
    from session_manager_plugin.utils.link_options import LinkOptions

MAX_POOL = 16
"""Sessions to one destination; AWS limits how many an account may have and start."""

_EXAMPLES = """
smp forward web-1 -L 8080:80      (port 80 of the target)
smp forward web-1 -L 5432:db.internal:5432 -L 6379:cache.internal:6379
smp forward web-1 -L 5432:rds:orders      (the endpoint of an RDS instance or cluster)
smp forward web-1 -L /tmp/docker.sock:2375      (a unix socket here)
smp forward web-1 -D 1080      (a SOCKS5 server, localhost:1080)
smp forward web-1 -L 8080:80 --pool 8      (8 sessions carry 8 times as much)
"""


@command(
    "forward",
    examples=_EXAMPLES,
    groups={
        "Ports": ("forwards", "socks", "pool", "new_session"),
        "AWS": ("region", "profile"),
        "For programs": ("as_json", "ready_fd"),
    },
)
@click.argument("target", required=False, type=TargetName(), metavar="[TARGET]")
@click.option(
    "-L",
    "--local",
    "forwards",
    metavar="SPEC",
    multiple=True,
    help="LOCAL:PORT, LOCAL:HOST:PORT or LOCAL:rds:NAME. Can be repeated. Also BIND:LOCAL:HOST:PORT and "
    "LOCAL:rds:NAME:PORT. LOCAL is a port, 0 or nothing for any that is free, or the path of a unix socket. Without "
    "BIND it listens on loopback. Example: 5432:db.internal:5432.",
)
@click.option(
    "-D",
    "--dynamic",
    "socks",
    metavar="[BIND:]PORT",
    multiple=True,
    help="Port of a SOCKS5 server; can be repeated. The target resolves the names. Each destination has a session, "
    "32 of them at most, which is closed after 60 s without a connection. Example: 1080.",
)
@click.option(
    "--pool",
    type=WholeNumber(1, MAX_POOL),
    default=1,
    show_default=True,
    metavar="N",
    help="Sessions for each destination. Connections are dealt to them in turn. The agent limits the rate of a "
    f"session. 1 to {MAX_POOL}.",
)
@click.option(
    "--new-session",
    is_flag=True,
    help="Replace a session that has ended. Also one that could not be restored. Without it the command ends with "
    "status 255.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print an object a line for each event. event is ready, connection, closed, reconnecting, restored or ended.",
)
@click.option(
    "--ready-fd",
    type=WholeNumber(3),
    metavar="N",
    help="Descriptor to write the ready events to. One for each port, when all accept connections; then it is closed.",
)
@aws_options
@link_options
def forward(
    environment: Environment,
    *,
    target: str | None,
    forwards: tuple[str, ...],
    socks: tuple[str, ...],
    pool: int,
    new_session: bool,
    as_json: bool,
    ready_fd: int | None,
    settings: AwsSettings,
    link: LinkOptions,
) -> Exit:
    """Forward local ports to a target, and to hosts that the target reaches.

    TARGET is what smp start takes; without it, at a terminal, it is chosen from a list. Every port is bound before a
    session is started; a port that is in use is an error. One session serves a destination, with any number of
    connections. A session whose connection is lost is restored.

    Ctrl-C ends it; a second one at once. It also ends with the program that started it, except under nohup.
    """
    from session_manager_plugin.cli.descriptors import raise_descriptor_limit
    from session_manager_plugin.cli.exit_status import Signalled
    from session_manager_plugin.cli.forward_report import ForwardReport
    from session_manager_plugin.cli.forward_run import run_forward
    from session_manager_plugin.cli.process import run_process
    from session_manager_plugin.cli.render import tell_note, tell_signalled
    from session_manager_plugin.cli.target_argument import chosen_target
    from session_manager_plugin.session.forward_spec import parse_forward, parse_socks

    if not forwards and not socks:
        raise UsageError("nothing to forward: give -L SPEC or -D PORT, as in -L 8080:80 or -D 1080")
    specs, socks_addresses = [parse_forward(text) for text in forwards], [parse_socks(text) for text in socks]
    report = ForwardReport(environment, as_json=as_json, ready_fd=ready_fd)
    named = target if target is not None else chosen_target(environment, settings).id

    async def main(process: Process) -> None:
        from session_manager_plugin.aws.signing import OpeningSigner
        from session_manager_plugin.forwarding.forward import Forward
        from session_manager_plugin.library import ForwardSessions

        def signer() -> OpeningSigner:
            return OpeningSigner(settings, tell=report.note)

        forwarding = Forward(
            ForwardSessions(named, settings, link, signer),
            specs,
            socks_addresses,
            pool=pool,
            new_session=new_session,
            on_event=report.handle,
        )
        await run_forward(forwarding, process.interruption, report)

    raise_descriptor_limit()
    try:
        run_process(environment, main)
    except ForwardEnded as error:
        raise ForwardEnded(f"{error}; with --new-session it would be replaced") from error
    except Signalled as error:
        begun = "" if report.is_ready else ", which had not begun,"
        tell_signalled(environment, error, f"forwarding{begun} was ended {error}")
        raise
    tell_note(environment, "forwarding ended")
    return Exit(ExitStatus.SUCCESS)
