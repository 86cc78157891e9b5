"""Reconnecting: ``SessionDataChannel`` over websockets that are lost."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import import_module

import pytest

from session_manager_plugin.communicator import (
    NetworkOptions,
    SessionDataChannel,
    Sign,
    WebSocketChannel,
    WebSocketConfig,
    create_websocket_config,
)
from session_manager_plugin.communicator.reconnection import (
    FIRST_DELAY,
    MAX_DELAY,
    PROOFS,
    Proof,
    ProofInput,
    Reconnection,
    next_proof,
    refuses_token,
)
from session_manager_plugin.errors import (
    AccessDenied,
    ConnectError,
    ConnectionLost,
    LocalProtocolError,
    ProxyRefused,
    Refused,
    RemoteProtocolError,
    SessionExpired,
    SessionManagerError,
)
from session_manager_plugin.protocol.role import Role
from session_manager_plugin.session.protocols import OpeningRequest, RequestSigner, ResumedSession, ResumeService
from tests.support.agent_gateway import SESSION_ID, TOKEN, AgentGateway
from tests.support.clock import ManualClock
from tests.support.connect_proxy import ConnectProxy
from tests.support.fake_gateway import close, cut_after, refuse, say
from tests.support.pair import Peer as StreamPeer
from tests.support.raw_server import BINARY, CLOSE, PING, PONG, Peer, RawServer, Script, frame
from tests.support.waiting import DEADLINE, Happenings, wait_until

CHANNEL = import_module("session_manager_plugin.communicator.data_channel")
RECONNECTION = import_module("session_manager_plugin.communicator.reconnection")
LINK_HEALTH = import_module("session_manager_plugin.communicator.link_health")
KEEPALIVE = import_module("session_manager_plugin.communicator.keepalive")
RELIABLE = import_module("session_manager_plugin.protocol.reliable")


class Tokens(ResumeService):
    """Gives what it is made with, one after the other; an exception is raised."""

    def __init__(self, *answers: ResumedSession | Exception) -> None:
        self._answers = list(answers)
        self.calls = 0

    async def resume_session(self) -> ResumedSession:
        """See ``ResumeService``."""
        self.calls += 1
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Notes(Happenings):
    """How the link is each time its handler is called."""

    def __init__(self, channel: SessionDataChannel) -> None:
        super().__init__()
        self.states: list[str] = []
        self.troubles: list[str] = []
        self._channel = channel
        channel.set_link_handler(self._told)

    def _told(self) -> None:
        self.states.append(self._channel.health.state.value)
        self.troubles.append(self._channel.health.sentence)
        self.happened()


@asynccontextmanager
async def opened(
    url: str,
    *,
    service: ResumeService | None = None,
    timeout: float = 900.0,
    clock: Callable[[], float] = time.monotonic,
    keepalive: tuple[float, float] = (0, 10),
    signer: RequestSigner | None = None,
) -> AsyncIterator[tuple[SessionDataChannel, bytearray]]:
    """A channel that is open, and what the remote has written."""
    config = create_websocket_config(
        url,
        TOKEN,
        ping_interval=keepalive[0],
        ping_timeout=keepalive[1],
        retry_attempts=1,
        connect_timeout=5,
        network=NetworkOptions(sign=Sign.ALWAYS),
        signer=signer,
    )
    channel = SessionDataChannel(
        config, session_id=SESSION_ID, resume_service=service, reconnect_timeout=timeout, clock=clock
    )
    received = bytearray()
    channel.set_input_handler(received.extend)
    try:
        assert await channel.open()
        yield channel, received
    finally:
        await channel.close()


async def test_a_lost_websocket_is_replaced_and_no_byte_is_lost() -> None:
    data = random.Random("upload").randbytes(300_000)
    async with AgentGateway() as gateway, opened(gateway.url) as (channel, received):
        await asyncio.wait_for(channel.ready(), DEADLINE)
        notes = Notes(channel)
        typing = asyncio.ensure_future(channel.send_input_data(data))
        for lost in range(1, 4):
            size = len(data) * lost // 5
            await gateway.until(lambda size=size: len(gateway.input) >= size)  # type: ignore[misc]
            gateway.websocket.transport.abort()
            await gateway.until(lambda lost=lost: len(gateway.openings) == lost + 1)  # type: ignore[misc]
        await asyncio.wait_for(typing, DEADLINE)
        await asyncio.wait_for(channel.drain(), DEADLINE)
        assert gateway.input == data
        await gateway.write(b"still here")
        await wait_until(lambda: received == b"$ still here")
        assert channel.reconnects == 3
        assert channel.health.state.value == "connected"
        assert not channel.health.troubled
        assert {"reconnecting", "connected"} <= set(notes.states)
        assert not any(notes.troubles)  # none of the outages has lasted
        assert {opening["TokenValue"] for opening in gateway.openings} == {TOKEN}
        assert len({opening["ClientId"] for opening in gateway.openings}) == 1


async def test_u4_what_is_typed_while_the_link_is_away_arrives() -> None:
    """Reference defect U4: typing during a reconnect ends the session."""
    async with AgentGateway() as gateway, opened(gateway.url) as (channel, _received):
        await asyncio.wait_for(channel.ready(), DEADLINE)
        gateway.websocket.transport.abort()
        await wait_until(lambda: channel.health.state.value == "reconnecting")
        await asyncio.wait_for(channel.send_input_data(b"typed meanwhile"), DEADLINE)
        await gateway.until(lambda: gateway.input == b"typed meanwhile")


@pytest.mark.parametrize("code", [1000, 1001, 1011])
async def test_a_close_by_the_gateway_is_resumable(code: int) -> None:
    async with AgentGateway() as gateway, opened(gateway.url) as (channel, received):
        await asyncio.wait_for(channel.ready(), DEADLINE)
        await gateway.close_websocket(code, "Bye")
        await gateway.until(lambda: len(gateway.openings) == 2)
        await gateway.write(b"again")
        await wait_until(lambda: received == b"$ again")


async def test_the_first_attempt_comes_within_50_ms_and_what_is_unacknowledged_leaves_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reference defect A4: only the oldest message is sent again, one per 100 ms. Here none is sent by a timer."""
    assert FIRST_DELAY <= 0.05
    for name in ("INITIAL_RETRANSMISSION_TIMEOUT", "MAX_RETRANSMISSION_TIMEOUT", "CLOCK_GRANULARITY"):
        monkeypatch.setattr(RELIABLE, name, 3600.0)
    async with AgentGateway() as gateway, opened(gateway.url) as (channel, _received):
        await asyncio.wait_for(channel.ready(), DEADLINE)
        gateway.websocket.transport.pause_reading()
        await channel.send_input_data(b"x" * 1024 * 30)
        gateway.websocket.transport.abort()
        await gateway.until(lambda: len(gateway.openings) == 2)
        await gateway.until(lambda: len(gateway.input) == 1024 * 30)


