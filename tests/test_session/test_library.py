"""The library's ``Session`` with commands: stdout, stderr, the exit status, and unread output."""

from __future__ import annotations

import asyncio
from importlib import import_module

import pytest

from session_manager_plugin import AwsSettings, LinkOptions, Session, connect, start
from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.session import EndReason
from session_manager_plugin.errors import (
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    NotConnected,
    OutputIncomplete,
    UsageError,
)
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.session.session import READ_BUFFER_SIZE
from tests.support.memory_channel import MemoryAgent, MemoryChannel
from tests.support.raw_server import Peer, RawServer, http_answer, read_request
from tests.support.sandbox_credentials import use_credentials
from tests.support.waiting import DEADLINE, wait_until

SESSION = import_module("session_manager_plugin.session.session")
COMMAND = "AWS-StartNonInteractiveCommand"


async def start_command(sandbox: Sandbox, command: str) -> Session:
    started = await sandbox.start_session(COMMAND, {"command": [command], "separateOutputStream": ["true"]})
    return connect(started.stream_url, started.token or "", session_id=started.session_id)


async def read_all(session: Session) -> bytes:
    data = b""
    while piece := await session.read():
        data += piece
    return data


async def read_all_errors(session: Session) -> bytes:
    data = b""
    while piece := await session.read_stderr():
        data += piece
    return data


async def test_the_outputs_and_the_exit_status_of_a_command() -> None:
    async with Sandbox() as sandbox, await start_command(sandbox, "sh -c 'echo out; echo err >&2; exit 3'") as session:
        async with asyncio.timeout(DEADLINE):
            stdout, stderr, outcome = await asyncio.gather(read_all(session), read_all_errors(session), session.wait())
    assert (stdout, stderr, outcome.status) == (b"out\n", b"err\n", 3)
    assert (outcome.text, outcome.by_far_end, outcome.incomplete, outcome.discarded) == ("", True, "", 0)


async def test_a_command_that_a_signal_has_killed() -> None:
    async with Sandbox() as sandbox, await start_command(sandbox, "sh -c 'kill -9 $$'") as session:
        outcome = await asyncio.wait_for(session.wait(), DEADLINE)
    assert (outcome.status, outcome.is_killed) == (255, True)


async def test_waiting_alone_returns_after_much_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SESSION, "READ_BUFFER_SIZE", 1024 * 1024)
    size = 5_000_000
    async with Sandbox() as sandbox, await start_command(sandbox, f"head -c {size} /dev/zero") as session:
        outcome = await asyncio.wait_for(session.wait(), DEADLINE)
        assert outcome.status == 0
        kept = await session.read()
        # What was received at once and does not fit is discarded as a whole.
        assert 512 * 1024 <= len(kept) <= 1024 * 1024
        assert len(kept) + outcome.discarded == size
        with pytest.raises(OutputIncomplete, match=f"{outcome.discarded} bytes"):
            await session.read()


async def test_a_reader_beside_wait_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SESSION, "READ_BUFFER_SIZE", 256 * 1024)
    size = 1024 * 1024
    async with Sandbox() as sandbox, await start_command(sandbox, f"head -c {size} /dev/zero") as session:
        waiting = asyncio.ensure_future(session.wait())
        async with asyncio.timeout(DEADLINE):
            assert len(await read_all(session)) == size
            outcome = await waiting
    assert (outcome.status, outcome.discarded) == (0, 0)


async def test_waiting_returns_although_an_output_was_full_before() -> None:
    size = 2 * READ_BUFFER_SIZE
    agent = MemoryAgent("NonInteractiveCommands")
    channel = MemoryChannel(agent)
    async with Session(channel) as session:
        sending = asyncio.ensure_future(agent.write(bytes(size), PayloadType.STDERR))
        await channel.until(lambda: channel.reading_paused)
        waiting = asyncio.ensure_future(session.wait())
        await asyncio.wait_for(sending, DEADLINE)
        agent.send(b"EXIT_CODE: 4", PayloadType.EXIT_CODE)
        agent.close_channel()
        outcome = await asyncio.wait_for(waiting, DEADLINE)
        assert outcome.status == 4
        assert outcome.discarded + len(await session.read_stderr()) == size


async def test_a_link_lost_behind_the_exit_status_does_not_change_it() -> None:
    agent = MemoryAgent("NonInteractiveCommands")
    channel = MemoryChannel(agent)
    async with Session(channel) as session:
        agent.send(b"EXIT_CODE: 7", PayloadType.EXIT_CODE)
        await agent.until(lambda: not agent.connection.in_flight)
        channel.end(ConnectionLost("gone"))
        assert (await asyncio.wait_for(session.wait(), DEADLINE)).status == 7


