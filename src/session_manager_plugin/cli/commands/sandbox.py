"""``smp sandbox``: a Session Manager on loopback, until it is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import shlex
import textwrap
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Literal

import click

from session_manager_plugin.agent.agent_versions import DEFAULT_AGENT_VERSION, LOOPBACK_DENIED_FROM
from session_manager_plugin.agent.quirks import NONE, Quirk, parse_quirks
from session_manager_plugin.cli.click_options import Choice, Seconds, WholeNumber, command
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.fault_options import FAULTS, fault_options, make_faults
from session_manager_plugin.cli.own_command import own_command
from session_manager_plugin.errors import ConfigurationError

if TYPE_CHECKING:
    from session_manager_plugin.agent import Inventory, Sandbox
    from session_manager_plugin.agent.api import StartedSession
    from session_manager_plugin.cli.signals import Interruption

MAX_TARGETS_SHOWN = 6
COMMENT_WIDTH = 78
"""Columns of a comment between the lines to paste."""

_EXAMPLES = """
smp sandbox
smp sandbox --target i-0123456789abcdef0 --tls
smp sandbox --inventory account.toml
smp sandbox --drop 5% --cut-every 300000     (a bad link)
smp sandbox --json                           (for programs: one line when it is ready)
"""


def _targets(_context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(value):
        raise click.BadParameter("a target's name is not empty")
    return value


def _version(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not re.search("[0-9]", value):
        raise click.BadParameter(f"{value!r} holds no number")
    return value


def _inventory(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Inventory | None:
    from session_manager_plugin.agent.inventory import InventoryError, load_inventory

    if value is None:
        return None
    try:
        return load_inventory(value)
    except InventoryError as error:
        raise click.BadParameter(f"{value}: {error}") from None
    except OSError as error:
        raise click.BadParameter(f"{value}: {error.strerror}") from None


def _start_rate(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    number, slash, unit = value.partition("/")
    try:
        rate = float(number) if value else 0.0
    except ValueError:
        rate = -1.0
    if not 0 <= rate < math.inf or (slash and unit != "s"):
        raise click.BadParameter("a rate is a number of sessions a second, as in 20/s")
    return rate


def _quirks(_context: click.Context, _parameter: click.Parameter, value: str) -> frozenset[Quirk]:
    try:
        return parse_quirks(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_GROUPS = {
    "Sandbox": ("port", "inventory", "targets", "tls", "kms", "as_json"),
    "Faults": ("drop", "delay", "cut_every"),
}
_MORE_GROUPS = {
    "Agent": ("shell", "agent_version", "agent_quirks", "handshake", "pace"),
    "Service": (
        "start_rate",
        "end_after",
        "idle_timeout",
        "end_text",
        "require_signature",
        "reusable_tokens",
        "void_token",
    ),
    "Faults": FAULTS,
}


@command("sandbox", examples=_EXAMPLES, groups=_GROUPS, more_groups=_MORE_GROUPS)
@click.option(
    "--port",
    type=WholeNumber(0, 65535),
    default=0,
    metavar="PORT",
    help="TCP port on 127.0.0.1; a free one if not given. Example: 8080.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    callback=_targets,
    help="Id of an instance; can be repeated. If neither this nor --inventory is given, there are local and a small "
    "inventory. Example: i-0123456789abcdef0.",
)
@click.option(
    "--inventory",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    callback=_inventory,
    help="TOML file that describes the account. It lists instances, containers, databases and permissions; "
    "docs/sandbox.md describes it. "
    "Every session runs on this machine, whatever its target. Example: account.toml.",
)
@click.option(
    "--tls",
    is_flag=True,
    help="Serve HTTPS and WSS. The certificate is its own. The lines that are printed name the file to trust.",
)
@click.option(
    "--start-rate",
    default="",
    metavar="N/s",
    callback=_start_rate,
    help="Start at most N sessions a second, and answer ThrottlingException above that. No limit if not given. "
    "Example: 20/s.",
)
@click.option(
    "--end-after",
    type=Seconds(zero=True),
    default=0.0,
    metavar="SECONDS",
    help="Have the service end each session this long after its client has come. Never if not given. Example: 30.",
)
@click.option(
    "--idle-timeout",
    type=Seconds(zero=True),
    default=0.0,
    metavar="SECONDS",
    help="Have the service end a session in which nothing was typed or shown for this long. Never if not given. "
    "Example: 60.",
)
@click.option(
    "--end-text",
    default="",
    metavar="TEXT",
    help="Text that the service then sends to the client, instead of naming the limit. Example: 'Terminated by bob.'",
)
@click.option(
    "--agent-version",
    default=DEFAULT_AGENT_VERSION,
    callback=_version,
    show_default=True,
    metavar="VERSION",
    help="Version that the agent tells in the handshake; clients adapt to it, and it decides what the agent can do. "
    f"From {LOOPBACK_DENIED_FROM} on AWS-StartPortForwardingSessionToRemoteHost refuses the loopback addresses of this "
    "machine. Example: 3.1.1.0 is before 3.1.1511.0.",
)
@click.option(
    "--handshake/--no-handshake",
    default=None,
    help="Whether sessions begin with a handshake. If neither is given it depends on their type, as with the official "
    "agent: plain shells have none.",
)
@click.option(
    "--pace",
    type=Choice("fast", "real"),
    default="fast",
    show_default=True,
    help="How fast the agent is. real rests as the official agent does, 1 second before the first output and 1 "
    "millisecond after each message.",
)
@click.option(
    "--agent-quirks",
    default=NONE,
    metavar="NAME[,NAME]...|all|none",
    callback=_quirks,
    help=f"Defects of the official agent to imitate, none if not given: {', '.join(Quirk)}. docs/sandbox.md describes "
    "each. Example: pause-stops-output.",
)
@click.option(
    "--shell",
    type=Choice("sh", "busybox"),
    default="sh",
    show_default=True,
    help="Shell and programs of the target: sh and those of this machine, or only those of busybox, which has to be "
    "installed.",
)
@click.option("--kms", is_flag=True, help="Encrypt shells and commands. The key service (KMS) is at the same endpoint.")
@click.option(
    "--require-signature",
    is_flag=True,
    help="Refuse websockets whose opening is not signed with the credentials that are printed. smp signs for this host "
    "with --sign always or SMP_SIGN=always only.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one line for programs when ready. It is an object with endpoint_url, region, pid and credentials, and "
    "session_id, stream_url and token of a session; with --tls, ca_bundle too.",
)
@fault_options
def sandbox(
    environment: Environment,
    *,
    port: int,
    targets: tuple[str, ...],
    inventory: Inventory | None,
    start_rate: float,
    tls: bool,
    end_after: float,
    idle_timeout: float,
    end_text: str,
    agent_version: str,
    handshake: bool | None,
    pace: Literal["fast", "real"],
    shell: str,
    agent_quirks: frozenset[Quirk],
    kms: bool,
    require_signature: bool,
    as_json: bool,
    **fault_settings: Any,
) -> int:
    """Run a Session Manager on this machine.

    It listens on 127.0.0.1 only and answers smp, AWS SDKs and the AWS CLI. Its sessions are shells on this machine, for
    programs that have the access key id that it prints; signatures of API calls are not checked. Ctrl-C ends it.

    To see how a client copes, have things go wrong: messages lost, duplicated, reordered, delayed or damaged,
    websockets cut, resuming refused, defects of the official agent.
    """
    from session_manager_plugin.agent import Limits, Sandbox
    from session_manager_plugin.agent.busybox import busybox_path
    from session_manager_plugin.cli.descriptors import raise_descriptor_limit
    from session_manager_plugin.cli.signals import run

    raise_descriptor_limit()  # for the connections of forwarded ports
    faults = make_faults(fault_settings)

    async def main(_interruption: Interruption) -> int:
        running = Sandbox(
            port=port,
            agent_version=agent_version,
            handshake=handshake,
            pace=pace,
            kms=kms,
            faults=faults,
            quirks=agent_quirks,
            require_signature=require_signature,
            inventory=inventory,
            targets=targets,
            start_rate=start_rate,
            tls=tls,
            limits=Limits(end_after=end_after, idle_timeout=idle_timeout, text=end_text),
        )
        with environment.queued_messages():
            async with _listening(running, port):
                started = await running.start_session()
                environment.write(_as_json(running, started) if as_json else _as_text(running, started, environment))
                await asyncio.Event().wait()
        return 0

    environment.take("SMP_TOKEN")
    with contextlib.ExitStack() as stack:
        if shell == "busybox":
            environment.variables["PATH"] = stack.enter_context(busybox_path())
        return run(main)


@contextlib.asynccontextmanager
async def _listening(sandbox: Sandbox, port: int) -> AsyncIterator[None]:
    """Run the sandbox during the block. Raises ``ConfigurationError`` if it cannot start."""
    try:
        await sandbox.__aenter__()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        if error.filename is not None:
            raise ConfigurationError(f"cannot write the certificate to {error.filename}: {reason}") from error
        raise ConfigurationError(f"cannot listen on 127.0.0.1:{port}: {reason}") from error
    try:
        yield
    finally:
        await sandbox.close()


def _as_json(sandbox: Sandbox, started: StartedSession) -> str:
    facts = {
        "endpoint_url": sandbox.endpoint_url,
        "region": sandbox.region,
        "pid": os.getpid(),
        "access_key_id": sandbox.access_key_id,
        "secret_access_key": sandbox.secret_access_key,
        **({"session_token": sandbox.session_token} if sandbox.session_token else {}),
        "session_id": started.session_id,
        "stream_url": started.stream_url,
        "token": started.token,
    }
    if sandbox.ca_bundle is not None:
        facts["ca_bundle"] = sandbox.ca_bundle
    return f"{json.dumps(facts)}\n"


def _as_text(sandbox: Sandbox, started: StartedSession, environment: Environment) -> str:
    """Return lines to paste into another terminal, one by one or all at once."""
    assert started.token is not None
    smp = own_command(environment)
    target = shlex.quote(sandbox.targets[0])
    connect = shlex.join([*smp, "connect", "--url", started.stream_url])
    token = f"SMP_TOKEN={shlex.quote(started.token)}"  # not an option: other users can see those in ps
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in sandbox.environment.items())
    calls_service = sandbox.faults.may_cut or sandbox.key_service is not None
    if sandbox.faults.may_cut:  # the client calls ResumeSession
        connect = f"{connect} --endpoint-url {sandbox.endpoint_url}"
    if sandbox.key_service is not None:  # the client calls KMS
        connect = f"{connect} --target {target}"
    if calls_service or sandbox.session_token:
        token = f"{variables} {token}"
    elif sandbox.ca_bundle is not None:
        connect = f"{connect} --ca-bundle {shlex.quote(sandbox.ca_bundle)}"
    times = "as often as you like; the newest client has it" if sandbox.faults.tokens_reusable else "once"
    aws = f"aws ssm start-session --endpoint-url {sandbox.endpoint_url} --target {target}"
    others = _other_targets(sandbox)
    ls = f"{shlex.join(smp)} ls --endpoint-url {sandbox.endpoint_url}"
    return f"""\