async def test_a_token_that_was_used_up_is_replaced_by_resuming() -> None:
    service = Tokens(ResumedSession("a second token"))
    async with AgentGateway() as gateway, opened(gateway.url, service=service) as (channel, received):
        await asyncio.wait_for(channel.ready(), DEADLINE)
        await gateway.close_websocket(1008, "the token was used")
        await gateway.until(lambda: len(gateway.openings) == 2)
        await gateway.write(b"again")
        await wait_until(lambda: received == b"$ again")
        assert [opening["TokenValue"] for opening in gateway.openings] == [TOKEN, "a second token"]
        assert "a second token" not in repr(channel.get_channel_info())


class Turnstile(RawServer):
    """Does with each connection what the next of ``scripts`` says; the last one serves all that follow."""

    def __init__(self, *scripts: Script) -> None:
        super().__init__(self._next)
        self.visits = 0
        self.heard = Happenings()
        self._scripts = scripts

    async def _next(self, peer: Peer) -> None:
        script = self._scripts[min(self.visits, len(self._scripts) - 1)]
        self.visits += 1
        self.heard.happened()
        await script(peer)

    async def visited(self, times: int) -> None:
        """Wait for so many connections."""
        await self.heard.until(lambda: self.visits >= times)


async def stay(peer: Peer) -> None:
    """Takes the token, answers pings and the close, and says nothing else."""
    await peer.accept()
    opcode = 0
    while opcode != CLOSE:
        opcode, payload = await peer.receive_frame()
        if opcode in (PING, CLOSE):
            peer.write(frame({PING: PONG}.get(opcode, CLOSE), payload))
    peer.end()


