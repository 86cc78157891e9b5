"""The signature of an opening request: when it is made, its time limit, and its refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from session_manager_plugin.communicator import (
    Bearer,
    NetworkOptions,
    Sign,
    WebSocketChannel,
    create_websocket_config,
)
from session_manager_plugin.communicator.opening_signature import is_signed, opening_request
from session_manager_plugin.errors import ConfigurationError, ConnectError, InvalidURL, Refused
from session_manager_plugin.session.protocols import OpeningRequest, RequestSigner
from tests.support.certificates import Authority
from tests.support.connect_proxy import ConnectProxy
from tests.support.raw_server import Peer, RawServer, Request, http_answer, read_request
from tests.support.waiting import DEADLINE, wait_until

TOKEN = "a-token-that-stays-secret"
AWS = "ssmmessages.eu-west-1.amazonaws.com"
PATH = "/v1/data-channel/alice-0a1b2c3d4e5f60718?role=publish_subscribe"
SIGNATURE = {"Authorization": "AWS4-HMAC-SHA256 ...", "X-Amz-Date": "20261101T120000Z"}


class Signer(RequestSigner):
    """Notes what it is asked for. ``find`` is awaited first."""

    def __init__(self, find: Callable[[], Awaitable[None]] | None = None) -> None:
        self.requests: list[OpeningRequest] = []
        self.refusals = 0
        self.told: list[str] = []
        self._find = find

    async def sign(self, request: OpeningRequest) -> Mapping[str, str]:
        self.requests.append(request)
        if self._find is not None:
            await self._find()
        return SIGNATURE

    def refused(self) -> None:
        self.refusals += 1

    def opened_unsigned(self, sentence: str) -> None:
        self.told.append(sentence)


def channel_to(
    url: str, signer: RequestSigner, *, timeout: float = 30.0, sign: Sign = Sign.ALWAYS, **network: object
) -> WebSocketChannel:
    """A channel without pings and retries, which signs for any host."""
    options = NetworkOptions(sign=sign, **network)  # type: ignore[arg-type]
    config = create_websocket_config(
        url, TOKEN, ping_interval=0, retry_attempts=1, connect_timeout=timeout, network=options, signer=signer
    )
    return WebSocketChannel(config)


class Gateway(RawServer):
    """Answers its requests in turn with these statuses, and all others with 101."""

    def __init__(self, *statuses: int, body: bytes = b"") -> None:
        super().__init__(self._serve)
        self.requests: list[Request] = []
        self._statuses = list(statuses)
        self._body = body

    async def _serve(self, peer: Peer) -> None:
        if self._statuses:
            self.requests.append(await read_request(peer.reader))
            peer.write(http_answer(self._statuses.pop(0), "Content-Type: application/json", body=self._body))
            peer.end()
        else:
            await peer.accept()
            self.requests.append(peer.request)
            await peer.until_gone()

    @property
    def signed(self) -> list[bool]:
        """Whether each of the requests was signed."""
        return [request.values("X-Amz-Date") == ["20261101T120000Z"] for request in self.requests]


# Which requests are signed.


@pytest.mark.parametrize(
    ("url", "sign", "signed"),
    [
        (f"wss://{AWS}{PATH}", Sign.AUTO, True),
        (f"wss://{AWS}{PATH}", Sign.NEVER, False),
        (f"wss://vpce-0123-abcd.ssmmessages.eu-west-1.vpce.amazonaws.com{PATH}", Sign.AUTO, True),
        (f"wss://ssm.eu-west-1.amazonaws.com{PATH}", Sign.AUTO, False),
        (f"wss://{AWS}.example{PATH}", Sign.AUTO, False),
        (f"wss://gateway.example{PATH}", Sign.AUTO, False),
        (f"wss://gateway.example{PATH}", Sign.ALWAYS, True),
        (f"wss://{AWS}{PATH}&X-Amz-Signature=0", Sign.AUTO, False),
        (f"wss://{AWS}{PATH}&X-Amz-Date=", Sign.ALWAYS, False),
        (f"wss://{AWS}{PATH}&X%2DAmz%2DSecurity%2DToken=1", Sign.AUTO, False),
    ],
)
def test_which_requests_are_signed(url: str, sign: Sign, signed: bool) -> None:
    assert is_signed(url, NetworkOptions(sign=sign)) is signed


def test_a_token_that_is_always_sent_leaves_no_place_for_a_signature() -> None:
    assert not is_signed(f"wss://{AWS}{PATH}", NetworkOptions(Bearer.ALWAYS, sign=Sign.ALWAYS))


@pytest.mark.parametrize(
    ("url", "request_"),
    [
        (f"wss://{AWS}{PATH}", (AWS, PATH, "eu-west-1")),
        (f"wss://{AWS}:443{PATH}", (AWS, PATH, "eu-west-1")),
        (f"wss://{AWS}:8443{PATH}", (f"{AWS}:8443", PATH, "eu-west-1")),
        (f"ws://127.0.0.1:81{PATH}", ("127.0.0.1:81", PATH, None)),
        ("ws://[::1]:81", ("[::1]:81", "/", None)),
    ],
)
def test_what_is_signed_is_what_is_sent(url: str, request_: tuple[str, str, str | None]) -> None:
    assert opening_request(url) == OpeningRequest(*request_)


def test_the_token_of_a_url_is_in_no_repr() -> None:
    assert TOKEN not in repr(opening_request(f"ws://127.0.0.1/?token={TOKEN}"))


# What is sent.


async def test_the_signature_takes_the_place_of_the_token() -> None:
    async with Gateway() as gateway:
        channel = channel_to(gateway.url(PATH), signer := Signer())
        assert await channel.connect()
        channel.abort()
    (request,) = gateway.requests
    assert request.values("Authorization") == [SIGNATURE["Authorization"]]
    assert [(asked.host, asked.resource) for asked in signer.requests] == [(request.values("Host")[0], PATH)]


async def test_every_opening_is_signed() -> None:
    async with Gateway() as gateway:
        channel = channel_to(gateway.url(PATH), Signer())
        assert await channel.connect()
        channel.abort()
        assert await channel.connect()
        channel.abort()
    assert gateway.signed == [True, True]


async def test_the_host_of_the_url_is_signed_whatever_is_dialled() -> None:
    async with Gateway() as gateway:
        channel = channel_to(f"ws://{AWS}{PATH}", signer := Signer(), dial=("127.0.0.1", gateway.port))
        assert await channel.connect()
        channel.abort()
    assert gateway.requests[0].values("Host") == [AWS]
    assert signer.requests == [OpeningRequest(AWS, PATH, "eu-west-1")]


async def test_the_host_of_the_url_is_signed_through_a_proxy(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        RawServer(_accept, tls=authority.server_context(AWS)) as server,
        ConnectProxy({f"{AWS}:443": server.port}) as proxy,
    ):
        channel = channel_to(
            f"wss://{AWS}{PATH}",
            signer := Signer(),
            sign=Sign.AUTO,
            proxy=proxy.proxy_url(),
            ca_bundle=str(authority.bundle),
        )
        assert await channel.connect()
        channel.abort()
    assert signer.requests == [OpeningRequest(AWS, PATH, "eu-west-1")]


async def _accept(peer: Peer) -> None:
    await peer.accept()
    await peer.until_gone()


# While connecting.


async def test_signing_begins_when_connecting_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before: looking a name up and connecting are the longest part, and need nothing of ours."""
    order: list[str] = []
    looked_up = asyncio.Event()
    loop = asyncio.get_running_loop()
    resolving = loop.getaddrinfo

    async def resolve(host: str, port: int, **options: object) -> object:
        order.append("DNS")
        await looked_up.wait()
        return await resolving("127.0.0.1", port, **options)  # type: ignore[arg-type]

    async def find() -> None:
        order.append("credentials")
        looked_up.set()  # the connection is not even made yet

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    async with Gateway() as gateway:
        channel = channel_to(f"ws://gateway.test:{gateway.port}{PATH}", Signer(find))
        assert await channel.connect()
        channel.abort()
    assert order == ["DNS", "credentials"]
    assert gateway.signed == [True]


