"""The sandbox's port, from outside: who gets in, what is answered, what happens to a websocket."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import struct
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any
from unittest import mock

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent import gateway as gateway_module
from session_manager_plugin.agent.gateway import MAX_MESSAGE_SIZE, MAX_UNREAD_SIZE, Gateway, SandboxSocket
from session_manager_plugin.agent.http_messages import text_response
from session_manager_plugin.agent.session import SandboxSession
from session_manager_plugin.protocol.payloads import OpenDataChannelInput
from tests.support.raw_client import DEADLINE, RawClient
from tests.support.waiting import wait_until


def opening(token: str | None) -> str:
    assert token is not None
    return OpenDataChannelInput("request", token, "client", "1.3.0.0").to_json()


@contextlib.asynccontextmanager
async def websocket(url: str, **options: Any) -> AsyncIterator[ClientConnection]:
    async with connect(url, proxy=None, compression=None, **options) as connection:
        yield connection


async def close_code(connection: ClientConnection) -> int | None:
    """The code the far end closes with, whatever it sends before."""
    async with asyncio.timeout(DEADLINE):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.recv()
    return connection.close_code


@contextlib.asynccontextmanager
async def plain(sandbox: Sandbox) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def read_response(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of the next HTTP response."""
    async with asyncio.timeout(DEADLINE):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lengths = [line.split()[1] for line in head.split("\r\n") if line.lower().startswith("content-length")]
        body = await reader.readexactly(int(lengths[0])) if lengths else b""
    return int(head.split()[1]), body


