"""``SessionDataChannel`` against a far end on a real websocket."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, cast

import pytest

from session_manager_plugin import PLUGIN_VERSION
from session_manager_plugin.communicator import ConnectionState, SessionDataChannel, create_websocket_config
from session_manager_plugin.communicator.gateway_socket import WRITE_LIMIT, GatewaySocket
from session_manager_plugin.communicator.inbox import UNCLAIMED_SIZE
from session_manager_plugin.errors import (
    ConnectionLost,
    EncryptionError,
    NotConnected,
    Refused,
    RemoteProtocolError,
    SessionEnded,
    SessionManagerError,
    TimedOut,
)
from session_manager_plugin.protocol.acknowledgements import MAX_PENDING_ACKNOWLEDGEMENTS
from session_manager_plugin.protocol.messages import (
    ClientMessage,
    ClientMessageType,
    PayloadType,
    acknowledged_sequence_number,
)
from session_manager_plugin.protocol.payloads import ChannelClosed
from session_manager_plugin.protocol.rejections import MAX_REJECTED
from session_manager_plugin.protocol.reliable import INITIAL_WINDOW, MAX_WINDOW
from session_manager_plugin.protocol.role import Role
from session_manager_plugin.session.protocols import DataKey, IDataChannel
from tests.support.agent_gateway import SESSION_ID, TOKEN, AgentGateway
from tests.support.pair import Peer as StreamPeer
from tests.support.raw_server import BINARY, TEXT, Peer, RawServer, close_frame, frame, http_answer, read_request
from tests.support.waiting import DEADLINE, Happenings, wait_until

CORE = import_module("session_manager_plugin.protocol.readiness")
CHANNEL = import_module("session_manager_plugin.communicator.data_channel")
WEBSOCKET_CHANNEL = import_module("session_manager_plugin.communicator.websocket_channel")


def channel_to(url: str, **options: Any) -> SessionDataChannel:
    """A data channel without pings and retries."""
    config = create_websocket_config(url, TOKEN, ping_interval=0, retry_attempts=1)
    return SessionDataChannel(config, session_id=SESSION_ID, **options)


class Consumer(Happenings):
    """Takes what the remote writes."""

    def __init__(self, channel: SessionDataChannel) -> None:
        super().__init__()
        self.data = bytearray()
        channel.set_input_handler(self.take)

    def take(self, data: bytes) -> None:
        """The input handler."""
        assert type(data) is bytes
        self.data += data
        self.happened()


@asynccontextmanager
async def opened(gateway: AgentGateway, **options: Any) -> AsyncIterator[SessionDataChannel]:
    """A channel to ``gateway`` that is ready, and closed in the end."""
    channel = channel_to(gateway.url, **options)
    try:
        assert await channel.open()
        await asyncio.wait_for(channel.ready(), DEADLINE)
        yield channel
    finally:
        await channel.close()


def noise(size: int) -> bytes:
    """Bytes that are the same in every run."""
    return random.Random("noise").randbytes(size)


# The beginning.


async def test_it_is_the_interface() -> None:
    assert IDataChannel in SessionDataChannel.__mro__


async def test_before_opening() -> None:
    channel = channel_to("ws://127.0.0.1:1/")

    assert channel.session_id == SESSION_ID
    assert not channel.is_open
    assert channel.get_channel_info() == {"state": "not_initialized", "is_open": False}
    assert channel.last_error is None
    assert channel.latency is None
    for use in (channel.send_input_data(b"x"), channel.send_size(80, 24), channel.ready(), channel.ended()):
        with pytest.raises(RuntimeError):
            await use
    await channel.close()


async def test_a_shell_without_a_handshake() -> None:
    async with AgentGateway(greeting=b"$ ") as gateway:
        channel = channel_to(gateway.url)
        consumer = Consumer(channel)
        assert await channel.open() is True
        assert channel.is_open
        ready = await channel.ready()
        assert (ready.session_type, ready.peer_version) == (None, "")
        await consumer.until(lambda: consumer.data == b"$ ")

        await channel.send_size(132, 43)
        await channel.send_input_data(b"ls\r")
        await gateway.until(lambda: gateway.input == b"ls\r")
        assert gateway.received[PayloadType.SIZE] == b'{"cols":132,"rows":43}'
        info = channel.get_channel_info()
        assert (info["state"], info["is_open"], info["url"]) == ("connected", True, gateway.url)
        await channel.close()

    [opening] = gateway.openings
    assert list(opening) == ["MessageSchemaVersion", "RequestId", "TokenValue", "ClientId", "ClientVersion"]
    assert opening["TokenValue"] == TOKEN
    assert opening["ClientVersion"] == PLUGIN_VERSION
    assert gateway.close_code == 1000


async def test_a_session_with_a_handshake() -> None:
    async with (
        AgentGateway(handshake="InteractiveCommands") as gateway,
        opened(gateway, handshake_required=True) as channel,
    ):
        ready = await channel.ready()
        assert (ready.session_type, ready.peer_version) == ("InteractiveCommands", "3.3.0.0")
        await gateway.until(lambda: gateway.ready)
        assert gateway.ready is not None
        assert gateway.ready.peer_version == PLUGIN_VERSION

        consumer = Consumer(channel)
        await channel.send_input_data(b"typed")
        await gateway.write(b"written")
        await gateway.until(lambda: gateway.input == b"typed")
        await consumer.until(lambda: consumer.data == b"written")


async def test_h9_a_program_that_says_nothing_is_usable_and_type_ahead_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference defect H9: until the remote program prints something there is no input.

    It would be back if ``protocol/endpoint.py``: ``SessionEndpoint.connected`` did not set ``self._ready_at``.
    """
    monkeypatch.setattr(CORE, "READY_DELAY", 0.05)
    async with AgentGateway(greeting=b"") as gateway:
        channel = channel_to(gateway.url)
        assert await channel.open()
        typing = asyncio.ensure_future(channel.send_input_data(b"typed ahead"))
        assert (await channel.ready()).session_type is None
        await typing
        await gateway.until(lambda: gateway.input == b"typed ahead")
        await channel.close()


