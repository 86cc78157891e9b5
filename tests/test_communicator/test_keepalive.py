"""``Keepalive``: the measured latency, and the detection of a dead link. Times are short; tests wait for events."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from session_manager_plugin.communicator import ConnectionState, WebSocketChannel, create_websocket_config
from session_manager_plugin.errors import ConnectionLost
from tests.support.raw_server import BINARY, PING, PONG, TEXT, Peer, RawServer, frame
from tests.support.recorder import Recorder
from tests.support.waiting import Happenings, wait_until

LONG = 3600.0
"""Seconds: a time that never comes."""


class PingedServer(RawServer):
    """Counts pings and does with each what ``answer`` says: it is given the number, from 1 on, and the payload."""

    def __init__(self, answer: Callable[[int, bytes], bytes]) -> None:
        super().__init__(self._serve)
        self.pings: list[bytes] = []
        self.heard = Happenings()
        self.first_frame: tuple[int, bytes] | None = None
        self._answer = answer

    async def _serve(self, peer: Peer) -> None:
        await peer.accept()
        while True:
            opcode, payload = await peer.receive_frame()
            self.first_frame = self.first_frame or (opcode, payload)
            if opcode == PING:
                self.pings.append(payload)
                peer.write(self._answer(len(self.pings), payload))
            self.heard.happened()

    async def pinged(self, times: int) -> None:
        """Wait for so many pings."""
        await self.heard.until(lambda: len(self.pings) >= times)


def channel_to(server: RawServer, *, interval: float, timeout: float) -> WebSocketChannel:
    """A channel with this keepalive."""
    return WebSocketChannel(
        create_websocket_config(server.url(), "t", ping_interval=interval, ping_timeout=timeout, retry_attempts=1)
    )


def pong(number: int, payload: bytes) -> bytes:
    """A good gateway's answer."""
    return frame(PONG, payload)


def nothing(number: int, payload: bytes) -> bytes:
    """The answer of one that does not know pings."""
    return b""


def pong_once(number: int, payload: bytes) -> bytes:
    """The answers over a link that dies after the first."""
    return frame(PONG, payload) if number == 1 else b""


async def test_the_first_ping_leaves_at_once_and_its_pong_tells_the_latency() -> None:
    async with PingedServer(pong) as server:
        channel = channel_to(server, interval=LONG, timeout=LONG)
        assert channel.latency is None
        started_at, started = time.time(), time.monotonic()
        assert await channel.connect()
        await wait_until(lambda: channel.latency is not None)
        elapsed = time.monotonic() - started
        info = channel.get_connection_info()
        channel.abort()

    assert len(server.pings) == 1
    assert channel.latency is not None
    assert 0 < channel.latency <= elapsed
    assert started_at - 1 <= info["last_ping_time"] <= info["last_pong_time"] <= time.time() + 1


async def test_pings_go_on_and_differ() -> None:
    async with PingedServer(pong) as server:
        channel = channel_to(server, interval=0.01, timeout=LONG)
        assert await channel.connect()
        await server.pinged(5)
        channel.abort()

    assert len(set(server.pings)) == len(server.pings)


async def test_an_interval_longer_than_the_timeout() -> None:
    async with PingedServer(nothing) as server:
        channel = channel_to(server, interval=0.03, timeout=0.01)
        started = time.monotonic()
        assert await channel.connect()
        await server.pinged(4)
        assert time.monotonic() - started >= 3 * 0.03
        channel.abort()


async def test_no_interval_no_pings() -> None:
    async with PingedServer(pong) as server:
        channel = channel_to(server, interval=0, timeout=0.01)
        assert await channel.connect()
        await channel.send_message("first")
        await server.heard.until(lambda: server.first_frame)
        channel.abort()

    assert server.first_frame == (TEXT, b"first")
    assert channel.get_connection_info()["last_ping_time"] is None


async def test_a_gateway_that_answered_before_and_goes_silent_is_dead() -> None:
    async with PingedServer(pong_once) as server:
        channel = channel_to(server, interval=0.05, timeout=0.05)
        recorder = Recorder(channel)
        assert await channel.connect()
        await recorder.until(lambda: recorder.errors)

    assert [str(error) for error in recorder.errors] == ["no answer to a ping within 0.05 seconds"]
    assert isinstance(channel.last_error, ConnectionLost)
    assert recorder.states[-1] is ConnectionState.ERROR
    assert not channel.is_connected
    assert len(server.pings) >= 2


