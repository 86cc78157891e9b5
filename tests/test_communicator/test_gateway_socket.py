"""The opening of a websocket, and messages that arrive directly after it."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
from importlib.util import find_spec

import pytest

from session_manager_plugin.communicator import (
    Bearer,
    ConnectionState,
    NetworkOptions,
    WebSocketChannel,
    create_websocket_config,
)
from session_manager_plugin.errors import ConfigurationError, ConnectError, Refused
from tests.support.certificates import Authority
from tests.support.connect_proxy import ConnectProxy
from tests.support.raw_server import (
    BINARY,
    Peer,
    RawServer,
    Request,
    close_frame,
    frame,
    http_answer,
    read_request,
)
from tests.support.recorder import Recorder
from tests.support.vectors import load_vectors

TOKEN = "a-token-that-stays-secret"
PATH = "/v1/data-channel/alice-0a1b2c3d4e5f60718?role=publish_subscribe"


def channel_to(url: str, **network: object) -> WebSocketChannel:
    """A channel without pings and retries."""
    options = NetworkOptions(**network)  # type: ignore[arg-type]
    return WebSocketChannel(create_websocket_config(url, TOKEN, ping_interval=0, retry_attempts=1, network=options))


class Gateway(RawServer):
    """Opens every websocket and keeps the requests."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(self._serve, tls=tls)
        self.requests: list[Request] = []

    async def _serve(self, peer: Peer) -> None:
        await peer.accept()
        self.requests.append(peer.request)
        await peer.until_gone()


# Behind the answer.

MESSAGES = [b"%d " % number * (number % 40 + 1) for number in range(2000)]


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("takes_batches", [False, True])
async def test_messages_in_the_same_segment_as_the_answer(closes: bool, takes_batches: bool) -> None:
    """They must neither be lost nor wait in a queue of the library that nobody empties."""
    behind = b"".join(frame(BINARY, message) for message in MESSAGES)

    async def script(peer: Peer) -> None:
        await peer.accept(behind + (close_frame(1000, "Bye") if closes else b""))
        await peer.until_gone()

    async with RawServer(script) as server:
        channel = channel_to(server.url())
        recorder = Recorder(channel)
        received: list[bytes] = []
        if takes_batches:

            def take(batch: list[str | bytes | bytearray]) -> None:
                received.extend(bytes(message) for message in batch if not isinstance(message, str))
                recorder.happened()

            channel.set_batch_handler(take)
        else:
            recorder.take_messages()
        await channel.connect()
        await recorder.until(lambda: len(received or recorder.messages) >= len(MESSAGES))
        if closes:
            await recorder.until(lambda: recorder.errors)
            assert str(channel.last_error) == "the service closed the connection with code 1000 (Bye)"
            assert channel.connection_state is ConnectionState.ERROR
        else:
            assert channel.is_connected
        channel.abort()

    assert (received if takes_batches else recorder.data) == MESSAGES


async def test_a_message_split_between_the_answers_segment_and_the_next() -> None:
    whole = frame(BINARY, bytes(range(256)) * 4)

    async def script(peer: Peer) -> None:
        await peer.accept(frame(BINARY, b"first") + whole[:300])
        await channel_opened.wait()
        peer.write(whole[300:])
        await peer.until_gone()

    channel_opened = asyncio.Event()
    async with RawServer(script) as server:
        channel = channel_to(server.url())
        recorder = Recorder(channel)
        recorder.take_messages()
        assert await channel.connect()
        channel_opened.set()
        await recorder.until(lambda: len(recorder.messages) == 2)
        channel.abort()

    assert recorder.data == [b"first", bytes(range(256)) * 4]


async def test_an_end_right_behind_the_answer_is_an_end_with_a_reason() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(close_frame(1008, "token used"))
        peer.end()

    async with RawServer(script) as server:
        channel = channel_to(server.url())
        assert await channel.connect()
        assert not channel.is_connected
        assert str(channel.last_error) == "the service closed the connection with code 1008 (token used)"


async def test_messages_behind_the_answer_over_tls(authority: Authority) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(b"".join(frame(BINARY, message) for message in MESSAGES))
        await peer.until_gone()

    async with RawServer(script, tls=authority.server_context("gateway.test")) as server:
        dial = ("127.0.0.1", server.port)
        channel = channel_to(f"wss://gateway.test{PATH}", dial=dial, ca_bundle=str(authority.bundle))
        recorder = Recorder(channel)
        recorder.take_messages()
        assert await channel.connect()
        await recorder.until(lambda: len(recorder.messages) == len(MESSAGES))
        channel.abort()

    assert recorder.data == MESSAGES


