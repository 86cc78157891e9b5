"""``connect`` and ``Session``, as a program uses them."""

from __future__ import annotations

import asyncio
import os
import random
import sys

import pytest

import session_manager_plugin
from session_manager_plugin import Session, connect
from session_manager_plugin.communicator import LinkOptions, SessionDataChannel, create_websocket_config
from session_manager_plugin.errors import (
    ConnectError,
    ConnectionLost,
    InvalidURL,
    NotConnected,
    SessionEnded,
    SessionManagerError,
    TimedOut,
)
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.session.runner import HANDLERS, SessionRunner
from session_manager_plugin.session.session import READ_BUFFER_SIZE
from session_manager_plugin.session.streams import MemoryStreams
from tests.support.agent_gateway import SESSION_ID, TOKEN, AgentGateway
from tests.support.raw_server import Peer, RawServer, close_frame, http_answer, read_request
from tests.support.waiting import DEADLINE, wait_until


async def read_until(session: Session, end: bytes) -> bytes:
    """Read until what came ends with ``end``."""
    data = b""
    async with asyncio.timeout(DEADLINE):
        while not data.endswith(end):
            piece = await session.read()
            assert piece, f"the session ended after {data!r}"
            data += piece
    return data


async def read_all(session: Session) -> bytes:
    """Read to the end."""
    data = b""
    async with asyncio.timeout(DEADLINE):
        while piece := await session.read():
            data += piece
    return data


# What a program does.


async def test_a_session_from_beginning_to_end() -> None:
    async with AgentGateway(greeting=b"$ ") as gateway:
        session = connect(gateway.url, TOKEN)
        assert session.state == "opening"
        assert session.session_id == SESSION_ID
        assert session.latency is None
        async with session as entered:
            assert entered is session
            assert session.state == "open"
            assert await read_until(session, b"$ ") == b"$ "

            await session.resize(132, 43)
            await session.write(b"echo $((40+2))\r")
            await gateway.until(lambda: gateway.input == b"echo $((40+2))\r")
            assert gateway.received[PayloadType.SIZE] == b'{"cols":132,"rows":43}'
            await gateway.write(b"42\r\n$ ")
            assert await read_until(session, b"$ ") == b"42\r\n$ "
            await wait_until(lambda: session.latency is not None)
            assert session.latency is not None
            assert session.latency > 0

            await gateway.write(b"bye\r\n")
            await gateway.close_channel()
            assert (await session.wait()).is_normal
            assert session.state == "closed"
            assert await read_all(session) == b"bye\r\n"
            assert await session.read() == b""
        assert session.state == "closed"
    assert [opening["TokenValue"] for opening in gateway.openings] == [TOKEN]
    assert gateway.close_code == 1000


PROGRAM = r"""import asyncio
import os

from session_manager_plugin import connect


async def main() -> None:
    async with connect(os.environ["SESSION_URL"], os.environ["SESSION_TOKEN"]) as session:
        await session.write(b"echo $((40+2)); exit\r")
        while data := await session.read():
            print(data.decode(errors="replace"), end="")
        outcome = await session.wait()
        print("closed by the far end:", outcome.by_far_end)


asyncio.run(main())
"""


async def test_a_program_that_joins_a_session() -> None:
    """In a Python of its own."""
    async with AgentGateway(greeting=b"$ ") as gateway:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "error",
            "-c",
            PROGRAM,
            env={**os.environ, "SESSION_URL": gateway.url, "SESSION_TOKEN": TOKEN},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        communicating = asyncio.ensure_future(process.communicate())
        try:
            await gateway.until(lambda: gateway.input == b"echo $((40+2)); exit\r" or communicating.done())
            await gateway.write(b"echo $((40+2)); exit\r\n42\r\n")
            await gateway.close_channel()
            output, errors = await asyncio.wait_for(communicating, DEADLINE)
        finally:
            if process.returncode is None:
                process.kill()
                await communicating

    assert errors.decode() == ""
    assert output.decode() == "$ echo $((40+2)); exit\r\n42\r\nclosed by the far end: True\n"
    assert process.returncode == 0


async def test_bytes_are_not_touched() -> None:
    there, back = random.Random(1).randbytes(200_000), random.Random(2).randbytes(300_000)
    async with AgentGateway(greeting=b"") as gateway:
        # With no greeting the first bytes themselves tell that the session has begun.
        async def answer() -> None:
            await gateway.until(lambda: gateway.openings)
            await gateway.write(back)

        answering = asyncio.ensure_future(answer())
        async with connect(gateway.url, TOKEN) as session:
            await session.write(there)
            received = b""
            while len(received) < len(back):
                received += await asyncio.wait_for(session.read(), DEADLINE)
            await gateway.until(lambda: len(gateway.input) == len(there))
        await answering

    assert gateway.input == there
    assert received == back


