"""``channel_closed`` while messages are held: missing messages have a bounded time to arrive."""

from __future__ import annotations

import pytest

from session_manager_plugin.errors import EncryptionError, LocalProtocolError
from session_manager_plugin.protocol.closing import CLOSE_DELAY, CLOSE_LIMIT
from session_manager_plugin.protocol.crypto import DATA_KEY_SIZE
from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.protocol.events import (
    ChannelClosedReceived,
    DataReceived,
    MissingOutput,
    OutputStopped,
    SessionFailed,
)
from session_manager_plugin.protocol.messages import PayloadType, acknowledged_sequence_number
from session_manager_plugin.protocol.payloads import ChannelClosed
from session_manager_plugin.protocol.readiness import HANDSHAKE_TIMEOUT
from session_manager_plugin.protocol.role import Role
from tests.support.pair import LATE, LATENCY, SESSION_ID, Link, Pair, Peer, drain_events, new_connection, sent_by

CLOSED = ChannelClosed(SESSION_ID, "bye").to_json().encode()


def closing(*held: int) -> tuple[SessionEndpoint, Peer]:
    """A client that was sent message 0 and those ``held``, and then, at 1, that the session is closed."""
    client, agent = new_connection(Role.CLIENT), Peer()
    client.connected("token", 0.0)
    client.receive_message(agent.stream("0"), 0.0)
    for number in held:
        client.receive_message(agent.stream(str(number), number=number), 0.0)
    client.messages_to_send(0.0)
    drain_events(client)
    client.receive_message(agent.control("channel_closed", CLOSED), 1.0)
    return client, agent


def asked_for_a_key() -> tuple[SessionEndpoint, Peer]:
    """A client that waits for the data key, at 0."""
    client, agent = new_connection(Role.CLIENT), Peer()
    client.connected("token", 0.0)
    request = (
        '{"RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":{"SessionType":"Port"}},'
        '{"ActionType":"KMSEncryption","ActionParameters":{"KMSKeyId":"alias/key"}}]}'
    )
    client.receive_message(agent.stream(request, PayloadType.HANDSHAKE_REQUEST), 0.0)
    client.messages_to_send(0.0)
    drain_events(client)
    return client, agent


def test_d15_the_end_waits_for_what_is_missing() -> None:
    """Reference defect D15: messages that were missing or held out of order when the session is closed are lost.

    It would be back if ``protocol/endpoint.py``: ``SessionEndpoint._receive_closed`` always applied ``CLOSED``.
    """
    client, agent = closing(2, 3, 5)
    assert drain_events(client) == []
    client.receive_message(agent.stream("1", number=1), 1.5)
    assert drain_events(client) == [DataReceived(1, [b"1", b"2", b"3"])]
    client.receive_message(agent.stream("4", number=4), 1.9)
    assert drain_events(client) == [DataReceived(1, [b"4", b"5"]), ChannelClosedReceived("bye")]
    assert [acknowledged_sequence_number(each.payload) for each in sent_by(client, 2.0)] == [1, 4]


def test_the_wait_has_an_end() -> None:
    """Then what is behind a gap is not delivered: it would look as if nothing was missing."""
    client, agent = closing(2, 3, 5)
    assert client.next_timeout() == 1.0 + CLOSE_DELAY
    client.receive_message(agent.stream("3", number=3), 1.2)
    client.receive_message(agent.stream("6", number=6), 1.3)
    assert client.next_timeout() == 1.0 + CLOSE_DELAY  # nothing that was missing has arrived
    client.receive_message(agent.stream("1", number=1), 1.5)
    drain_events(client)
    assert client.next_timeout() == 1.5 + CLOSE_DELAY
    client.handle_timeout(1.5 + CLOSE_DELAY - 0.01)
    assert drain_events(client) == []
    client.handle_timeout(1.5 + CLOSE_DELAY)
    assert drain_events(client) == [ChannelClosedReceived("bye")]
    assert client.missing_output == MissingOutput(messages=1, size=1, undelivered_size=2)
    assert client.next_timeout() is None
    client.receive_message(agent.stream("4", number=4), 4.0)
    assert drain_events(client) == []


def test_messages_that_arrive_slowly_are_waited_for_but_not_for_ever() -> None:
    """The official agent sends one message again each 100 ms: 40 missing ones take 4 s."""
    client, agent = closing(100)
    now = 1.0
    for number in range(1, 40):
        now += 1.0
        client.receive_message(agent.stream("x", number=number), now)
        client.handle_timeout(now)
        if now >= 1.0 + CLOSE_LIMIT:
            break
    assert now == 1.0 + CLOSE_LIMIT
    assert drain_events(client)[-1] == ChannelClosedReceived("bye")
    assert client.missing_output == MissingOutput(messages=69, size=69 * 3, undelivered_size=3)


