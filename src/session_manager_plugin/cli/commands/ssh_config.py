"""``smp ssh-config``: the part of ssh's configuration that reaches targets."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from session_manager_plugin.cli.aws_options import aws_options
from session_manager_plugin.cli.click_options import FileName, command
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.own_command import absolute_command
from session_manager_plugin.cli.target_argument import TargetName
from session_manager_plugin.errors import ConfigurationError, SessionManagerError, UsageError

if TYPE_CHECKING:
    from session_manager_plugin.aws.managed_instances import ManagedInstance
    from session_manager_plugin.aws.settings import AwsSettings
    from session_manager_plugin.cli.signals import Interruption
    from session_manager_plugin.cli.ssh_blocks import Block, Login

_EXAMPLES = """
smp ssh-config --write web-1 && ssh ec2-user@web-1
smp ssh-config --write --all --user ec2-user --push-key      (no key on the instances)
smp ssh-config tag:role=bastion --profile prod >> ~/.ssh/config
"""

_IDENTITY_TIMEOUT = 5.0
"""Seconds for asking STS about the account."""
_TOLD = 10
"""Names of written targets that are listed, at most."""


@command(
    "ssh-config",
    examples=_EXAMPLES,
    groups={"Targets": ("everything",), "Login": ("user", "push_key"), "Output": ("write",)},
)
@click.argument("targets", nargs=-1, type=TargetName(), metavar="[TARGET]...")
@click.option("--all", "everything", is_flag=True, help="All managed instances, offline ones too.")
@click.option(
    "--write",
    is_flag=True,
    help="Write the blocks to ~/.config/smp/ssh_config. Shows the Include line for ~/.ssh/config. "
    "Blocks of other targets stay; --all removes those that are gone.",
)
@click.option("--user", metavar="USER", default="", help="User to log in as. Example: ec2-user.")
@click.option(
    "--push-key",
    type=FileName(),
    metavar="[FILE.pub]",
    is_flag=False,
    flag_value="",
    help="Push a public key by EC2 Instance Connect at each login. Instances need no authorized_keys then. "
    "Without FILE.pub, as the last option, a new key is made for each connection.",
)
@aws_options
def ssh_config(
    environment: Environment,
    *,
    targets: tuple[str, ...],
    everything: bool,
    write: bool,
    user: str,
    push_key: str | None,
    settings: AwsSettings,
) -> int:
    """Print the blocks of ~/.ssh/config with which ssh, scp, sftp, rsync and git reach targets.

    A target is known to ssh by its id and its name. In names, what is no letter, digit, hyphen or underscore becomes a
    hyphen; a dot stays if TARGET is that name. A name that several targets have is written NAME.ID.

    The region, the profile and the other options of AWS that are used now are used for each connection. Credentials of
    the environment are not: set them again for ssh, or give --profile.

    Needs ssm:DescribeInstanceInformation, and ec2:DescribeInstances for names; for ids alone neither.
    """
    import asyncio

    from session_manager_plugin.aws.targets import describe_targets, list_targets, unnamed_sentence
    from session_manager_plugin.aws.threads import in_thread
    from session_manager_plugin.cli.render import tell_note
    from session_manager_plugin.cli.signals import run
    from session_manager_plugin.cli.ssh_blocks import Host, format_blocks, make_blocks, origin_of
    from session_manager_plugin.utils.private_files import locked_directory, replace_file

    if not targets and not everything and push_key:
        raise UsageError(
            f"give targets, or --all; {push_key!r} is the file of --push-key, which comes last without one"
        )
    if bool(targets) == everything:
        raise UsageError("give targets, or --all" + (", not both" if everything else ""))
    login = _login(environment, user, push_key)
    options = pinned_options(settings, environment.variables)

    problems: list[SessionManagerError] = []

    async def main(_interruption: Interruption) -> tuple[list[ManagedInstance], str]:
        account = in_thread(lambda: _account(settings, options)) if write else None
        found = await (
            list_targets(settings, unnamed=problems.append)
            if everything
            else describe_targets(settings, targets, unnamed=problems.append)
        )
        number = "" if account is None else await asyncio.wrap_future(account)
        return sorted(found, key=lambda each: (each.name == "", each.name, each.id)), number

    instances, account = run(main)
    if problems:
        tell_note(environment, unnamed_sentence(problems[0]))
    hosts = [Host(each.id, each.name, each.name in targets) for each in instances]
    program = absolute_command()
    if not write:
        environment.write("\n".join(block.text for block in make_blocks(hosts, program, options, login)))
        return 0
    path = _our_file(environment)
    with locked_directory(path.parent):
        kept = _kept(path, {host.id for host in hosts}, origin_of(options, account), everything=everything)
        taken = {name for block in kept for name in block.hosts}
        blocks = make_blocks(hosts, program, options, login, account=account, taken=taken)
        replace_file(path, format_blocks([*kept, *blocks]).encode(errors="surrogateescape"))
    _tell_include(environment, path, blocks)
    return 0


def pinned_options(settings: AwsSettings, variables: Mapping[str, str]) -> list[str]:
    """Return the AWS options that reproduce these settings for a later command in another environment.

    Raises ``UsageError`` for a proxy with a password: a ProxyCommand can be seen in ps.
    """
    from session_manager_plugin.aws.profile import region_of

    profile = settings.profile
    if profile is None and not variables.get("AWS_ACCESS_KEY_ID"):
        profile = variables.get("AWS_DEFAULT_PROFILE") or variables.get("AWS_PROFILE")
    if settings.proxy and urlsplit(settings.proxy).password is not None:
        raise UsageError("--proxy: its password would be visible in ps; set HTTPS_PROXY instead")
    values = {
        "--region": settings.region or region_of(profile, variables),
        "--profile": profile,
        "--endpoint-url": settings.endpoint_url or variables.get("AWS_ENDPOINT_URL_SSM"),
        "--ca-bundle": settings.ca_bundle and os.path.abspath(settings.ca_bundle),
        "--proxy": settings.proxy,
    }
    return [f"{name}={value}" for name, value in values.items() if value]


def _account(settings: AwsSettings, options: Sequence[str]) -> str:
    """Return the number of the account whose targets are listed, so that ``--all`` does not remove those of another
    account; empty if an option selects the account, or if STS does not answer."""
    from session_manager_plugin.aws.diagnosis import find_identity

    if any(option.startswith(("--profile=", "--endpoint-url=")) for option in options):
        return ""
    try:
        return find_identity(settings, _IDENTITY_TIMEOUT).split(":")[4]
    except Exception:  # botocore's, of any kind: the number is a convenience
        return ""


def _login(environment: Environment, user: str, push_key: str | None) -> Login:
    from session_manager_plugin.cli.ssh_blocks import Login, path_word
    from session_manager_plugin.cli.ssh_keys import key_path, read_public_key

    if push_key is None:
        return Login(user)
    if not push_key:
        return Login(user, "", lambda target: path_word(str(key_path(environment, target, "")), "%r"))
    read_public_key(push_key)
    public = os.path.abspath(push_key)
    private = public.removesuffix(".pub")
    # ssh takes the public key's file where an agent holds the private key.
    return Login(user, public, lambda _target: path_word(private if os.path.exists(private) else public))


def _our_file(environment: Environment) -> Path:
    directory = environment.config_directory
    if directory is None:
        raise ConfigurationError("there is no place for the file: set HOME or XDG_CONFIG_HOME")
    return directory / "ssh_config"


def _kept(path: Path, ids: Collection[str], origin: str, *, everything: bool) -> list[Block]:
    """Return the blocks of the file that are kept."""
    from session_manager_plugin.cli.ssh_blocks import parse_blocks

    try:
        text = path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    return [
        block for block in parse_blocks(text) if block.id not in ids and not (everything and block.origin == origin)
    ]


def _tell_include(environment: Environment, path: Path, blocks: Sequence[Block]) -> None:
    """Report what was written, and print the Include line unless ~/.ssh/config has it."""
    from session_manager_plugin.cli.render import tell
    from session_manager_plugin.cli.ssh_blocks import path_word

    line = f"Include {path_word(str(path))}"
    names = [block.hosts[0] for block in blocks]
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    if not environment.quiet:
        tell(environment, f"{path} has {', '.join(names[:_TOLD]) or 'no target'}{more}", error=False)
    with contextlib.suppress(OSError):
        config = Path(os.path.expanduser("~/.ssh/config")).read_text(errors="replace")
        if any(" ".join(each.split()) == line for each in config.splitlines()):
            return
    if not environment.quiet:
        tell(environment, "put this line at the top of ~/.ssh/config:", error=False)
    environment.write(f"{line}\n")
