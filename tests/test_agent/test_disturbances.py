"""Sessions of the sandbox that something is done to: faults of their messages and websockets, set or on demand."""

from __future__ import annotations

import asyncio
import functools
import random
import struct
from collections.abc import AsyncIterator

import pytest
from websockets.exceptions import InvalidStatus

from session_manager_plugin.agent import Faults, MessageFaults, Sandbox
from session_manager_plugin.agent.session import EndReason, SandboxSession
from session_manager_plugin.errors import ApiError
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.protocol.payloads import OpenDataChannelInput
from tests.support.raw_client import DEADLINE, RawClient
from tests.support.relay import Relay
from tests.support.tcp_server import Peer, TcpServer
from tests.support.waiting import wait_until

INTERACTIVE = "AWS-StartInteractiveCommand"
LOSSY = MessageFaults(drop=0.05, duplicate=0.05, reorder=0.05, delay=0.05, delay_time=0.05, corrupt=0.02)
LATE = MessageFaults(delay=1.0, delay_time=30.0)


@pytest.fixture
async def client() -> AsyncIterator[RawClient]:
    """A client that is not connected yet."""
    async with RawClient() as raw:
        yield raw


async def command(sandbox: Sandbox, client: RawClient, text: str) -> SandboxSession:
    """Start an interactive command and open it."""
    started = await sandbox.start_session(INTERACTIVE, {"command": [text]})
    await client.open(started.stream_url, started.token)
    return sandbox.session(started.session_id)


async def resume(sandbox: Sandbox, client: RawClient, session: SandboxSession) -> None:
    """Come back with a new token."""
    await client.disconnect()
    resumed = sandbox.resume(session.session_id)
    await client.open(resumed.stream_url, resumed.token)


async def stay(sandbox: Sandbox, client: RawClient, session: SandboxSession) -> None:
    """Come back each time the websocket is gone, until the session is over."""
    while client.channel_closed is None:
        await client.until(lambda: client.close_code is not None or client.channel_closed is not None)
        if client.channel_closed is None:
            await resume(sandbox, client, session)


async def echo(sandbox: Sandbox, size: int) -> SandboxSession:
    """Send so many bytes through a program that echoes them, whatever happens; all of them come back, and it ends."""
    data = random.Random(9).randbytes(size)
    async with RawClient() as client:
        session = await command(sandbox, client, f"stty raw -echo; echo ready; head -c {size}")
        staying = asyncio.create_task(stay(sandbox, client, session))
        await client.read_until(b"ready\n")
        sending = asyncio.create_task(client.send_input(data))
        assert await client.read_exactly(size) == data
        await asyncio.wait_for(staying, DEADLINE)
        await sending
        assert session.end_reason is EndReason.EXITED
    return session


# Faults that are set.


async def test_every_message_fault_both_ways_at_once() -> None:
    async with Sandbox(faults=Faults(to_client=LOSSY, to_agent=LOSSY, seed=4)) as sandbox:
        counts = (await echo(sandbox, 512 * 1024)).fault_counts
    assert min(counts.dropped, counts.duplicated, counts.reordered, counts.delayed, counts.corrupted) > 0
    assert counts.cuts == 0


@pytest.mark.slow
@pytest.mark.parametrize("code", [None, 1000, 1006])
async def test_a_websocket_that_is_cut_again_and_again(code: int | None) -> None:
    async with Sandbox(faults=Faults(cut_every=100_000, cut_code=code)) as sandbox:
        session = await echo(sandbox, 512 * 1024)
    assert session.fault_counts.cuts >= 5
    assert session.websockets == session.fault_counts.cuts + 1


async def test_a_websocket_that_is_cut_once() -> None:
    async with Sandbox(faults=Faults(to_client=LOSSY, to_agent=LOSSY, cut_after=100_000)) as sandbox:
        session = await echo(sandbox, 256 * 1024)
    assert (session.fault_counts.cuts, session.websockets) == (1, 2)


async def test_the_faults_of_one_direction_leave_the_other_alone(client: RawClient) -> None:
    async with Sandbox(faults=Faults(to_agent=MessageFaults(drop=1.0))) as sandbox:
        session = await command(sandbox, client, "echo hello; read x")
        await client.read_until(b"hello\r\n")
        await client.send(PayloadType.OUTPUT, b"\n")
        await wait_until(lambda: session.fault_counts.dropped >= 2)  # an acknowledgement, and this
        assert not session.ended.is_set()