def test_what_is_missing_is_estimated_by_what_arrived_behind_it() -> None:
    client, agent = new_connection(Role.CLIENT), Peer()
    client.connected("token", 0.0)
    client.receive_message(agent.stream("$ "), 0.0)
    assert client.missing_output is None
    for number in (3, 4, 9):
        client.receive_message(agent.stream("x" * 1000, number=number), 0.0)
    assert client.missing_output == MissingOutput(messages=6, size=6000, undelivered_size=3000)
    for number in (1, 2, 5, 6, 7, 8):
        client.receive_message(agent.stream("x" * 10, number=number), 0.0)
    assert client.missing_output is None


def test_with_nothing_held_the_end_is_said_at_once() -> None:
    client, _ = closing()
    assert drain_events(client) == [ChannelClosedReceived("bye")]
    assert client.next_timeout() is None


def test_when_the_websocket_goes_nothing_can_come_any_more() -> None:
    client, _ = closing(2)
    client.disconnected(1.1)
    assert drain_events(client) == [ChannelClosedReceived("bye")]
    assert client.missing_output == MissingOutput(messages=1, size=1, undelivered_size=1)
    client.disconnected(1.2)
    assert drain_events(client) == []


def test_a_websocket_that_is_gone_already_brings_nothing() -> None:
    """The end is read out of the socket's buffer behind its closing."""
    client, agent = new_connection(Role.CLIENT), Peer()
    client.connected("token", 0.0)
    client.receive_message(agent.stream("0"), 0.0)
    client.receive_message(agent.stream("2", number=2), 0.0)
    client.disconnected(0.5)
    drain_events(client)
    client.receive_message(agent.control("channel_closed", CLOSED), 1.0)
    assert drain_events(client) == [ChannelClosedReceived("bye")]


def test_who_waits_for_the_end_sends_nothing_more() -> None:
    client, agent = new_connection(Role.CLIENT), Peer()
    client.connected("token", 0.0)
    client.receive_message(agent.stream("0"), 0.0)
    client.send_data(PayloadType.OUTPUT, b"unacknowledged", 0.0)
    client.receive_message(agent.stream("2", number=2), 0.0)
    client.messages_to_send(0.0)
    client.receive_message(agent.control("channel_closed", CLOSED), 1.0)
    assert not client.ready
    assert client.send_capacity == 0
    with pytest.raises(LocalProtocolError):
        client.send_data(PayloadType.OUTPUT, b"x", 1.0)
    client.handle_timeout(2.9)
    assert client.messages_to_send(2.9) == []


@pytest.mark.parametrize("message_type", ["channel_closed", "pause_publication", "acknowledge", "mystery"])
def test_nothing_else_delays_or_repeats_the_end(message_type: str) -> None:
    client, agent = closing(2)
    for _ in range(200):
        client.receive_message(agent.control(message_type), 2.0)
    assert drain_events(client) == []
    assert client.next_timeout() == 1.0 + CLOSE_DELAY
    client.receive_message(agent.stream("1", number=1), 2.0)
    assert drain_events(client) == [DataReceived(1, [b"1", b"2"]), ChannelClosedReceived("bye")]


def test_an_agent_does_not_wait() -> None:
    """Its client has been told as well, and sends nothing again."""
    agent, client = new_connection(Role.AGENT), Peer(Role.CLIENT)
    agent.connected(None, 0.0)
    agent.skip_handshake()
    agent.receive_message(client.stream("2", number=2), 0.0)
    drain_events(agent)
    agent.receive_message(client.control("channel_closed", CLOSED), 1.0)
    assert drain_events(agent) == [ChannelClosedReceived("bye")]


def test_what_cannot_be_read_while_the_end_is_waited_for_is_the_end() -> None:
    client, agent = asked_for_a_key()
    client.provide_data_key(bytes(DATA_KEY_SIZE), 0.0)
    client.receive_message(agent.stream("{}", PayloadType.HANDSHAKE_COMPLETE), 0.0)
    client.receive_message(agent.stream("not sealed", number=3), 0.0)
    drain_events(client)
    client.receive_message(agent.control("channel_closed", CLOSED), 1.0)
    client.receive_message(agent.stream("not sealed either", number=2), 1.1)
    assert [type(event) for event in drain_events(client)] == [SessionFailed]
    assert client.next_timeout() is None


def test_over_a_link_that_reorders() -> None:
    """The agent's first words are late, and the service closes the session before they come."""
    pair = Pair(to_client=Link(">"))
    pair.agent.connection.skip_handshake()
    pair.connect()
    pair.agent.write(b"x" * 5000)
    pair.run_for(2 * LATENCY)
    pair.close_channel("done")
    assert pair.client.events == []
    pair.run_until(lambda: bool(pair.client.of(ChannelClosedReceived)))
    assert pair.client.data() == b"x" * 5000
    assert pair.client.events[-1] == ChannelClosedReceived("done")
    assert pair.now == pytest.approx(LATENCY + LATE)


