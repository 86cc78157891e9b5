"""ssh through the AWS CLI through our plugin, killed at each link of the chain: nothing is left of it."""

from __future__ import annotations

import asyncio
import itertools
import os
import shlex
import signal
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.session import EndReason
from tests.support.programs import need
from tests.support.relay import Relay
from tests.support.servers import ssh_server
from tests.support.waiting import wait_until

DEADLINE = 60.0


def command_line(pid: int) -> list[str]:
    """The arguments of a process; none when it is over."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [found for child in children for found in (child, *descendants(child))]


def parent_of(pid: int) -> int:
    """The process that started another one."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def plugin_of(chain: list[int]) -> int:
    """The one of them that is our plugin, started with a session."""
    for pid in chain:
        arguments = command_line(pid)
        if "StartSession" in arguments and any(part.endswith("session-manager-plugin") for part in arguments[:2]):
            return pid
    return 0


WAYS = [(signal.SIGTERM, False), (signal.SIGHUP, False), (signal.SIGKILL, False), (signal.SIGKILL, True)]
CASES = [
    pytest.param(
        version, victim, number, away, id=f"{version}-{victim}-{number.name}-{'link away' if away else 'link up'}"
    )
    for (victim, (number, away)), version in zip(
        itertools.product(["ssh", "aws", "plugin"], WAYS), itertools.cycle(["v1", "v2", "v2", "v1"]), strict=False
    )
]
"""What is killed, how, and whether the link is up; each with one of the two AWS CLIs."""


@pytest.mark.parametrize(("aws", "victim", "number", "away"), CASES, indirect=["aws"])
async def test_nothing_is_left_of_the_chain(
    aws: str, victim: str, number: signal.Signals, away: bool, environment: dict[str, str], tmp_path: Path
) -> None:
    async with (
        asyncio.timeout(DEADLINE),
        ssh_server(tmp_path) as server,
        Sandbox() as sandbox,
        Relay(sandbox.port) as relay,
    ):
        sandbox.stream_port = relay.port
        proxy = [aws, "ssm", "start-session", "--endpoint-url", sandbox.endpoint_url, "--target", "local"]
        proxy += ["--document-name", "AWS-StartSSHSession", "--parameters", f"portNumber={server.port}"]
        ssh = await asyncio.create_subprocess_exec(
            *[need("ssh"), *server.options, "-o", f"ProxyCommand={shlex.join(proxy)}", "root@local"],
            "echo ready; exec cat",
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env={**environment, **sandbox.environment},
            start_new_session=True,
        )
        chain: list[int] = []
        try:
            assert ssh.stdout is not None
            assert await ssh.stdout.readline() == b"ready\n"
            (session,) = sandbox.sessions.values()
            chain = descendants(ssh.pid)
            plugin = plugin_of(chain)
            assert plugin
            parent = parent_of(plugin)
            if away:
                await relay.refuse()
                relay.reset()
                await session.disconnected.wait()
            os.kill({"ssh": ssh.pid, "aws": parent, "plugin": plugin}[victim], number)
            await ssh.wait()
            # A killed plugin can tell nobody, and the service then waits for it to come back.
            if not (victim == "plugin" and number == signal.SIGKILL):
                await asyncio.wait_for(session.ended.wait(), DEADLINE)
                assert session.end_reason in (EndReason.TERMINATED, EndReason.EXITED)
            await wait_until(lambda: not any(command_line(pid) for pid in chain))
        finally:
            for pid in (*chain, ssh.pid):
                if command_line(pid):
                    os.kill(pid, signal.SIGKILL)
            await ssh.wait()