async def test_the_request_waits_for_the_signature() -> None:
    found = asyncio.Event()

    async with Gateway() as gateway:
        channel = channel_to(gateway.url(PATH), Signer(lambda: _wait(found)))
        connecting = asyncio.ensure_future(channel.connect())
        await wait_until(lambda: gateway.connections)
        assert not gateway.requests
        found.set()
        assert await connecting
        channel.abort()
    assert gateway.signed == [True]


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def test_a_credential_provider_that_hangs_is_not_waited_for() -> None:
    never = asyncio.Event()
    async with Gateway() as gateway:
        channel = channel_to(gateway.url(PATH), Signer(lambda: _wait(never)), timeout=0.1)
        async with asyncio.timeout(DEADLINE):
            while not await channel.connect():  # on a busy machine the rest may take longer than its half
                pass
        channel.abort()
    assert not any(gateway.signed)


async def test_without_credentials_the_request_is_unsigned(caplog: pytest.LogCaptureFixture) -> None:
    async def find() -> None:
        raise ConfigurationError("there are no AWS credentials")

    caplog.set_level("INFO", "session_manager_plugin")
    async with Gateway() as gateway:
        channel = channel_to(gateway.url(PATH), Signer(find))
        assert await channel.connect()
        channel.abort()
    assert gateway.signed == [False]
    assert gateway.requests[0].values("Authorization") == [f"Bearer {TOKEN}"]
    assert "the request is not signed: there are no AWS credentials" in caplog.text