def prompt() -> bytes:
    """The first stream message of an agent."""
    return StreamPeer(Role.AGENT).stream(b"$ ")


@pytest.mark.parametrize(
    "refusal",
    [refuse(401), refuse(403), close(1008), close(1000), refuse(404)],
    ids=["401", "403", "1008", "1000", "404"],
)
async def test_a_refused_token_is_replaced_by_resuming(refusal: Script) -> None:
    """An answer that refuses, close code 1008, and a websocket that is closed before any message."""
    service = Tokens(ResumedSession("new"))
    async with (
        Turnstile(cut_after(prompt()), refusal, stay) as gateway,
        opened(gateway.url(), service=service) as (channel, _received),
    ):
        await gateway.visited(3)
        await wait_until(lambda: channel.reconnects == 1)
        assert service.calls == 1
        assert channel.health.state.value == "connected"


class Signer(RequestSigner):
    """Signs everything."""

    async def sign(self, request: OpeningRequest) -> Mapping[str, str]:
        """See ``RequestSigner``."""
        return {"X-Amz-Date": "20261101T120000Z"}

    def refused(self) -> None:
        """See ``RequestSigner``."""

    def opened_unsigned(self, sentence: str) -> None:
        """See ``RequestSigner``."""


@pytest.mark.parametrize(("unsigned", "resumed"), [(stay, 0), (refuse(403), 1)], ids=["opened", "refused"])
async def test_a_refused_signature_says_nothing_of_the_token(unsigned: Script, resumed: int) -> None:
    """The unsigned request that follows at once decides whether the token was refused."""
    service = Tokens(ResumedSession("new"))
    async with (
        Turnstile(cut_after(prompt()), refuse(403), unsigned, stay) as gateway,
        opened(gateway.url(), service=service, signer=Signer()) as (channel, _received),
    ):
        await wait_until(lambda: channel.reconnects == 1)
        assert service.calls == resumed
        assert gateway.visits == 3 + resumed


async def test_a_proxys_403_is_not_the_gateways() -> None:
    """The request was signed, but the gateway has not received it: without a signature it would not either."""
    async with ConnectProxy({}, refuse_with=403) as proxy:
        network = NetworkOptions(proxy=proxy.proxy_url(), sign=Sign.ALWAYS)
        url = "ws://gateway.test/v1/data-channel/alice-1"
        channel = WebSocketChannel(
            create_websocket_config(url, TOKEN, retry_attempts=1, network=network, signer=Signer())
        )
        assert not await channel.connect()
    assert isinstance(channel.last_error, ProxyRefused)
    assert not refuses_token(channel.last_error)
    assert str(channel.last_error).startswith(f"the proxy 127.0.0.1:{proxy.port} refused the connection")
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("status", [407, 500, 502, 503, 429])
async def test_a_gateway_or_a_proxy_that_is_busy_costs_no_new_token(status: int) -> None:
    service = Tokens()
    async with (
        Turnstile(cut_after(prompt()), refuse(status), refuse(status), stay) as gateway,
        opened(gateway.url(), service=service) as (channel, _received),
    ):
        await wait_until(lambda: channel.reconnects == 1)
        assert service.calls == 0
        assert gateway.visits == 4


async def test_without_credentials_it_goes_on_with_the_token_in_hand_and_says_so() -> None:
    async with (
        Turnstile(cut_after(prompt()), close(1008), close(1008), stay) as gateway,
        opened(gateway.url()) as (channel, _received),
    ):
        await wait_until(lambda: "no credentials to resume the session" in channel.health.sentence)
        await wait_until(lambda: channel.reconnects == 1)
        assert gateway.visits == 4


async def test_credentials_that_are_expired_are_asked_for_again() -> None:
    service = Tokens(AccessDenied("expired"), ConnectError("no DNS"), ResumedSession("new"))
    async with (
        Turnstile(cut_after(prompt()), close(1008), close(1008), close(1008), stay) as gateway,
        opened(gateway.url(), service=service) as (channel, _received),
    ):
        await wait_until(lambda: channel.reconnects == 1)
        assert service.calls == 3