# The request.


async def test_the_request_has_what_the_reference_sends_and_nothing_that_it_does_not() -> None:
    async with Gateway() as gateway:
        channel = channel_to(gateway.url(PATH), bearer=Bearer.NEVER)
        assert await channel.connect()
        channel.abort()
        [request] = gateway.requests

        reference = load_vectors("websocket_open.json")["request_lines_in_order"]
        assert request.line == reference[0]
        assert request.headers[0] == ("Host", f"127.0.0.1:{gateway.port}")
        expected = {line.partition(":")[0] for line in reference[1:]}
        assert {name for name, _ in request.headers} == expected
        assert len(request.headers) == len(expected)
        assert request.values("Connection") == ["Upgrade"]
        assert request.values("Upgrade") == ["websocket"]
        assert request.values("Sec-WebSocket-Version") == ["13"]
        assert re.fullmatch(r"[\w+/]{22}==", request.values("Sec-WebSocket-Key")[0])
        assert re.fullmatch(r"python-session-manager-plugin/[\d.]+", request.values("User-Agent")[0])
        for absent in ("Origin", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Cookie", "Authorization"):
            assert request.values(absent) == []


@pytest.mark.parametrize(
    ("bearer", "host", "sent"),
    [
        (Bearer.AUTO, "gateway.example", True),
        (Bearer.AUTO, "ssmmessages.eu-west-1.amazonaws.com", False),
        (Bearer.AUTO, "ssmmessages.cn-north-1.amazonaws.com.cn", False),
        (Bearer.ALWAYS, "gateway.example", True),
        (Bearer.ALWAYS, "ssmmessages.eu-west-1.amazonaws.com", True),
        (Bearer.NEVER, "gateway.example", False),
        (Bearer.NEVER, "ssmmessages.eu-west-1.amazonaws.com", False),
    ],
)
async def test_the_bearer_header(bearer: Bearer, host: str, sent: bool) -> None:
    async with Gateway() as gateway:
        channel = channel_to(f"ws://{host}{PATH}", bearer=bearer, dial=("127.0.0.1", gateway.port))
        assert await channel.connect()
        channel.abort()
        [request] = gateway.requests

    assert request.values("Authorization") == ([f"Bearer {TOKEN}"] if sent else [])
    assert request.values("Host") == [host]


# Redirects.


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_redirects_are_refused_and_nobody_is_contacted(status: int) -> None:
    async with Gateway() as target:

        async def redirect(peer: Peer) -> None:
            await read_request(peer.reader)
            peer.write(http_answer(status, f"Location: {target.url()}"))
            peer.end()

        async with RawServer(redirect) as server:
            channel = channel_to(server.url())
            assert await channel.connect() is False
            assert server.connections == 1
            place = f"127.0.0.1:{server.port}"
        assert target.connections == 0

    assert isinstance(channel.last_error, Refused)
    assert channel.last_error.status == status
    said = str(channel.last_error)
    assert said.startswith(f"{place} refused the websocket with status {status} ")
    assert said.endswith("redirects are not followed, because the first message carries the token; use the final URL")


# Dialling elsewhere, and proxies.


async def test_dialling_another_host_keeps_the_name_in_host_and_tls(authority: Authority) -> None:
    names: list[str | None] = []
    context = authority.server_context("gateway.test")
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    async with Gateway(tls=context) as gateway:
        dial = ("127.0.0.1", gateway.port)
        channel = channel_to(f"wss://gateway.test:8443{PATH}", dial=dial, ca_bundle=str(authority.bundle))
        assert await channel.connect()
        channel.abort()

    assert names == ["gateway.test"]
    assert gateway.requests[0].values("Host") == ["gateway.test:8443"]
    assert gateway.requests[0].line == f"GET {PATH} HTTP/1.1"


async def test_dialling_without_a_port_keeps_that_of_the_url() -> None:
    async with Gateway() as gateway:
        channel = channel_to(f"ws://gateway.test:{gateway.port}{PATH}", dial=("127.0.0.1", None))
        assert await channel.connect()
        channel.abort()

    assert gateway.requests[0].values("Host") == [f"gateway.test:{gateway.port}"]


async def test_loopback_is_never_proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Gateway() as gateway, ConnectProxy({}) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.proxy_url())
        channel = channel_to(gateway.url(), proxy=proxy.proxy_url())
        assert await channel.connect()
        channel.abort()
        channel = channel_to(f"ws://gateway.test{PATH}", dial=("127.0.0.1", gateway.port))
        assert await channel.connect()
        channel.abort()

        assert proxy.connections == 0
        assert gateway.connections == 2