# A command whose websocket was lost: its agent sends no more output (protocol reference 13.3, N5).


def command(session_type: str = "NonInteractiveCommands") -> tuple[SessionEndpoint, Peer]:
    """A client whose session has begun, and that has received ``out``."""
    client, agent = new_connection(Role.CLIENT), Peer()
    client.connected("token", 0.0)
    request = (
        '{"RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":'
        f'{{"SessionType":"{session_type}"}}}}]}}'
    )
    client.receive_message(agent.stream(request, PayloadType.HANDSHAKE_REQUEST), 0.0)
    client.receive_message(agent.stream("{}", PayloadType.HANDSHAKE_COMPLETE), 0.0)
    client.receive_message(agent.stream("out"), 0.0)
    return client, agent


def reconnect(client: SessionEndpoint) -> None:
    client.disconnected(1.0)
    client.connected("token", 2.0)


def test_a_websocket_lost_while_a_command_runs_leaves_its_output_incomplete() -> None:
    """Whatever the status: the agent tells the true one, even 0."""
    client, agent = command()
    assert client.missing_output is None
    reconnect(client)
    client.receive_message(agent.stream("EXIT_CODE: 0", PayloadType.EXIT_CODE), 3.0)
    client.receive_message(agent.control("channel_closed", CLOSED), 3.0)
    assert client.missing_output == MissingOutput(stopped=True)


def test_the_stop_of_a_commands_output_is_reported_once_when_the_websocket_is_replaced() -> None:
    client, _ = command()
    drain_events(client)
    client.disconnected(1.0)
    assert drain_events(client) == []
    client.connected("token", 2.0)
    assert drain_events(client) == [OutputStopped()]
    reconnect(client)
    assert drain_events(client) == []


def test_behind_the_exit_code_nothing_more_can_be_lost() -> None:
    client, agent = command()
    client.receive_message(agent.stream("EXIT_CODE: 0", PayloadType.EXIT_CODE), 0.5)
    reconnect(client)
    assert client.missing_output is None


def test_an_exit_code_behind_a_gap_shows_that_the_agent_has_sent_everything() -> None:
    client, agent = command()
    client.receive_message(agent.stream("EXIT_CODE: 0", PayloadType.EXIT_CODE, number=4), 0.5)
    reconnect(client)
    assert client.missing_output == MissingOutput(messages=1, size=12, undelivered_size=12)
    client.receive_message(agent.stream("more", number=3), 3.0)
    assert client.missing_output is None


@pytest.mark.parametrize("session_type", ["Standard_Stream", "InteractiveCommands", "Port"])
def test_other_sessions_go_on_where_they_were(session_type: str) -> None:
    client, _ = command(session_type)
    reconnect(client)
    assert client.missing_output is None


def test_an_end_is_no_lost_link() -> None:
    client, agent = command()
    client.receive_message(agent.control("channel_closed", CLOSED), 0.5)
    client.disconnected(0.5)
    assert client.missing_output is None


# A session that is over.


@pytest.mark.parametrize("answer", ["given", "of a wrong size", "refused"])
@pytest.mark.parametrize("end", ["closed", "timed out"])
def test_a_key_that_comes_too_late_has_no_effect(answer: str, end: str) -> None:
    """KMS may answer long after the session has ended: that is nobody's fault."""
    client, agent = asked_for_a_key()
    if end == "closed":
        client.receive_message(agent.control("channel_closed", CLOSED), 1.0)
    else:
        client.handle_timeout(HANDSHAKE_TIMEOUT)
    assert len(drain_events(client)) == 1
    if answer == "refused":
        client.refuse_data_key(EncryptionError("no"), 40.0)
    else:
        client.provide_data_key(bytes(DATA_KEY_SIZE if answer == "given" else 5), 40.0)
    assert drain_events(client) == []
    assert client.messages_to_send(40.0) == []


def test_a_new_websocket_does_not_bring_a_session_back() -> None:
    """Nor is the pause lifted that it ended in."""
    client, agent = new_connection(Role.CLIENT), Peer()
    client.connected("token", 0.0)
    client.receive_message(agent.stream("$ "), 0.0)
    client.send_data(PayloadType.OUTPUT, b"unacknowledged", 0.0)
    client.receive_message(agent.control("pause_publication"), 0.5)
    client.receive_message(agent.control("channel_closed", CLOSED), 1.0)
    drain_events(client)
    client.disconnected(2.0)
    client.connected("token", 3.0)
    assert drain_events(client) == []
    assert client.messages_to_send(3.0) == []
    assert client.next_timeout() is None