@pytest.mark.slow
@pytest.mark.parametrize("refusal", [refuse(403), close(1008)], ids=["403", "1008"])
async def test_what_keeps_us_from_a_new_token_is_what_is_told(refusal: Script) -> None:
    """Not that the old one is refused in between, again and again: nobody can do anything about that."""
    service = Tokens(*[AccessDenied("the credentials have expired")] * 20, SessionExpired("over"))
    async with (
        Turnstile(cut_after(prompt()), refusal) as gateway,
        opened(gateway.url(), service=service) as (channel, _received),
    ):
        await wait_until(lambda: channel.health.troubled)
        told: set[str] = set()

        def visited_again() -> bool:
            told.add(channel.health.sentence.partition(": ")[2])
            return gateway.visits >= visits

        visits = gateway.visits + 2
        await wait_until(visited_again)
        assert told == {"the credentials have expired"}


async def test_a_session_that_is_gone_is_not_waited_for() -> None:
    service = Tokens(SessionExpired("session s timed out while the connection was away"))
    async with (
        Turnstile(cut_after(prompt()), close(1008)) as gateway,
        opened(gateway.url(), service=service) as (channel, _received),
    ):
        with pytest.raises(SessionExpired):
            await asyncio.wait_for(channel.ended(), DEADLINE)
        assert channel.health.state.value == "closed"
        assert not channel.health.troubled


async def test_h2_a_link_that_cannot_be_brought_back_ends_the_session_with_its_reason() -> None:
    """Reference defect H2: after a failed resume the client waits for ever, silently."""
    clock = ManualClock()
    async with (
        Turnstile(cut_after(prompt()), refuse(503)) as gateway,
        opened(gateway.url(), clock=clock.time) as (channel, _received),
    ):
        await gateway.visited(2)
        clock.advance(900)
        with pytest.raises(ConnectionLost, match=r"not restored within 900 seconds; .*status 503"):
            await asyncio.wait_for(channel.ended(), DEADLINE)


async def test_h6_a_link_lost_before_anything_came_ends_the_session_at_once() -> None:
    """Reference defect H6: a read error right behind the opening kills the reader, and the client waits for ever."""
    async with Turnstile(close(1008)) as gateway, opened(gateway.url()) as (channel, _received):
        with pytest.raises(ConnectionLost, match="1008"):
            await asyncio.wait_for(channel.ended(), DEADLINE)
        assert gateway.visits == 1


async def test_a_used_token_at_the_start_is_replaced_when_there_are_credentials() -> None:
    service = Tokens(ResumedSession("new"))
    async with (
        Turnstile(close(1008), close(1008), say(prompt())) as gateway,
        opened(gateway.url(), service=service) as (_channel, received),
    ):
        # The token in hand is not tried twice: the gateway has refused it.
        await wait_until(lambda: gateway.visits == 2)
        assert service.calls == 1
        del received


async def test_at_the_start_the_first_failure_to_get_a_token_is_the_end() -> None:
    service = Tokens(AccessDenied("not yours"))
    async with (
        Turnstile(close(1008)) as gateway,
        opened(gateway.url(), service=service) as (channel, _received),
    ):
        with pytest.raises(ConnectionLost, match=r"1008.*\(and there is no new token: not yours\)") as caught:
            await asyncio.wait_for(channel.ended(), DEADLINE)
        assert caught.value.close_code == 1008
        assert gateway.visits == 1


async def test_a_gateway_that_breaks_the_rules_is_not_asked_again() -> None:
    async def too_long(peer: Peer) -> None:
        await peer.accept()
        await peer.receive_frame()
        peer.write(frame(BINARY, prompt()))
        await peer.receive_frame()
        peer.write(bytes([0x82, 127]) + (1 << 40).to_bytes(8, "big"))
        await peer.until_gone()

    async with Turnstile(too_long) as gateway, opened(gateway.url()) as (channel, _received):
        with pytest.raises(RemoteProtocolError, match="too long"):
            await asyncio.wait_for(channel.ended(), DEADLINE)
        assert gateway.visits == 1


async def test_the_answers_new_url_is_used_and_the_tokens_in_urls_are_replaced() -> None:
    async with Turnstile(stay) as second:
        service = Tokens(ResumedSession("new", second.url()))
        async with (
            Turnstile(cut_after(prompt()), close(1008)) as first,
            opened(first.url(), service=service) as (channel, _received),
        ):
            await second.visited(1)
            await wait_until(lambda: channel.reconnects == 1)
            assert first.visits == 2


