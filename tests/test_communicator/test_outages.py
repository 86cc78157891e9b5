"""Realistic outages: no DNS, a proxy that requires a login, ten minutes without a network."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from session_manager_plugin.communicator import NetworkOptions, SessionDataChannel, create_websocket_config
from session_manager_plugin.communicator.reconnection import MAX_DELAY
from session_manager_plugin.errors import ConnectionLost
from session_manager_plugin.session.link_health import LinkState
from tests.support.agent_gateway import SESSION_ID, TOKEN, AgentGateway
from tests.support.clock import ManualClock
from tests.support.connect_proxy import ConnectProxy
from tests.support.waiting import DEADLINE, Happenings, wait_until

NAME = "gateway.test"
HALF = 100_000
"""Bytes sent before an outage, and behind it."""


class Notes(Happenings):
    """Every word about the link when its handler is called, in order."""

    def __init__(self, channel: SessionDataChannel) -> None:
        super().__init__()
        self.words: list[str] = []
        self._channel = channel
        channel.set_link_handler(self._told)

    def _told(self) -> None:
        if not self.words or self.words[-1] != self._channel.health.sentence:
            self.words.append(self._channel.health.sentence)
        self.happened()


@asynccontextmanager
async def opened(
    url: str, *, proxy: str | None = None, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[SessionDataChannel]:
    """A session that has begun."""
    config = create_websocket_config(
        url,
        TOKEN,
        ping_interval=0,
        ping_timeout=10,
        retry_attempts=1,
        connect_timeout=5,
        network=NetworkOptions(proxy=proxy),
    )
    channel = SessionDataChannel(config, session_id=SESSION_ID, clock=clock)
    channel.set_input_handler(lambda _data: None)
    try:
        assert await channel.open(), channel.last_error
        await asyncio.wait_for(channel.ready(), DEADLINE)
        yield channel
    finally:
        await channel.close()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def named(gateway: AgentGateway) -> str:
    """The gateway's URL with a name in the place of its address."""
    return gateway.url.replace("127.0.0.1", NAME)


class Resolver:
    """Knows ``NAME`` while ``works``; and everything that is an address already."""

    def __init__(self) -> None:
        self.works = True
        self.failures = 0
        self._real = socket.getaddrinfo

    def __call__(self, host: Any, *arguments: Any, **options: Any) -> Any:
        if host == NAME:
            if not self.works:
                self.failures += 1
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            host = "127.0.0.1"
        return self._real(host, *arguments, **options)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return resolver


async def test_a_name_that_stops_resolving_is_asked_for_until_it_does(resolver: Resolver) -> None:
    data = random.Random("DNS").randbytes(2 * HALF)
    async with AgentGateway() as gateway, opened(named(gateway)) as channel:
        notes = Notes(channel)
        await channel.send_input_data(data[:HALF])
        resolver.works = False
        gateway.websocket.transport.abort()
        typing = asyncio.ensure_future(channel.send_input_data(data[HALF:]))
        await notes.until(lambda: notes.words[-1:] != [""] and notes.words)
        assert "reconnecting" in channel.health.sentence
        assert NAME in channel.health.sentence, channel.health.sentence
        assert "resol" in channel.health.sentence or "found" in channel.health.sentence, channel.health.sentence
        await wait_until(lambda: resolver.failures >= 3)
        resolver.works = True
        await asyncio.wait_for(typing, DEADLINE)
        await gateway.until(lambda: len(gateway.input) >= len(data))
        assert digest(gateway.input) == digest(data)
        assert not channel.health.troubled
        assert channel.reconnects == 1


