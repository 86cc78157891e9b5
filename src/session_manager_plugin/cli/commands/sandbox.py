"""`smp sandbox`: a Session Manager on loopback, until it is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Literal

import click

from session_manager_plugin.agent.quirks import NONE, Quirk, parse_quirks
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.faults import fault_options, make_faults
from session_manager_plugin.cli.options import Choice, command
from session_manager_plugin.errors import ConfigurationError

if TYPE_CHECKING:
    from session_manager_plugin.agent import Sandbox
    from session_manager_plugin.cli.signals import Interruption

_EXAMPLES = """
smp sandbox
smp sandbox --port 8080 --pace real
smp sandbox --drop 5% --reorder 5% --cut-every 300000      (a bad link)
smp sandbox --json                           (for programs: one line when it is ready)
"""


def _quirks(_context: click.Context, _parameter: click.Parameter, value: str) -> frozenset[Quirk]:
    try:
        return parse_quirks(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@command("sandbox", examples=_EXAMPLES)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="TCP port to listen on, on 127.0.0.1 only; a free one if not given. Example: 8080.",
)
@click.option(
    "--agent-version",
    metavar="VERSION",
    help="Version that the agent tells in the handshake; clients adapt to it. Example: 3.1.1.0 is before 3.1.1511.0.",
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
@click.option("--kms", is_flag=True, help="Encrypt shells and commands, with a key service (KMS) at the same endpoint.")
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
    help="Print one line when ready, and nothing else: an object with endpoint_url, region, pid and credentials.",
)
@fault_options
def sandbox(
    environment: Environment,
    *,
    port: int,
    agent_version: str | None,
    handshake: bool | None,
    pace: Literal["fast", "real"],
    agent_quirks: frozenset[Quirk],
    kms: bool,
    require_signature: bool,
    as_json: bool,
    **fault_settings: Any,
) -> int:
    """Run a Session Manager on this machine.

    It listens on 127.0.0.1 only and answers smp, AWS SDKs and the AWS CLI. Its sessions are shells on this machine, for
    whoever has the credentials that it prints. Ctrl-C ends it.

    To see how a client copes, have things go wrong: messages and acknowledgements lost, twice, out of order, late or
    damaged, websockets cut, ways back refused.
    """
    from session_manager_plugin.agent import Sandbox
    from session_manager_plugin.cli.descriptors import raise_descriptor_limit
    from session_manager_plugin.cli.signals import run

    raise_descriptor_limit()  # for the connections of forwarded ports
    faults = make_faults(fault_settings)
    version = {} if agent_version is None else {"agent_version": agent_version}

    async def main(_interruption: Interruption) -> int:
        running = Sandbox(
            port=port,
            handshake=handshake,
            pace=pace,
            kms=kms,
            faults=faults,
            quirks=agent_quirks,
            require_signature=require_signature,
            **version,
        )
        with environment.queued_messages():
            async with _listening(running, port):
                environment.write(_as_json(running) if as_json else await _as_text(running, environment))
                await asyncio.Event().wait()
        return 0

    environment.take("SMP_TOKEN")
    return run(main)


@contextlib.asynccontextmanager
async def _listening(sandbox: Sandbox, port: int) -> AsyncIterator[None]:
    """The sandbox runs for the length of the block. Raises `ConfigurationError` when it cannot listen."""
    try:
        await sandbox.__aenter__()
    except OSError as error:
        raise ConfigurationError(f"port {port} of 127.0.0.1 cannot be had: {os.strerror(error.errno or 0)}") from error
    try:
        yield
    finally:
        await sandbox.close()


def _as_json(sandbox: Sandbox) -> str:
    facts = {
        "endpoint_url": sandbox.endpoint_url,
        "region": sandbox.region,
        "pid": os.getpid(),
        "access_key_id": sandbox.access_key_id,
        "secret_access_key": sandbox.secret_access_key,
        **({"session_token": sandbox.session_token} if sandbox.session_token else {}),
    }
    return f"{json.dumps(facts)}\n"


async def _as_text(sandbox: Sandbox, environment: Environment) -> str:
    """Lines to paste into another terminal; all of them at once can be pasted too."""
    started = await sandbox.start_session()
    assert started.token is not None
    smp = _own_command(environment)
    connect = shlex.join([*smp, "connect", "--url", started.stream_url, "--token", started.token])
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in sandbox.environment.items())
    if sandbox.faults.may_cut:  # the client calls ResumeSession
        connect = f"{connect} --endpoint-url {sandbox.endpoint_url}"
    if sandbox.key_service is not None:  # the client calls it too
        connect = f"{connect} --target local"
    if sandbox.faults.may_cut or sandbox.key_service is not None or sandbox.session_token:
        connect = f"{variables} {connect}"
    aws = f"aws ssm start-session --endpoint-url {sandbox.endpoint_url} --target local"
    return f"""\
# A Session Manager for this machine; Ctrl-C ends it. Paste into another terminal:

# a session with smp (this token opens one session, once)
{connect}

# as many sessions as you like with the AWS CLI
{_path_setting(smp[0])}{variables} {aws}
"""


def _own_command(environment: Environment) -> list[str]:
    """What runs this program in another terminal: its name if that finds it, else its path."""
    script = os.path.abspath(sys.argv[0])
    if os.path.basename(script) == "__main__.py":
        return [sys.executable, "-m", "session_manager_plugin"]
    found = shutil.which(os.path.basename(script), path=environment.variables.get("PATH"))
    if found is not None and os.path.realpath(found) == os.path.realpath(script):
        return [os.path.basename(script)]
    return [script]


def _path_setting(program: str) -> str:
    """What makes the AWS CLI find our `session-manager-plugin`, if it would not by itself."""
    directory = os.path.dirname(program)
    if not directory or not os.path.exists(os.path.join(directory, "session-manager-plugin")):
        return ""
    return f'PATH={shlex.quote(directory)}:"$PATH" '