def request(sandbox: Sandbox, operation: str, body: bytes, *headers: str) -> bytes:
    credential = f"{sandbox.access_key_id}/20260101/us-east-1/ssm/aws4_request"
    lines = [
        "POST / HTTP/1.1",
        "Host: 127.0.0.1",
        f"X-Amz-Target: AmazonSSM.{operation}",
        f"Authorization: AWS4-HMAC-SHA256 Credential={credential}, Signature=0",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


UPGRADE = (
    b"Host: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: " + base64.b64encode(bytes(16)) + b"\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def masked(opcode: int, data: bytes, *, fin: bool = True) -> bytes:
    """A client's websocket frame with a mask of zeros."""
    return struct.pack(">BBH4x", opcode | (0x80 if fin else 0), 0xFE, len(data)) + data


# Who gets in.


async def test_a_token_opens_one_websocket(sandbox: Sandbox) -> None:
    started = await sandbox.start_session()
    async with websocket(started.stream_url) as first:
        await first.send(opening(started.token))
        assert isinstance(await first.recv(), bytes)
        async with websocket(started.stream_url) as second:
            await second.send(opening(started.token))
            assert await close_code(second) == 1008
        assert sandbox.session(started.session_id).connected.is_set()


@pytest.mark.parametrize(
    "first_message",
    [
        opening("wrong"),
        opening("ü"),
        '{"TokenValue": "\\ud800"}',
        "{}",
        "[]",
        "not JSON",
        '{"TokenValue": 7}',
        b"\x00" * 120,
    ],
)
async def test_a_wrong_first_message_is_refused(sandbox: Sandbox, first_message: str | bytes) -> None:
    started = await sandbox.start_session()
    async with websocket(started.stream_url) as connection:
        await connection.send(first_message)
        with pytest.raises(ConnectionClosed) as caught:
            await connection.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, "")
    assert not sandbox.session(started.session_id).connected.is_set()


async def test_the_right_token_as_a_binary_message_is_refused(sandbox: Sandbox) -> None:
    started = await sandbox.start_session()
    async with websocket(started.stream_url) as connection:
        await connection.send(opening(started.token).encode())
        assert await close_code(connection) == 1008


async def test_an_unknown_session_is_refused_like_a_wrong_token(sandbox: Sandbox) -> None:
    started = await sandbox.start_session()
    async with websocket(started.stream_url.replace(started.session_id, "user-0123")) as connection:
        await connection.send(opening(started.token))
        assert await close_code(connection) == 1008


async def test_a_token_is_void_when_the_session_is_over_or_a_newer_one_was_given(sandbox: Sandbox) -> None:
    started = await sandbox.start_session()
    resumed = sandbox.resume(started.session_id)
    async with websocket(started.stream_url) as connection:
        await connection.send(opening(started.token))
        assert await close_code(connection) == 1008
    sandbox.terminate(started.session_id)
    async with websocket(resumed.stream_url) as connection:
        await connection.send(opening(resumed.token))
        assert await close_code(connection) == 1008
    assert sandbox.resume(started.session_id).token is None


async def test_silence_is_refused(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "OPENING_TIMEOUT", 0.1)
    started = await sandbox.start_session()
    async with websocket(started.stream_url) as connection:
        assert await close_code(connection) == 1008
    async with plain(sandbox) as (reader, _):
        assert await asyncio.wait_for(reader.read(), DEADLINE) == b""


@pytest.mark.parametrize("query", ["", "?role=publish_subscribe", "?role=publish_subscribe&sessionId=S&token=T"])
async def test_the_query_and_a_bearer_header_do_not_matter(sandbox: Sandbox, query: str) -> None:
    started = await sandbox.start_session()
    url = started.stream_url.partition("?")[0] + query
    async with websocket(url, additional_headers={"Authorization": "Bearer whatever"}) as connection:
        await connection.send(opening(started.token))
        assert isinstance(await connection.recv(), bytes)


async def test_browsers_are_refused(sandbox: Sandbox) -> None:
    started = await sandbox.start_session()
    with pytest.raises(InvalidStatus) as caught:
        async with websocket(started.stream_url, origin=Origin("http://127.0.0.1")):
            pass
    assert caught.value.response.status_code == 403
    async with plain(sandbox) as (reader, writer):
        writer.write(request(sandbox, "StartSession", b'{"Target":"local"}', "Origin: null"))
        assert (await read_response(reader))[0] == 403
        assert await reader.read() == b""
    assert list(sandbox.sessions) == [started.session_id]


async def test_it_listens_on_loopback_only(sandbox: Sandbox) -> None:
    assert sandbox.endpoint_url == f"http://127.0.0.1:{sandbox.port}"
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the system
        await asyncio.open_connection("127.0.0.2", sandbox.port)


# HTTP.


async def test_requests_share_a_connection(sandbox: Sandbox) -> None:
    async with plain(sandbox) as (reader, writer):
        for _ in range(2):
            writer.write(request(sandbox, "StartSession", b'{"Target":"local"}'))
            status, body = await read_response(reader)
            assert status == 200
            assert json.loads(body)["SessionId"] in sandbox.sessions
        writer.write(request(sandbox, "StartSession", b'{"Target":"local"}', "Connection: close"))
        assert (await read_response(reader))[0] == 200
        assert await asyncio.wait_for(reader.read(), DEADLINE) == b""


async def test_a_client_that_asks_first_may_continue(sandbox: Sandbox) -> None:
    body = b'{"Target":"local"}'
    async with plain(sandbox) as (reader, writer):
        writer.write(request(sandbox, "StartSession", body, "Expect: 100-continue")[: -len(body)])
        assert (await read_response(reader))[0] == 100
        writer.write(body)
        assert (await read_response(reader))[0] == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /v1/data-channel/x HTTP/1.1\r\n\r\n", 404),
        (b"GET /v1/control-channel/x HTTP/1.1\r\n" + UPGRADE, 404),
        (b"GET //[ HTTP/1.1\r\n" + UPGRADE, 404),
        (b"POST /v1/data-channel/x HTTP/1.1\r\n" + UPGRADE, 405),
        (b"GET /v1/data-channel/x HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", 426),
        (b"GET /v1/data-channel/x HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
    ],
)
async def test_what_is_not_a_call_is_refused(sandbox: Sandbox, data: bytes, status: int) -> None:
    async with plain(sandbox) as (reader, writer):
        writer.write(data)
        assert (await read_response(reader))[0] == status


# The websocket.


async def test_what_comes_in_one_write_with_the_upgrade_is_served(sandbox: Sandbox) -> None:
    started = await sandbox.start_session("AWS-StartInteractiveCommand", {"command": ["echo hello"]})
    path = started.stream_url.partition(str(sandbox.port))[2]
    async with plain(sandbox) as (reader, writer):
        frames = masked(9, b"now") + masked(1, opening(started.token).encode())
        writer.write(f"GET {path} HTTP/1.1\r\n".encode() + UPGRADE + frames)
        assert (await read_response(reader))[0] == 101
        assert await asyncio.wait_for(reader.readexactly(5), DEADLINE) == b"\x8a\x03now"
        await asyncio.wait_for(reader.readuntil(b"hello\r\n"), DEADLINE)


async def test_fragments_are_put_together(sandbox: Sandbox) -> None:
    started = await sandbox.start_session()
    text = opening(started.token)
    async with websocket(started.stream_url) as connection:
        await connection.send([text[:10], "", text[10:20], text[20:]])
        assert isinstance(await connection.recv(), bytes)


async def test_a_message_that_is_too_long_closes_the_websocket(sandbox: Sandbox) -> None:
    started = await sandbox.start_session()
    async with websocket(started.stream_url) as connection:
        await connection.send(opening(started.token))
        await connection.send(bytes(MAX_MESSAGE_SIZE + 1))
        assert await close_code(connection) == 1009
    await asyncio.wait_for(sandbox.session(started.session_id).disconnected.wait(), DEADLINE)


