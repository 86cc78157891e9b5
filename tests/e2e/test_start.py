"""`smp start` against the sandbox: the real botocore, in pipes and in a terminal."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from asyncio.subprocess import PIPE
from typing import Any, NamedTuple

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.inventory import Instance, Inventory, Permissions
from session_manager_plugin.agent.session import EndReason
from tests.e2e.conftest import BIN
from tests.support.pty_process import PtyProcess
from tests.support.waiting import wait_until

WEB, WEB_2 = "i-0a1b2c3d4e5f60001", "i-0a1b2c3d4e5f60002"
SMP = str(BIN / "smp")
PROMPT = r"[#$] $"


class Run(NamedTuple):
    """What a command did."""

    status: int | None
    out: bytes
    err: str


async def smp(sandbox: Sandbox, environment: dict[str, str], *arguments: str, stdin: bytes = b"exit\n") -> Run:
    """Run `smp` through pipes with the sandbox's endpoint."""
    process = await asyncio.create_subprocess_exec(
        SMP, *arguments, "--endpoint-url", sandbox.endpoint_url, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(stdin)
    return Run(process.returncode, out, err.decode())


@pytest.mark.parametrize("target", ["web-1", "10.0.1.11", WEB])
async def test_a_shell_by_any_name(sandbox: Sandbox, environment: dict[str, str], target: str) -> None:
    run = await smp(sandbox, environment, "start", target, stdin=b"echo it''s $((6*7))\nexit\n")
    assert b"its 42" in run.out
    assert run.status == 0
    (session,) = sandbox.sessions.values()
    assert session.target == WEB
    assert session.end_reason is EndReason.EXITED


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("tag:env=prod",), 2, f"2 online targets match tag:env=prod; give an id:\n  {WEB} web-1"),
        (("webb-1",), 255, "no target matches webb-1; did you mean web-1?"),
        (("batch-1",), 255, "batch-1 (i-0a1b2c3d4e5f60003) is offline since "),
        (("i-0a1b2c3d4e5f60003",), 255, "i-0a1b2c3d4e5f60003 is offline since "),
        (("web-1", "--document-name", "Nothing"), 255, "InvalidDocument"),
        (("web-1", "--parameters", "command"), 2, "--parameters takes KEY=VALUE"),
        ((), 2, "no TARGET: give "),
    ],
)
async def test_what_prevents_a_session(
    sandbox: Sandbox, environment: dict[str, str], arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    run = await smp(sandbox, environment, "start", *arguments)
    assert (run.status, run.out) == (status, b"")
    assert sentence in run.err
    assert not sandbox.sessions


async def test_a_port_in_use_is_known_before_a_session_is_started(
    sandbox: Sandbox, environment: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        document = ("--document-name", "AWS-StartPortForwardingSession", "--parameters", "portNumber=22")
        run = await smp(sandbox, environment, "start", "web-1", *document, "--parameters", f"localPortNumber={port}")
    assert run.status == 255
    assert str(port) in run.err
    assert not sandbox.sessions


async def test_a_command_document(sandbox: Sandbox, environment: dict[str, str]) -> None:
    document = ("--document-name", "AWS-StartNonInteractiveCommand")
    parameters = ("--parameters", "command=seq 3", "--parameters", '{"separateOutputStream": ["true"]}')
    run = await smp(sandbox, environment, "start", "web-1", *document, *parameters, "--reason", "to count", stdin=b"")
    assert (run.status, run.out) == (0, b"1\n2\n3\n")


async def test_a_terminal(sandbox: Sandbox, environment: dict[str, str]) -> None:
    argv = [SMP, "start", "web-1", "--endpoint-url", sandbox.endpoint_url, "--status", "bar"]
    async with PtyProcess(argv, env=environment) as terminal:
        await terminal.expect(r"connected (\x1b\[[0-9;]*m| )+web-1 us-east-1\x1b")
        await wait_until(lambda: bool(sandbox.sessions))
        terminal.type("~.")
        assert await terminal.wait() == 255
    (session,) = sandbox.sessions.values()
    assert session.end_reason is EndReason.TERMINATED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_while_it_starts_leaves_no_session(
    sandbox: Sandbox, environment: dict[str, str], number: signal.Signals
) -> None:
    argv = [SMP, "start", WEB, "--endpoint-url", sandbox.endpoint_url, "--status", "off"]
    async with PtyProcess(argv, env=environment) as terminal:
        await wait_until(lambda: bool(sandbox.sessions))
        os.kill(terminal.process.pid, number)
        await terminal.wait()
    assert all(session.ended.is_set() for session in sandbox.sessions.values())


async def test_a_target_is_chosen_from_a_list(sandbox: Sandbox, environment: dict[str, str]) -> None:
    argv = [SMP, "start", "--endpoint-url", sandbox.endpoint_url, "--status", "off"]
    async with PtyProcess(argv, env=environment) as terminal:
        await terminal.expect("web-2")
        terminal.type("web-2\r")
        await terminal.expect(PROMPT)
        terminal.type("exit\n")
        assert await terminal.wait() == 0
    (session,) = sandbox.sessions.values()
    assert session.target == WEB_2


async def test_no_target_is_chosen(sandbox: Sandbox, environment: dict[str, str]) -> None:
    async with PtyProcess([SMP, "start", "--endpoint-url", sandbox.endpoint_url], env=environment) as terminal:
        await terminal.expect("web-2")
        terminal.type("\x1b")
        assert await terminal.wait() in (130, -signal.SIGINT)
    assert not sandbox.sessions


def inventory(*instances: Instance, **permissions: Any) -> Inventory:
    """An account with these instances."""
    return Inventory(instances=instances, permissions=Permissions(**permissions))


async def test_just_in_time_access(sandbox: Sandbox, environment: dict[str, str]) -> None:
    sandbox.inventory = inventory(Instance(id=WEB, name="web", request_access=True), pending_polls=1)
    refused = await smp(sandbox, environment, "start", "web")
    assert refused.status == 255
    assert "needs ssm:StartSession on arn:" in refused.err
    assert f"by just-in-time access: smp start {WEB} --request REASON" in refused.err
    run = await smp(
        sandbox, environment, "start", "web", "--request", "disk full", stdin=b"echo it''s $((6*7))\nexit\n"
    )
    assert b"its 42" in run.out
    assert re.search(r"smp: access request oi-[0-9a-f]{12} is waiting for approval", run.err)
    assert run.status == 0


async def test_waiting_for_approval_in_a_narrow_terminal(sandbox: Sandbox, environment: dict[str, str]) -> None:
    sandbox.inventory = inventory(Instance(id=WEB, request_access=True), pending_polls=1000)
    argv = [SMP, "start", WEB, "--request", "disk full", "--endpoint-url", sandbox.endpoint_url]
    async with PtyProcess(argv, env=environment, columns=40) as terminal:
        for seconds in ("0", "[1-9]"):  # in one row
            await terminal.expect(rf"\x1b\[(?:\?25l|J)waiting {seconds} s for approval of acc[\w ]+\r")
        terminal.type("\x03")
        assert await terminal.wait() in (130, -signal.SIGINT)
    assert not sandbox.sessions


async def test_access_that_is_rejected(sandbox: Sandbox, environment: dict[str, str]) -> None:
    sandbox.inventory = inventory(Instance(id=WEB, request_access=True), pending_polls=0, access_request="Rejected")
    run = await smp(sandbox, environment, "start", WEB, "--request", "disk full")
    assert run.status == 255
    assert re.search(r"the access request oi-\w+ was rejected", run.err)


async def test_a_document_that_is_denied(sandbox: Sandbox, environment: dict[str, str]) -> None:
    sandbox.inventory = inventory(Instance(id=WEB, denied_documents=("AWS-*",)))
    run = await smp(sandbox, environment, "start", WEB, "--document-name", "AWS-StartInteractiveCommand")
    assert run.status == 255
    assert ":document/AWS-StartInteractiveCommand; a plain shell, without a document, does not need it" in run.err


async def test_a_container_of_ecs(sandbox: Sandbox, environment: dict[str, str]) -> None:
    run = await smp(sandbox, environment, "start", "ecs:shop/api/app")
    assert run.status == 0
    (session,) = sandbox.sessions.values()
    assert session.target.startswith("ecs:shop_0a1b2c3d4e5f60718293a4b5c6d7e8f9_")