async def test_type_ahead_waits_for_the_handshake() -> None:
    async with AgentGateway(handshake="Standard_Stream") as gateway:
        channel = channel_to(gateway.url)
        assert await channel.open()
        await channel.send_input_data(b"typed ahead")  # returns once it has been sent
        assert (await channel.ready()).session_type == "Standard_Stream"
        await gateway.until(lambda: gateway.input == b"typed ahead")
        await channel.close()


async def test_h14_a_session_that_becomes_ready_twice_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference defect H14: a second session type, while the first is not fetched, blocks the reader for good.

    It would be back if ``Lifetime.begin`` did not look whether the session has begun already. That this is an error
    then, and no wait, is structural: no queue is involved.
    """
    monkeypatch.setattr(CORE, "READY_DELAY", 0.01)
    far_end = StreamPeer()
    actions = [{"ActionType": "SessionType", "ActionParameters": {"SessionType": "Standard_Stream"}}]
    request = {"AgentVersion": "3.3.0.0", "RequestedClientActions": actions}
    complete = {"HandshakeTimeToComplete": 1, "CustomerMessage": ""}
    async with AgentGateway(greeting=b"") as gateway:
        channel = channel_to(gateway.url)
        consumer = Consumer(channel)
        assert await channel.open()
        assert (await channel.ready()).session_type is None  # it has begun by itself; the handshake comes later
        await gateway.send_raw(far_end.stream(json.dumps(request), PayloadType.HANDSHAKE_REQUEST))
        await gateway.send_raw(far_end.stream(json.dumps(complete), PayloadType.HANDSHAKE_COMPLETE))
        await gateway.send_raw(far_end.stream("$ "))
        await consumer.until(lambda: consumer.data == b"$ ")
        assert channel.is_open
        await channel.close()


async def test_a_handshake_that_is_needed_and_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CORE, "READY_DELAY", 0.01)
    monkeypatch.setattr(CORE, "HANDSHAKE_TIMEOUT", 0.1)
    async with AgentGateway(greeting=b"") as gateway:
        channel = channel_to(gateway.url, handshake_required=True)
        assert await channel.open()
        with pytest.raises(TimedOut) as caught:
            await channel.ready()
        with pytest.raises(TimedOut):
            await channel.ended()
        assert not channel.is_open
        await channel.close()

    assert str(caught.value) == "the far end sent nothing within 0 seconds"


async def test_a_session_type_nobody_here_can_run() -> None:
    async with AgentGateway(handshake="Port") as gateway:
        channel = channel_to(gateway.url, session_types=("Standard_Stream",))
        assert await channel.open()
        with pytest.raises(SessionManagerError, match="Port"):
            await channel.ready()
        with pytest.raises(SessionManagerError, match="Port"):
            await channel.ended()
        await channel.close()


async def test_opening_fails() -> None:
    async def refuse(peer: Peer) -> None:
        await read_request(peer.reader)
        peer.write(http_answer(403))
        peer.end()

    async with RawServer(refuse) as server:
        channel = channel_to(server.url())
        assert await channel.open() is False
        assert await channel.open() is False
        assert server.connections == 1

    assert isinstance(channel.last_error, Refused)
    for wait in (channel.ready(), channel.ended()):
        with pytest.raises(Refused) as caught:
            await wait
        assert caught.value is channel.last_error
    with pytest.raises(RuntimeError):
        await channel.send_input_data(b"x")
    assert channel.get_channel_info()["state"] == "error"
    await channel.close()


async def test_an_end_right_behind_the_opening_says_why() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(close_frame(1008, "token used"))
        peer.end()

    async with RawServer(script) as server:
        channel = channel_to(server.url())
        assert await channel.open()
        assert not channel.is_open

    assert isinstance(channel.last_error, ConnectionLost)
    assert channel.last_error.close_code == 1008
    with pytest.raises(ConnectionLost, match=r"code 1008 \(token used\)"):
        await channel.ready()
    await channel.close()


async def test_a_session_that_ends_before_it_begins() -> None:
    async with AgentGateway(greeting=b"") as gateway:
        channel = channel_to(gateway.url, handshake_required=True)
        assert await channel.open()
        await gateway.until(lambda: gateway.openings)
        await gateway.close_channel("Access denied by policy")
        with pytest.raises(SessionEnded) as caught:
            await channel.ready()
        assert caught.value.output == "Access denied by policy"
        assert await channel.ended() == "Access denied by policy"
        await channel.close()


async def test_a_closing_text_right_behind_the_opening_is_what_ended_the_session() -> None:
    closed = StreamPeer(Role.AGENT).control(
        "channel_closed", ChannelClosed(SESSION_ID, "not allowed").to_json().encode()
    )

    async def script(peer: Peer) -> None:
        await peer.accept(frame(BINARY, closed) + close_frame(1000))
        peer.end()

    async with RawServer(script) as server:
        channel = channel_to(server.url())
        assert await channel.open()
        with pytest.raises(SessionEnded, match="closed before it began") as caught:
            await channel.ready()
        assert caught.value.output == "not allowed"
        assert await channel.ended() == "not allowed"


async def test_closing_while_opening() -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(peer: Peer) -> None:
        reached.set()
        await go_on.wait()
        await peer.accept()
        await peer.until_gone()

    async with RawServer(slow) as server:
        channel = channel_to(server.url())
        opening = asyncio.ensure_future(channel.open())
        await reached.wait()
        await channel.close()
        go_on.set()
        assert await opening is False
        assert not channel.is_open
        with pytest.raises(NotConnected):
            await channel.ready()


# Bytes.


async def test_bytes_go_both_ways_as_they_are() -> None:
    there, back = noise(300_000), noise(400_000)[::-1]
    async with AgentGateway(greeting=b"") as gateway:
        channel = channel_to(gateway.url)
        consumer = Consumer(channel)
        assert await channel.open()
        await gateway.until(lambda: gateway.openings)
        await asyncio.gather(gateway.write(back), channel.send_input_data(there))
        await gateway.until(lambda: len(gateway.input) >= len(there))
        await consumer.until(lambda: len(consumer.data) >= len(back))
        await channel.close()

    assert gateway.input == there
    assert consumer.data == back


async def test_concurrent_sends_stay_whole() -> None:
    pieces = [bytes([number]) * 3000 for number in range(60)]
    async with AgentGateway() as gateway, opened(gateway) as channel:
        await asyncio.gather(*(channel.send_input_data(piece) for piece in pieces))
        await gateway.until(lambda: len(gateway.input) == 60 * 3000)

    assert gateway.input == b"".join(pieces)


async def test_sending_nothing_sends_nothing() -> None:
    async with AgentGateway() as gateway, opened(gateway) as channel:
        await channel.send_input_data(b"")
        await channel.send_input_data(b"x")
        await gateway.until(lambda: gateway.input == b"x")


async def test_the_output_handler_sees_what_is_sent() -> None:
    seen: list[bytes] = []
    async with AgentGateway() as gateway, opened(gateway) as channel:
        channel.set_output_handler(seen.append)
        await channel.send_input_data(b"typed")
        await channel.send_size(80, 24)

    assert seen == [b"typed"]


async def test_other_payload_types_have_handlers_of_their_own() -> None:
    errors, codes = bytearray(), bytearray()
    heard = Happenings()

    def exit_code(data: bytes) -> None:
        codes.extend(data)
        heard.happened()

    async with AgentGateway() as gateway, opened(gateway) as channel:
        channel.set_payload_handler(PayloadType.STDERR, errors.extend)
        channel.set_payload_handler(PayloadType.EXIT_CODE, exit_code)
        consumer = Consumer(channel)
        await gateway.write(b"out")
        await gateway.write(b"err", PayloadType.STDERR)
        await gateway.write(b"nobody wants this", PayloadType.FLAG)
        await gateway.write(b"EXIT_CODE: 3", PayloadType.EXIT_CODE)
        await heard.until(lambda: codes)

    assert (bytes(errors), bytes(codes), bytes(consumer.data)) == (b"err", b"EXIT_CODE: 3", b"$ out")


async def test_d4_handlers_set_late_get_everything_in_order() -> None:
    """Reference defect D4: what was acknowledged is thrown away when its handler is not ready.

    It would be back if ``Inbox.receive`` did not keep payloads.
    """
    taken: list[tuple[str, bytes]] = []
    async with AgentGateway() as gateway, opened(gateway) as channel:
        await gateway.write(b"one")
        await gateway.write(b"two", PayloadType.STDERR)
        await gateway.write(b"three")
        await gateway.until(lambda: not gateway.connection.in_flight)
        channel.set_payload_handler(PayloadType.STDERR, lambda data: taken.append(("stderr", data)))
        assert taken == []
        channel.set_input_handler(lambda data: taken.append(("stdout", data)))

    assert b"".join(data for _, data in taken) == b"$ onetwothree"
    assert [data for name, data in taken if name == "stderr"] == [b"two"]


async def test_without_a_handler_reading_pauses_and_nothing_is_lost() -> None:
    data = noise(6 * UNCLAIMED_SIZE)
    async with AgentGateway(greeting=b"") as gateway:
        channel = channel_to(gateway.url)
        assert await channel.open()
        await gateway.until(lambda: gateway.openings)
        writing = asyncio.ensure_future(gateway.write(data))
        await wait_until(lambda: channel.get_channel_info()["reading_paused"])
        assert not writing.done()

        consumer = Consumer(channel)
        await asyncio.wait_for(writing, DEADLINE)
        await consumer.until(lambda: len(consumer.data) >= len(data))
        await channel.close()

    assert consumer.data == data


async def test_a_handler_that_pauses_while_it_gets_what_came_before_stays_paused() -> None:
    data = noise(6 * UNCLAIMED_SIZE)
    async with AgentGateway(greeting=b"") as gateway:
        channel = channel_to(gateway.url)
        assert await channel.open()
        await gateway.until(lambda: gateway.openings)
        writing = asyncio.ensure_future(gateway.write(data))
        await wait_until(lambda: channel.get_channel_info()["reading_paused"])
        taken = bytearray()
        heard = Happenings()

        def take(piece: bytes) -> None:
            taken.extend(piece)
            channel.pause_reading()
            heard.happened()

        channel.set_input_handler(take)
        assert channel.get_channel_info()["reading_paused"]
        paused_at = len(taken)
        await channel.send_input_data(b"still able to send")
        assert len(taken) == paused_at

        while len(taken) < len(data):
            position = len(taken)
            channel.resume_reading()
            await heard.until(lambda: len(taken) > position)  # noqa: B023
        await asyncio.wait_for(writing, DEADLINE)
        await channel.close()

    assert taken == data


class SlowConsumer(Consumer):
    """Has the reading paused while it holds more than ``PAUSE_ABOVE``, until it has ``digested``."""

    PAUSE_ABOVE = 256 * 1024

    def __init__(self, channel: SessionDataChannel) -> None:
        super().__init__(channel)
        self.digest = hashlib.sha256()
        self.total = 0
        self.most_held = 0
        self._channel = channel

    @property
    def full(self) -> bool:
        """Whether it can take no more."""
        return len(self.data) > self.PAUSE_ABOVE

    def take(self, data: bytes) -> None:
        """The input handler."""
        self.total += len(data)
        self.digest.update(data)
        super().take(data)
        self.most_held = max(self.most_held, len(self.data))
        if self.full:
            self._channel.pause_reading()

    def digested(self) -> None:
        """Ready for more."""
        self.data.clear()
        self._channel.resume_reading()


@pytest.mark.slow
async def test_20_mib_through_a_consumer_that_pauses() -> None:
    piece, pieces = noise(1024 * 1024), 20
    size = pieces * len(piece)
    async with AgentGateway(greeting=b"") as gateway, opened(gateway) as channel:
        consumer = SlowConsumer(channel)

        async def write() -> None:
            for _ in range(pieces):
                await gateway.write(piece)

        writing = asyncio.ensure_future(write())
        pauses = 0
        while consumer.total < size:
            await consumer.until(lambda: consumer.full or consumer.total == size)
            if consumer.full:
                assert channel.get_channel_info()["reading_paused"]
                assert channel.get_channel_info()["queue_size"] == 0
                pauses += 1
            consumer.digested()
        await asyncio.wait_for(writing, DEADLINE)

    assert consumer.digest.digest() == hashlib.sha256(piece * pieces).digest()
    assert pauses >= 20
    assert consumer.most_held <= SlowConsumer.PAUSE_ABOVE + 512 * 1024  # one read of the socket more
    assert gateway.most_in_flight <= MAX_WINDOW


async def test_while_paused_nothing_comes() -> None:
    async with AgentGateway() as gateway, opened(gateway) as channel:
        consumer = Consumer(channel)
        await consumer.until(lambda: consumer.data)
        channel.pause_reading()
        channel.pause_reading()
        await gateway.write(b"later")
        await channel.send_input_data(b"typed")
        await gateway.until(lambda: gateway.input == b"typed")
        assert consumer.data == b"$ "
        channel.resume_reading()
        await consumer.until(lambda: consumer.data == b"$ later")


async def test_a_handler_that_raises_ends_the_session() -> None:
    def take(data: bytes) -> None:
        raise KeyError("a fault in the handler")

    async with AgentGateway() as gateway:
        channel = channel_to(gateway.url)
        channel.set_input_handler(take)
        await channel.open()
        with pytest.raises(KeyError):
            await channel.ended()
        assert not channel.is_open
        await channel.close()


# The window.


async def test_a_far_end_that_stops_acknowledging_stops_the_sending() -> None:
    data = noise(3 * 1024 * 1024)
    async with AgentGateway() as gateway, opened(gateway) as channel:
        gateway.stop_acknowledging()
        sending = asyncio.ensure_future(channel.send_input_data(data))
        await gateway.until(lambda: len(gateway.input) == INITIAL_WINDOW * 1024)
        await wait_until(lambda: channel.retransmitting)  # it goes on trying, and sends nothing new
        assert not sending.done()
        assert len(gateway.input) == INITIAL_WINDOW * 1024
        assert channel.get_channel_info()["in_flight"] == INITIAL_WINDOW

        await gateway.acknowledge_again()
        await asyncio.wait_for(sending, DEADLINE)
        await asyncio.wait_for(channel.drain(), DEADLINE)
        assert channel.retransmitting == 0

    assert gateway.input == data


async def test_the_far_end_being_away_stops_the_sending() -> None:
    async with AgentGateway() as gateway, opened(gateway) as channel:
        consumer = Consumer(channel)
        await gateway.send_control(ClientMessageType.PAUSE_PUBLICATION)
        await wait_until(lambda: not channel.send_capacity)
        sending = asyncio.ensure_future(channel.send_input_data(b"typed"))
        await gateway.send_control(ClientMessageType.START_PUBLICATION)
        await asyncio.wait_for(sending, DEADLINE)
        await gateway.until(lambda: gateway.input == b"typed")
        await gateway.write(b"back")
        await consumer.until(lambda: consumer.data == b"$ back")


async def test_drain_waits_for_the_last_acknowledgement() -> None:
    async with AgentGateway() as gateway, opened(gateway) as channel:
        await channel.drain()
        gateway.stop_acknowledging()
        await channel.send_input_data(b"typed")
        draining = asyncio.ensure_future(channel.drain())
        await gateway.until(lambda: gateway.held_back)
        assert not draining.done()
        await gateway.acknowledge_again()
        await asyncio.wait_for(draining, DEADLINE)
        assert channel.get_channel_info()["in_flight"] == 0


@pytest.mark.parametrize("closing_text", ["", "terminated by someone"])
async def test_drain_tells_that_the_session_ended_first(closing_text: str) -> None:
    async with AgentGateway() as gateway, opened(gateway) as channel:
        gateway.stop_acknowledging()
        await channel.send_input_data(b"typed")
        draining = asyncio.ensure_future(channel.drain())
        await gateway.until(lambda: gateway.held_back)
        await gateway.close_channel(closing_text)
        with pytest.raises(NotConnected, match="before everything was acknowledged"):
            await asyncio.wait_for(draining, DEADLINE)


async def test_who_waits_for_the_window_hears_of_the_end() -> None:
    async with AgentGateway() as gateway, opened(gateway, reconnect_timeout=0) as channel:
        gateway.stop_acknowledging()
        sending = asyncio.ensure_future(channel.send_input_data(bytes(200_000)))
        queued = asyncio.ensure_future(channel.send_size(80, 24))
        draining = asyncio.ensure_future(channel.drain())
        await gateway.until(lambda: gateway.held_back)
        await gateway.close_websocket(1011)
        for waiting in (sending, queued):
            with pytest.raises(NotConnected):
                await asyncio.wait_for(waiting, DEADLINE)
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(draining, DEADLINE)


async def test_cancelling_a_send_leaves_the_channel_usable() -> None:
    async with AgentGateway() as gateway, opened(gateway) as channel:
        gateway.stop_acknowledging()
        sending = asyncio.ensure_future(channel.send_input_data(b"a" * 200_000))
        await gateway.until(lambda: len(gateway.input) == INITIAL_WINDOW * 1024)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await gateway.acknowledge_again()
        await asyncio.wait_for(channel.send_input_data(b"b"), DEADLINE)
        await gateway.until(lambda: gateway.input.endswith(b"b"))
        assert gateway.input == b"a" * (INITIAL_WINDOW * 1024) + b"b"


# The path of a message.


class CountingTransport:
    """Counts the writes to a transport, under the name ``write`` in ``calls``."""

    def __init__(self, transport: asyncio.BaseTransport, calls: list[str]) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._calls = calls

    def write(self, data: bytes) -> None:
        """One more."""
        self._calls.append("write")
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that a ``read`` is appended to for each read of a websocket's socket, and a ``write`` for each write."""
    calls: list[str] = []
    connection_made, buffer_updated = GatewaySocket.connection_made, GatewaySocket.buffer_updated

    def count_writes(self: GatewaySocket, transport: asyncio.BaseTransport) -> None:
        connection_made(self, cast(asyncio.BaseTransport, CountingTransport(transport, calls)))

    def count_reads(self: GatewaySocket, nbytes: int) -> None:
        calls.append("read")
        buffer_updated(self, nbytes)

    monkeypatch.setattr(GatewaySocket, "connection_made", count_writes)
    monkeypatch.setattr(GatewaySocket, "buffer_updated", count_reads)
    return calls


