"""``smp ssh-proxy``: what the ProxyCommand of ssh runs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from session_manager_plugin.cli.aws_options import aws_options
from session_manager_plugin.cli.click_options import FileName, WholeNumber, command
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.session_options import link_options
from session_manager_plugin.cli.target_argument import TargetName
from session_manager_plugin.errors import UsageError

if TYPE_CHECKING:
    from session_manager_plugin.aws.settings import AwsSettings
    from session_manager_plugin.cli.exit_status import Exit
    from session_manager_plugin.cli.process import Process
    from session_manager_plugin.cli.session import Ending
    from session_manager_plugin.utils.link_options import LinkOptions

_EXAMPLES = """
smp ssh-proxy web-1      (shows the greeting of its sshd)
ssh -o ProxyCommand='smp ssh-proxy %h %p' ec2-user@web-1
"""


@command(
    "ssh-proxy",
    examples=_EXAMPLES,
    groups={"Login": ("push_key", "user")},
)
@click.argument("target", type=TargetName())
@click.argument("port", type=WholeNumber(1, 65535), default=22)
@click.option(
    "--push-key",
    type=FileName(),
    metavar="[FILE.pub]",
    is_flag=False,
    flag_value="",
    help="Push a public key by EC2 Instance Connect. It is accepted for 60 seconds, which is enough to log in. Without "
    "FILE.pub, as the last option, a key is made for the connection: its private half is in "
    "~/.local/state/smp/ssh/ID.USER for those 60 seconds, and an IdentityFile has to name that file; smp ssh-config "
    "--push-key writes it. Needs ec2-instance-connect:SendSSHPublicKey.",
)
@click.option("--user", metavar="USER", help="User that --push-key is for. %r in a ProxyCommand.")
@aws_options
@link_options
def ssh_proxy(
    environment: Environment,
    *,
    target: str,
    port: int,
    push_key: str | None,
    user: str | None,
    settings: AwsSettings,
    link: LinkOptions,
) -> Exit:
    """Connect standard input and output to a port of a target, 22 by default: a ProxyCommand for ssh.

    TARGET is the id of an instance, its name, its private address or tag:KEY=VALUE.

    Nothing but what ssh and the target say to each other is on standard output, and nothing is on standard error
    unless something goes wrong. The session is terminated when ssh ends.
    """
    from session_manager_plugin.cli.exit_status import exit_of_outcome
    from session_manager_plugin.cli.process import run_process
    from session_manager_plugin.cli.render import tell, tell_ending

    public_key = None
    if push_key is not None and not user:
        raise UsageError("--push-key needs --user, which is %r in a ProxyCommand")
    if push_key:
        from session_manager_plugin.cli.ssh_keys import read_public_key

        public_key = read_public_key(push_key)

    async def main(process: Process) -> Ending:
        from contextlib import AsyncExitStack

        from session_manager_plugin.aws.targets import resolve_target
        from session_manager_plugin.cli.run_options import TerminalOptions
        from session_manager_plugin.cli.session import run_terminal_session
        from session_manager_plugin.library import start
        from session_manager_plugin.session.document_names import SSH
        from session_manager_plugin.session.notices import PlainNotices

        target_id = await resolve_target(settings, target)
        async with AsyncExitStack() as stack:
            pushing = None
            if push_key is not None and user:
                from session_manager_plugin.cli.ssh_keys import accepted_key

                key = accepted_key(environment, settings, target_id, user, public_key)
                pushing = await stack.enter_async_context(key)
            session = start(target_id, document=SSH, parameters={"portNumber": [str(port)]}, aws=settings, link=link)
            options = TerminalOptions(awaited=pushing, notices=PlainNotices(partial(tell, environment, error=False)))
            ending = await run_terminal_session(session, process, options)
        return ending._replace(is_stdio=True)

    ending = run_process(environment, main)
    tell_ending(environment, ending)
    return exit_of_outcome(ending.outcome)