async def test_pings_more_often_than_the_timeout_do_not_put_the_judgement_off() -> None:
    async with PingedServer(pong_once) as server:
        channel = channel_to(server, interval=0.02, timeout=0.2)
        recorder = Recorder(channel)
        assert await channel.connect()
        await recorder.until(lambda: recorder.errors)

    assert str(channel.last_error) == "no answer to a ping within 0.2 seconds"
    assert len(server.pings) >= 3


async def test_a_gateway_that_never_answered_a_ping_is_not_judged_by_them() -> None:
    async with PingedServer(nothing) as server:
        channel = channel_to(server, interval=0.01, timeout=0.01)
        recorder = Recorder(channel)
        assert await channel.connect()
        await server.pinged(6)
        assert channel.is_connected
        assert recorder.errors == []
        assert channel.latency is None
        channel.abort()


async def test_any_traffic_is_a_sign_of_life() -> None:
    def traffic(number: int, payload: bytes) -> bytes:
        return frame(PONG, payload) if number == 1 else frame(BINARY, b"still here")

    async with PingedServer(traffic) as server:
        channel = channel_to(server, interval=0.02, timeout=1.0)
        recorder = Recorder(channel)
        recorder.take_messages()
        assert await channel.connect()
        # More pings than fit into the timeout: had only pongs counted, the link would be dead by then.
        await server.pinged(100)
        assert channel.is_connected
        assert recorder.errors == []
        channel.abort()


async def test_while_we_do_not_read_silence_says_nothing() -> None:
    def pong_and_data_once(number: int, payload: bytes) -> bytes:
        return frame(PONG, payload) + frame(BINARY, b"x") if number == 1 else b""

    async with PingedServer(pong_and_data_once) as server:
        channel = channel_to(server, interval=0.02, timeout=0.1)
        recorder = Recorder(channel)
        channel.set_message_handler(lambda _message: channel.pause_reading())
        assert await channel.connect()
        await wait_until(lambda: channel.reading_paused)
        assert channel.get_connection_info()["last_pong_time"] is not None  # this gateway is known to answer pings
        await server.pinged(20)
        assert channel.is_connected
        assert recorder.errors == []

        resumed_at = time.monotonic()
        channel.resume_reading()
        await recorder.until(lambda: recorder.errors)
        assert time.monotonic() - resumed_at >= 0.1  # not judged by what happened before
        assert str(channel.last_error) == "no answer to a ping within 0.1 seconds"


async def test_a_full_queue_is_not_held_against_the_gateway_either() -> None:
    def flood(number: int, payload: bytes) -> bytes:
        return frame(PONG, payload) + frame(BINARY, b"x") * 10 if number == 1 else b""

    async with PingedServer(flood) as server:
        channel = WebSocketChannel(
            create_websocket_config(
                server.url(), "t", ping_interval=0.02, ping_timeout=0.02, max_queue_size=5, retry_attempts=1
            )
        )
        recorder = Recorder(channel)
        assert await channel.connect()
        await wait_until(lambda: channel.reading_paused)
        await server.pinged(10)
        assert channel.is_connected
        assert recorder.errors == []
        recorder.take_messages()
        assert len(recorder.messages) == 10
        channel.abort()


async def test_a_pong_that_nobody_asked_for_tells_no_latency() -> None:
    def unasked(number: int, payload: bytes) -> bytes:
        return frame(PONG, b"unasked") + frame(BINARY, b"x")

    async with PingedServer(unasked) as server:
        channel = channel_to(server, interval=LONG, timeout=LONG)
        recorder = Recorder(channel)
        recorder.take_messages()
        assert await channel.connect()
        await recorder.until(lambda: recorder.messages)
        assert channel.latency is None
        assert channel.get_connection_info()["last_pong_time"] is not None
        channel.abort()


@pytest.mark.parametrize("reconnects", [1, 3])
async def test_a_new_connection_is_judged_anew(reconnects: int) -> None:
    async with PingedServer(nothing) as silent, PingedServer(pong_once) as server:
        channel = channel_to(server, interval=0.02, timeout=0.05)
        recorder = Recorder(channel)
        for _ in range(reconnects):
            assert await channel.connect()
            server.pings.clear()
            await recorder.until(lambda: not channel.is_connected)
        # The same channel object on a gateway that does not know pings: what the other one did is forgotten.
        assert await channel.connect(replace(channel.config, url=silent.url()))
        await silent.pinged(6)
        assert channel.is_connected
        channel.abort()
