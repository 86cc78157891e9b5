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
from typing import TYPE_CHECKING, Literal

import click

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.options import Choice, command
from session_manager_plugin.errors import ConfigurationError

if TYPE_CHECKING:
    from session_manager_plugin.agent import Sandbox
    from session_manager_plugin.cli.signals import Interruption

_EXAMPLES = """
smp sandbox
smp sandbox --port 8080 --pace real
smp sandbox --json                           (for programs: one line when it is ready)
"""


@command("sandbox", examples=_EXAMPLES)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="TCP port on 127.0.0.1; a free one if not given.",
)
@click.option("--agent-version", metavar="VERSION", help="What the agent says in the handshake that its version is.")
@click.option(
    "--handshake/--no-handshake",
    default=None,
    help="Sessions begin with a handshake, or without; by their type if not given, as with the official agent.",
)
@click.option(
    "--pace",
    type=Choice("fast", "real"),
    default="fast",
    show_default=True,
    help="real rests as the official agent does: 1 s before the first output, 1 ms after each message.",
)
@click.option("--kms", is_flag=True, help="Encrypt shells and commands, with a key service at the same endpoint.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON when ready, and nothing else.")
def sandbox(
    environment: Environment,
    *,
    port: int,
    agent_version: str | None,
    handshake: bool | None,
    pace: Literal["fast", "real"],
    kms: bool,
    as_json: bool,
) -> int:
    """Run a Session Manager on this machine.

    It listens on 127.0.0.1 only and answers smp, AWS SDKs and the AWS CLI. Its sessions are shells on this machine, for
    whoever has the credentials that it prints. Ctrl-C ends it.
    """
    from session_manager_plugin.agent import Sandbox
    from session_manager_plugin.cli.signals import run

    version = {} if agent_version is None else {"agent_version": agent_version}

    async def main(_interruption: Interruption) -> int:
        running = Sandbox(port=port, handshake=handshake, pace=pace, kms=kms, **version)
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
    }
    return f"{json.dumps(facts)}\n"


async def _as_text(sandbox: Sandbox, environment: Environment) -> str:
    """Lines to paste into another terminal; all of them at once can be pasted too."""
    started = await sandbox.start_session()
    assert started.token is not None
    smp = _own_command(environment)
    connect = shlex.join([*smp, "connect", "--url", started.stream_url, "--token", started.token])
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in sandbox.environment.items())
    if sandbox.key_service is not None:  # the client calls it too
        connect = f"{variables} {connect} --target local"
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
