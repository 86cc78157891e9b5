"""The relay that stands between two processes in other tests: each fault of a link, and how it is driven."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.ports import held_port
from tests.support.relay import Relay, RelayProcess, obey
from tests.support.tcp_server import Peer, TcpServer
from tests.support.waiting import DEADLINE, wait_until

DATA = bytes(range(256)) * 4096
"""1 MiB."""


class Clients(TcpServer):
    """What connects. It listens too, for nobody."""

    async def connect(self, port: int) -> Peer:
        """A connection to a port of 127.0.0.1."""
        _, client = await asyncio.get_running_loop().create_connection(lambda: Peer(self), "127.0.0.1", port)
        return client


def over(client: Peer) -> bool:
    """Whether this end has been told that the connection is over."""
    return client.at_end or client.gone


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    """What connects."""
    async with Clients() as running:
        yield running


@pytest.fixture
async def server() -> AsyncIterator[TcpServer]:
    """What the relay leads to."""
    async with TcpServer() as running:
        yield running


@pytest.fixture
async def relay(server: TcpServer) -> AsyncIterator[Relay]:
    """A relay that does nothing yet."""
    async with Relay(server.port) as running:
        yield running


async def pair(relay: Relay, server: TcpServer, clients: Clients) -> tuple[Peer, Peer]:
    """Both ends of a new connection through the relay."""
    number, carried = len(server.peers), len(relay.connections)
    client = await clients.connect(relay.port)
    far = await server.accepted(number)
    await wait_until(lambda: len(relay.connections) > carried)  # the relay learns last that it is connected
    return client, far


async def test_without_faults_it_forwards_everything_both_ways_and_each_end_by_itself(
    relay: Relay, server: TcpServer, clients: Clients
) -> None:
    client, far = await pair(relay, server, clients)
    client.transport.write(DATA)
    client.transport.write_eof()
    await far.until_received(DATA)
    await wait_until(lambda: far.at_end)
    assert not over(client)
    far.transport.write(DATA[::-1])
    far.transport.close()
    await client.until_received(DATA[::-1])
    await wait_until(lambda: client.at_end)
    client.transport.close()
    await wait_until(lambda: not relay.connections)
    assert (relay.counts.to_target, relay.counts.to_client) == (len(DATA), len(DATA))
    assert (relay.counts.joined, relay.counts.cut) == (1, 0)


async def test_a_reset_of_one_end_is_one_of_the_other(relay: Relay, server: TcpServer, clients: Clients) -> None:
    client, far = await pair(relay, server, clients)
    (connection,) = relay.connections
    far.transport.pause_reading()
    client.transport.write(b"x")
    await wait_until(lambda: relay.counts.to_target == 1)
    far.transport.abort()  # with something unread, which makes it a reset
    await wait_until(lambda: client.gone)
    assert isinstance(client.error, ConnectionResetError)
    await wait_until(lambda: connection not in relay.connections)


async def test_a_cut_is_a_clean_end_for_both(relay: Relay, server: TcpServer, clients: Clients) -> None:
    client, far = await pair(relay, server, clients)
    client.transport.write(b"before")
    await far.until_received(b"before")
    relay.cut()
    await wait_until(lambda: client.at_end and far.at_end)
    client.transport.close()
    far.transport.close()
    await wait_until(lambda: client.gone and far.gone)
    assert (client.error, far.error) == (None, None)
    assert relay.counts.cut == 1


async def test_a_reset_is_an_error_for_both(relay: Relay, server: TcpServer, clients: Clients) -> None:
    client, far = await pair(relay, server, clients)
    relay.reset()
    await wait_until(lambda: client.gone and far.gone)
    assert isinstance(client.error, ConnectionResetError)
    assert isinstance(far.error, ConnectionResetError)


async def test_a_stall_holds_everything_up_and_loses_nothing(relay: Relay, server: TcpServer, clients: Clients) -> None:
    client, far = await pair(relay, server, clients)
    relay.stall()
    client.transport.write(DATA)
    far.transport.write(b"answer")
    newcomer = await clients.connect(relay.port)
    newcomer.transport.write(b"me too")
    other = await server.accepted(1)
    # What comes next in the loop, over and over, would bring anything that was on its way.
    for _ in range(100):
        await asyncio.sleep(0)
    assert (bytes(far.received), bytes(client.received), bytes(other.received)) == (b"", b"", b"")
    assert not over(client)
    relay.release()
    await far.until_received(DATA)
    await client.until_received(b"answer")
    await other.until_received(b"me too")
    newcomer.transport.close()
    client.transport.close()


async def test_half_open_nobody_learns_anything(relay: Relay, server: TcpServer, clients: Clients) -> None:
    client, far = await pair(relay, server, clients)
    relay.half_open()
    client.transport.write(DATA)
    await wait_until(lambda: client.transport.get_write_buffer_size() == 0)
    far.transport.abort()
    newcomer, newcomers_far = await pair(relay, server, clients)
    newcomer.transport.write(b"fine")
    await newcomers_far.until_received(b"fine")
    assert far.received == b""
    assert not over(client)
    relay.reset()
    await wait_until(lambda: client.gone and newcomer.gone)


async def test_new_connections_are_refused_swallowed_and_accepted_again(
    relay: Relay, server: TcpServer, clients: Clients
) -> None:
    client, far = await pair(relay, server, clients)
    await relay.refuse()
    with pytest.raises(ConnectionRefusedError):
        await clients.connect(relay.port)
    client.transport.write(b"still here")
    await far.until_received(b"still here")

    await relay.swallow()
    swallowed = await clients.connect(relay.port)
    swallowed.transport.write(DATA)
    await wait_until(lambda: swallowed.transport.get_write_buffer_size() == 0)
    assert not over(swallowed)
    assert len(server.peers) == 1

    await relay.accept()
    newcomer, newcomers_far = await pair(relay, server, clients)
    newcomer.transport.write(b"hello")
    await newcomers_far.until_received(b"hello")
    for each in (client, swallowed, newcomer):
        each.transport.close()


async def test_when_nobody_listens_behind_it_a_connection_is_reset(clients: Clients) -> None:
    with held_port() as port:
        async with Relay(port) as relay:
            client = await clients.connect(relay.port)
            await wait_until(lambda: client.gone)
            assert isinstance(client.error, ConnectionResetError)


async def test_a_delay_and_a_throttle_take_their_time(relay: Relay, server: TcpServer, clients: Clients) -> None:
    loop = asyncio.get_running_loop()
    client, far = await pair(relay, server, clients)
    relay.delay = 0.1
    started_at = loop.time()
    client.transport.write(b"late")
    await far.until_received(b"late")
    assert loop.time() - started_at >= 0.1

    relay.delay, relay.throttle = 0.0, 100_000
    started_at = loop.time()
    far.transport.write(bytes(20_000))
    await client.until_received(bytes(20_000))
    assert loop.time() - started_at >= 0.15  # the last piece does not wait
    client.transport.close()


async def limits(seed: int) -> list[int]:
    """How many bytes pass on each of three connections."""
    passed = []
    async with (
        TcpServer() as server,
        Clients() as clients,
        Relay(server.port, seed=seed, cut_every=100_000, cut_how="fin") as relay,
    ):
        for number in range(3):
            client = await clients.connect(relay.port)
            far = await server.accepted(number)
            client.transport.write(DATA)
            await wait_until(functools.partial(getattr, far, "at_end"))
            passed.append(len(far.received))
            assert far.received == DATA[: len(far.received)]
            client.transport.abort()
            far.transport.close()
        assert relay.counts.cut == 3
    return passed


async def test_connections_are_cut_after_the_bytes_that_the_seed_says() -> None:
    passed = await limits(1)
    assert all(50_000 <= size <= 150_000 for size in passed)
    assert len(set(passed)) == 3
    assert await limits(1) == passed
    assert await limits(2) != passed


async def test_what_answers_the_last_bytes_passes_before_the_cut(server: TcpServer, clients: Clients) -> None:
    async with Relay(server.port, cut_every=1000, cut_linger=DEADLINE) as relay:
        client, far = await pair(relay, server, clients)
        client.transport.write(DATA)
        await wait_until(lambda: len(far.received) >= 500)
        far.transport.write(b"answer")
        await client.until_received(b"answer")
        assert len(far.received) <= 1500
        assert not over(client)
        relay.cut()
        await wait_until(lambda: over(client))


def test_a_stream_url_leads_through_it() -> None:
    relay = Relay(1, port=5555)
    url = "ws://127.0.0.1:8080/v1/data-channel/user-1?role=publish_subscribe"
    assert relay.url(url) == "ws://127.0.0.1:5555/v1/data-channel/user-1?role=publish_subscribe"


async def test_as_a_child_process(server: TcpServer, clients: Clients) -> None:
    async with RelayProcess(server.port, "--seed", "3", "--delay", "0.001") as relay:
        client = await clients.connect(relay.port)
        far = await server.accepted(0)
        client.transport.write(b"hello")
        await far.until_received(b"hello")
        assert json.loads(await relay.command("counts")) == {"joined": 1, "cut": 0, "to_target": 5, "to_client": 0}
        assert await relay.command("stall") == ""
        client.transport.write(b", late")
        assert await relay.command("release") == ""
        await far.until_received(b"hello, late")
        await relay.command("refuse")
        with pytest.raises(ConnectionRefusedError):
            await clients.connect(relay.port)
        await relay.command("accept")
        await relay.command("reset")
        await wait_until(lambda: client.gone and far.gone)
        assert isinstance(client.error, ConnectionResetError)
        with pytest.raises(ValueError, match="no command 'stal'"):
            await relay.command("stal")


@pytest.mark.parametrize(
    ("line", "attribute", "value"),
    [("delay 0.5", "delay", 0.5), ("throttle 4096", "throttle", 4096), ("cut-every 300000", "cut_every", 300_000)],
)
async def test_settings_by_a_line(line: str, attribute: str, value: Any) -> None:
    relay = Relay(1)
    assert await obey(relay, line) == "ok"
    assert getattr(relay, attribute) == value


@pytest.mark.parametrize("line", ["delay", "delay soon", "cut 1", "counts now", "nonsense", "throttle 1 2"])
async def test_a_line_that_is_not_understood(line: str) -> None:
    assert (await obey(Relay(1), line)).startswith("error ")