async def test_stderr_is_read_apart() -> None:
    async with AgentGateway(greeting=b"out") as gateway, connect(gateway.url, TOKEN) as session:
        await gateway.write(b"err", PayloadType.STDERR)
        assert await asyncio.wait_for(session.read_stderr(), DEADLINE) == b"err"
        assert await asyncio.wait_for(session.read(), DEADLINE) == b"out"


@pytest.mark.slow
async def test_a_slow_reader_has_the_network_wait() -> None:
    piece = random.Random(3).randbytes(1024 * 1024)
    pieces = READ_BUFFER_SIZE // len(piece) + 6
    async with AgentGateway(greeting=b"") as gateway:

        async def write() -> None:
            await gateway.until(lambda: gateway.openings)
            for _ in range(pieces):
                await gateway.write(piece)

        writing = asyncio.ensure_future(write())
        config = create_websocket_config(gateway.url, TOKEN)
        channel = SessionDataChannel(config)
        async with Session(channel) as session:
            received = bytearray(await session.read())
            await wait_until(lambda: channel.get_channel_info()["reading_paused"])
            assert not writing.done()
            at_once = await session.read()
            assert READ_BUFFER_SIZE < len(at_once) < READ_BUFFER_SIZE + 2 * 1024 * 1024
            received += at_once
            while len(received) < pieces * len(piece):
                received += await asyncio.wait_for(session.read(), DEADLINE)
            await asyncio.wait_for(writing, DEADLINE)

    assert received == piece * pieces


async def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    async with AgentGateway(greeting=b"$ ") as gateway, connect(gateway.url, TOKEN) as session:
        assert await read_until(session, b"$ ") == b"$ "
        before = asyncio.all_tasks()
        reading = asyncio.ensure_future(session.read())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert asyncio.all_tasks() <= before
        await gateway.write(b"later")
        assert await read_until(session, b"later") == b"later"


# How it ends.


async def test_an_end_with_a_reason_is_in_the_outcome_and_raised_after_the_output() -> None:
    async with AgentGateway(greeting=b"last words") as gateway, connect(gateway.url, TOKEN) as session:
        await gateway.close_channel("\nterminated by an administrator\n")
        outcome = await session.wait()
        assert outcome.text == "\nterminated by an administrator\n"
        assert (outcome.status, outcome.by_far_end, outcome.discarded) == (None, True, 0)
        assert await session.read() == b"last words"
        with pytest.raises(SessionEnded) as caught:
            await session.read()
        assert str(caught.value) == "terminated by an administrator"
        assert caught.value.output == "\nterminated by an administrator\n"
        with pytest.raises(NotConnected):
            await session.write(b"too late")


async def test_a_lost_connection_is_raised() -> None:
    async with (
        AgentGateway(greeting=b"last words") as gateway,
        connect(gateway.url, TOKEN, link=LinkOptions(reconnect_timeout=0)) as session,
    ):
        await gateway.close_websocket(1011)
        with pytest.raises(ConnectionLost):
            await session.wait()
        assert await session.read() == b"last words"
        with pytest.raises(ConnectionLost):
            await session.read()
        assert session.state == "closed"


async def test_a_reader_who_waits_hears_of_the_end() -> None:
    async with AgentGateway(greeting=b"$ ") as gateway, connect(gateway.url, TOKEN) as session:
        await read_until(session, b"$ ")
        reading = asyncio.ensure_future(session.read())
        await gateway.close_channel()
        assert await asyncio.wait_for(reading, DEADLINE) == b""


async def test_an_exception_in_the_block_closes_the_session() -> None:
    async with AgentGateway() as gateway:
        session = connect(gateway.url, TOKEN)
        with pytest.raises(KeyError):
            async with session:
                raise KeyError("a fault in the program")
        await gateway.until(lambda: gateway.close_code is not None)
        assert session.state == "closed"
        await session.close()


async def test_a_refusal_is_raised() -> None:
    async def refuse(peer: Peer) -> None:
        await read_request(peer.reader)
        peer.write(http_answer(403))
        peer.end()

    async with RawServer(refuse) as server:
        with pytest.raises(ConnectError, match="refused the websocket with status 403"):
            async with connect(server.url(), TOKEN):
                pytest.fail("the session is not open")
        assert server.connections == 1  # the session layer decides about trying again