async def test_the_acknowledgements_of_one_read_leave_in_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WEBSOCKET_CHANNEL, "CLOSE_TIMEOUT", 0.05)
    calls = count_calls(monkeypatch)
    count = 3000
    stream = StreamPeer(Role.AGENT)
    first = frame(BINARY, stream.stream(b"0,"))
    flood = b"".join(frame(BINARY, stream.stream(b"%d," % number)) for number in range(1, count + 1))
    acknowledged: list[int] = []
    heard = Happenings()
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept(first)
        assert (await peer.receive_frame())[0] == TEXT
        assert (await peer.receive_frame())[0] == BINARY
        await go_on.wait()
        peer.write(flood)
        while len(acknowledged) < count:
            _, payload = await peer.receive_frame()
            message = ClientMessage.parse(payload)
            assert message.message_type == ClientMessageType.ACKNOWLEDGE
            acknowledged.append(acknowledged_sequence_number(message.payload))
        heard.happened()
        await peer.until_gone()

    async with RawServer(script) as server:
        channel = channel_to(server.url())
        consumer = Consumer(channel)
        assert await channel.open()
        await channel.ready()
        calls.clear()
        go_on.set()
        await heard.until(lambda: len(acknowledged) == count)
        reads, writes = calls.count("read"), calls.count("write")
        await channel.close()

    assert acknowledged == list(range(1, count + 1))
    assert consumer.data == b"".join(b"%d," % number for number in range(count + 1))
    assert reads < count / 20
    assert writes <= reads