async def test_a_session_that_forwards_a_port_is_refused_at_once() -> None:
    agent = MemoryAgent(properties={"type": "LocalPortForwarding", "portNumber": "80"})
    session = Session(MemoryChannel(agent))
    with pytest.raises(UsageError, match=r"forwards a port: smp connect serves it"):
        await asyncio.wait_for(session.__aenter__(), DEADLINE)
    assert session.state == "closed"


def aws_of(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> AwsSettings:
    """Settings that reach the sandbox, whose credentials are put into the environment."""
    use_credentials(sandbox, monkeypatch)
    return AwsSettings(region="us-east-1", endpoint_url=sandbox.endpoint_url)


async def test_a_session_is_started_on_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox() as sandbox:
        command = {"command": ["sh -c 'echo out; exit 3'"], "separateOutputStream": ["true"]}
        session = start("local", document=COMMAND, parameters=command, aws=aws_of(sandbox, monkeypatch))
        assert (session.session_id, session.state) == ("", "opening")
        async with session, asyncio.timeout(DEADLINE):
            assert await read_all(session) == b"out\n"
            assert (await session.wait()).status == 3
        assert sandbox.session(session.session_id).end_reason is not EndReason.TERMINATED


async def test_a_started_session_is_terminated_when_it_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox() as sandbox:
        async with asyncio.timeout(DEADLINE), start("local", aws=aws_of(sandbox, monkeypatch)) as session:
            assert session.state == "open"
        assert sandbox.session(session.session_id).end_reason is EndReason.TERMINATED


async def test_a_started_session_that_cannot_be_used_is_terminated(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox() as sandbox:
        document, parameters = "AWS-StartPortForwardingSession", {"portNumber": ["80"]}
        session = start("local", document=document, parameters=parameters, aws=aws_of(sandbox, monkeypatch))
        with pytest.raises(UsageError, match="forwards a port"):
            async with asyncio.timeout(DEADLINE), session:
                pass
        assert sandbox.session(session.session_id).end_reason is EndReason.TERMINATED


async def test_a_start_that_is_cancelled_leaves_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox() as sandbox, asyncio.timeout(DEADLINE):
        opening = asyncio.ensure_future(start("local", aws=aws_of(sandbox, monkeypatch)).open())
        await wait_until(lambda: sandbox.sessions)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        assert opening.cancelled()
        assert [session.end_reason for session in sandbox.sessions.values()] == [EndReason.TERMINATED]


async def test_what_needs_a_started_session_says_so() -> None:
    session = start("local")
    with pytest.raises(NotConnected, match="not started"):
        _ = session.channel
    await session.close()


async def test_a_session_that_is_not_started_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox() as sandbox:
        session = start("local", document="AWS-StartSSHSession", aws=aws_of(sandbox, monkeypatch))
        changes: list[str] = []
        session.set_link_handler(lambda: changes.append(session.state))
        assert (session.heard, session.incomplete, session.session_id) == (False, "", "")
        await session.open()
        await wait_until(lambda: bool(changes))
        await session.close()


@pytest.mark.parametrize("own", [False, True])
async def test_the_proxy_for_calls_to_aws_is_used_for_the_websocket_too(own: bool) -> None:
    """Unless the link has one of its own. Before, it was used for calls to AWS only."""
    asked: list[str] = []

    async def refuse(peer: Peer) -> None:
        asked.append((await read_request(peer.reader)).line)
        peer.write(http_answer(403))

    async def unused(peer: Peer) -> None:
        await peer.until_gone()

    async with RawServer(refuse) as proxy, RawServer(unused) as other:
        proxies = [f"http://127.0.0.1:{server.port}" for server in (proxy, other)]
        aws = AwsSettings(region="eu-west-1", proxy=proxies[1 if own else 0])
        session = connect(
            "wss://gateway.example/v1/data-channel/s-1",
            "a token",
            aws=aws,
            link=LinkOptions(proxy=proxies[0]) if own else None,
        )
        with pytest.raises(ConnectError, match="403"):
            await asyncio.wait_for(session.open(), DEADLINE)
        await session.close()
    assert asked == ["CONNECT gateway.example:443 HTTP/1.1"]
    assert other.connections == 0


async def test_the_ca_bundle_for_calls_to_aws_is_used_for_the_websocket_too() -> None:
    session = connect(
        "wss://gateway.example/v1/data-channel/s-1", "a token", aws=AwsSettings(ca_bundle="/no/such/bundle.pem")
    )
    with pytest.raises(ConfigurationError, match=r"/no/such/bundle\.pem"):
        await asyncio.wait_for(session.open(), DEADLINE)
    await session.close()
