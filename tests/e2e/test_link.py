"""A link that is lost under real programs: what is told meanwhile, and that everything goes on when it is back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.faults import Faults, VoidToken
from session_manager_plugin.agent.session import EndReason, SandboxSession
from session_manager_plugin.communicator.reconnection import MAX_DELAY
from tests.e2e.conftest import BIN
from tests.soak.clients import Client, ExchangeServer, connected, receive, send
from tests.soak.exchange import blocks, digest
from tests.support.pty_process import PtyProcess
from tests.support.relay import Relay
from tests.support.servers import free_port, listening, need, ssh_server
from tests.support.tmux import Terminal, Tmux
from tests.support.waiting import wait_until

DEADLINE = 90.0
OUTAGE = 8.0
"""Seconds of a copy without a link; ``tests/soak/test_outage.py`` has longer ones."""
SIZE = 300_000
COPY_SIZE = 4 * 1024 * 1024
SLACK = 1.5
"""Seconds that a slow machine may take longer than what is promised."""
LOST = rb"session-manager-plugin: connection lost \d+ s ago; reconnecting, attempt \d+[^\n]*\n"
BACK = rb"session-manager-plugin: the link is well again, after \d+ s\n"


@pytest.fixture
async def relay(sandbox: Sandbox) -> AsyncIterator[Relay]:
    async with Relay(sandbox.port) as running:
        sandbox.stream_port = running.port
        yield running


async def lose(relay: Relay) -> None:
    """Connections are reset, and refused from then on."""
    await relay.refuse()
    relay.reset()


def only_session(sandbox: Sandbox) -> SandboxSession:
    (session,) = sandbox.sessions.values()
    return session


def plugin_of(cli: Process) -> int:
    (child,) = Path(f"/proc/{cli.pid}/task/{cli.pid}/children").read_text().split()
    return int(child)


@contextlib.asynccontextmanager
async def started(
    aws: str, sandbox: Sandbox, environment: dict[str, str], document: str, **parameters: str
) -> AsyncIterator[Client]:
    """A session of the AWS CLI, killed in the end if it still runs."""
    values = json.dumps({name: [value] for name, value in parameters.items()})
    process = await asyncio.create_subprocess_exec(
        *[aws, "ssm", "start-session", "--endpoint-url", sandbox.endpoint_url, "--target", "local"],
        *["--document-name", document, "--parameters", values],
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        yield Client(process)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def told(client: Client, pattern: bytes, since: float, within: float) -> None:
    """Wait for a line on standard error; it has to come in time."""
    await wait_until(lambda: re.search(pattern, bytes(client.errors)))
    assert time.monotonic() - since < within + SLACK


async def test_a_forwarded_port_tells_and_goes_on(
    aws: str, sandbox: Sandbox, relay: Relay, environment: dict[str, str]
) -> None:
    """One line when it is lost and one when it is back, and none of them among the texts that tools parse."""
    data = b"".join(blocks(SIZE, 1))
    async with asyncio.timeout(DEADLINE), ExchangeServer(SIZE) as server:
        options = {"portNumber": str(server.port), "localPortNumber": "0"}
        async with started(aws, sandbox, environment, "AWS-StartPortForwardingSession", **options) as client:
            assert client.process.stdout is not None
            opened = await client.process.stdout.readuntil(b"Waiting for connections...\n")
            port = int(re.findall(rb"Port (\d+) opened", opened)[0])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            receiving = asyncio.ensure_future(receive(reader, SIZE))
            writer.write((1).to_bytes(8, "big") + data[: SIZE // 2])
            lost_at = time.monotonic()
            await lose(relay)
            await told(client, LOST, lost_at, 2.0)
            writer.write(data[SIZE // 2 :])
            back_at = time.monotonic()
            await relay.accept()
            await told(client, BACK, back_at, MAX_DELAY)
            assert await receiving == digest(SIZE, 1001)
            await wait_until(lambda: server.complete(range(1, 2)))
            writer.close()
            os.kill(plugin_of(client.process), signal.SIGINT)
            status, rest = await client.ended()
        assert status == 0
        assert re.fullmatch(
            rb"\nConnection accepted for session \[\S+\]\nTerminate signal received, exiting\.\n"
            rb"\n\nExiting session with sessionId: \S+\.\n\n",
            rest,
        ), rest
        assert re.fullmatch(LOST + BACK, bytes(client.errors)), client.errors


async def test_a_command_tells_and_goes_on(
    aws: str, sandbox: Sandbox, relay: Relay, environment: dict[str, str], tmp_path: Path
) -> None:
    go_on = tmp_path / "go"
    command = f"sh -c 'echo before; until test -e {go_on}; do sleep 0.05; done; echo behind'"
    async with asyncio.timeout(DEADLINE):
        async with started(aws, sandbox, environment, "AWS-StartNonInteractiveCommand", command=command) as client:
            assert client.process.stdout is not None
            banner = await client.process.stdout.readuntil(b"before\n")
            lost_at = time.monotonic()
            await lose(relay)
            await told(client, LOST, lost_at, 2.0)
            go_on.touch()
            await relay.accept()
            status, rest = await client.ended()
        assert status == 0
        assert banner.startswith(b"\nStarting session with SessionId: ")
        assert re.fullmatch(rb"behind\n\n\nExiting session with sessionId: \S+\.\n\n", rest), rest
        assert re.fullmatch(LOST + b"(?:" + BACK + b")?", bytes(client.errors)), client.errors


async def test_quiet_is_quiet(aws: str, sandbox: Sandbox, relay: Relay, environment: dict[str, str]) -> None:
    environment["SMP_QUIET"] = "1"
    port = free_port()
    async with asyncio.timeout(DEADLINE):
        options = {"portNumber": "9", "localPortNumber": str(port)}
        async with started(aws, sandbox, environment, "AWS-StartPortForwardingSession", **options) as client:
            await listening(port)
            session = only_session(sandbox)
            await lose(relay)
            await asyncio.sleep(2.0)
            await relay.accept()
            await session.connected.wait()
            os.kill(plugin_of(client.process), signal.SIGINT)
            status, output = await client.ended()
        assert (status, output, bytes(client.errors)) == (0, b"", b"")
        assert session.websockets == 2


@pytest.mark.timeout(DEADLINE + 30)
async def test_scp_through_the_aws_cli_goes_on_after_an_outage(
    aws: str, sandbox: Sandbox, relay: Relay, environment: dict[str, str], tmp_path: Path
) -> None:
    relay.throttle = COPY_SIZE // 2
    original, there = tmp_path / "original", tmp_path / "there"
    original.write_bytes(random.Random(6).randbytes(COPY_SIZE))
    directory = tmp_path / "sshd"
    directory.mkdir(mode=0o700)
    async with asyncio.timeout(DEADLINE), ssh_server(directory) as server:
        proxy = [aws, "ssm", "start-session", "--endpoint-url", sandbox.endpoint_url, "--target", "local"]
        proxy += ["--document-name", "AWS-StartSSHSession", "--parameters", f"portNumber={server.port}"]
        copy = await asyncio.create_subprocess_exec(
            *[need("scp"), *server.options, "-o", f"ProxyCommand={shlex.join(proxy)}"],
            *[str(original), f"root@local:{there}"],
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=environment,
        )
        try:
            await wait_until(lambda: relay.counts.to_target > COPY_SIZE // 4)
            await lose(relay)
            await asyncio.sleep(OUTAGE)
            assert copy.returncode is None
            await relay.accept()
            output, errors = await copy.communicate()
        finally:
            if copy.returncode is None:
                copy.kill()
                await copy.wait()
    assert (copy.returncode, output) == (0, b""), errors.decode()
    assert there.read_bytes() == original.read_bytes()
    lines = [line for line in errors.splitlines(keepends=True) if line.startswith(b"session-manager-plugin: ")]
    assert len(lines) == 2, errors.decode()
    assert re.fullmatch(LOST + BACK, b"".join(lines)), errors.decode()


@pytest.mark.parametrize("void", ["close", "forbidden"])
async def test_credentials_that_are_expired_for_a_while(void: VoidToken) -> None:
    """The gateway takes a token once, and ResumeSession is refused three times: told, and tried again."""
    data = b"".join(blocks(SIZE, 1))
    faults = Faults(void_token=void, refuse_resume=4)
    async with asyncio.timeout(DEADLINE), ExchangeServer(SIZE) as server, Sandbox(faults=faults) as sandbox:
        begun = await sandbox.start_session("AWS-StartSSHSession", {"portNumber": [str(server.port)]})
        async with connected(sandbox, begun) as client:
            assert client.process.stdin is not None
            client.process.stdin.write((1).to_bytes(8, "big") + data[: SIZE // 2])
            session = sandbox.session(begun.session_id)
            await session.connected.wait()
            reading = asyncio.ensure_future(client.read(SIZE))
            assert session.disconnect()
            await wait_until(lambda: b"reconnecting" in client.errors)
            assert re.search(rb"ResumeSession.*expired", bytes(client.errors)), client.errors.decode()
            client.process.stdin.write(data[SIZE // 2 :])
            assert await reading == digest(SIZE, 1001)
            status, rest = await client.ended()
        assert (status, rest) == (0, b""), client.errors.decode()
        assert server.complete(range(1, 2))
        assert session.refuse_resume == 0
        assert client.errors.count(b"\n") == 2, client.errors.decode()
        assert b"the link is well again, after" in client.errors
        assert b"Traceback" not in client.errors
        assert (begun.token or "").encode() not in client.errors


@pytest.mark.parametrize("cut", [False, True], ids=["link kept", "link lost meanwhile"])
async def test_a_forwarded_port_goes_on_after_a_stop(cut: bool) -> None:
    """As after sleep, for longer than a ping and its answer may take; with data on its way before and behind."""
    size = 3_000_000
    async with (
        asyncio.timeout(DEADLINE),
        ExchangeServer(size) as server,
        Sandbox() as sandbox,
        Relay(sandbox.port, throttle=size // 2) as relay,
    ):
        sandbox.stream_port = relay.port
        parameters = {"portNumber": [str(server.port)], "localPortNumber": ["0"]}
        begun = await sandbox.start_session("AWS-StartPortForwardingSession", parameters)
        session = sandbox.session(begun.session_id)
        async with connected(sandbox, begun, "--keepalive", "1") as client:
            await wait_until(lambda: b"listening on" in client.errors)
            port = int(re.findall(rb"listening on 127\.0\.0\.1:(\d+)", bytes(client.errors))[0])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write((1).to_bytes(8, "big"))
            sending = asyncio.ensure_future(send(writer, size, 1))
            receiving = asyncio.ensure_future(receive(reader, size))
            await wait_until(lambda: relay.counts.to_target > size // 4)
            client.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(6.5)
            if cut:
                assert session.disconnect()
            await asyncio.sleep(6.5)
            assert not receiving.done()
            client.process.send_signal(signal.SIGCONT)
            assert await receiving == digest(size, 1001)
            await sending
            writer.close()
            client.process.send_signal(signal.SIGINT)
            status, _ = await client.ended()
        assert status == 0, client.errors.decode()
        assert server.complete(range(1, 2))
        assert session.websockets == 1 + cut


@pytest.fixture
def tmux(environment: dict[str, str], tmp_path: Path) -> Tmux:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed, and it is the terminal these tests look at")
    return Tmux({**environment, "SHELL": "/bin/sh"}, tmp_path)


def wait_for_bar(terminal: Terminal, pattern: str) -> None:
    terminal.wait(lambda view: re.search(pattern, view.rows[-1]), f"{pattern} in the bar")


async def test_the_notice_is_in_the_bar_and_vanishes(tmux: Tmux, sandbox: Sandbox, relay: Relay) -> None:
    begun = await sandbox.start_session()
    command = shlex.join(
        [str(BIN / "smp"), "connect", "--url", begun.stream_url, "--token", begun.token or "", "--status", "bar"]
    )
    with tmux:
        terminal = await asyncio.to_thread(tmux.terminal, "sh", "-c", command, rows=24, columns=100)
        await asyncio.to_thread(wait_for_bar, terminal, "^ connected ")
        await asyncio.to_thread(terminal.wait, lambda view: view.rows[0].endswith(("$", "#")), "a prompt")
        await asyncio.to_thread(terminal.enter, "echo be''fore")
        await asyncio.to_thread(terminal.wait_for, "before")
        lost_at = time.monotonic()
        await lose(relay)
        await asyncio.to_thread(wait_for_bar, terminal, "reconnecting")
        assert time.monotonic() - lost_at < 2.0 + SLACK
        await asyncio.to_thread(wait_for_bar, terminal, "attempt")
        await asyncio.to_thread(terminal.enter, "echo mean''while")
        await relay.accept()
        await asyncio.to_thread(wait_for_bar, terminal, "^ connected ")
        view = await asyncio.to_thread(terminal.wait_for, "meanwhile")
        assert not any("reconnecting" in row or "lost" in row for row in view.rows)
        await asyncio.to_thread(terminal.enter, "exit 0")
        await asyncio.to_thread(terminal.wait, lambda _view: terminal.exit_status is not None, "the end")
        assert terminal.exit_status == 0


@pytest.mark.parametrize("way", ["~.", "SIGTERM"])
@pytest.mark.parametrize("silent", [False, True], ids=["refused", "silent"])
async def test_leaving_while_reconnecting_takes_no_time(
    way: str, silent: bool, sandbox: Sandbox, relay: Relay, environment: dict[str, str]
) -> None:
    """Whether attempts fail at once or hang without an answer."""
    begun = await sandbox.start_session()
    argv = [str(BIN / "smp"), "connect", "--url", begun.stream_url, "--endpoint-url", sandbox.endpoint_url]
    argv += ["--region", sandbox.region, "--status", "bar"]
    async with PtyProcess(argv, env={**environment, "SMP_TOKEN": begun.token or ""}) as terminal:
        before = terminal.attributes
        await terminal.expect(r"[#$] ")
        if silent:
            await relay.swallow()
            relay.reset()
        else:
            await lose(relay)
        await terminal.expect("reconnecting")
        left_at = time.monotonic()
        if way == "~.":
            terminal.type("\r~.")
            assert await terminal.wait() == 255
        else:
            terminal.process.terminate()
            assert await terminal.wait() == -signal.SIGTERM
        assert time.monotonic() - left_at < 2.0 + SLACK
        assert terminal.attributes == before
    await asyncio.wait_for(only_session(sandbox).ended.wait(), DEADLINE)
    assert only_session(sandbox).end_reason is EndReason.TERMINATED