@pytest.mark.slow
async def test_a_far_end_that_reads_no_acknowledgements_is_not_waited_for_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(WEBSOCKET_CHANNEL, "CLOSE_TIMEOUT", 0.05)
    count = 40_000
    stream = StreamPeer(Role.AGENT)
    flood = b"".join(frame(BINARY, stream.stream(b"%d," % number)) for number in range(count))
    acknowledged: list[int] = []
    heard = Happenings()
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        assert (await peer.receive_frame())[0] == TEXT
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        peer.write(flood)
        await go_on.wait()
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        while not acknowledged or acknowledged[-1] < count - 1:
            _, payload = await peer.receive_frame()
            acknowledged.append(acknowledged_sequence_number(ClientMessage.parse(payload).payload))
        heard.happened()
        await peer.until_gone()

    async with RawServer(script) as server:
        channel = channel_to(server.url())
        consumer = Consumer(channel)
        assert await channel.open()
        await consumer.until(lambda: consumer.data.endswith(b"%d," % (count - 1)))
        assert channel.send_capacity == 0  # although nothing is in flight: the socket takes no more
        assert channel.get_channel_info()["unsent_size"] < WRITE_LIMIT + 512 * 1024
        go_on.set()
        await heard.until(lambda: acknowledged and acknowledged[-1] == count - 1)
        await channel.close()

    assert acknowledged == sorted(set(acknowledged))
    # What was dropped is no loss: the far end would send those messages again, and be answered.
    assert len(acknowledged) >= MAX_PENDING_ACKNOWLEDGEMENTS


