"""A long outage of the websocket: no time limit of the session runs during it, and no data is lost."""

from __future__ import annotations

import itertools
import random

import pytest

from session_manager_plugin.errors import TimedOut
from session_manager_plugin.protocol.endpoint import RESEND_TIMEOUT, SessionEndpoint
from session_manager_plugin.protocol.events import DataKeyRequired, DataReceived, SessionFailed, SessionReady
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.protocol.readiness import HANDSHAKE_TIMEOUT, READY_DELAY
from session_manager_plugin.protocol.reliable import INITIAL_WINDOW
from session_manager_plugin.protocol.role import Role
from tests.support.pair import LATENCY, Pair, Peer, drain_events, new_connection, sent_by
from tests.test_protocol.test_negotiation import encrypted_pair, provide_keys
from tests.test_protocol.test_pair import STARTS, Start, late, no_failure, plain

OUTAGE = 900.0
"""Seconds: as long as reconnecting is tried by default."""
REQUEST = (
    '{"AgentVersion":"3.3.0.0","RequestedClientActions":['
    '{"ActionType":"SessionType","ActionParameters":{"SessionType":"Port"}},'
    '{"ActionType":"KMSEncryption","ActionParameters":{"KMSKeyId":"alias/key"}}]}'
)


@pytest.mark.parametrize("seconds", [600.0, OUTAGE])
@pytest.mark.parametrize("which", ["both", "client"])
@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.__name__)
def test_a_session_outlives_an_outage_in_the_middle_of_a_transfer(start: Start, which: str, seconds: float) -> None:
    pair = Pair()
    data = random.Random("outage").randbytes(300_000)
    start(pair)
    pair.client.write(data)
    pair.agent.write(data)
    pair.run_for(5 * LATENCY)
    assert pair.client.connection.in_flight
    pair.cut_client()
    if which == "both":
        pair.cut_agent()
    pair.client.write(b"typed meanwhile")
    pair.run_for(seconds)
    assert not pair.client.of(SessionFailed)
    pair.connect_client()
    if which == "both":
        pair.connect_agent()
    pair.run_until_quiet()
    early = b"typed before the handshake\r" if start is late else b""
    assert pair.agent.data() == early + data + b"typed meanwhile"
    assert pair.client.data() == (b"$ " if start is plain else b"") + data
    no_failure(pair)


def test_an_encrypted_session_outlives_an_outage() -> None:
    """The keys stay, and no nonce comes twice."""
    pair = encrypted_pair()
    provide_keys(pair)
    data = random.Random("sealed").randbytes(100_000)
    pair.client.write(data)
    pair.agent.write(data)
    pair.run_for(3 * LATENCY)
    assert pair.client.connection.in_flight
    pair.cut()
    pair.run_for(OUTAGE)
    pair.connect()
    pair.run_until_quiet()
    assert pair.agent.data() == pair.client.data() == data
    for link in (pair.to_agent, pair.to_client):
        sealed = {
            each.sequence_number: each.payload for each in link.carried if each.payload_type == PayloadType.OUTPUT
        }
        assert len({bytes(payload[:12]) for payload in sealed.values()}) == len(sealed)
    no_failure(pair)


@pytest.mark.parametrize("moment", ["before anything", "assumed", "asked for a key"])
def test_an_outage_while_the_session_begins(moment: str) -> None:
    """What is waited for on a websocket is waited for anew on the next one."""
    client, agent = new_connection(Role.CLIENT), Peer()
    client.connected("token", 0.0)
    if moment == "assumed":
        client.handle_timeout(READY_DELAY)
    elif moment == "asked for a key":
        client.receive_message(agent.stream(REQUEST, PayloadType.HANDSHAKE_REQUEST), 1.0)
    drain_events(client)
    client.disconnected(3.0)
    assert client.next_timeout() is None
    client.handle_timeout(3.0 + OUTAGE)
    assert drain_events(client) == []
    back = 3.0 + OUTAGE
    client.connected("token", back)
    expected = back + READY_DELAY if moment == "before anything" else back + HANDSHAKE_TIMEOUT
    assert client.next_timeout() == expected


def test_a_key_that_comes_during_an_outage_begins_no_wait() -> None:
    client, agent = new_connection(Role.CLIENT), Peer()
    client.connected("token", 0.0)
    client.receive_message(agent.stream(REQUEST, PayloadType.HANDSHAKE_REQUEST), 1.0)
    assert [type(event) for event in drain_events(client)] == [DataKeyRequired]
    client.disconnected(2.0)
    client.provide_data_key(bytes(64), 3.0, cipher_text=b"sealed")
    assert client.next_timeout() is None
    client.handle_timeout(OUTAGE)
    assert drain_events(client) == []
    client.connected("token", OUTAGE)
    opening, answer = client.messages_to_send(OUTAGE)
    assert isinstance(opening, str)
    assert isinstance(answer, bytes)
    client.handle_timeout(OUTAGE + HANDSHAKE_TIMEOUT)
    (failed,) = drain_events(client)
    assert isinstance(failed, SessionFailed)
    assert isinstance(failed.error, TimedOut)


def transferring() -> SessionEndpoint:
    """A client that has a window in flight, sent at 0, and resending backed off, at 9."""
    client, agent = new_connection(Role.CLIENT), Peer()
    client.connected("token", 0.0)
    client.receive_message(agent.stream("$ "), 0.0)
    assert [type(event) for event in drain_events(client)] == [SessionReady, DataReceived]
    for number in range(INITIAL_WINDOW):
        client.send_data(PayloadType.OUTPUT, b"%d" % number, 0.0)
    while (timeout := client.next_timeout()) is not None and timeout < 9.0:
        client.handle_timeout(timeout)
        client.messages_to_send(timeout)
    return client


def test_on_a_new_websocket_the_opening_goes_first_then_everything_at_once() -> None:
    client = transferring()
    client.disconnected(9.0)
    client.connected("new token", OUTAGE)
    opening, *messages = client.messages_to_send(OUTAGE)
    assert isinstance(opening, str)
    assert '"TokenValue":"new token"' in opening
    assert len(messages) == INITIAL_WINDOW
    assert client.messages_to_send(OUTAGE) == []


def test_on_a_new_websocket_resending_begins_with_the_short_timeout() -> None:
    """And slows down only when that one, too, has been silent for ten seconds."""
    client = transferring()
    client.disconnected(9.0)
    client.connected("token", OUTAGE)
    client.messages_to_send(OUTAGE)
    assert client.next_timeout() == pytest.approx(OUTAGE + 0.2)
    times = []
    while (timeout := client.next_timeout()) is not None and timeout < OUTAGE + 10.0:
        client.handle_timeout(timeout)
        assert len(sent_by(client, timeout)) == INITIAL_WINDOW
        times.append(timeout)
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= 1.0001


def test_the_resend_timeout_counts_time_on_a_websocket_only() -> None:
    client = transferring()
    client.disconnected(9.0)
    assert client.next_timeout() is None
    client.handle_timeout(9.0 + OUTAGE)
    assert drain_events(client) == []
    client.connected("token", 10.0 + OUTAGE)
    start = 10.0 + OUTAGE
    while (timeout := client.next_timeout()) is not None and timeout <= start + RESEND_TIMEOUT:
        client.handle_timeout(timeout)
    assert drain_events(client) == []
    client.handle_timeout(start + RESEND_TIMEOUT + 1.0)
    (failed,) = drain_events(client)
    assert isinstance(failed, SessionFailed)
    assert isinstance(failed.error, TimedOut)
