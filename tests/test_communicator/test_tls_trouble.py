"""TLS that fails, as in an office that inspects it: directly and through a proxy, at the start and while resuming."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from session_manager_plugin.communicator import NetworkOptions, SessionDataChannel, create_websocket_config
from session_manager_plugin.errors import ConnectError
from tests.support.agent_gateway import SESSION_ID, TOKEN, AgentGateway
from tests.support.certificates import Authority
from tests.support.connect_proxy import ConnectProxy
from tests.support.raw_server import Peer, RawServer
from tests.support.relay import Relay
from tests.support.waiting import DEADLINE, Happenings

NAME = "gateway.test"
URL = f"wss://{NAME}/v1/data-channel/{SESSION_ID}?role=publish_subscribe"


@pytest.fixture
async def faults() -> AsyncIterator[list[dict[str, Any]]]:
    """What callbacks of the event loop raise: nothing, since that would end a session."""
    found: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: found.append(context))
    yield found
    loop.set_exception_handler(None)
    assert found == []


@pytest.fixture(scope="module")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority of somebody who inspects TLS."""
    return Authority(tmp_path_factory.mktemp("inspector"), name="Corp inspection")


async def answer_in_plain_text(peer: Peer) -> None:
    """A captive portal that redirects whatever comes."""
    await peer.reader.read(1)
    peer.write(b"HTTP/1.1 302 Found\r\nLocation: http://login.hotel.example/\r\nContent-Length: 0\r\n\r\n")
    peer.end()


async def reset(peer: Peer) -> None:
    """A firewall that filters by name."""
    await peer.reader.read(1)
    peer.cut()


async def accept(peer: Peer) -> None:
    """A server that has nothing against anybody."""
    await peer.accept()
    await peer.until_gone()


Server = Callable[[Authority, Authority], RawServer]

TROUBLES = [
    pytest.param(
        lambda ours, _: RawServer(accept, tls=ours.server_context("other.test")),
        f"the certificate of {NAME}:443 is for other.test, not for it (issued by Test authority); ",
        id="wrong name",
    ),
    pytest.param(
        lambda _, inspector: RawServer(accept, tls=inspector.server_context(NAME)),
        f"the certificate of {NAME}:443 is not trusted: unable to get local issuer certificate "
        "(it was issued by Corp inspection); ",
        id="unknown issuer",
    ),
    pytest.param(
        lambda _ours, _inspector: RawServer(answer_in_plain_text),
        f"{NAME}:443 does not speak TLS on this port: it answered in plain text; ",
        id="plain text",
    ),
    pytest.param(lambda _ours, _inspector: RawServer(reset), "was cut during the TLS handshake; ", id="reset"),
]


@asynccontextmanager
async def way_to(port: int, bundle: Path, *, proxied: bool) -> AsyncIterator[NetworkOptions]:
    """A way to a port of this machine, directly or through a proxy."""
    if not proxied:
        yield NetworkOptions(ca_bundle=str(bundle), dial=("127.0.0.1", port))
        return
    async with ConnectProxy({f"{NAME}:443": port}) as proxy:
        yield NetworkOptions(ca_bundle=str(bundle), proxy=proxy.proxy_url())


def channel_over(network: NetworkOptions) -> SessionDataChannel:
    """A session's channel, not yet open."""
    config = create_websocket_config(URL, TOKEN, ping_interval=0, retry_attempts=1, network=network)
    channel = SessionDataChannel(config, session_id=SESSION_ID)
    channel.set_input_handler(lambda _data: None)
    return channel


@pytest.mark.parametrize("proxied", [False, True], ids=["directly", "through a proxy"])
@pytest.mark.parametrize(("server", "said"), TROUBLES)
async def test_at_the_start_it_is_a_sentence(
    faults: list[dict[str, Any]], authority: Authority, inspector: Authority, server: Server, said: str, proxied: bool
) -> None:
    async with server(authority, inspector) as broken, way_to(broken.port, authority.bundle, proxied=proxied) as way:
        channel = channel_over(way)
        assert await channel.open() is False
        await channel.close()

    assert isinstance(channel.last_error, ConnectError)
    assert said in str(channel.last_error)


class Link(Happenings):
    """What a session's link is said to suffer from."""

    def __init__(self, channel: SessionDataChannel) -> None:
        super().__init__()
        self.troubles: list[str] = []
        self._channel = channel
        channel.set_link_handler(self._changed)

    def _changed(self) -> None:
        self.troubles.append(self._channel.health.sentence)
        self.happened()


@pytest.mark.parametrize("proxied", [False, True], ids=["directly", "through a proxy"])
@pytest.mark.parametrize(("server", "said"), TROUBLES)
async def test_while_resuming_there_is_another_attempt(
    faults: list[dict[str, Any]], authority: Authority, inspector: Authority, server: Server, said: str, proxied: bool
) -> None:
    async with (
        AgentGateway(tls=authority.server_context(NAME)) as gateway,
        server(authority, inspector) as broken,
        Relay(gateway.port) as relay,
        way_to(relay.port, authority.bundle, proxied=proxied) as network,
    ):
        channel = channel_over(network)
        try:
            assert await channel.open(), channel.last_error
            await asyncio.wait_for(channel.ready(), DEADLINE)
            link = Link(channel)
            relay.target_port = broken.port
            gateway.websocket.transport.abort()
            await link.until(lambda: any(said in trouble for trouble in link.troubles))
            relay.target_port = gateway.port
            await channel.send_input_data(b"still here\n")
            await gateway.until(lambda: gateway.input.endswith(b"still here\n"))
            assert len(gateway.openings) == 2
        finally:
            await channel.close()