async def test_garbage_and_further_texts_do_not_disturb_a_session(sandbox: Sandbox) -> None:
    started = await sandbox.start_session()
    async with RawClient() as client:
        await client.open(started.stream_url, started.token)
        await client.read_until(b"#" if os.geteuid() == 0 else b"$")
        assert client.websocket is not None
        for garbage in (b"", b"\x00" * 4, b"\xff" * 200, "text", opening(started.token)):
            await client.websocket.send(garbage)
        await client.send_input(b"echo $((40+2))\n")
        await client.read_until(b"42\r\n")


async def test_pings_are_answered(sandbox: Sandbox) -> None:
    started = await sandbox.start_session()
    async with websocket(started.stream_url) as connection:
        assert await asyncio.wait_for(await connection.ping(b"keepalive"), DEADLINE) >= 0
        await connection.send(opening(started.token))
        assert await asyncio.wait_for(await connection.ping(), DEADLINE) >= 0


async def test_a_new_websocket_takes_the_place_of_the_old_one(sandbox: Sandbox) -> None:
    started = await sandbox.start_session()
    session = sandbox.session(started.session_id)
    async with websocket(started.stream_url) as old:
        await old.send(opening(started.token))
        await old.recv()
        async with websocket(started.stream_url) as new:
            await new.send(opening(sandbox.resume(started.session_id).token))
            assert await close_code(old) == 1001
            assert isinstance(await new.recv(), bytes)
            assert session.connected.is_set()
            assert not session.disconnected.is_set()


async def test_a_client_that_closes_is_answered_and_is_away_then(sandbox: Sandbox) -> None:
    started = await sandbox.start_session()
    async with websocket(started.stream_url) as connection:
        await connection.send(opening(started.token))
        await connection.recv()
        await connection.close(4000, "bye")
        assert connection.close_code == 4000
    session = sandbox.session(started.session_id)
    await asyncio.wait_for(session.disconnected.wait(), DEADLINE)
    assert not session.ended.is_set()


# A client that does not read.


def open_on_a_fake_transport(session: mock.Mock) -> tuple[SandboxSocket, mock.Mock]:
    """A connection on which a client has opened ``session``."""
    session.withhold_pongs = False
    gateway = Gateway(lambda _: text_response(HTTPStatus.OK, "ok"), lambda _: session, lambda _: None)
    transport = mock.Mock(spec=asyncio.Transport)
    transport.is_closing.return_value = False
    transport.get_write_buffer_size.return_value = 0
    connection = SandboxSocket(gateway)
    connection.connection_made(transport)
    connection.data_received(b"GET /v1/data-channel/x HTTP/1.1\r\n" + UPGRADE + masked(1, opening("t").encode()))
    session.attach.assert_called_once_with(connection)
    return connection, transport


async def test_a_client_that_does_not_read_stops_its_session() -> None:
    session = mock.Mock(spec=SandboxSession)
    connection, _ = open_on_a_fake_transport(session)
    connection.pause_writing()
    session.set_congested.assert_called_once_with(connection, True)
    connection.resume_writing()
    session.set_congested.assert_called_with(connection, False)
    connection.connection_lost(None)
    session.detach.assert_called_once_with(connection)
    assert connection.gone.done()


async def test_above_a_limit_nothing_more_is_read_that_would_be_answered() -> None:
    connection, transport = open_on_a_fake_transport(mock.Mock(spec=SandboxSession, pong_delay=0.0))
    transport.get_write_buffer_size.return_value = MAX_UNREAD_SIZE
    connection.data_received(masked(9, b"ping"))
    transport.pause_reading.assert_not_called()
    transport.get_write_buffer_size.return_value = MAX_UNREAD_SIZE + 1
    connection.data_received(masked(9, b"ping"))
    transport.pause_reading.assert_called_once_with()
    connection.resume_writing()
    transport.resume_reading.assert_called_once_with()
    connection.connection_lost(None)


@pytest.mark.slow
async def test_a_client_that_reads_late_gets_everything(sandbox: Sandbox) -> None:
    size = 8 * 1024 * 1024
    started = await sandbox.start_session(
        "AWS-StartInteractiveCommand", {"command": [f"stty raw -echo; head -c {size} /dev/zero"]}
    )
    async with RawClient() as client:
        client.hold()
        await client.open(started.stream_url, started.token)
        await asyncio.wait_for(sandbox.session(started.session_id).connected.wait(), DEADLINE)
        endpoint = sandbox.session(started.session_id).agent.endpoint
        await wait_until(lambda: endpoint.retransmissions)
        client.release()
        assert await client.until_closed() == ""
        assert client.output == bytes(size)