async def test_a_used_token_is_told() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.receive_frame()
        peer.write(close_frame(1008, "token used"))
        peer.end()

    async with RawServer(script) as server:
        with pytest.raises(SessionManagerError, match=r"code 1008 \(token used\)"):
            async with connect(server.url(), TOKEN):
                pytest.fail("the session is not open")


async def test_a_server_that_does_not_answer_in_time() -> None:
    async def mute(peer: Peer) -> None:
        await peer.until_gone()

    async with RawServer(mute) as server:
        with pytest.raises(ConnectError, match=r"did not answer .*within 0\.05 seconds"):
            async with connect(server.url(), TOKEN, link=LinkOptions(connect_timeout=0.05)):
                pytest.fail("the session is not open")


async def test_a_handshake_that_is_needed_and_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("session_manager_plugin.protocol.readiness.HANDSHAKE_TIMEOUT", 0.05)
    async with AgentGateway(greeting=b"") as gateway:
        with pytest.raises(TimedOut):
            async with connect(gateway.url, TOKEN, handshake_required=True):
                pytest.fail("the session is not open")
        await gateway.until(lambda: gateway.close_code is not None)


async def test_cancelling_the_opening_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    reached = asyncio.Event()

    async def mute(peer: Peer) -> None:
        await read_request(peer.reader)
        reached.set()
        await peer.until_gone()

    async with RawServer(mute) as server:
        session = connect(server.url(), TOKEN)
        opening = asyncio.ensure_future(session.__aenter__())
        await reached.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    assert asyncio.all_tasks() == before


async def test_keepalive_zero_sends_no_ping() -> None:
    async with AgentGateway() as gateway, connect(gateway.url, TOKEN, link=LinkOptions(keepalive=0)) as session:
        await session.write(b"x")
        await gateway.until(lambda: gateway.input == b"x")
        assert session.latency is None


# The URL.


@pytest.mark.parametrize("url", ["", "ftp://gateway.example/v1/data-channel/s", "wss://:1/v1/data-channel/s"])
async def test_a_url_that_leads_nowhere(url: str) -> None:
    with pytest.raises(InvalidURL):
        connect(url, TOKEN)


async def test_an_endpoint_needs_a_session_id() -> None:
    with pytest.raises(InvalidURL, match="names no session"):
        connect("wss://gateway.example", TOKEN)
    assert connect("wss://gateway.example", TOKEN, session_id="alice-1").session_id == "alice-1"


async def test_an_endpoint_is_completed() -> None:
    lines: list[str] = []

    async def script(peer: Peer) -> None:
        lines.append((await read_request(peer.reader)).line)
        peer.write(http_answer(404))
        peer.end()

    async with RawServer(script) as server:
        with pytest.raises(ConnectError, match="404"):
            async with connect(f"ws://127.0.0.1:{server.port}", "a b", session_id="alice-1"):
                pytest.fail("the session is not open")

    assert lines == ["GET /v1/data-channel/alice-1?role=publish_subscribe&sessionId=alice-1&token=a+b HTTP/1.1"]


async def test_a_token_does_not_travel_in_clear_to_another_machine() -> None:
    url = "ws://gateway.example/v1/data-channel/alice-1?token=a-secret"
    with pytest.raises(InvalidURL, match="the token would travel unencrypted") as caught:
        connect(url, "t")
    assert "a-secret" not in str(caught.value)

    assert connect(url, "t", link=LinkOptions(insecure=True)).state == "opening"
    assert connect("ws://localhost:1/v1/data-channel/s", "t").state == "opening"


async def test_link_options_are_passed_on() -> None:
    async with AgentGateway() as gateway:
        port = int(gateway.url.split(":")[2].partition("/")[0])
        link = LinkOptions(dial=("127.0.0.1", port), insecure=True)
        url = f"ws://gateway.test/v1/data-channel/{SESSION_ID}"
        async with connect(url, TOKEN, link=link) as session:
            assert session.state == "open"


# What there is.


def test_the_names_of_the_package() -> None:
    assert session_manager_plugin.connect is connect
    assert session_manager_plugin.Session is Session


def test_the_session_types_that_have_a_handler() -> None:
    assert {"Standard_Stream", "InteractiveCommands"} <= HANDLERS.keys()


async def test_running_before_opening() -> None:
    session = connect("wss://gateway.example/v1/data-channel/s", TOKEN)
    with pytest.raises(NotConnected):
        await SessionRunner(session).run(MemoryStreams())
    with pytest.raises(NotConnected):
        await session.wait()
    with pytest.raises(NotConnected):
        await session.read()
    with pytest.raises(NotConnected):
        await session.write(b"x")
    await session.close()
