"""``WebSocketChannel`` over real websockets: opening, messages, flow control, closing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from importlib import import_module

import pytest

from session_manager_plugin.communicator import (
    ConnectionState,
    MessageType,
    WebSocketChannel,
    WebSocketConfig,
    WebSocketMessage,
    create_websocket_config,
    websocket_channel,
)
from session_manager_plugin.communicator.gateway_socket import WRITE_LIMIT, Message
from session_manager_plugin.errors import (
    ConnectError,
    ConnectionLost,
    InvalidURL,
    NotConnected,
    Refused,
    RemoteProtocolError,
)
from tests.support.raw_server import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    RawServer,
    close_frame,
    frame,
    http_answer,
    read_request,
)
from tests.support.recorder import Recorder
from tests.support.waiting import DEADLINE, Happenings, rounds, wait_until

TOKEN = "a-token-that-stays-secret"
CHANNEL_MODULE = import_module("session_manager_plugin.communicator.websocket_channel")
"""The module; the package has a function of that name."""


def config_for(server: RawServer, **fields: object) -> WebSocketConfig:
    """A configuration without pings and retries, unless ``fields`` say so."""
    return create_websocket_config(server.url(), TOKEN, **{"ping_interval": 0, "retry_attempts": 1, **fields})


async def silent(peer: Peer) -> None:
    """A server that opens and says nothing."""
    await peer.accept()
    await peer.until_gone()


async def echo(peer: Peer) -> None:
    """A server that sends back what it gets, and answers a close."""
    await peer.accept()
    while True:
        opcode, payload = await peer.receive_frame()
        peer.write(frame(opcode, payload))
        if opcode == CLOSE:
            peer.end()
            return


# Life.


async def test_the_states_of_a_life() -> None:
    async with RawServer(echo) as server:
        channel = WebSocketChannel(config_for(server))
        recorder = Recorder(channel)
        assert channel.connection_state is ConnectionState.DISCONNECTED
        assert not channel.is_connected

        assert await channel.connect() is True
        assert channel.is_connected
        assert channel.connection_state is ConnectionState.CONNECTED

        await channel.close()
        assert not channel.is_connected
        assert channel.connection_state is ConnectionState.CLOSED
        assert recorder.states == [
            ConnectionState.CONNECTING,
            ConnectionState.CONNECTED,
            ConnectionState.CLOSING,
            ConnectionState.CLOSED,
        ]
        assert recorder.errors == []
        assert channel.last_error is None


async def test_connecting_twice_opens_one_connection() -> None:
    async with RawServer(silent) as server:
        channel = WebSocketChannel(config_for(server))

        assert all(await asyncio.gather(channel.connect(), channel.connect(), channel.connect()))
        assert await channel.connect() is True
        assert server.connections == 1

        channel.abort()


async def test_closing_twice_and_before_connecting_is_harmless() -> None:
    async with RawServer(echo) as server:
        channel = WebSocketChannel(config_for(server))
        await channel.close()
        await channel.close()
        assert channel.connection_state is ConnectionState.CLOSED

        assert await channel.connect()
        await channel.close()
        await channel.close()
        assert channel.connection_state is ConnectionState.CLOSED


async def test_a_closed_channel_connects_again() -> None:
    async with RawServer(echo) as server:
        channel = WebSocketChannel(config_for(server))
        recorder = Recorder(channel)
        recorder.take_messages()
        for number in range(2):
            assert await channel.connect()
            await channel.send_message(str(number))
            await recorder.until(lambda: str(number) in recorder.data)  # noqa: B023
            await channel.close()

        assert recorder.data == ["0", "1"]
        assert server.connections == 2


async def test_the_context_manager_connects_and_closes() -> None:
    closed_by: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        opcode, payload = await peer.receive_frame()
        assert opcode == CLOSE
        closed_by.append(payload)
        peer.write(frame(CLOSE, payload))
        peer.end()

    async with RawServer(script) as server:
        async with websocket_channel(config_for(server)) as channel:
            assert channel.is_connected
        assert channel.connection_state is ConnectionState.CLOSED

    assert closed_by == [(1000).to_bytes(2, "big")]


async def test_the_context_manager_closes_after_an_exception() -> None:
    async with RawServer(echo) as server:
        with pytest.raises(KeyError):
            async with websocket_channel(config_for(server)) as channel:
                raise KeyError("a fault in the block")
        assert channel.connection_state is ConnectionState.CLOSED


async def test_no_task_and_no_timer_is_left_behind() -> None:
    before = asyncio.all_tasks()
    async with RawServer(echo) as server:
        async with websocket_channel(config_for(server, ping_interval=0.05)) as channel:
            await channel.send_message(b"x")
            assert len(asyncio.all_tasks() - before) == 1  # the server's own
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert not _timers()


def _timers() -> list[asyncio.TimerHandle]:
    """What the loop still has to call at some time."""
    scheduled: list[asyncio.TimerHandle] = getattr(asyncio.get_running_loop(), "_scheduled", [])
    return [handle for handle in scheduled if not handle.cancelled() and "session_manager_plugin" in repr(handle)]


async def test_facts_for_monitoring() -> None:
    async with RawServer(echo) as server:
        url = server.url("/v1/data-channel/s?token=a-token-in-the-url&x=1")
        channel = WebSocketChannel(create_websocket_config(url, TOKEN, ping_interval=0.05))
        before = channel.get_connection_info()
        assert before == {
            "state": "disconnected",
            "is_connected": False,
            "url": url.replace("a-token-in-the-url", "***"),
            "message_count": 0,
            "error_count": 0,
            "last_ping_time": None,
            "last_pong_time": None,
            "queue_size": 0,
            "ping_interval": 0.05,
            "bytes_received": 0,
            "bytes_sent": 0,
            "tls": "",
        }

        started_at = time.time()
        assert await channel.connect()
        recorder = Recorder(channel)
        await channel.send_message("one")
        await channel.send_message("two")
        recorder.take_messages()
        await recorder.until(lambda: len(recorder.messages) == 2)
        info = channel.get_connection_info()
        assert (info["state"], info["is_connected"], info["message_count"]) == ("connected", True, 2)
        assert (info["error_count"], info["queue_size"]) == (0, 0)
        assert started_at - 1 <= info["last_ping_time"] <= time.time() + 1
        await channel.close()
        assert channel.get_connection_info()["state"] == "closed"


async def test_a_token_reaches_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with RawServer(echo) as server:
        url = server.url(f"/v1/data-channel/s?token={TOKEN}")
        async with websocket_channel(create_websocket_config(url, TOKEN, ping_interval=0)) as channel:
            await channel.send_message("x")
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("session_manager_plugin")]

    assert any("connecting to" in line for line in ours)
    assert not any(TOKEN in line for line in ours)


# Failing to connect.


async def test_connect_gives_false_and_tells_the_reason() -> None:
    async def refuse(peer: Peer) -> None:
        await read_request(peer.reader)
        peer.write(http_answer(403))
        peer.end()

    async with RawServer(refuse) as server:
        channel = WebSocketChannel(config_for(server, retry_attempts=3))
        recorder = Recorder(channel)

        assert await channel.connect() is False

        assert server.connections == 1  # trying again would not help
    assert isinstance(channel.last_error, Refused)
    assert channel.last_error.status == 403
    assert recorder.errors == [channel.last_error]
    assert recorder.states == [ConnectionState.CONNECTING, ConnectionState.ERROR]
    assert channel.get_connection_info()["error_count"] == 1
    assert not channel.is_connected


async def test_retries_are_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []

    async def sleep(delay: float) -> None:
        delays.append(delay)

    async def busy(peer: Peer) -> None:
        await read_request(peer.reader)
        peer.write(http_answer(503))
        peer.end()

    async with RawServer(busy) as server:
        channel = WebSocketChannel(config_for(server, retry_attempts=4, retry_delay=0.5))
        recorder = Recorder(channel)
        with monkeypatch.context() as patch:
            patch.setattr(CHANNEL_MODULE.asyncio, "sleep", sleep)
            assert await channel.connect() is False

        assert server.connections == 4
    assert delays == [0.5, 1.0, 1.5]
    assert len(recorder.errors) == 4
    assert recorder.states == [ConnectionState.CONNECTING, ConnectionState.ERROR]


async def test_a_retry_succeeds() -> None:
    async def busy_at_first(peer: Peer) -> None:
        if server.connections < 3:
            await read_request(peer.reader)
            peer.write(http_answer(503))
            peer.end()
        else:
            await silent(peer)

    async with RawServer(busy_at_first) as server:
        channel = WebSocketChannel(config_for(server, retry_attempts=3, retry_delay=0.0))

        assert await channel.connect() is True
        assert server.connections == 3

        channel.abort()


async def test_a_url_that_cannot_be_opened_gives_false_as_well() -> None:
    channel = WebSocketChannel(WebSocketConfig("ws://host:99999/?token=a-token-in-the-url", TOKEN))

    assert await channel.connect() is False

    assert isinstance(channel.last_error, InvalidURL)
    assert "a-token-in-the-url" not in str(channel.last_error)
    assert channel.connection_state is ConnectionState.ERROR


async def test_closing_while_connecting() -> None:
    reached, go_on, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(peer: Peer) -> None:
        reached.set()
        await go_on.wait()
        await peer.accept()
        await peer.until_gone()
        gone.set()

    async with RawServer(slow) as server:
        channel = WebSocketChannel(config_for(server))
        connecting = asyncio.ensure_future(channel.connect())
        await reached.wait()

        await channel.close()
        assert channel.connection_state is ConnectionState.CLOSED
        go_on.set()

        assert await connecting is False
        await asyncio.wait_for(gone.wait(), DEADLINE)  # what was opened too late is not kept
        assert channel.connection_state is ConnectionState.CLOSED
        assert not channel.is_connected


async def test_cancelling_connect() -> None:
    reached = asyncio.Event()

    async def mute(peer: Peer) -> None:
        await read_request(peer.reader)
        reached.set()
        await peer.until_gone()

    async with RawServer(mute) as server:
        channel = WebSocketChannel(config_for(server))
        connecting = asyncio.ensure_future(channel.connect())
        await reached.wait()
        connecting.cancel()

        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert channel.connection_state is ConnectionState.CLOSED


# Sending.


async def test_text_bytes_and_dict_arrive_as_what_they_are() -> None:
    frames: list[tuple[int, bytes]] = []
    heard = Happenings()

    async def script(peer: Peer) -> None:
        await peer.accept()
        while True:
            frames.append(await peer.receive_frame())
            heard.happened()

    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server))
        assert await channel.connect()
        await channel.send_message("grüße")
        await channel.send_message(b"\x00\xff")
        await channel.send_message({"TokenValue": "t", "n": [1, None]})
        await heard.until(lambda: len(frames) == 3)
        channel.abort()

    assert frames[0] == (TEXT, "grüße".encode())
    assert frames[1] == (BINARY, b"\x00\xff")
    assert frames[2][0] == TEXT
    assert json.loads(frames[2][1]) == {"TokenValue": "t", "n": [1, None]}


async def test_what_is_not_a_message_is_refused() -> None:
    async with RawServer(silent) as server:
        channel = WebSocketChannel(config_for(server))
        assert await channel.connect()
        for wrong in (3, None, ["x"]):
            with pytest.raises(ValueError, match="unsupported message type"):
                await channel.send_message(wrong)  # type: ignore[arg-type]
        assert channel.is_connected
        channel.abort()


async def test_sending_without_a_connection_is_a_runtime_error() -> None:
    async with RawServer(echo) as server:
        channel = WebSocketChannel(config_for(server))
        with pytest.raises(RuntimeError):
            await channel.send_message("too early")

        assert await channel.connect()
        await channel.close()
        with pytest.raises(NotConnected):
            await channel.send_message("too late")


async def test_many_senders_do_not_mix_their_messages() -> None:
    messages = [f"{number} ".encode() * (number % 50 + 1) for number in range(500)]
    async with RawServer(echo) as server:
        channel = WebSocketChannel(config_for(server))
        recorder = Recorder(channel)
        recorder.take_messages()
        assert await channel.connect()

        await asyncio.gather(*(channel.send_message(message) for message in messages))

        await recorder.until(lambda: len(recorder.messages) == len(messages))
        assert recorder.data == messages
        await channel.close()


async def test_sending_waits_while_the_far_end_does_not_read() -> None:
    go_on = asyncio.Event()
    size = 64 * 1024
    count = 200
    received = Happenings()
    total = 0

    async def slow(peer: Peer) -> None:
        nonlocal total
        await peer.accept()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await go_on.wait()
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        while True:
            total += len((await peer.receive_frame())[1])
            received.happened()

    async with RawServer(slow) as server:
        channel = WebSocketChannel(config_for(server))
        assert await channel.connect()
        sent = 0

        async def send_all() -> None:
            nonlocal sent
            for _ in range(count):
                await channel.send_message(bytes(size))
                sent += 1

        sending = asyncio.ensure_future(send_all())
        await wait_until(lambda: not channel.can_write)
        assert sent < count
        assert _unsent(channel) <= WRITE_LIMIT + 2 * size

        go_on.set()
        await asyncio.wait_for(sending, DEADLINE)
        await received.until(lambda: total == count * size)
        assert channel.can_write
        channel.abort()


def _unsent(channel: WebSocketChannel) -> int:
    return channel.unsent_size


@pytest.mark.parametrize("how", ["close", "abort", "lost"])
async def test_who_waits_to_send_is_told_of_the_end(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(CHANNEL_MODULE, "CLOSE_TIMEOUT", 0.05)
    peers: list[Peer] = []

    async def stuck(peer: Peer) -> None:
        await peer.accept()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        peers.append(peer)
        await asyncio.Event().wait()

    async with RawServer(stuck) as server:
        channel = WebSocketChannel(config_for(server))
        assert await channel.connect()
        while channel.can_write:
            channel.write_messages([bytes(64 * 1024)])
            await asyncio.sleep(0)
        sending = asyncio.ensure_future(channel.send_message(b"waits"))
        await asyncio.sleep(0)
        assert not sending.done()

        # A far end that never answers and never reads cannot hold up a close for longer than CLOSE_TIMEOUT.
        async with asyncio.timeout(DEADLINE):
            if how == "close":
                await channel.close()
            elif how == "abort":
                channel.abort()
            else:
                peers[0].cut()
            with pytest.raises(NotConnected):
                await sending
        assert not channel.is_connected


# Receiving.


async def test_messages_keep_their_kind_and_carry_the_time() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(frame(TEXT, "grüße".encode()) + frame(BINARY, b"\x00\xff") + frame(BINARY, b""))
        await peer.until_gone()

    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server))
        recorder = Recorder(channel)
        recorder.take_messages()
        started_at = time.time()
        assert await channel.connect()
        await recorder.until(lambda: len(recorder.messages) == 3)
        channel.abort()

    kinds = [(message.message_type, message.data) for message in recorder.messages]
    assert kinds == [(MessageType.TEXT, "grüße"), (MessageType.BINARY, b"\x00\xff"), (MessageType.BINARY, b"")]
    assert all(type(data) is bytes for data in recorder.data[1:])
    for message in recorder.messages:
        assert message.timestamp is not None
        assert started_at - 1 <= message.timestamp <= time.time() + 1


async def test_fragments_are_put_together_around_pings() -> None:
    pongs: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        euro = "€".encode()
        peer.write(frame(TEXT, b"a" + euro[:1], final=False) + frame(PING, b"in between"))
        pongs.append((await peer.receive_frame())[1])
        peer.write(frame(CONTINUATION, b"", final=False) + frame(CONTINUATION, euro[1:] + b"b"))
        peer.write(frame(BINARY, b"1", final=False) + frame(CONTINUATION, b"2", final=False))
        peer.write(frame(CONTINUATION, b"3") + frame(BINARY, b"whole"))
        await peer.until_gone()

    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server))
        recorder = Recorder(channel)
        recorder.take_messages()
        assert await channel.connect()
        await recorder.until(lambda: len(recorder.messages) == 3)
        channel.abort()

    assert recorder.data == ["a€b", b"123", b"whole"]
    assert pongs == [b"in between"]


async def test_text_that_is_not_unicode_arrives_as_bytes() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(frame(TEXT, b"\xff\xfe") + frame(TEXT, b"fine"))
        await peer.until_gone()

    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server))
        recorder = Recorder(channel)
        recorder.take_messages()
        assert await channel.connect()
        await recorder.until(lambda: len(recorder.messages) == 2)
        assert channel.is_connected
        channel.abort()

    assert recorder.data == [b"\xff\xfe", "fine"]


async def test_a_message_handler_that_raises_loses_no_message() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(b"".join(frame(TEXT, str(number).encode()) for number in range(5)))
        await peer.until_gone()

    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server))
        recorder = Recorder(channel)
        taken: list[str | bytes] = []

        def handler(message: WebSocketMessage) -> None:
            taken.append(message.data)
            if message.data == "2":
                raise KeyError("a fault in the handler")

        channel.set_message_handler(handler)
        assert await channel.connect()
        await recorder.until(lambda: len(taken) == 5)
        assert channel.is_connected
        channel.abort()

    assert taken == ["0", "1", "2", "3", "4"]
    assert [type(error) for error in recorder.errors] == [KeyError]
    assert isinstance(channel.last_error, KeyError)


async def test_a_batch_handler_that_raises_ends_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(frame(TEXT, b"x"))
        await peer.until_gone()

    def handler(messages: list[Message]) -> None:
        raise KeyError("a fault in the handler")

    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server))
        recorder = Recorder(channel)
        channel.set_batch_handler(handler)
        await channel.connect()
        await recorder.until(lambda: recorder.errors)

    assert [type(error) for error in recorder.errors] == [KeyError]
    assert channel.connection_state is ConnectionState.ERROR


async def test_other_handlers_that_raise_disturb_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def connection_handler(state: ConnectionState) -> None:
        raise KeyError(state)

    def error_handler(error: Exception) -> None:
        raise KeyError(error)

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.receive_frame()
        peer.cut()

    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server))
        channel.set_connection_handler(connection_handler)
        channel.set_error_handler(error_handler)
        assert await channel.connect()
        await channel.send_message("x")
        await wait_until(lambda: channel.connection_state is ConnectionState.ERROR)
        await channel.close()
        assert channel.connection_state is ConnectionState.CLOSED
    assert caplog.text.count("the connection handler failed") == 5
    assert caplog.text.count("the error handler failed") == 1


async def test_a_full_queue_pauses_reading_and_loses_nothing() -> None:
    count = 5_000
    payload = bytes(2000)

    async def script(peer: Peer) -> None:
        await peer.accept()
        for number in range(count):
            peer.write(frame(BINARY, number.to_bytes(4, "big") + payload))
            await peer.writer.drain()
        await peer.until_gone()

    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server, max_queue_size=10))
        recorder = Recorder(channel)
        assert await channel.connect()
        await wait_until(lambda: channel.reading_paused)
        waiting = channel.get_connection_info()["queue_size"]
        assert 10 <= waiting < 500  # what one more read of the socket brought
        await rounds()
        assert channel.get_connection_info()["queue_size"] == waiting  # although the far end has much more to send

        recorder.take_messages()
        assert channel.get_connection_info()["queue_size"] == 0
        await recorder.until(lambda: len(recorder.messages) == count)
        channel.abort()

    assert recorder.data == [number.to_bytes(4, "big") + payload for number in range(count)]


async def test_pausing_within_a_batch_keeps_the_rest() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(b"".join(frame(TEXT, str(number).encode()) for number in range(6)))
        await peer.until_gone()

    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server))
        heard = Happenings()
        taken: list[str | bytes] = []

        def handler(message: WebSocketMessage) -> None:
            taken.append(message.data)
            if message.data in ("1", "3"):
                channel.pause_reading()
            heard.happened()

        channel.set_message_handler(handler)
        assert await channel.connect()
        await heard.until(lambda: taken == ["0", "1"])
        assert channel.reading_paused
        assert channel.get_connection_info()["queue_size"] == 4
        channel.resume_reading()
        assert taken == ["0", "1", "2", "3"]
        channel.resume_reading()
        assert taken == ["0", "1", "2", "3", "4", "5"]
        assert not channel.reading_paused
        channel.abort()


async def test_what_was_kept_survives_the_end_of_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(frame(TEXT, b"kept"))
        await peer.receive_frame()
        peer.cut()

    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server))
        recorder = Recorder(channel)
        assert await channel.connect()
        await channel.send_message("go")
        await recorder.until(lambda: recorder.errors)
        assert channel.connection_state is ConnectionState.ERROR

        recorder.take_messages()
        assert recorder.data == ["kept"]


# The end.


@pytest.mark.parametrize(
    ("ending", "said", "code"),
    [
        (close_frame(1000, "Bye"), "the service closed the connection with code 1000 (Bye)", 1000),
        (close_frame(1001), "the service closed the connection with code 1001", 1001),
        (close_frame(1008, "token used"), "the service closed the connection with code 1008 (token used)", 1008),
        (close_frame(1011), "the service closed the connection with code 1011", 1011),
        (close_frame(4000, "bell \a"), "the service closed the connection with code 4000 (bell)", 4000),
        (frame(CLOSE, b""), "the service closed the connection without a reason", None),
        (b"", "the service closed the connection without a reason", None),
        (b"\x82\x7e\x01", "the service closed the connection without a reason", None),
    ],
)
async def test_the_far_end_closes(ending: bytes, said: str, code: int | None) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.receive_frame()
        peer.write(frame(TEXT, b"last words") + ending)
        peer.end()

    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server))
        recorder = Recorder(channel)
        recorder.take_messages()
        assert await channel.connect()
        await channel.send_message("go")
        await recorder.until(lambda: recorder.errors)
        assert recorder.data == ["last words"]
        assert [str(error) for error in recorder.errors] == [said]
        error = channel.last_error
        assert isinstance(error, ConnectionLost)
        assert error.close_code == code
        assert recorder.states[-1] is ConnectionState.ERROR
        assert not channel.is_connected
        with pytest.raises(RuntimeError):
            await channel.send_message("too late")


async def test_a_close_is_answered() -> None:
    answers: list[tuple[int, bytes]] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.write(close_frame(1001, "going away"))
        answers.append(await peer.receive_frame())
        heard.happened()

    heard = Happenings()
    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server))
        await channel.connect()
        await heard.until(lambda: answers)

    assert answers == [(CLOSE, (1001).to_bytes(2, "big") + b"going away")]


async def test_a_reset_says_so() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await go_on.wait()
        peer.cut()  # with something unread: a reset, not an end

    go_on = asyncio.Event()
    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server))
        recorder = Recorder(channel)
        assert await channel.connect()
        await channel.send_message(bytes(100_000))
        go_on.set()
        await recorder.until(lambda: recorder.errors)

    assert str(channel.last_error) == "the connection broke: Connection reset by peer"
    assert isinstance(channel.last_error, ConnectionLost)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (frame(BINARY, bytes(4097)), "sent a message that is too long"),
        (frame(BINARY, bytes(4000), final=False) + frame(CONTINUATION, bytes(97)), "sent a message that is too long"),
        (b"\x83\x00", "broke the websocket protocol: invalid opcode"),
        (b"\xc2\x00", "broke the websocket protocol: reserved bits must be 0"),
        (b"\x82\x80\x00\x00\x00\x00", "broke the websocket protocol: incorrect masking"),
        (frame(CONTINUATION, b"x"), "broke the websocket protocol: unexpected continuation frame"),
        (frame(PING, bytes(126)), "broke the websocket protocol: control frame too long"),
    ],
)
async def test_what_breaks_the_rules_ends_the_connection(broken: bytes, said: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(frame(TEXT, b"good") + frame(BINARY, bytes(4096)) + broken)
        await peer.until_gone()

    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server, max_message_size=4096))
        recorder = Recorder(channel)
        recorder.take_messages()
        await channel.connect()
        await recorder.until(lambda: recorder.errors)

    assert recorder.data == ["good", bytes(4096)]
    assert isinstance(channel.last_error, RemoteProtocolError)
    assert said in str(channel.last_error)


async def test_the_end_is_said_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(close_frame(1000) + frame(TEXT, b"not any more"))
        peer.end()

    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server, ping_interval=0.01, ping_timeout=0.01))
        recorder = Recorder(channel)
        recorder.take_messages()
        assert await channel.connect()
        assert not channel.is_connected  # it is over already
        await wait_until(lambda: not _timers())
    assert [str(error) for error in recorder.errors] == ["the service closed the connection with code 1000"]
    assert recorder.states == [ConnectionState.CONNECTING, ConnectionState.CONNECTED, ConnectionState.ERROR]
    assert recorder.messages == []


async def test_closing_takes_bounded_time_when_the_far_end_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CHANNEL_MODULE, "CLOSE_TIMEOUT", 0.05)
    frames: list[tuple[int, bytes]] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                frames.append(await peer.receive_frame())

    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server))
        assert await channel.connect()
        async with asyncio.timeout(DEADLINE):
            await channel.close()
        assert channel.connection_state is ConnectionState.CLOSED
    assert frames == [(CLOSE, (1000).to_bytes(2, "big"))]


async def test_messages_that_come_while_closing_go_nowhere() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        opcode, payload = await peer.receive_frame()
        assert opcode == CLOSE
        peer.write(frame(TEXT, b"too late") + frame(CLOSE, payload))
        peer.end()

    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server))
        recorder = Recorder(channel)
        recorder.take_messages()
        assert await channel.connect()
        await channel.close()

    assert recorder.messages == []
    assert recorder.errors == []
    assert recorder.states[-1] is ConnectionState.CLOSED


async def test_cutting_the_connection() -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        assert await peer.until_gone() == b""
        gone.set()

    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server))
        recorder = Recorder(channel)
        assert await channel.connect()
        channel.abort()
        assert channel.connection_state is ConnectionState.CLOSED
        await asyncio.wait_for(gone.wait(), DEADLINE)

    assert recorder.errors == []
    assert recorder.states[-1] is ConnectionState.CLOSED


async def test_pings_of_the_far_end_are_answered_while_nobody_takes_messages() -> None:
    answers: list[tuple[int, bytes]] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.write(frame(PING, b"are you there"))
        answers.append(await peer.receive_frame())
        heard.happened()
        await peer.until_gone()

    heard = Happenings()
    async with RawServer(script) as server:
        channel = WebSocketChannel(config_for(server))
        assert await channel.connect()
        await heard.until(lambda: answers)
        channel.abort()

    assert answers == [(PONG, b"are you there")]


async def test_a_refusal_is_an_error_of_the_documented_tree() -> None:
    channel = WebSocketChannel(create_websocket_config("ws://127.0.0.1:1/", TOKEN, retry_attempts=1))

    assert await channel.connect() is False

    assert isinstance(channel.last_error, ConnectError)
    assert channel.last_error.host == "127.0.0.1:1"
    assert channel.last_error.__cause__ is not None