async def test_reconnect_now_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RECONNECTION, "FIRST_DELAY", 3600.0)
    monkeypatch.setattr(RECONNECTION, "MAX_DELAY", 3600.0)
    service = Tokens(ResumedSession("new"))
    async with AgentGateway() as gateway, opened(gateway.url, service=service, timeout=9999) as (channel, received):
        await asyncio.wait_for(channel.ready(), DEADLINE)
        await channel.reconnect()
        assert channel.health.state.value == "reconnecting"
        await channel.reconnect()
        await gateway.until(lambda: len(gateway.openings) == 2)
        assert gateway.openings[1]["TokenValue"] == "new"
        await gateway.write(b"again")
        await wait_until(lambda: received == b"$ again")


@pytest.mark.parametrize(
    ("service", "timeout", "reason"),
    [
        (None, 0.0, "with a reconnect timeout of 0 the session would end"),
        (Tokens(ResumedSession("new")), 0.0, "with a reconnect timeout of 0 the session would end"),
        (None, 900.0, "the gateway may accept the token only once, and there are no credentials"),
        (Tokens(AccessDenied("not yours")), 900.0, "not yours"),
        (Tokens(ValueError("no such key")), 900.0, "the resume service failed: ValueError: no such key"),
    ],
    ids=["never", "never, with credentials", "no credentials", "refused", "foreign error"],
)
async def test_a_healthy_session_is_not_dropped_when_it_could_not_be_restored(
    service: Tokens | None, timeout: float, reason: str
) -> None:
    async with AgentGateway() as gateway, opened(gateway.url, service=service, timeout=timeout) as (channel, received):
        await wait_until(lambda: received == b"$ ")
        with pytest.raises(SessionManagerError, match=reason):
            await channel.reconnect()
        await gateway.write(b"still here")
        await wait_until(lambda: received == b"$ still here")
        assert len(gateway.openings) == 1
        assert channel.health.state.value == "connected"


async def test_a_token_that_was_accepted_twice_needs_no_new_one_to_reconnect() -> None:
    async with AgentGateway() as gateway, opened(gateway.url) as (channel, received):
        await wait_until(lambda: received == b"$ ")
        gateway.websocket.transport.abort()
        await gateway.until(lambda: len(gateway.openings) == 2)
        await gateway.write(b"back")
        await wait_until(lambda: channel.reconnects == 1)
        await channel.reconnect()
        await gateway.until(lambda: len(gateway.openings) == 3)
        await gateway.write(b" again")
        await wait_until(lambda: received == b"$ back again")


async def test_a_link_lost_while_a_new_token_is_asked_for_is_not_dropped_again() -> None:
    class Slow(Tokens):
        """Returns when ``go`` is set."""

        go = asyncio.Event()

        async def resume_session(self) -> ResumedSession:
            """See ``ResumeService``."""
            await self.go.wait()
            return await super().resume_session()

    service = Slow(ResumedSession("new"))
    async with AgentGateway() as gateway, opened(gateway.url, service=service) as (channel, received):
        await wait_until(lambda: received == b"$ ")
        asked = asyncio.ensure_future(channel.reconnect())
        await asyncio.sleep(0)
        gateway.websocket.transport.abort()
        await gateway.until(lambda: len(gateway.openings) == 2)
        await gateway.write(b"back")
        await wait_until(lambda: channel.reconnects == 1)
        service.go.set()
        await asyncio.wait_for(asked, DEADLINE)
        assert channel.health.state.value == "connected"
        assert len(gateway.openings) == 2


async def test_a_foreign_exception_of_a_resume_service_is_told_and_ends_in_time() -> None:
    """It once ended the task that reconnects, and the session was reconnecting for ever."""
    service, clock = Tokens(*[ValueError("no such key")] * 100), ManualClock()
    async with (
        Turnstile(cut_after(prompt()), refuse(403)) as gateway,
        opened(gateway.url(), service=service, clock=clock.time) as (channel, _received),
    ):
        await wait_until(lambda: service.calls)
        clock.advance(900)
        with pytest.raises(ConnectionLost, match="the resume service failed: ValueError: no such key"):
            await asyncio.wait_for(channel.ended(), DEADLINE)


