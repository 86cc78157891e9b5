"""``SessionDataChannel``: sending without waiting, and flags."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from session_manager_plugin.communicator import SessionDataChannel, WebSocketChannel, create_websocket_config
from session_manager_plugin.communicator.write_coalescer import GATHER_SIZE
from session_manager_plugin.errors import LocalProtocolError, NotConnected
from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE, Flag, PayloadType
from session_manager_plugin.protocol.reliable import INITIAL_WINDOW
from tests.support.agent_gateway import SESSION_ID, TOKEN, AgentGateway
from tests.support.waiting import DEADLINE, wait_until


def channel_to(url: str) -> SessionDataChannel:
    """A data channel without pings and retries."""
    config = create_websocket_config(url, TOKEN, ping_interval=0, retry_attempts=1)
    return SessionDataChannel(config, session_id=SESSION_ID, session_types={"Port"}, handshake_required=True)


@asynccontextmanager
async def opened(gateway: AgentGateway) -> AsyncIterator[SessionDataChannel]:
    """A channel to ``gateway`` that is ready, and closed in the end."""
    channel = channel_to(gateway.url)
    try:
        assert await channel.open()
        await asyncio.wait_for(channel.ready(), DEADLINE)
        await gateway.until(lambda: gateway.ready)
        yield channel
    finally:
        await channel.close()


async def test_nothing_can_be_sent_before_the_session_is_ready_or_when_it_is_over() -> None:
    async with AgentGateway(handshake="Port") as gateway:
        channel = channel_to(gateway.url)
        assert channel.send_capacity == 0
        with pytest.raises(NotConnected):
            channel.send_now(b"x")
        with pytest.raises(NotConnected):
            await channel.send_flag(Flag.TERMINATE_SESSION)
        assert await channel.open()
        assert channel.send_capacity == 0
        with pytest.raises(LocalProtocolError):
            channel.send_now(b"x")
        await asyncio.wait_for(channel.ready(), DEADLINE)
        assert channel.send_capacity > 0
        await channel.close()
        assert channel.send_capacity == 0
        with pytest.raises(NotConnected):
            channel.send_now(b"x")


async def test_what_is_sent_arrives_in_full_messages() -> None:
    data = random.Random(1).randbytes(10 * MAX_PAYLOAD_SIZE + 5)
    observed: list[bytes] = []
    async with AgentGateway(handshake="Port") as gateway, opened(gateway) as channel:
        channel.set_output_handler(observed.append)
        before = channel.send_capacity
        channel.send_now(data)
        assert channel.send_capacity == before - 11 * MAX_PAYLOAD_SIZE
        await gateway.until(lambda: len(gateway.input) == len(data))
        assert gateway.input == data
        assert observed == [data]


async def test_other_payloads_and_flags() -> None:
    observed: list[bytes] = []
    async with AgentGateway(handshake="Port") as gateway, opened(gateway) as channel:
        channel.set_output_handler(observed.append)
        channel.send_now(Flag.DISCONNECT_TO_PORT.serialize(), PayloadType.FLAG)
        await channel.send_flag(Flag.TERMINATE_SESSION)
        await gateway.until(lambda: len(gateway.received.get(PayloadType.FLAG, b"")) == 8)
        assert gateway.received[PayloadType.FLAG] == b"\0\0\0\1\0\0\0\2"
        assert observed == []


# What more follows at once.


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages each write to the websocket has."""
    counts: list[int] = []
    write_messages = WebSocketChannel.write_messages

    def counting(self: WebSocketChannel, messages: Sequence[str | bytes]) -> None:
        counts.append(len(messages))
        write_messages(self, messages)

    monkeypatch.setattr(WebSocketChannel, "write_messages", counting)
    return counts


async def test_pieces_that_more_follows_leave_together_and_soon(writes: list[int]) -> None:
    async with AgentGateway(handshake="Port") as gateway, opened(gateway) as channel:
        writes.clear()
        for piece in (b"one ", b"two ", b"three"):
            await channel.send_input_data(piece, more_follows=True)
        assert writes == []
        await gateway.until(lambda: gateway.input == b"one two three")
        assert writes[0] == 3