async def test_an_unsigned_request_that_is_refused_says_why_it_was_unsigned() -> None:
    async def find() -> None:
        raise ConfigurationError("there are no AWS credentials")

    async with Gateway(403) as gateway:
        channel = channel_to(gateway.url(PATH), Signer(find))
        assert not await channel.connect()
    assert str(channel.last_error) == (
        f"127.0.0.1:{gateway.port} refused the websocket with status 403 Forbidden: the request was not signed (there "
        "are no AWS credentials), which the service may require; or the token may be expired or used already, or the "
        "session ended; start a new session"
    )


MISSING = b'{"message": "Missing Authentication Token"}'


async def test_a_host_that_requires_a_signature_and_is_none_of_aws() -> None:
    async with Gateway(403, body=MISSING) as gateway:
        channel = channel_to(gateway.url(PATH), Signer(), sign=Sign.AUTO)
        assert not await channel.connect()
    assert str(channel.last_error).endswith(
        "403 Forbidden (Missing Authentication Token): this host requires a signed request: give --sign always, and "
        "AWS credentials"
    )


async def test_a_host_that_requires_a_signature_and_refuses_ours() -> None:
    async with Gateway(403, 403, body=MISSING) as gateway:
        channel = channel_to(gateway.url(PATH), Signer())
        assert not await channel.connect()
    assert str(channel.last_error).endswith(
        "(Missing Authentication Token): the request was not signed (the signed one was refused), and this host "
        "requires that"
    )


async def test_a_url_that_cannot_be_requested_is_no_concern_of_the_signature() -> None:
    channel = channel_to("ws://127.0.0.1:9/v1/data-channel/s#fragment", signer := Signer())
    assert not await channel.connect()
    assert isinstance(channel.last_error, InvalidURL)
    assert not signer.requests


# Refused.


async def test_a_refused_signature_is_followed_by_one_unsigned_request() -> None:
    body = b'{"message": "The security token included in the request is expired."}'
    async with Gateway(403, body=body) as gateway:
        channel = channel_to(gateway.url(PATH), signer := Signer())
        assert await channel.connect()
        channel.abort()
    assert gateway.signed == [True, False]
    assert signer.refusals == 1
    (told,) = signer.told
    assert told == (
        f"127.0.0.1:{gateway.port} refused the websocket with status 403 Forbidden (The security token included in the "
        "request is expired): the AWS credentials are wrong or expired, or lack the permission "
        "ssmmessages:OpenDataChannel; the connection was opened without a signature"
    )


@pytest.mark.parametrize("status", [401, 403, 404, 503])
async def test_the_unsigned_request_decides(status: int) -> None:
    async with Gateway(403, status) as gateway:
        channel = channel_to(gateway.url(PATH), signer := Signer())
        assert not await channel.connect()
    error = channel.last_error
    assert isinstance(error, Refused)
    assert (error.status, error.retryable) == (status, status == 503)
    assert "ssmmessages:OpenDataChannel. Without a signature: 127.0.0.1" in str(error)
    assert gateway.signed == [True, False]
    assert (signer.refusals, signer.told) == (1, [])


@pytest.mark.parametrize("status", [401, 404, 503])
async def test_other_refusals_of_a_signed_request_are_final(status: int) -> None:
    async with Gateway(status) as gateway:
        channel = channel_to(gateway.url(PATH), signer := Signer())
        assert not await channel.connect()
    assert isinstance(channel.last_error, Refused)
    assert gateway.signed == [True]
    assert signer.refusals == 0


async def test_a_proxy_that_refuses_has_not_seen_a_signature() -> None:
    async with ConnectProxy({}, refuse_with=403) as proxy:
        channel = channel_to(f"wss://{AWS}{PATH}", signer := Signer(), proxy=proxy.proxy_url())
        assert not await channel.connect()
    assert isinstance(channel.last_error, ConnectError)
    assert "OpenDataChannel" not in str(channel.last_error)
    assert signer.refusals == 0