@pytest.mark.slow
@pytest.mark.parametrize("status", [407, 502, 503])
async def test_a_proxy_that_refuses_for_a_while_is_asked_again(status: int) -> None:
    """As at a captive portal, or while the proxy's own login is renewed."""
    data = random.Random("proxy").randbytes(2 * HALF)
    async with AgentGateway() as gateway:
        port = int(gateway.url.split(":")[2].split("/")[0])
        async with (
            ConnectProxy({f"{NAME}:{port}": port}) as proxy,
            opened(named(gateway), proxy=proxy.proxy_url()) as channel,
        ):
            notes = Notes(channel)
            await channel.send_input_data(data[:HALF])
            proxy.refuse_with = status
            gateway.websocket.transport.abort()
            typing = asyncio.ensure_future(channel.send_input_data(data[HALF:]))
            await notes.until(lambda: any(notes.words))
            assert "proxy" in channel.health.sentence, channel.health.sentence
            assert str(status) in channel.health.sentence, channel.health.sentence
            proxy.refuse_with = None
            await asyncio.wait_for(typing, DEADLINE)
            await gateway.until(lambda: len(gateway.input) >= len(data))
            assert digest(gateway.input) == digest(data)
            assert not channel.health.troubled
            assert {opening["TokenValue"] for opening in gateway.openings} == {TOKEN}


class Outage(Resolver):
    """A name that is not resolved before the instant ``until``. ``attempts`` holds the instants at which it was asked
    for."""

    def __init__(self, clock: ManualClock, until: float) -> None:
        super().__init__()
        self.attempts: list[float] = []
        self._clock = clock
        self._until = until

    def __call__(self, host: Any, *arguments: Any, **options: Any) -> Any:
        if host == NAME:
            self.attempts.append(self._clock.time())
            self.works = self._clock.time() >= self._until
        return super().__call__(host, *arguments, **options)

    async def skip_waiting(self, channel: SessionDataChannel) -> None:
        """Move the clock to each next attempt, as the health of the link shows it, until the outage is over."""

        def is_reconnecting() -> bool:
            return channel.health.state is LinkState.RECONNECTING

        await wait_until(is_reconnecting)
        while is_reconnecting():
            made = len(self.attempts)
            delay = re.search(r" in (\d+) s", channel.health.attempt)
            self._clock.advance(float(delay[1]) if delay else 0.0)
            await channel.reconnect()
            await wait_until(lambda made=made: len(self.attempts) > made or not is_reconnecting())  # type: ignore[misc]


async def test_ten_minutes_without_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that runs ahead to each attempt: the first comes at once, the last not long after the link is back."""
    data = random.Random("tunnel").randbytes(2 * HALF)
    clock = ManualClock()
    monkeypatch.setattr(socket, "getaddrinfo", Resolver())
    async with AgentGateway() as gateway, opened(named(gateway), clock=clock.time) as channel:
        await channel.send_input_data(data[:HALF])
        began_at = clock.time()
        outage = Outage(clock, began_at + 600.0)
        monkeypatch.setattr(socket, "getaddrinfo", outage)
        gateway.websocket.transport.abort()
        typing = asyncio.ensure_future(channel.send_input_data(data[HALF:]))
        await asyncio.wait_for(outage.skip_waiting(channel), DEADLINE)
        await asyncio.wait_for(typing, DEADLINE)
        await gateway.until(lambda: len(gateway.input) >= len(data))
        assert digest(gateway.input) == digest(data)
        attempts = outage.attempts
        assert attempts[0] - began_at < 2.0
        assert 600.0 <= attempts[-1] - began_at <= 600.0 + MAX_DELAY + 2.0
        assert len(attempts) >= 600.0 / MAX_DELAY
        assert channel.is_open
        assert channel.reconnects == 1


async def test_what_does_not_come_back_in_fifteen_minutes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    monkeypatch.setattr(socket, "getaddrinfo", Resolver())
    async with AgentGateway() as gateway, opened(named(gateway), clock=clock.time) as channel:
        began_at = clock.time()
        outage = Outage(clock, began_at + 901.0)
        monkeypatch.setattr(socket, "getaddrinfo", outage)
        gateway.websocket.transport.abort()
        await asyncio.wait_for(outage.skip_waiting(channel), DEADLINE)
        with pytest.raises(ConnectionLost, match=f"within 900 seconds; the last attempt: .*{NAME}"):
            await asyncio.wait_for(channel.ended(), DEADLINE)
        assert 900.0 - MAX_DELAY <= outage.attempts[-1] - began_at <= 902.0
        assert not channel.is_open