async def test_closing_while_reconnecting_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CHANNEL, "CLOSE_DRAIN_TIMEOUT", 3600.0)
    async with Turnstile(cut_after(prompt()), refuse(503)) as gateway:
        async with opened(gateway.url()) as (channel, _received):
            await gateway.visited(2)
            await asyncio.wait_for(channel.close(), DEADLINE)
        assert channel.health.state.value == "closed"


@pytest.mark.slow
async def test_h7_a_silent_link_is_told_and_then_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference defect H7: no deadline for reading, so that a dead link is noticed after many minutes or never."""
    assert KEEPALIVE.SILENCE_DELAY == 2.0
    monkeypatch.setattr(KEEPALIVE, "SILENCE_DELAY", 0.1)
    async with (
        AgentGateway() as gateway,
        opened(gateway.url, keepalive=(0.1, 3.0)) as (channel, _received),
    ):
        await asyncio.wait_for(channel.ready(), DEADLINE)
        await wait_until(lambda: channel.latency is not None)
        notes = Notes(channel)
        dead = gateway.websocket
        dead.transport.pause_reading()
        await notes.until(lambda: any("no answer, last contact" in trouble for trouble in notes.troubles))
        assert channel.health.state.value == "no answer"
        assert channel.health.latency is None
        await notes.until(lambda: "reconnecting" in notes.states)
        await gateway.until(lambda: len(gateway.openings) == 2)
        await notes.until(lambda: notes.states[-1] == "connected")
        assert not channel.health.troubled
        dead.transport.abort()
        await dead.wait_closed()


async def test_a_message_that_is_not_acknowledged_is_evidence_and_makes_a_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LINK_HEALTH, "DOUBT_DELAY", 0.1)
    monkeypatch.setattr(LINK_HEALTH, "SILENCE_DELAY", 0.2)
    async with AgentGateway() as gateway, opened(gateway.url, keepalive=(3600, 3600)) as (channel, _received):
        await asyncio.wait_for(channel.ready(), DEADLINE)
        await wait_until(lambda: channel.latency is not None)
        first_pong = channel.get_channel_info()["last_pong_time"]
        notes = Notes(channel)
        gateway.stop_acknowledging()
        await channel.send_input_data(b"x")
        await wait_until(lambda: channel.get_channel_info()["last_pong_time"] != first_pong)
        # The service answers, so it is the target that does not.
        await notes.until(lambda: any("no answer from the target" in trouble for trouble in notes.troubles))
        await gateway.acknowledge_again()
        await notes.until(lambda: notes.troubles[-1].startswith("connection restored after"))
        assert not channel.health.troubled


async def test_a_jump_of_the_clock_makes_a_ping_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after sleep: the wall clock has run on, the monotonic one has not."""
    async with AgentGateway() as gateway, opened(gateway.url, keepalive=(3600, 3600)) as (channel, _received):
        await asyncio.wait_for(channel.ready(), DEADLINE)
        await wait_until(lambda: channel.latency is not None)
        first_pong = channel.get_channel_info()["last_pong_time"]
        real_time = time.time
        await channel.send_input_data(b"no jump")
        await channel.drain()
        assert channel.get_channel_info()["last_pong_time"] == first_pong
        monkeypatch.setattr(KEEPALIVE.time, "time", lambda: real_time() + 600)
        await channel.send_input_data(b"x")
        await wait_until(lambda: channel.get_channel_info()["last_pong_time"] != first_pong)


def lose(reconnection: Reconnection, reason: Exception, *, unheard: bool = False) -> None:
    """A websocket opens, receives a message unless ``unheard``, and is lost."""
    reconnection.opened()
    if not unheard:
        reconnection.message_received()
    reconnection.lost(reason, time.monotonic(), patient=True)


class Unreachable:
    """A websocket that never opens."""

    last_error: Exception | None = ConnectError("no route")

    def __init__(self, times: list[float]) -> None:
        self._times = times

    async def connect(self, _config: WebSocketConfig, /) -> bool:
        """See ``Reconnectable``."""
        self._times.append(asyncio.get_running_loop().time())
        return False