async def test_what_was_on_its_way_arrives_before_the_end(client: RawClient) -> None:
    async with Sandbox(faults=Faults(to_client=LATE)) as sandbox:
        session = await command(sandbox, client, "echo hello; read x")
        await wait_until(lambda: session.fault_counts.delayed)
        assert client.output == b""
        sandbox.terminate(session.session_id)
        assert await client.until_closed() == ""
        assert client.output == b"hello\r\n"


async def test_what_was_on_its_way_is_lost_with_the_websocket(client: RawClient) -> None:
    async with Sandbox(faults=Faults(to_client=LATE)) as sandbox:
        session = await command(sandbox, client, "echo hello; read x")
        await wait_until(lambda: session.fault_counts.delayed)
        assert session.disconnect()
        sandbox.terminate(session.session_id)
        await client.until(lambda: client.close_code is not None)
        assert client.output == b""


# Cuts on demand.


@pytest.mark.parametrize(("code", "seen"), [(None, 1006), (1006, 1006), (1000, 1000), (1001, 1001), (1011, 1011)])
async def test_a_session_outlives_a_cut(sandbox: Sandbox, client: RawClient, code: int | None, seen: int) -> None:
    session = await command(sandbox, client, 'echo ready; read x; echo "<$x>"; read x')
    await client.read_until(b"ready\r\n")
    assert session.disconnect(code)
    assert session.disconnected.is_set()
    assert not session.disconnect(code)
    await client.until(lambda: client.close_code is not None)
    assert client.close_code == seen
    await client.send(PayloadType.OUTPUT, b"typed meanwhile\n")
    assert not session.ended.is_set()
    await resume(sandbox, client, session)
    await client.read_until(b"<typed meanwhile>\r\n")
    assert (session.fault_counts.cuts, session.websockets) == (1, 2)


async def tcp_client(sandbox: Sandbox, server: TcpServer) -> tuple[Peer, SandboxSession]:
    """A session's client without a library that hides how its connection ends."""
    _, peer = await asyncio.get_running_loop().create_connection(lambda: Peer(server), "127.0.0.1", sandbox.port)
    started = await sandbox.start_session()
    assert started.token is not None
    token = OpenDataChannelInput("request", started.token, "client", "1.3.0.0").to_json().encode()
    peer.transport.write(
        f"GET {started.stream_url.partition(str(sandbox.port))[2]} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        + struct.pack(">BBH4x", 0x81, 0xFE, len(token))
        + token
    )
    session = sandbox.session(started.session_id)
    await asyncio.wait_for(session.connected.wait(), DEADLINE)
    return peer, session


@pytest.mark.parametrize("code", [None, 1006])
async def test_a_cut_without_a_close_frame_is_a_reset_or_a_clean_end(sandbox: Sandbox, code: int | None) -> None:
    async with TcpServer() as server:
        peer, session = await tcp_client(sandbox, server)
        await wait_until(lambda: b"\r\n\r\n" in peer.received)
        session.disconnect(code)
        if code is None:
            await wait_until(lambda: peer.gone)
            assert isinstance(peer.error, ConnectionResetError)
        else:
            await wait_until(lambda: peer.at_end)
            assert not peer.gone


async def test_a_code_that_cannot_be_is_refused(sandbox: Sandbox, client: RawClient) -> None:
    session = await command(sandbox, client, "read x")
    await asyncio.wait_for(session.connected.wait(), DEADLINE)
    with pytest.raises(ValueError, match="close code 1005; expected"):
        session.disconnect(1005)
    assert session.connected.is_set()


# Silence.


async def ponged(client: RawClient) -> bool:
    """Whether a ping is answered before a command's answer comes."""
    assert client.websocket is not None
    pong = asyncio.ensure_future(await client.websocket.ping())
    await client.send_input(b"x\n")
    await client.read_until(b"heard\r\n")
    answered = pong.done()
    pong.cancel()
    return answered


async def test_pongs_are_withheld_while_everything_else_goes_on(sandbox: Sandbox, client: RawClient) -> None:
    session = await command(sandbox, client, "stty -echo; while read x; do echo heard; done")
    assert await ponged(client)
    session.withhold_pongs = True
    assert not await ponged(client)
    session.withhold_pongs = False
    assert await ponged(client)


async def test_pongs_are_withheld_from_the_beginning(client: RawClient) -> None:
    async with Sandbox(faults=Faults(withhold_pongs=True)) as sandbox:
        await command(sandbox, client, "stty -echo; while read x; do echo heard; done")
        assert not await ponged(client)