# A Session Manager for this machine; Ctrl-C ends it. For another terminal:

# a session with smp (this token opens one session, {times})
{token} {connect}

# as many sessions as you like with the AWS CLI
{_path_setting(smp[0])}{variables} {aws}
{others}
# the instances, with smp (start NAME, in place of ls, opens a session)
{variables} {ls}
"""


def _other_targets(sandbox: Sandbox) -> str:
    """Return a comment with the first of the other instances that are online; empty if there are none."""
    others = [
        f"{instance.id} ({instance.name})" if instance.name else instance.id
        for instance in sandbox.inventory.instances
        if instance.is_connected and instance.id != sandbox.targets[0]
    ]
    more = len(others) - MAX_TARGETS_SHOWN
    shown = ", ".join(others[:MAX_TARGETS_SHOWN])
    text = f"other targets: {shown}{f' and {more} more' if more > 0 else ''}"
    lines = textwrap.wrap(text, COMMENT_WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False)
    return "".join(f"{line}\n" for line in lines) if others else ""


def _path_setting(program: str) -> str:
    """Return the setting of PATH with which the AWS CLI finds our ``session-manager-plugin``; empty if not needed."""
    directory = os.path.dirname(program)
    if not directory or not os.path.exists(os.path.join(directory, "session-manager-plugin")):
        return ""
    return f'PATH={shlex.quote(directory)}:"$PATH" '