async def test_the_last_piece_takes_along_what_waits(writes: list[int]) -> None:
    async with AgentGateway(handshake="Port") as gateway, opened(gateway) as channel:
        writes.clear()
        await channel.send_input_data(b"one ", more_follows=True)
        await channel.send_input_data(b"two")
        assert writes == [2]
        await gateway.until(lambda: gateway.input == b"one two")


async def test_not_more_waits_than_what_is_worth_a_write(writes: list[int]) -> None:
    piece = bytes(4 * MAX_PAYLOAD_SIZE)
    async with AgentGateway(handshake="Port") as gateway, opened(gateway) as channel:
        data = random.Random(1).randbytes(1024 * 1024)
        await channel.send_input_data(data)  # the window has grown
        await channel.drain()
        writes.clear()
        for _ in range(GATHER_SIZE // len(piece)):
            await channel.send_input_data(piece, more_follows=True)
        assert writes == []
        await channel.send_input_data(piece, more_follows=True)
        assert writes == [GATHER_SIZE // MAX_PAYLOAD_SIZE + 4]


async def test_what_waits_arrives_though_the_channel_is_closed() -> None:
    async with AgentGateway(handshake="Port") as gateway:
        async with opened(gateway) as channel:
            await channel.send_input_data(b"the last words", more_follows=True)
        assert gateway.input == b"the last words"


async def test_a_window_that_is_full_sends_what_waits() -> None:
    data = random.Random(2).randbytes(3 * INITIAL_WINDOW * MAX_PAYLOAD_SIZE)
    async with AgentGateway(handshake="Port") as gateway, opened(gateway) as channel:
        for start in range(0, len(data), 4095):
            await channel.send_input_data(data[start : start + 4095], more_follows=True)
        await gateway.until(lambda: gateway.input == data)


async def test_more_than_the_window_takes_is_refused_whole() -> None:
    async with AgentGateway(handshake="Port") as gateway, opened(gateway) as channel:
        await wait_until(lambda: channel.send_capacity >= INITIAL_WINDOW * MAX_PAYLOAD_SIZE)
        gateway.stop_acknowledging()
        capacity = channel.send_capacity
        with pytest.raises(
            LocalProtocolError, match=f"{capacity + 1} bytes to send, but the channel accepts {capacity}"
        ):
            channel.send_now(bytes(capacity + 1))
        assert channel.send_capacity == capacity
        channel.send_now(bytes(capacity))
        assert channel.send_capacity == 0
        await gateway.until(lambda: len(gateway.input) == capacity)


async def test_the_handler_is_called_when_there_is_room_again() -> None:
    calls: list[int] = []
    async with AgentGateway(handshake="Port") as gateway, opened(gateway) as channel:
        await wait_until(lambda: channel.send_capacity >= INITIAL_WINDOW * MAX_PAYLOAD_SIZE)
        channel.set_writable_handler(lambda: calls.append(channel.send_capacity))
        gateway.stop_acknowledging()
        channel.send_now(bytes(channel.send_capacity))
        await gateway.write(b"something else happens")
        await wait_until(lambda: not gateway.connection.in_flight)
        assert calls == []
        await gateway.acknowledge_again()
        await wait_until(lambda: calls)
        assert 0 not in calls


async def test_what_the_handler_sends_is_bounded_by_the_window_and_arrives() -> None:
    data = random.Random(2).randbytes(3_000_000)
    left = memoryview(data)
    async with AgentGateway(handshake="Port") as gateway, opened(gateway) as channel:

        def send_more() -> None:
            nonlocal left
            piece, left = left[: channel.send_capacity], left[channel.send_capacity :]
            if piece:
                channel.send_now(bytes(piece))

        channel.set_writable_handler(send_more)
        send_more()
        await gateway.until(lambda: len(gateway.input) == len(data))
        assert gateway.input == data