async def test_through_a_proxy() -> None:
    async with Gateway() as gateway, ConnectProxy({"gateway.test:80": gateway.port}) as proxy:
        channel = channel_to(f"ws://gateway.test{PATH}", proxy=proxy.proxy_url())
        assert await channel.connect()
        channel.abort()

    [asked] = proxy.requests
    assert asked.line == "CONNECT gateway.test:80 HTTP/1.1"
    assert asked.values("Proxy-Authorization") == []
    assert asked.values("Authorization") == []
    assert gateway.requests[0].values("Host") == ["gateway.test"]
    assert gateway.requests[0].values("Authorization") == [f"Bearer {TOKEN}"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 Connection established\n\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200\nVia: x\n\r\n",
        b"HTTP/1.1  200  OK\r\nno header at all\r\n\r\n",
    ],
)
async def test_a_proxy_that_takes_http_lightly(answer: bytes) -> None:
    async with (
        Gateway() as gateway,
        ConnectProxy({"gateway.test:80": gateway.port}, answer=answer) as proxy,
    ):
        channel = channel_to(f"ws://gateway.test{PATH}", proxy=proxy.proxy_url())
        assert await channel.connect(), channel.last_error
        channel.abort()


async def test_through_the_environments_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Gateway() as gateway, ConnectProxy({"gateway.test:80": gateway.port}) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.proxy_url())
        channel = channel_to(f"ws://gateway.test{PATH}")
        assert await channel.connect()
        channel.abort()

    assert len(proxy.requests) == 1


async def test_tls_and_another_host_through_a_proxy(authority: Authority) -> None:
    names: list[str | None] = []
    context = authority.server_context("gateway.test")
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    async with Gateway(tls=context) as gateway, ConnectProxy({"relay.test:8443": gateway.port}) as proxy:
        channel = channel_to(
            f"wss://gateway.test{PATH}",
            proxy=proxy.proxy_url(),
            dial=("relay.test", 8443),
            ca_bundle=str(authority.bundle),
        )
        assert await channel.connect()
        channel.abort()

    [asked] = proxy.requests
    assert asked.line == "CONNECT relay.test:8443 HTTP/1.1"
    assert asked.values("Host") == ["relay.test:8443"]
    assert names == ["gateway.test"]
    assert gateway.requests[0].values("Host") == ["gateway.test"]


async def test_user_and_password_of_the_proxy() -> None:
    async with Gateway() as gateway, ConnectProxy({"gateway.test:80": gateway.port}) as proxy:
        channel = channel_to(f"ws://gateway.test{PATH}", proxy=proxy.proxy_url("user:p%40ss"))
        assert await channel.connect()
        channel.abort()

    assert proxy.requests[0].values("Proxy-Authorization") == ["Basic dXNlcjpwQHNz"]  # user:p@ss


async def test_a_proxy_that_wants_a_password() -> None:
    async with ConnectProxy({}, refuse_with=407) as proxy:
        channel = channel_to(f"ws://gateway.test{PATH}", proxy=proxy.proxy_url("user:a-wrong-password"))
        assert await channel.connect() is False
        place = f"127.0.0.1:{proxy.port}"

    assert isinstance(channel.last_error, Refused)
    assert channel.last_error.status == 407
    assert str(channel.last_error) == (
        f"the proxy {place} refused the connection to gateway.test:80 with status 407 Proxy Authentication Required; "
        "the proxy does not accept the user and password in its URL: correct them (percent-encoded)"
    )


async def test_a_proxy_that_does_not_reach_the_host() -> None:
    async with ConnectProxy({}, refuse_with=502) as proxy:
        channel = channel_to(f"ws://gateway.test{PATH}", proxy=proxy.proxy_url())
        assert await channel.connect() is False
        place = f"127.0.0.1:{proxy.port}"

    assert isinstance(channel.last_error, Refused)
    assert channel.last_error.retryable
    assert str(channel.last_error) == (
        f"the proxy {place} refused the connection to gateway.test:80 with status 502 Bad Gateway; "
        "the proxy cannot reach it: check the host, or try again"
    )


async def test_a_proxy_that_is_not_there() -> None:
    async with RawServer(_nothing) as server:
        port = server.port
    channel = channel_to(f"ws://gateway.test{PATH}", proxy=f"http://user:a-password@127.0.0.1:{port}")
    assert await channel.connect() is False

    assert isinstance(channel.last_error, ConnectError)
    assert str(channel.last_error) == (
        f"the proxy 127.0.0.1:{port} refused the connection: nothing listens there, or a firewall rejects it"
    )