async def test_a_stalled_websocket_carries_nothing_and_loses_nothing(sandbox: Sandbox, client: RawClient) -> None:
    session = await command(sandbox, client, 'echo ready; read x; echo "<$x>"; read x')
    await client.read_until(b"ready\r\n")
    assert session.stall()
    assert client.websocket is not None
    pong = await client.websocket.ping()
    await client.send(PayloadType.OUTPUT, b"hello\n")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(pong), 0.3)
    assert not client.output
    assert client.close_code is None
    assert session.connected.is_set()
    session.stall(False)
    await asyncio.wait_for(pong, DEADLINE)
    await client.read_until(b"<hello>\r\n")


async def test_a_new_websocket_is_not_stalled(sandbox: Sandbox, client: RawClient) -> None:
    session = await command(sandbox, client, 'echo ready; read x; echo "<$x>"; read x')
    await client.read_until(b"ready\r\n")
    session.stall()
    await client.send(PayloadType.OUTPUT, b"hello\n")
    await resume(sandbox, client, session)
    await client.read_until(b"<hello>\r\n")
    await client.disconnect()
    await asyncio.wait_for(session.disconnected.wait(), DEADLINE)
    assert not session.stall()


# Refusals.


async def test_websockets_are_refused_but_not_the_first(client: RawClient) -> None:
    async with Sandbox(faults=Faults(refuse_websocket=2)) as sandbox:
        session = await command(sandbox, client, "echo ready; read x")
        await client.read_until(b"ready\r\n")
        await client.disconnect()
        resumed = sandbox.resume(session.session_id)
        for _ in range(2):
            with pytest.raises(InvalidStatus) as caught:
                await client.open(resumed.stream_url, resumed.token)
            assert caught.value.response.status_code == 403
        await client.open(resumed.stream_url, resumed.token)
        await asyncio.wait_for(session.connected.wait(), DEADLINE)


async def test_resume_session_is_refused() -> None:
    async with Sandbox(faults=Faults(refuse_resume=2, resume_error="AccessDeniedException")) as sandbox:
        started = await sandbox.start_session()
        for _ in range(2):
            with pytest.raises(ApiError) as caught:
                sandbox.resume(started.session_id)
            assert caught.value.code == "AccessDeniedException"
        assert sandbox.resume(started.session_id).token is not None
        session = sandbox.session(started.session_id)
        session.refuse_resume = 1
        with pytest.raises(ApiError):
            sandbox.resume(started.session_id)


async def test_a_token_expires(sandbox: Sandbox, client: RawClient) -> None:
    started = await sandbox.start_session()
    session = sandbox.session(started.session_id)
    session.expire_token()
    await client.open(started.stream_url, started.token)
    await client.until(lambda: client.close_code is not None)
    assert client.close_code == 1008
    await resume(sandbox, client, session)
    await asyncio.wait_for(session.connected.wait(), DEADLINE)


async def test_a_void_token_is_refused_before_the_websocket_opens(client: RawClient) -> None:
    async with Sandbox(faults=Faults(void_token="forbidden")) as sandbox:
        started = await sandbox.start_session()
        await client.open(started.stream_url, started.token)
        await asyncio.wait_for(sandbox.session(started.session_id).connected.wait(), DEADLINE)
        await client.disconnect()
        with pytest.raises(InvalidStatus) as caught:
            await client.open(started.stream_url, started.token)
        assert caught.value.response.status_code == 403
        await resume(sandbox, client, sandbox.session(started.session_id))
        await asyncio.wait_for(sandbox.session(started.session_id).connected.wait(), DEADLINE)


def session_has_had(session: SandboxSession, websockets: int) -> bool:
    """Whether so many websockets opened it so far."""
    return session.websockets == websockets


async def test_reusable_tokens_open_again_until_there_is_a_new_one(client: RawClient) -> None:
    async with Sandbox(faults=Faults(tokens_reusable=True)) as sandbox:
        started = await sandbox.start_session()
        session = sandbox.session(started.session_id)
        for number in range(1, 4):
            await client.open(started.stream_url, started.token)
            await wait_until(functools.partial(session_has_had, session, number))
            await client.disconnect()
        sandbox.resume(started.session_id)
        await client.open(started.stream_url, started.token)
        await client.until(lambda: client.close_code is not None)
        assert client.close_code == 1008


# A relay in between.


async def test_stream_urls_lead_through_a_relay(sandbox: Sandbox, client: RawClient) -> None:
    async with Relay(sandbox.port) as relay:
        sandbox.stream_port = relay.port
        session = await command(sandbox, client, "echo ready; read x")
        await client.read_until(b"ready\r\n")
        relay.cut()
        await client.until(lambda: client.close_code is not None)
        assert client.close_code == 1006
        await asyncio.wait_for(session.disconnected.wait(), DEADLINE)
        await resume(sandbox, client, session)
        await asyncio.wait_for(session.connected.wait(), DEADLINE)
        assert relay.counts.joined == 2