async def test_the_delays_double_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, scale in (("FIRST_DELAY", FIRST_DELAY), ("MAX_DELAY", MAX_DELAY)):
        monkeypatch.setattr(RECONNECTION, name, scale / 50)
    times: list[float] = []
    reconnection = Reconnection(Unreachable(times), WebSocketConfig("ws://127.0.0.1/", TOKEN), None, 0.6)
    started = asyncio.get_running_loop().time()
    lose(reconnection, ConnectionLost("cut"))
    with pytest.raises(ConnectionLost, match=r"cut and not restored within 0\.6 seconds; .*no route"):
        await asyncio.wait_for(reconnection.run(), DEADLINE)
    gaps = [after - before for before, after in zip([started, *times], times, strict=False)]
    for number, gap in enumerate(gaps[:-1]):
        assert gap >= min(MAX_DELAY, FIRST_DELAY * 2**number) / 50 * 0.5
    assert len(times) >= 5


class Scripted:
    """A websocket whose attempts fail as ``failures`` say; then it opens. ``times`` are the instants."""

    last_error: Exception | None = None

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.times: list[float] = []

    async def connect(self, _config: WebSocketConfig, /) -> bool:
        """See ``Reconnectable``."""
        self.times.append(time.monotonic())
        self.last_error = self._failures.pop(0) if self._failures else None
        return self.last_error is None


class Clerk(Tokens):
    """Notes when it was asked."""

    def __init__(self, *answers: ResumedSession | Exception) -> None:
        super().__init__(*answers)
        self.times: list[float] = []

    async def resume_session(self) -> ResumedSession:
        """See ``ResumeService``."""
        self.times.append(time.monotonic())
        return await super().resume_session()


