"""Why a data channel could not be opened: the sentences, each from a real failure."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from session_manager_plugin.communicator import NetworkOptions, WebSocketChannel, create_websocket_config
from session_manager_plugin.communicator.connect_errors import connect_failure
from session_manager_plugin.errors import ConnectError, InvalidURL, Refused, SessionManagerError
from tests.support.ports import held_port
from tests.support.raw_server import Peer, RawServer, Script, http_answer, read_request
from tests.support.waiting import DEADLINE

TOKEN = "a-token-that-stays-secret"


async def failure(url: str, *, connect_timeout: float = 20.0, network: NetworkOptions | None = None) -> ConnectError:
    """What one attempt to connect gives."""
    config = create_websocket_config(
        url, TOKEN, retry_attempts=1, connect_timeout=connect_timeout, network=network or NetworkOptions()
    )
    channel = WebSocketChannel(config)
    assert await channel.connect() is False
    error = channel.last_error
    assert isinstance(error, ConnectError)
    assert TOKEN not in str(error)
    assert "\n" not in str(error)
    return error


async def failure_of(script: Script) -> tuple[ConnectError, str]:
    """What a server with this script makes of it, and where that server is."""
    async with RawServer(script) as server:
        return await failure(server.url(f"/v1/data-channel/s?token={TOKEN}")), f"127.0.0.1:{server.port}"


def answering(status: int, body: bytes = b"") -> Script:
    """A server that answers every request with this status."""

    async def script(peer: Peer) -> None:
        await read_request(peer.reader)
        peer.write(http_answer(status, body=body))
        peer.end()

    return script


@pytest.mark.parametrize(
    ("status", "said", "retryable"),
    [
        (401, "401 Unauthorized: the token may be expired or used already, or the session ended", False),
        (403, "403 Forbidden: the token may be expired or used already, or the session ended", False),
        (404, "404 Not Found: check the path of the URL and the session id", False),
        (400, "400 Bad Request: check the URL", False),
        (200, "200 OK: check the URL", False),
        (429, "429 Too Many Requests: the service is busy or not there; try again", True),
        (500, "500 Internal Server Error: the service is busy or not there; try again", True),
        (503, "503 Service Unavailable: the service is busy or not there; try again", True),
    ],
)
async def test_a_status_that_is_not_101(status: int, said: str, retryable: bool) -> None:
    error, place = await failure_of(answering(status, b"<html>no</html>"))

    assert isinstance(error, Refused)
    assert str(error).startswith(f"{place} refused the websocket with status {said}")
    assert (error.status, error.host, error.retryable) == (status, place, retryable)


async def test_a_status_without_a_name() -> None:
    async def script(peer: Peer) -> None:
        await read_request(peer.reader)
        peer.write(b"HTTP/1.1 599 \x07bell\r\nContent-Length: 0\r\n\r\n")
        peer.end()

    error, place = await failure_of(script)

    assert str(error) == (
        f"{place} sent an HTTP answer that is incomplete or malformed (HTTP/1.1 599 \\x07bell); "
        "check the host, the port and the scheme (ws or wss)"
    )


@pytest.mark.parametrize(
    ("answer", "said", "retryable"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP: it answered 'SSH-2.0-OpenSSH_9.2'", False),
        (b"\x15\x03\x01\x00\x02\x02\x50", "speaks TLS on this port", True),
        (b"", "closed the connection without an answer", True),
        (b"<html>\n<title>Blocked</title>\n</html>\n", "answered with a web page without an HTTP header", True),
    ],
)
async def test_an_answer_that_is_not_http(answer: bytes, said: str, retryable: bool) -> None:
    async def script(peer: Peer) -> None:
        await read_request(peer.reader)
        peer.write(answer)
        peer.end()

    error, place = await failure_of(script)

    assert str(error).startswith(f"{place} {said}; check the host, the port and the scheme (ws or wss)")
    assert error.retryable is retryable  # an answer cut short may be whole the next time


async def test_an_answer_with_a_wrong_key() -> None:
    async def script(peer: Peer) -> None:
        await read_request(peer.reader)
        peer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n"
        )
        await peer.until_gone()

    error, place = await failure_of(script)

    assert str(error).startswith(f"{place} refused the websocket: invalid Sec-WebSocket-Accept header")


async def test_a_server_that_never_answers() -> None:
    async def script(peer: Peer) -> None:
        await peer.until_gone()

    async with RawServer(script) as server, asyncio.timeout(DEADLINE):
        error = await failure(server.url(), connect_timeout=0.05)
        while "request" not in str(error):  # on a busy machine connecting may take that long
            error = await failure(server.url(), connect_timeout=0.05)

    assert str(error) == (
        f"127.0.0.1:{server.port} did not answer the request for a websocket within 0.05 seconds; "
        "something on the way, a proxy for one, may not let websockets through: ask whoever runs it"
    )
    assert error.retryable


async def test_a_server_that_does_not_speak_tls() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.end()

    async with RawServer(script) as server:
        error = await failure(f"wss://127.0.0.1:{server.port}/v1/data-channel/s")

    assert str(error) == (
        f"127.0.0.1:{server.port} does not speak TLS on this port: it answered in plain text; is this a TLS port? "
        "check the port and the scheme, or log in with a browser if this network wants that first (a captive portal)"
    )


async def test_a_port_where_nobody_listens() -> None:
    with held_port() as port:
        error = await failure(f"ws://127.0.0.1:{port}/")

    assert str(error) == (f"127.0.0.1:{port} refused the connection: nothing listens there, or a firewall rejects it")
    assert (error.host, error.retryable) == (f"127.0.0.1:{port}", True)


async def test_the_address_that_was_dialled_is_named() -> None:
    with held_port() as port:
        error = await failure("ws://gateway.test/", network=NetworkOptions(dial=("127.0.0.1", port)))

    assert str(error).startswith(f"127.0.0.1:{port} refused the connection: ")
    assert error.host == "gateway.test:80"


async def test_a_name_that_does_not_exist() -> None:
    error = await failure("wss://gateway.invalid/v1/data-channel/s")

    assert str(error).startswith("the name of gateway.invalid:443 was not found: ")
    assert str(error).endswith("; check the URL, DNS and the VPN")
    assert error.retryable


async def test_a_name_that_cannot_exist() -> None:
    error = await failure(f"ws://{'x' * 64}.example/")

    assert str(error) == f"{'x' * 64}.example:80 is not a legal host name"


async def failure_at(monkeypatch: pytest.MonkeyPatch, *errors: OSError) -> ConnectError:
    """What connecting to a host gives that has an address for each of these errors."""
    addresses = {f"192.0.2.{number}": error for number, error in enumerate(errors, 1)}

    async def resolve(_host: str, port: int, **_options: object) -> list[tuple[object, ...]]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, (address, port)) for address in addresses]

    async def connect(_socket: socket.socket, address: tuple[str, int]) -> None:
        raise addresses[address[0]]

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    monkeypatch.setattr(loop, "sock_connect", connect)
    return await failure("ws://gateway.example:9/")


async def test_several_addresses_that_all_refuse_are_one_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed")
    failed = await failure_at(monkeypatch, refused, refused)

    assert str(failed) == "gateway.example:9 refused the connection: nothing listens there, or a firewall rejects it"


async def test_several_addresses_that_fail_in_several_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = await failure_at(
        monkeypatch,
        OSError(errno.ENETUNREACH, "Connect call failed"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"),
    )

    assert str(failed) == "no connection to gateway.example:9: Network is unreachable; Connection refused"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.EHOSTUNREACH, "No route to host"),
            "no connection to a:1 through the proxy p:2: No route to host",
        ),
        (OSError("strange"), "no connection to a:1 through the proxy p:2: strange"),
        (RuntimeError("odd \x1b[31m"), "no connection to a:1 through the proxy p:2: RuntimeError: odd \\x1b[31m"),
        (
            TimeoutError(),
            "the proxy p:2 did not answer within 3 seconds; check the network, the proxy and the firewall",
        ),
    ],
)
def test_other_failures(error: Exception, said: str) -> None:
    assert str(connect_failure(error, "a:1", via="the proxy p:2", timeout=3.0)) == said


def test_an_error_of_ours_stays_what_it_is() -> None:
    error: SessionManagerError = InvalidURL("x")

    assert connect_failure(error, "a:1", via="", timeout=1.0) is error