async def test_a_proxy_that_is_none() -> None:
    async def not_http(peer: Peer) -> None:
        await read_request(peer.reader)
        peer.write(b"220 mail.example ESMTP\r\n")
        peer.end()

    async with RawServer(not_http) as server:
        channel = channel_to(f"ws://gateway.test{PATH}", proxy=f"http://127.0.0.1:{server.port}")
        assert await channel.connect() is False
        place = f"127.0.0.1:{server.port}"

    assert isinstance(channel.last_error, ConnectError)
    assert str(channel.last_error) == (
        f"the proxy {place} does not speak HTTP: it answered '220 mail.example ESMTP'; "
        "check the host, the port and the scheme (http or https)"
    )


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("ftp://u:a-password@proxy.example", "its URL begins with none of http, https, socks4"),
        ("http://user@proxy.example", "its URL has a user without a password; it is written SCHEME://USER:PASSWORD@"),
        ("http://u:a-password@proxy.example/x", "its URL goes on behind host and port"),
        ("http://u:a-password@proxy.example:99999", "its URL has no host and port"),
        ("http://u:a-password", "its URL has no host and port"),
        ("http://[::1", "its URL has no host and port"),
        ("http://u:a-password/x@proxy.example", "its user or password holds / ? or #; percent-encode them as %2F"),
        ("http://u:a-password?x@proxy.example", "its user or password holds / ? or #; percent-encode them as %2F"),
        ("http://u:a-password#x@proxy.example", "its user or password holds / ? or #; percent-encode them as %2F"),
        ("http://u:a-password%ff%fe@proxy.example", "its user or password is not UTF-8; percent-encode the bytes of"),
    ],
)
async def test_a_proxy_setting_that_makes_no_sense(proxy: str, said: str) -> None:
    channel = channel_to(f"ws://gateway.test{PATH}", proxy=proxy)
    assert await channel.connect() is False

    assert isinstance(channel.last_error, ConfigurationError)
    assert str(channel.last_error).startswith(f"the proxy of --proxy cannot be used: {said}")
    assert "a-password" not in str(channel.last_error)
    assert channel.last_error.__cause__ is None


async def test_a_socks_proxy_needs_the_extra() -> None:
    if find_spec("python_socks"):
        pytest.skip("python-socks is installed: its absence cannot be tested")
    channel = channel_to(f"ws://gateway.test{PATH}", proxy="socks5h://127.0.0.1:1080")
    assert await channel.connect() is False

    assert isinstance(channel.last_error, ConfigurationError)
    assert str(channel.last_error) == (
        "SOCKS proxies need an extra package: install python-session-manager-plugin[socks]"
    )


async def _nothing(peer: Peer) -> None:
    peer.end()


# Two address families.


@pytest.mark.parametrize("first", ["fails", "hangs"])
async def test_the_other_address_family_is_tried_as_well(monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    """The slow one does not delay: without that the connection timeout would pass first."""
    loop = asyncio.get_running_loop()
    connecting = loop.sock_connect

    async def resolve(_host: str, port: int, **_options: object) -> list[tuple[object, ...]]:
        kind = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [
            (socket.AF_INET6, *kind, ("::1", port, 0, 0)),
            (socket.AF_INET, *kind, ("127.0.0.1", port)),
        ]

    async def connect(sock: socket.socket, address: tuple[object, ...]) -> None:
        if sock.family is socket.AF_INET6:
            if first == "fails":
                raise OSError(errno.ENETUNREACH, "Network is unreachable")
            await asyncio.Event().wait()
        await connecting(sock, address)

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    monkeypatch.setattr(loop, "sock_connect", connect)
    async with Gateway() as gateway:
        channel = channel_to(f"ws://gateway.test:{gateway.port}{PATH}")
        assert await channel.connect()
        channel.abort()


def test_under_uvloop() -> None:
    """Its ``create_connection`` takes fewer options than asyncio's."""
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed; the package works without it too")

    async def talk() -> list[str | bytes]:
        async with RawServer(script) as server:
            channel = channel_to(server.url())
            recorder = Recorder(channel)
            recorder.take_messages()
            assert await channel.connect()
            await recorder.until(lambda: len(recorder.messages) == len(MESSAGES))
            await channel.close()
            return recorder.data

    async def script(peer: Peer) -> None:
        await peer.accept(b"".join(frame(BINARY, message) for message in MESSAGES))
        _, payload = await peer.receive_frame()
        peer.write(close_frame(int.from_bytes(payload, "big")))
        peer.end()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(talk()) == MESSAGES