@pytest.mark.parametrize(
    "refusal",
    [ConnectionLost("x", close_code=1008), Refused("x", status=401), Refused("x", status=403)],
    ids=["1008", "401", "403"],
)
async def test_a_refusal_after_a_long_outage_is_followed_by_resuming_at_once(
    monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    """The refusal shows that the network is back. By then the delay between attempts has grown beyond ``DEADLINE``."""
    monkeypatch.setattr(RECONNECTION, "FIRST_DELAY", 0.2)
    monkeypatch.setattr(RECONNECTION, "MAX_DELAY", 3600.0)
    down = [ConnectError("no route")] * 12
    websocket = Scripted(*down, *([refusal] if isinstance(refusal, Refused) else []))
    service = Tokens(ResumedSession("new"))
    reconnection = Reconnection(websocket, WebSocketConfig("ws://127.0.0.1/", TOKEN), service, 900.0)
    lose(reconnection, ConnectionLost("cut"))
    running = asyncio.ensure_future(reconnection.run())
    try:
        for attempt in range(12):
            reconnection.hurry()
            await wait_until(lambda attempt=attempt: len(websocket.times) > attempt)  # type: ignore[misc]
        reconnection.hurry()  # the network is back
        if isinstance(refusal, ConnectionLost):  # which comes on a websocket that is open
            await asyncio.wait_for(running, DEADLINE)
            lose(reconnection, refusal, unheard=True)
            running = asyncio.ensure_future(reconnection.run())
        else:
            await wait_until(lambda: len(websocket.times) == 13)
        await asyncio.wait_for(running, DEADLINE)
        assert service.calls == 1
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_used_token_is_not_told_as_the_cause_of_an_outage() -> None:
    """The reason is what has ended the websocket, such as a proxy's limit, until the new token is refused as well."""
    refused = Refused("refused", status=403)
    reconnection = Reconnection(
        Scripted(refused, refused),
        WebSocketConfig("ws://127.0.0.1/", TOKEN),
        Clerk(*[ResumedSession("new")] * 2),
        900.0,
    )
    reasons: list[str] = []
    lose(reconnection, ConnectionLost("closed with code 1001"))
    running = asyncio.ensure_future(reconnection.run())
    while not running.done():
        if not reasons or reasons[-1] != reconnection.reason:
            reasons.append(reconnection.reason)
        await asyncio.sleep(0)
    await running
    assert reasons == ["closed with code 1001", "refused"]


async def test_refusals_in_a_row_are_not_answered_at_once_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """ResumeSession gives a token each time, and the gateway takes none of them."""
    monkeypatch.setattr(RECONNECTION, "FIRST_DELAY", 0.01)
    refused = Refused("x", status=403)
    websocket, service = Scripted(*[refused] * 5), Clerk(*[ResumedSession("new")] * 6)
    reconnection = Reconnection(websocket, WebSocketConfig("ws://127.0.0.1/", TOKEN), service, 900.0)
    lose(reconnection, refused)
    await asyncio.wait_for(reconnection.run(), DEADLINE)
    gaps = [after - before for before, after in itertools.pairwise(service.times)]
    assert all(gap >= 0.01 * 2**number * 0.5 for number, gap in enumerate(gaps, 1))
    assert len(gaps) == 5


@pytest.mark.parametrize(
    ("error", "refuses"),
    [
        (ConnectionLost("x", close_code=1008), True),
        (ConnectionLost("x", close_code=1000), False),
        (Refused("x", status=403), True),
        (Refused("x", status=407), False),
        (ProxyRefused("x", status=403), False),
        (ProxyRefused("x", status=401), False),
        (Refused("x", status=503, retryable=True), False),
        (ConnectError("x"), False),
    ],
)
def test_what_means_that_the_token_is_refused(error: Exception, refuses: bool) -> None:
    assert refuses_token(error) is refuses


OPENED, MESSAGE, STAYED, LOST = ProofInput
WAYS: list[tuple[tuple[ProofInput, ...], Proof]] = [
    ((OPENED,), Proof.UNPROVEN),
    ((OPENED, MESSAGE), Proof.PROVEN),
    ((OPENED, LOST), Proof.ABSENT),
    ((OPENED, MESSAGE, LOST), Proof.ABSENT),
    ((OPENED, MESSAGE, LOST, OPENED, STAYED), Proof.PROVEN),
    ((OPENED, MESSAGE, LOST, OPENED, STAYED, LOST, OPENED, MESSAGE, MESSAGE), Proof.PROVEN),
]


@pytest.mark.parametrize(("way", "proof"), WAYS)
async def test_what_proves_that_a_token_was_accepted(
    monkeypatch: pytest.MonkeyPatch, way: tuple[ProofInput, ...], proof: Proof
) -> None:
    monkeypatch.setattr(RECONNECTION, "PROOF_DELAY", 0.0)
    reconnection = Reconnection(Scripted(), WebSocketConfig("ws://127.0.0.1/", TOKEN), None, 900.0)
    for step in way:
        match step:
            case ProofInput.OPENED:
                reconnection.opened()
            case ProofInput.MESSAGE_RECEIVED:
                reconnection.message_received()
            case ProofInput.STAYED_OPEN:
                await wait_until(lambda: not reconnection.active)
            case ProofInput.LOST:
                reconnection.lost(ConnectionLost("cut"), time.monotonic(), patient=True)
    assert reconnection.proof is proof
    reconnection.stop()


@pytest.mark.parametrize("proof", [*Proof])
@pytest.mark.parametrize("step", [*ProofInput])
def test_a_proof_refuses_what_has_no_row(proof: Proof, step: ProofInput) -> None:
    if (proof, step) in PROOFS:
        assert next_proof(proof, step) is PROOFS[proof, step]
    else:
        with pytest.raises(LocalProtocolError, match=f"{step.name} in state {proof.name}"):
            next_proof(proof, step)


async def test_a_refused_input_leaves_the_proof_as_it_is() -> None:
    reconnection = Reconnection(Scripted(), WebSocketConfig("ws://127.0.0.1/", TOKEN), None, 900.0)
    with pytest.raises(LocalProtocolError, match="LOST in state ABSENT"):
        reconnection.lost(ConnectionLost("cut"), 0.0, patient=True)
    reconnection.opened()
    with pytest.raises(LocalProtocolError, match="OPENED in state UNPROVEN"):
        reconnection.opened()
    assert reconnection.proof is Proof.UNPROVEN


def test_every_transition_of_the_proof_is_reached() -> None:
    reached = set()
    for way, _proof in WAYS:
        proof = Proof.ABSENT
        for step in way:
            if (proof, step) in PROOFS:
                reached.add((proof, step))
                proof = PROOFS[proof, step]
    assert reached == PROOFS.keys()