class Timers:
    """Counts what the loop is asked to call later by the package."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.armed = 0
        loop = asyncio.get_running_loop()
        call_at = loop.call_at

        def counted(when: float, callback: Callable[..., Any], *arguments: Any, **options: Any) -> asyncio.TimerHandle:
            if "session_manager_plugin" in getattr(callback, "__module__", ""):
                self.armed += 1
            return call_at(when, callback, *arguments, **options)

        monkeypatch.setattr(loop, "call_at", counted)

    @staticmethod
    def pending() -> int:
        """How many of the package wait at the moment."""
        handles: list[asyncio.TimerHandle] = getattr(asyncio.get_running_loop(), "_scheduled", [])
        return sum("session_manager_plugin" in repr(handle) for handle in handles if not handle.cancelled())


async def test_timers_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    # So the retransmission timeout is 1 s, and a slow machine does not make it pass more often.
    monkeypatch.setattr("session_manager_plugin.protocol.reliable.CLOCK_GRANULARITY", 10.0)
    timers = Timers(monkeypatch)
    async with AgentGateway(handshake="Standard_Stream") as gateway, opened(gateway) as channel:
        await channel.drain()
        timers.armed = 0
        started = time.monotonic()
        for number in range(300):
            await channel.send_input_data(b"key %d;" % number)
            await channel.drain()
        # One timer lives on while messages come and go.
        assert timers.armed <= 3 + 2 * (time.monotonic() - started)
        assert timers.pending() <= 1
        await wait_until(lambda: not timers.pending())  # fires once for nothing, and is not armed again


async def test_nothing_is_left_behind() -> None:
    before = asyncio.all_tasks()
    async with AgentGateway() as gateway:
        with_gateway = asyncio.all_tasks()
        channel = channel_to(gateway.url)
        assert await channel.open()
        await channel.ready()
        await channel.send_input_data(b"typed")
        assert asyncio.all_tasks() - with_gateway <= _tasks_of_websockets()
        await channel.close()
        assert not Timers.pending()
    await wait_until(lambda: asyncio.all_tasks() <= before)


def _tasks_of_websockets() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if "websockets/asyncio/server.py" in repr(task)}


# The end.


@pytest.mark.parametrize("text", ["", "SessionId: x : ----------ERROR-------\nterminated\n", "grüße \x1b[31m"])
async def test_the_far_end_closes_the_session(text: str) -> None:
    async with AgentGateway() as gateway, opened(gateway) as channel:
        consumer = Consumer(channel)
        waiting = asyncio.ensure_future(channel.ended())
        await gateway.write(b"last words")
        await gateway.close_channel(text)
        assert await asyncio.wait_for(waiting, DEADLINE) == text
        assert await channel.ended() == text
        assert consumer.data == b"$ last words"
        assert not channel.is_open
        assert channel.get_channel_info()["is_open"] is False
        with pytest.raises(NotConnected):
            await channel.send_input_data(b"too late")


async def test_the_websocket_closes_without_the_session() -> None:
    async with AgentGateway() as gateway, opened(gateway, reconnect_timeout=0) as channel:
        states: list[str] = []
        channel.set_link_handler(lambda: states.append(channel.health.state.value))
        await gateway.close_websocket(1000, "Bye")
        with pytest.raises(ConnectionLost, match=r"closed the connection with code 1000 \(Bye\)") as caught:
            await asyncio.wait_for(channel.ended(), DEADLINE)
        assert caught.value is channel.last_error
        assert channel.connection_state is ConnectionState.ERROR
        assert set(states) == {"closed"}


async def test_a_close_that_says_why_is_not_undone_by_the_websockets_end() -> None:
    async with AgentGateway() as gateway, opened(gateway) as channel:
        await gateway.close_channel("idle timeout")
        await gateway.close_websocket(1000)
        await wait_until(lambda: channel.connection_state is ConnectionState.ERROR)
        assert await channel.ended() == "idle timeout"


@pytest.mark.parametrize("garbage", [b"", b"\x00" * 119, b"x" * 500, "text", '{"MessageType": "acknowledge"}'])
async def test_a_message_that_makes_no_sense_is_dropped(garbage: bytes | str) -> None:
    async with AgentGateway() as gateway, opened(gateway) as channel:
        consumer = Consumer(channel)
        await gateway.send_raw(garbage)
        await gateway.write(b"goes on")
        await consumer.until(lambda: consumer.data == b"$ goes on")


async def test_a_far_end_that_is_no_session_manager() -> None:
    async with AgentGateway() as gateway, opened(gateway) as channel:
        for number in range(MAX_REJECTED):
            await gateway.send_raw(f"HTTP is not spoken here, line {number}")
        with pytest.raises(RemoteProtocolError, match=r"100 messages in a row that are not of the Session Manager"):
            await asyncio.wait_for(channel.ended(), DEADLINE)
        assert not channel.is_open


async def test_closing_gives_what_was_sent_time_to_arrive() -> None:
    data = noise(500_000)
    async with AgentGateway() as gateway:
        async with opened(gateway) as channel:
            await channel.send_input_data(data)
        assert gateway.input == data
        with pytest.raises(NotConnected):
            await channel.ended()
        with pytest.raises(NotConnected):
            await channel.send_input_data(b"too late")


async def test_closing_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CHANNEL.CLOSE_DRAIN_TIMEOUT == 2.0
    monkeypatch.setattr(CHANNEL, "CLOSE_DRAIN_TIMEOUT", 0.05)
    async with AgentGateway() as gateway:
        async with opened(gateway) as channel:
            gateway.stop_acknowledging()
            await channel.send_input_data(b"typed")
        assert gateway.input == b"typed"
        assert channel.connection_state is ConnectionState.CLOSED
        await channel.close()
        assert not Timers.pending()


async def test_closing_a_session_that_is_over_does_not_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CHANNEL, "CLOSE_DRAIN_TIMEOUT", 3600.0)  # seconds, which would fail the test
    async with AgentGateway() as gateway, opened(gateway) as channel:
        gateway.stop_acknowledging()
        await channel.send_input_data(b"typed")
        await gateway.until(lambda: gateway.held_back)
        await gateway.close_channel()
        await channel.ended()
        await asyncio.wait_for(channel.close(), DEADLINE)


async def test_a_dead_link_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    async with AgentGateway() as gateway:
        config = create_websocket_config(gateway.url, TOKEN, ping_interval=0.02, ping_timeout=0.02, retry_attempts=1)
        channel = SessionDataChannel(config, reconnect_timeout=0)
        assert await channel.open()
        await wait_until(lambda: channel.latency is not None)
        # The gateway's websocket goes on, but hears nothing any more.
        gateway.websocket.transport.pause_reading()
        with pytest.raises(ConnectionLost, match="no answer to a ping"):
            await asyncio.wait_for(channel.ended(), DEADLINE)
        gateway.websocket.transport.abort()
        await channel.close()


async def test_the_reason_of_a_foreign_exception_of_a_key_service_is_told() -> None:
    class Broken:
        """A ``KeyService`` with a fault."""

        async def generate_data_key(self, key_id: str, challenge: str) -> DataKey:
            """See ``KeyService``."""
            raise ValueError(f"no such key: {key_id}")

    async with AgentGateway(handshake="Standard_Stream", kms_key_id="key-1") as gateway:
        channel = channel_to(gateway.url, key_service=Broken())
        assert await channel.open()
        with pytest.raises(EncryptionError, match="the key service failed: ValueError: no such key: key-1"):
            await asyncio.wait_for(channel.ended(), DEADLINE)
        await channel.close()
