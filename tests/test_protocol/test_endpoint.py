"""``protocol/endpoint.py``: one endpoint and a scripted far end. ``test_pair`` connects two endpoints."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from session_manager_plugin.errors import (
    ConfigurationError,
    EncryptionError,
    LocalProtocolError,
    RemoteProtocolError,
    SessionManagerError,
    TimedOut,
)
from session_manager_plugin.protocol.acknowledgements import MAX_PENDING_ACKNOWLEDGEMENTS
from session_manager_plugin.protocol.endpoint import READING_GRACE, RESEND_TIMEOUT, SessionEndpoint
from session_manager_plugin.protocol.events import (
    ChannelClosedReceived,
    DataReceived,
    Event,
    MessageRejected,
    PublicationPaused,
    PublicationStarted,
    SessionFailed,
    SessionReady,
)
from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE, ClientMessageType, PayloadType
from session_manager_plugin.protocol.payloads import (
    HandshakeComplete,
    HandshakeRequest,
    HandshakeResponse,
    ProcessedAction,
    RequestedAction,
)
from session_manager_plugin.protocol.readiness import AGENT_HANDSHAKE_TIMEOUT, HANDSHAKE_TIMEOUT, READY_DELAY
from session_manager_plugin.protocol.rejections import MAX_REJECTED
from session_manager_plugin.protocol.reliable import INITIAL_WINDOW, MAX_WINDOW
from session_manager_plugin.protocol.role import Role
from tests.support.pair import EPOCH, SESSION_ID, Peer, drain_events, new_connection, sent_by
from tests.support.vectors import load_vectors

STUCK_SECONDS = 200
GARBAGE = b"HTTP/1.1 200 OK\r\n\r\n"


def request(session_type: str = "Standard_Stream", properties: dict[str, Any] | None = None) -> str:
    parameters = {"SessionType": session_type, "Properties": properties}
    return HandshakeRequest("3.3.0.0", (RequestedAction("SessionType", parameters),)).to_json()


REQUEST = request()
COMPLETE = HandshakeComplete(1_000_000, "Welcome").to_json()


def connected(role: Role = Role.CLIENT, *, handshake_required: bool = False) -> SessionEndpoint:
    """A core whose websocket has just been opened, at 0, with its opening message taken out."""
    connection = new_connection(role, handshake_required=handshake_required)
    connection.connected("token" if role is Role.CLIENT else None, 0.0)
    connection.messages_to_send(0.0)
    return connection


def begun() -> tuple[SessionEndpoint, Peer]:
    """A client whose session has begun without a handshake, at 0."""
    client, agent = connected(), Peer()
    client.receive_message(agent.stream("$ "), 0.0)
    client.messages_to_send(0.0)
    drain_events(client)
    return client, agent


def serving() -> tuple[SessionEndpoint, Peer]:
    """An agent whose session has begun without a handshake, at 0."""
    agent = connected(Role.AGENT)
    agent.skip_handshake()
    drain_events(agent)
    return agent, Peer(Role.CLIENT)


def at(connection: SessionEndpoint, instant: float) -> list[Event]:
    """Let time pass until ``instant``, with nothing coming from outside; what was said until then."""
    while (timeout := connection.next_timeout()) is not None and timeout <= instant:
        connection.handle_timeout(timeout)
    return drain_events(connection)


def failure(events: list[Event]) -> SessionManagerError:
    """The error of the one ``SessionFailed``, which comes last."""
    assert [type(event) for event in events].count(SessionFailed) == 1
    assert isinstance(events[-1], SessionFailed)
    return events[-1].error


def test_the_times_are_those_that_are_promised() -> None:
    """The first two by the product's contract, the others those of the official ends."""
    assert (READY_DELAY, HANDSHAKE_TIMEOUT) == (2.0, 30.0)
    assert (AGENT_HANDSHAKE_TIMEOUT, RESEND_TIMEOUT) == (15.0, 300.0)


# Ready.


def test_ready_by_handshake_complete() -> None:
    client, agent = connected(), Peer()
    client.receive_message(agent.stream(request("Port", {"portNumber": "80"}), PayloadType.HANDSHAKE_REQUEST), 0.5)
    assert (drain_events(client), client.ready, client.send_capacity) == ([], False, 0)
    (response, _) = sent_by(client, 0.5)
    assert (response.payload_type, response.sequence_number) == (PayloadType.HANDSHAKE_RESPONSE, 0)
    client.receive_message(agent.stream(COMPLETE, PayloadType.HANDSHAKE_COMPLETE), 0.6)
    assert drain_events(client) == [SessionReady("Port", {"portNumber": "80"}, "3.3.0.0", "Welcome")]
    assert client.ready
    assert client.send_capacity == INITIAL_WINDOW - 1  # the response is in flight


@pytest.mark.parametrize("handshake_required", [False, True])
@pytest.mark.parametrize("payload_type", [PayloadType.OUTPUT, PayloadType.STDERR, PayloadType.FLAG, 99])
def test_d13_ready_by_the_first_stream_message_of_any_type(payload_type: int, handshake_required: bool) -> None:
    """Reference defect D13: a first message that is not Output, without a handshake, hangs the session. An agent
    that sends data will send no handshake any more, so that data counts even where a handshake was expected.

    It would be back if ``protocol/endpoint.py``: ``SessionEndpoint._deliver`` dropped, before the handshake is
    settled, what is not ``PayloadType.OUTPUT``.
    """
    client, agent = connected(handshake_required=handshake_required), Peer()
    client.receive_message(agent.stream("$ ", payload_type), 0.5)
    assert drain_events(client) == [SessionReady(None), DataReceived(payload_type, [b"$ "])]
    assert client.ready
    assert client.next_timeout() is None


def test_h9_ready_by_two_seconds_of_silence() -> None:
    """Reference defect H9: until the remote program prints something there is no input, no size and no Ctrl-C.

    It would be back if ``protocol/endpoint.py``: ``SessionEndpoint.connected`` did not set ``self._ready_at``.
    """
    client = connected()
    assert client.next_timeout() == READY_DELAY
    client.handle_timeout(READY_DELAY - 0.001)
    assert (drain_events(client), client.ready) == ([], False)
    client.handle_timeout(READY_DELAY)
    assert drain_events(client) == [SessionReady(None)]
    assert client.send_capacity == INITIAL_WINDOW


def test_silence_is_no_start_where_a_handshake_is_required() -> None:
    client = connected(handshake_required=True)
    assert client.next_timeout() == HANDSHAKE_TIMEOUT
    assert at(client, HANDSHAKE_TIMEOUT - 0.001) == []
    assert not client.ready


def test_a_request_within_two_seconds_ends_the_wait() -> None:
    client, agent = connected(), Peer()
    client.receive_message(agent.stream(REQUEST, PayloadType.HANDSHAKE_REQUEST), READY_DELAY - 0.1)
    client.receive_message(agent.acknowledge(0), READY_DELAY - 0.05)
    assert at(client, 20.0) == []
    assert not client.ready


def test_the_two_seconds_count_from_the_opening_of_the_websocket() -> None:
    client = connected()
    client.disconnected(1.0)
    assert client.next_timeout() is None
    client.connected("token", 10.0)
    assert client.next_timeout() == 10.0 + READY_DELAY


def test_ready_is_said_once() -> None:
    client, agent = connected(), Peer()
    assert at(client, READY_DELAY) == [SessionReady(None)]
    client.receive_message(agent.stream("$ "), 3.0)
    client.disconnected(4.0)
    client.connected("token", 5.0)
    assert at(client, 60.0) == [DataReceived(PayloadType.OUTPUT, [b"$ "])]


@pytest.mark.parametrize(
    "message",
    [
        Peer().acknowledge(0),
        Peer().control("pause_publication"),
        Peer().control("start_publication"),
        Peer().stream("held", number=5),
        GARBAGE,
    ],
    ids=["acknowledge", "pause", "start", "ahead", "garbage"],
)
def test_nothing_else_makes_a_session_ready(message: bytes) -> None:
    client = connected()
    client.receive_message(message, 0.5)
    assert not client.ready
    assert not any(isinstance(event, SessionReady) for event in drain_events(client))


def test_data_between_request_and_complete_is_delivered() -> None:
    """No agent does so; but it was acknowledged, so it must not be lost."""
    client, agent = connected(), Peer()
    client.receive_message(agent.stream(REQUEST, PayloadType.HANDSHAKE_REQUEST), 0.0)
    client.receive_message(agent.stream("early"), 0.0)
    client.receive_message(agent.stream(COMPLETE, PayloadType.HANDSHAKE_COMPLETE), 0.0)
    assert drain_events(client) == [
        DataReceived(PayloadType.OUTPUT, [b"early"]),
        SessionReady("Standard_Stream", {}, "3.3.0.0", "Welcome"),
    ]


# A handshake that comes after the client has begun.


def sizes_and_input(client: SessionEndpoint, now: float) -> list[tuple[int, bytes]]:
    """Send a size and two pieces of input; what was sent."""
    pieces = [(PayloadType.SIZE, b'{"cols":80,"rows":23}'), (PayloadType.OUTPUT, b"ls"), (PayloadType.OUTPUT, b"\r")]
    for payload_type, payload in pieces:
        client.send_data(payload_type, payload, now)
    return [(int(payload_type), payload) for payload_type, payload in pieces]


def test_what_the_agent_threw_away_is_sent_again_under_new_numbers() -> None:
    client, agent = connected(), Peer()
    at(client, READY_DELAY)
    pieces = sizes_and_input(client, 2.5)
    early = sent_by(client, 2.5)
    assert [(each.sequence_number, each.payload) for each in early] == list(enumerate(each for _, each in pieces))
    for number in range(3):
        client.receive_message(agent.acknowledge(number), 2.6)

    client.receive_message(agent.stream(request("InteractiveCommands"), PayloadType.HANDSHAKE_REQUEST), 3.0)
    assert (client.ready, client.send_capacity) == (False, 0)
    with pytest.raises(LocalProtocolError):
        client.send_data(PayloadType.OUTPUT, b"too early", 3.0)
    response, _ = sent_by(client, 3.0)
    assert (response.sequence_number, response.payload_type) == (3, PayloadType.HANDSHAKE_RESPONSE)

    client.receive_message(agent.stream(COMPLETE, PayloadType.HANDSHAKE_COMPLETE), 3.1)
    assert drain_events(client) == [SessionReady("InteractiveCommands", {}, "3.3.0.0", "Welcome")]
    *again, _ = sent_by(client, 3.1)
    assert [(each.payload_type, each.payload) for each in again] == pieces
    assert [each.sequence_number for each in again] == [4, 5, 6]
    assert not {each.message_id for each in early} & {each.message_id for each in again}


def test_once_the_session_goes_on_nothing_is_sent_again() -> None:
    """Neither by a second HandshakeComplete, nor by a reconnect."""
    client, agent = connected(), Peer()
    at(client, READY_DELAY)
    sizes_and_input(client, 2.5)
    client.receive_message(agent.stream(REQUEST, PayloadType.HANDSHAKE_REQUEST), 3.0)
    client.receive_message(agent.stream(COMPLETE, PayloadType.HANDSHAKE_COMPLETE), 3.1)
    for number in range(7):
        client.receive_message(agent.acknowledge(number), 3.2)
    client.messages_to_send(3.2)
    drain_events(client)
    client.receive_message(agent.stream(COMPLETE, PayloadType.HANDSHAKE_COMPLETE), 3.3)
    assert [type(event) for event in drain_events(client)] == [MessageRejected]
    client.disconnected(4.0)
    client.connected("token", 5.0)
    assert sent_by(client, 5.0) == []


def test_data_shows_that_no_handshake_will_come() -> None:
    client, agent = connected(), Peer()
    at(client, READY_DELAY)
    sizes_and_input(client, 2.5)
    client.receive_message(agent.stream("$ "), 3.0)
    drain_events(client)
    client.messages_to_send(3.0)
    client.receive_message(agent.stream(REQUEST, PayloadType.HANDSHAKE_REQUEST), 3.1)
    assert [type(event) for event in drain_events(client)] == [MessageRejected]
    assert [each.message_type for each in sent_by(client, 3.1)] == ["acknowledge"]
    assert client.ready


def keep_sending(client: SessionEndpoint, agent: Peer, now: float, number: int = 0) -> int:
    """Send and acknowledge for as long as there is capacity; the next number."""
    while client.send_capacity and number < 10 * MAX_WINDOW:
        client.send_data(PayloadType.OUTPUT, b"x" * MAX_PAYLOAD_SIZE, now)
        client.receive_message(agent.acknowledge(number), now)
        number += 1
    return number


def test_what_is_kept_for_a_late_handshake_is_bounded() -> None:
    """By the largest window; and only for as long as an agent would wait with its handshake."""
    client, agent = connected(), Peer()
    at(client, READY_DELAY)
    number = keep_sending(client, agent, 3.0)
    assert number == MAX_WINDOW
    assert client.in_flight == 0
    assert at(client, 3.0 + AGENT_HANDSHAKE_TIMEOUT) == []
    assert client.send_capacity == MAX_WINDOW
    # From here on a request comes too late.
    client.receive_message(agent.stream(REQUEST, PayloadType.HANDSHAKE_REQUEST), 20.0)
    assert [type(event) for event in drain_events(client)] == [MessageRejected]
    assert keep_sending(client, agent, 20.0, number) == 10 * MAX_WINDOW


def test_the_wait_for_a_late_handshake_begins_with_the_first_acknowledgement() -> None:
    """Before that there may be no agent yet, only a gateway."""
    client, agent = connected(), Peer()
    at(client, READY_DELAY)
    client.send_data(PayloadType.OUTPUT, b"x", READY_DELAY)
    at(client, 25.0)
    client.receive_message(agent.acknowledge(0), 25.0)
    client.receive_message(agent.stream(REQUEST, PayloadType.HANDSHAKE_REQUEST), 39.0)
    client.receive_message(agent.stream(COMPLETE, PayloadType.HANDSHAKE_COMPLETE), 39.1)
    (event,) = drain_events(client)
    assert isinstance(event, SessionReady)
    client.messages_to_send(39.1)
    assert client.in_flight == 2  # the response, and the input once more


# Handshakes that go wrong.


@pytest.mark.parametrize(
    ("actions", "error", "text"),
    [
        (request("Teleport"), ConfigurationError, "Unknown session type Teleport"),
        (
            HandshakeRequest("3.3.0.0", (RequestedAction("KMSEncryption", {"KMSKeyId": ""}),)).to_json(),
            EncryptionError,
            "without a key id",
        ),
    ],
)
def test_a_request_that_cannot_be_met_is_answered_and_ends_the_session(
    actions: str, error: type[SessionManagerError], text: str
) -> None:
    client = connected()
    client.receive_message(Peer().stream(actions, PayloadType.HANDSHAKE_REQUEST), 0.0)
    caught = failure(drain_events(client))
    assert type(caught) is error
    assert text in str(caught)
    response, acknowledgement = sent_by(client, 0.0)
    assert HandshakeResponse.from_json(response.payload).errors
    assert acknowledgement.message_type == "acknowledge"


@pytest.mark.parametrize("actions", ["[]", "null", '[{"ActionType":"Teleport"}]'])
def test_a_handshake_that_tells_no_session_type_ends_the_session(actions: str) -> None:
    client, agent = connected(), Peer()
    text = f'{{"AgentVersion":"3.3.0.0","RequestedClientActions":{actions}}}'
    client.receive_message(agent.stream(text, PayloadType.HANDSHAKE_REQUEST), 0.0)
    assert drain_events(client) == []
    client.receive_message(agent.stream(COMPLETE, PayloadType.HANDSHAKE_COMPLETE), 0.0)
    error = failure(drain_events(client))
    assert isinstance(error, RemoteProtocolError)
    assert "session type" in str(error)
    assert not client.ready


@pytest.mark.parametrize(
    "script",
    [
        [(PayloadType.HANDSHAKE_COMPLETE, COMPLETE)],
        [(PayloadType.HANDSHAKE_RESPONSE, "{}")],
        [(PayloadType.ENC_CHALLENGE_REQUEST, "{}")],
        [(PayloadType.HANDSHAKE_REQUEST, "no JSON")],
        [(PayloadType.HANDSHAKE_REQUEST, REQUEST), (PayloadType.HANDSHAKE_REQUEST, REQUEST)],
        [(PayloadType.HANDSHAKE_REQUEST, REQUEST), (PayloadType.HANDSHAKE_COMPLETE, "[]")],
        [(PayloadType.HANDSHAKE_REQUEST, REQUEST), (PayloadType.ENC_CHALLENGE_REQUEST, "{}")],
    ],
    ids=["only complete", "response", "challenge", "no JSON", "two requests", "bad complete", "challenge, no key"],
)
def test_a_broken_handshake_ends_the_session(script: list[tuple[PayloadType, str]]) -> None:
    client, agent = connected(), Peer()
    for payload_type, payload in script:
        assert drain_events(client) == []
        client.receive_message(agent.stream(payload, payload_type), 0.0)
    assert isinstance(failure(drain_events(client)), RemoteProtocolError)


@pytest.mark.parametrize("complete", [COMPLETE, "no JSON"])
def test_behind_a_handshake_that_failed_nothing_is_said(complete: str) -> None:
    """What was held behind it comes into order at the same moment."""
    client, agent = connected(), Peer()
    no_type = agent.stream('{"RequestedClientActions":[]}', PayloadType.HANDSHAKE_REQUEST)
    for message in (
        agent.stream(complete, PayloadType.HANDSHAKE_COMPLETE),
        agent.stream("data"),
        agent.stream(REQUEST, PayloadType.HANDSHAKE_REQUEST),
        no_type,
    ):
        client.receive_message(message, 0.0)
    failure(drain_events(client))


@pytest.mark.parametrize("payload_type", [5, 6, 7, 8, 9])
def test_a_handshake_message_in_a_running_session_is_dropped_aloud(payload_type: int) -> None:
    client, agent = begun()
    client.receive_message(agent.stream(REQUEST, payload_type), 0.0)
    assert [type(event) for event in drain_events(client)] == [MessageRejected]
    (acknowledgement,) = sent_by(client, 0.0)  # or it would come for ever
    assert acknowledgement.message_type == "acknowledge"
    client.receive_message(agent.stream("on"), 0.0)
    assert drain_events(client) == [DataReceived(PayloadType.OUTPUT, [b"on"])]


# Giving up.


def timed_out(client: SessionEndpoint, instant: float = HANDSHAKE_TIMEOUT) -> str:
    """The client gives up at ``instant``, not before; its sentence."""
    before = at(client, instant - 0.001)
    assert not any(isinstance(event, SessionFailed) for event in before)
    error = failure(at(client, instant))
    assert isinstance(error, TimedOut)
    assert error.seconds == HANDSHAKE_TIMEOUT
    return str(error)


@pytest.mark.parametrize("handshake_required", [False, True])
def test_given_up_when_nothing_at_all_came(handshake_required: bool) -> None:
    """Reference defect H8: the official client waits for ever."""
    client = connected(handshake_required=handshake_required)
    if not handshake_required:
        at(client, READY_DELAY)
        client.send_data(PayloadType.SIZE, b'{"cols":80,"rows":24}', READY_DELAY)
    assert timed_out(client) == "the far end sent nothing within 30 seconds"


def test_given_up_when_a_needed_handshake_does_not_begin() -> None:
    client = connected(handshake_required=True)
    client.receive_message(Peer().control("start_publication"), 1.0)
    assert timed_out(client) == ("the agent did not begin the handshake that this session needs within 30 seconds")


def test_given_up_when_the_handshake_is_not_completed() -> None:
    client = connected()
    agent = Peer()
    client.receive_message(agent.stream(REQUEST, PayloadType.HANDSHAKE_REQUEST), 1.0)
    client.receive_message(agent.acknowledge(0), 1.1)
    sentence = timed_out(client, 1.0 + HANDSHAKE_TIMEOUT)
    assert sentence == "the agent began a handshake and did not complete it within 30 seconds"


def test_given_up_when_only_garbage_came() -> None:
    client = connected()
    client.receive_message(GARBAGE, 1.0)
    sentence = timed_out(client)
    assert sentence.startswith("the far end sent only messages that are not of the Session Manager protocol")
    assert f"a message of {len(GARBAGE)} bytes is shorter than its header" in sentence


@pytest.mark.parametrize(
    "message",
    [Peer().acknowledge(0), Peer().acknowledge(7), Peer().control("pause_publication"), Peer().stream("a", number=3)],
    ids=["acknowledge", "acknowledge of nothing", "pause", "ahead"],
)
def test_not_given_up_when_anything_came(message: bytes) -> None:
    client = connected()
    at(client, READY_DELAY)
    client.send_data(PayloadType.SIZE, b'{"cols":80,"rows":24}', READY_DELAY)
    client.receive_message(message, 3.0)
    assert not any(isinstance(event, SessionFailed) for event in at(client, 100.0))
    assert client.ready


def test_a_session_that_goes_on_is_not_given_up() -> None:
    """Data after the client had begun by itself: from then on there is nothing to wait for."""
    client, agent = connected(), Peer()
    at(client, READY_DELAY)
    client.receive_message(agent.stream("$ "), 3.0)
    drain_events(client)
    assert client.next_timeout() is None


def test_the_wait_is_for_time_on_a_websocket() -> None:
    client = connected(handshake_required=True)
    client.disconnected(20.0)
    assert client.next_timeout() is None
    client.handle_timeout(1000.0)
    assert drain_events(client) == []
    client.connected("token", 1000.0)
    assert client.next_timeout() == 1000.0 + HANDSHAKE_TIMEOUT


def test_h10_given_up_when_nothing_is_acknowledged_for_five_minutes() -> None:
    """Reference defect H10: the official client gives up then too, but does not exit, and hangs.

    It would be back if ``protocol/endpoint.py``: ``SessionEndpoint.handle_timeout`` did not fail the session when it
    is ``overdue``. That its resend loop blocks on a full queue is structural: here nothing waits in a queue.
    """
    client, _ = begun()
    client.send_data(PayloadType.OUTPUT, b"x", 1.0)
    assert at(client, 1.0 + RESEND_TIMEOUT) == []
    error = failure(at(client, 1.0 + RESEND_TIMEOUT + 5.0))
    assert isinstance(error, TimedOut)
    assert str(error) == "the agent has acknowledged nothing for 300 seconds"


def test_while_we_do_not_read_silence_is_not_the_far_ends() -> None:
    """Acknowledgements may wait in the socket: nothing is sent again, and nothing is given up."""
    client, agent = begun()
    client.send_data(PayloadType.OUTPUT, b"x", 1.0)
    client.messages_to_send(1.0)
    client.reading_paused()
    assert client.next_timeout() is None
    assert client.stalled_since is None
    assert at(client, 1000.0) == []
    assert sent_by(client, 1000.0) == []
    client.reading_resumed(1000.0)
    assert client.next_timeout() == 1000.0 + READING_GRACE
    client.receive_message(agent.acknowledge(0), 1000.1)
    assert client.in_flight == 0
    assert client.retransmissions == 0


def test_a_far_end_that_is_silent_after_we_read_again_is_given_up() -> None:
    client, _ = begun()
    client.send_data(PayloadType.OUTPUT, b"x", 1.0)
    client.messages_to_send(1.0)
    client.reading_paused()
    client.reading_resumed(1000.0)
    assert at(client, 1000.0 + READING_GRACE) == []
    assert len(sent_by(client, 1000.0 + READING_GRACE)) == 1
    assert at(client, 1000.0 + READING_GRACE + RESEND_TIMEOUT) == []
    assert isinstance(failure(at(client, 1000.0 + READING_GRACE + RESEND_TIMEOUT + 5.0)), TimedOut)


def test_a_process_that_was_stopped_does_not_blame_the_far_end() -> None:
    """The first timer comes ten minutes late: nothing that was due meanwhile was done, and nothing could come."""
    client, agent = begun()
    client.send_data(PayloadType.OUTPUT, b"x", 1.0)
    client.messages_to_send(1.0)
    client.handle_timeout(601.0)
    assert drain_events(client) == []
    assert [message.payload for message in sent_by(client, 601.0)] == [b"x"]
    client.receive_message(agent.acknowledge(0), 601.1)
    assert client.in_flight == 0


def test_an_acknowledgement_begins_the_five_minutes_anew() -> None:
    client, agent = begun()
    client.send_data(PayloadType.OUTPUT, b"x", 1.0)
    client.send_data(PayloadType.OUTPUT, b"y", 1.0)
    at(client, 299.0)
    client.receive_message(agent.acknowledge(0), 299.0)
    assert at(client, 598.0) == []


@pytest.mark.parametrize("away", ["paused", "disconnected"])
def test_while_the_far_end_is_known_to_be_away_the_five_minutes_stand_still(away: str) -> None:
    client, agent = begun()
    client.send_data(PayloadType.OUTPUT, b"x", 1.0)
    if away == "paused":
        client.receive_message(agent.control("pause_publication"), 2.0)
    else:
        client.disconnected(2.0)
    drain_events(client)
    assert client.next_timeout() is None
    client.handle_timeout(10_000.0)
    assert drain_events(client) == []
    if away == "paused":
        client.receive_message(agent.control("start_publication"), 10_000.0)
    else:
        client.connected("token", 10_000.0)
    drain_events(client)
    assert at(client, 10_000.0 + RESEND_TIMEOUT) == []


def unusable(agent: Peer) -> list[bytes | str]:
    """One of every kind of message that a client cannot use."""
    good = agent.stream("x", number=0)
    return [
        b"",
        GARBAGE,
        good[:-1],
        agent.control("mystery_message"),
        agent.control("agent_session_state"),
        agent.control("agent_job"),
        agent.control("acknowledge", b"[]"),
        Peer(Role.CLIENT).stream("input"),
        "a text message",
    ]


def test_an_unusable_message_is_dropped_aloud_and_not_acknowledged() -> None:
    client, agent = begun()
    for message in unusable(agent):
        client.receive_message(message, 0.0)
        assert [type(event) for event in drain_events(client)] == [MessageRejected]
        assert client.messages_to_send(0.0) == []
    client.receive_message(agent.stream("still there"), 0.0)
    assert drain_events(client) == [DataReceived(PayloadType.OUTPUT, [b"still there"])]


def test_a_hundred_unusable_messages_in_a_row_end_the_session() -> None:
    client, agent = begun()
    client.receive_message(agent.control("mystery_message"), 0.0)
    client.receive_message(agent.acknowledge(0), 0.0)
    for _ in range(MAX_REJECTED - 1):
        client.receive_message(GARBAGE, 0.0)
    assert {type(event) for event in drain_events(client)} == {MessageRejected}
    client.receive_message(agent.stream("not all is lost"), 0.0)
    drain_events(client)
    for count in range(MAX_REJECTED):
        client.receive_message(GARBAGE + b"x" * count, 0.0)
    error = failure(drain_events(client))
    assert isinstance(error, RemoteProtocolError)
    # It tells the first of this row.
    assert "100 messages in a row" in str(error)
    assert str(error).endswith(f"a message of {len(GARBAGE)} bytes is shorter than its header")


def test_after_a_failure_nothing_happens_any_more() -> None:
    client, agent = connected(), Peer()
    client.receive_message(agent.stream("no JSON", PayloadType.HANDSHAKE_REQUEST), 0.0)
    failure(drain_events(client))
    client.messages_to_send(0.0)
    assert client.next_timeout() is None
    assert (client.ready, client.send_capacity) == (False, 0)
    client.receive_message(agent.stream("data"), 1.0)
    client.receive_message(agent.control("channel_closed"), 1.0)
    for _ in range(2 * MAX_REJECTED):
        client.receive_message(GARBAGE, 1.0)
    client.handle_timeout(1000.0)
    assert drain_events(client) == []
    assert client.messages_to_send(1000.0) == []
    with pytest.raises(LocalProtocolError):
        client.send_data(PayloadType.OUTPUT, b"x", 1000.0)


# The agent.


def test_an_agent_throws_away_what_comes_before_the_handshake_is_over() -> None:
    """As the official agent, which acknowledges it nevertheless."""
    agent, client = connected(Role.AGENT), Peer(Role.CLIENT)
    client_says = [client.stream("before the request")]
    agent.receive_message(client_says[0], 0.0)
    agent.request_handshake("Port", {"portNumber": "80"}, 1.0)
    agent.receive_message(client.stream("before the response"), 1.0)
    assert drain_events(agent) == []
    assert [each.message_type for each in sent_by(agent, 1.0)] == ["output_stream_data", "acknowledge", "acknowledge"]
    response = HandshakeResponse("1.3.0.0", (ProcessedAction("SessionType", 1),))
    agent.receive_message(client.stream(response.to_json(), PayloadType.HANDSHAKE_RESPONSE), 1.25)
    agent.receive_message(client.stream("after it"), 1.25)
    assert drain_events(agent) == [
        SessionReady("Port", {"portNumber": "80"}, "1.3.0.0"),
        DataReceived(PayloadType.OUTPUT, [b"after it"]),
    ]
    complete, *_ = sent_by(agent, 1.25)
    assert complete.payload_type == PayloadType.HANDSHAKE_COMPLETE
    assert HandshakeComplete.from_json(complete.payload) == HandshakeComplete(250_000_000)


def test_an_agent_ends_a_session_whose_client_refuses() -> None:
    agent, client = connected(Role.AGENT), Peer(Role.CLIENT)
    agent.request_handshake("Port", None, 0.0)
    response = HandshakeResponse("1.3.0.0", (ProcessedAction("SessionType", 2, None, "no"),))
    agent.receive_message(client.stream(response.to_json(), PayloadType.HANDSHAKE_RESPONSE), 0.0)
    error = failure(drain_events(agent))
    assert str(error) == "SessionType failed on client with status 2 error: no"


@pytest.mark.parametrize("websocket", ["stays", "is new", "comes late"])
def test_an_agent_waits_fifteen_seconds_for_the_response(websocket: str) -> None:
    agent = new_connection(Role.AGENT)
    if websocket == "comes late":
        agent.request_handshake("Port", None, 0.0)
    agent.connected(None, 0.0)
    if websocket != "comes late":
        agent.request_handshake("Port", None, 0.0)
    if websocket == "is new":
        agent.disconnected(5.0)
        assert agent.next_timeout() is None
        agent.connected(None, 100.0)
    start = 100.0 if websocket == "is new" else 0.0
    assert at(agent, start + AGENT_HANDSHAKE_TIMEOUT - 0.001) == []
    error = failure(at(agent, start + AGENT_HANDSHAKE_TIMEOUT))
    assert isinstance(error, TimedOut)
    assert str(error) == (
        "Handshake timed out. Please ensure that you have the latest version of the session manager plugin."
    )


def test_an_agent_that_has_its_answer_waits_no_longer() -> None:
    agent, client = connected(Role.AGENT), Peer(Role.CLIENT)
    agent.request_handshake("Port", None, 0.0)
    agent.receive_message(client.stream("{}", PayloadType.HANDSHAKE_RESPONSE), 0.1)
    for number in range(2):
        agent.receive_message(client.acknowledge(number), 0.2)
    assert agent.next_timeout() is None


def test_a_refusal_that_comes_twice_is_dropped_aloud() -> None:
    agent, client = connected(Role.AGENT), Peer(Role.CLIENT)
    agent.request_handshake("Port", None, 0.0)
    agent.receive_message(client.stream("{}", PayloadType.HANDSHAKE_RESPONSE), 0.1)
    drain_events(agent)
    response = HandshakeResponse("1.3.0.0", (ProcessedAction("SessionType", 2, None, "no"),))
    agent.receive_message(client.stream(response.to_json(), PayloadType.HANDSHAKE_RESPONSE), 0.1)
    assert [type(event) for event in drain_events(agent)] == [MessageRejected]
    assert agent.ready


def test_an_agent_without_a_handshake_is_ready_at_once() -> None:
    agent = connected(Role.AGENT)
    assert (agent.ready, agent.next_timeout()) == (False, None)
    agent.skip_handshake()
    assert drain_events(agent) == [SessionReady(None)]
    assert agent.send_capacity == INITIAL_WINDOW


def test_an_agent_decides_once() -> None:
    agent = connected(Role.AGENT)
    agent.skip_handshake()
    with pytest.raises(LocalProtocolError):
        agent.skip_handshake()
    with pytest.raises(LocalProtocolError):
        agent.request_handshake("Port", None, 0.0)
    assert agent.ready


@pytest.mark.parametrize(
    "step",
    [
        lambda client: client.request_handshake("Port", None, 0.0),
        lambda client: client.skip_handshake(),
        lambda client: client.send_session_state("Connected", 0.0),
    ],
    ids=["request", "skip", "state"],
)
def test_what_only_an_agent_does(step: Callable[[SessionEndpoint], None]) -> None:
    client = connected()
    with pytest.raises(LocalProtocolError, match="only the agent"):
        step(client)


def test_the_state_of_the_session_for_the_gateway() -> None:
    """Outside the stream: not numbered, not sent again."""
    agent = connected(Role.AGENT)
    agent.send_session_state("Connected", 0.0)
    (message,) = sent_by(agent, 0.0)
    assert message.message_type == ClientMessageType.AGENT_SESSION_STATE
    assert (message.sequence_number, message.flags, message.payload_type) == (0, 3, 0)
    assert json.loads(message.payload) == {
        "SchemaVersion": 1,
        "SessionState": "Connected",
        "SessionId": SESSION_ID,
    }
    assert (agent.in_flight, agent.next_timeout()) == (0, None)


def test_the_first_message_of_an_agent_is_flagged() -> None:
    """SYN on number 0; a client flags nothing (protocol.md 3.5)."""
    agent, _ = serving()
    client, _ = begun()
    for connection, flags in ((agent, [1, 0]), (client, [0, 0])):
        for _ in range(2):
            connection.send_data(PayloadType.OUTPUT, b"x", 0.0)
        assert [message.flags for message in sent_by(connection, 0.0)] == flags


# Receiving.


def test_what_comes_in_a_row_is_one_event() -> None:
    client, agent = begun()
    for payload, payload_type in [("a", 1), ("b", 1), ("e", 11), ("c", 1), ("d", 1)]:
        client.receive_message(agent.stream(payload, payload_type), 0.0)
    assert drain_events(client) == [
        DataReceived(1, [b"a", b"b"]),
        DataReceived(11, [b"e"]),
        DataReceived(1, [b"c", b"d"]),
    ]


def test_an_event_that_was_taken_does_not_change_any_more() -> None:
    client, agent = begun()
    client.receive_message(agent.stream("a"), 0.0)
    taken = client.next_event()
    client.receive_message(agent.stream("b"), 0.0)
    assert taken == DataReceived(1, [b"a"])
    assert drain_events(client) == [DataReceived(1, [b"b"])]


def test_other_events_keep_their_place_among_data() -> None:
    client, agent = begun()
    for message in (agent.stream("a"), agent.control("pause_publication"), agent.stream("b")):
        client.receive_message(message, 0.0)
    assert drain_events(client) == [
        DataReceived(1, [b"a"]),
        PublicationPaused(),
        PublicationStarted(),
        DataReceived(1, [b"b"]),
    ]


def test_every_message_is_acknowledged_by_its_id_and_number() -> None:
    client, agent = begun()
    messages = [agent.stream("a"), agent.stream("c", number=9), agent.stream("a", number=0)]
    for message in messages:
        client.receive_message(message, 1.5)
    acknowledgements = sent_by(client, 1.5)
    assert [json.loads(each.payload)["AcknowledgedMessageSequenceNumber"] for each in acknowledgements] == [1, 9, 0]
    for message, acknowledgement in zip(messages, acknowledgements, strict=True):
        assert acknowledgement.created_date == int((EPOCH + 1.5) * 1000)
        told = json.loads(acknowledgement.payload)["AcknowledgedMessageId"].replace("-", "")
        assert bytes.fromhex(told) == message[72:80] + message[64:72]
    assert client.messages_to_send(2.0) == []  # once each


def test_acknowledgements_do_not_outlive_the_websocket() -> None:
    client, agent = begun()
    client.receive_message(agent.stream("a"), 0.0)
    client.disconnected(0.0)
    client.connected(None, 1.0)
    assert client.messages_to_send(1.0) == []


def test_acknowledgements_that_cannot_leave_are_bounded() -> None:
    client, agent = begun()
    for _ in range(MAX_PENDING_ACKNOWLEDGEMENTS + 500):
        client.receive_message(agent.stream("x"), 0.0)
    assert len(client.messages_to_send(0.0)) == MAX_PENDING_ACKNOWLEDGEMENTS


def test_a_message_that_is_read_when_the_websocket_is_gone_already_counts() -> None:
    client, agent = paused()
    client.disconnected(1.0)
    client.receive_message(agent.stream("last words"), 1.0)
    assert drain_events(client) == [PublicationStarted(), DataReceived(1, [b"last words"])]
    assert client.messages_to_send(1.0) == []
    client.connected(None, 2.0)
    messages = [(each.message_type, each.payload) for each in sent_by(client, 2.0)]
    assert messages[:2] == [("input_stream_data", b"one"), ("input_stream_data", b"two")]
    assert [message_type for message_type, _ in messages[2:]] == ["acknowledge"]


@pytest.mark.parametrize("number", [-1, -(2**63), 2**63 - 1])
def test_a_number_that_cannot_be_is_passed_over_in_silence(number: int) -> None:
    client, agent = begun()
    client.receive_message(agent.stream("x", number=number), 0.0)
    assert drain_events(client) == []
    assert client.messages_to_send(0.0) == []
    client.receive_message(agent.stream("next"), 0.0)
    assert drain_events(client) == [DataReceived(1, [b"next"])]


@pytest.mark.parametrize("number", [5, -1, 2**63 - 1])
def test_an_acknowledgement_of_nothing_is_no_error(number: int) -> None:
    client, agent = begun()
    client.send_data(PayloadType.OUTPUT, b"x", 0.0)
    client.receive_message(agent.acknowledge(number), 0.0)
    assert drain_events(client) == []
    assert client.in_flight == 1


# Closing.


def test_channel_closed_with_the_short_header() -> None:
    """As the service sends it: without the payload type, its header 112 bytes long."""
    records = load_vectors("malformed.json")["records"]
    record = next(each for each in records if each["name"].startswith("channel_closed with 112 byte header (no"))
    client, _ = begun()
    data = bytes.fromhex(record["hex"])
    client.receive_message(data, 0.0)
    assert drain_events(client) == [ChannelClosedReceived(json.loads(data[116:])["Output"])]
    assert client.messages_to_send(0.0) == []  # it is not acknowledged


@pytest.mark.parametrize("role", [Role.CLIENT, Role.AGENT])
@pytest.mark.parametrize(
    ("payload", "output"),
    [
        (b'{"Output":"bye"}', "bye"),
        (b'{"output":""}', ""),
        (b'{"Output":null}', ""),
        (b'{"Output":"no \xff text"}', "no \ufffd text"),
        (b"no JSON", ""),
        (b"[]", ""),
        (b'{"Output":5}', ""),
    ],
)
def test_channel_closed_is_said_whatever_its_payload(role: Role, payload: bytes, output: str) -> None:
    connection = connected(role)
    connection.receive_message(Peer().control("channel_closed", payload), 0.0)
    assert drain_events(connection) == [ChannelClosedReceived(output)]


# Pausing.


def paused() -> tuple[SessionEndpoint, Peer]:
    """A client with two messages in flight, told that the agent is away, at 0."""
    client, agent = begun()
    client.send_data(PayloadType.OUTPUT, b"one", 0.0)
    client.send_data(PayloadType.OUTPUT, b"two", 0.0)
    client.messages_to_send(0.0)
    client.receive_message(agent.control("pause_publication"), 0.1)
    assert drain_events(client) == [PublicationPaused()]
    return client, agent


def test_nothing_is_sent_to_a_far_end_that_is_away() -> None:
    """Reference defect A5: pause_publication is ignored, and resending goes on."""
    client, agent = paused()
    assert client.next_timeout() is None
    client.handle_timeout(100.0)
    assert client.messages_to_send(100.0) == []
    assert client.send_capacity == 0
    with pytest.raises(LocalProtocolError):
        client.send_data(PayloadType.OUTPUT, b"x", 100.0)
    client.receive_message(agent.control("pause_publication"), 101.0)
    assert drain_events(client) == []  # said once


@pytest.mark.parametrize(
    "lift",
    [
        lambda agent: agent.control("start_publication"),
        lambda agent: agent.acknowledge(77),
        lambda agent: agent.stream("back", number=0),
        lambda agent: agent.stream("back", number=20_000),
    ],
    ids=["start", "acknowledge", "duplicate", "far ahead"],
)
def test_anything_from_the_far_end_lifts_the_pause(lift: Callable[[Peer], bytes]) -> None:
    client, agent = paused()
    client.receive_message(lift(agent), 50.0)
    assert drain_events(client) == [PublicationStarted()]
    assert [each.payload for each in sent_by(client, 50.0) if each.message_type == "input_stream_data"] == [
        b"one",
        b"two",
    ]
    assert client.send_capacity
    timeout = client.next_timeout()
    assert timeout is not None
    assert 50.0 < timeout < 51.0


def test_an_acknowledgement_lifts_the_pause_and_counts() -> None:
    client, agent = paused()
    client.receive_message(agent.acknowledge(0), 50.0)
    assert [each.payload for each in sent_by(client, 50.0)] == [b"two"]


def test_data_lifts_the_pause() -> None:
    client, agent = paused()
    client.receive_message(agent.stream("back"), 50.0)
    assert drain_events(client) == [PublicationStarted(), DataReceived(1, [b"back"])]


def test_a_new_websocket_lifts_the_pause() -> None:
    client, _ = paused()
    client.disconnected(10.0)
    client.connected("token", 20.0)
    assert drain_events(client) == [PublicationStarted()]
    assert [each.payload for each in sent_by(client, 20.0)] == [b"one", b"two"]


@pytest.mark.parametrize("message", [GARBAGE, Peer().control("mystery_message")], ids=["garbage", "unknown"])
def test_what_cannot_be_used_does_not_lift_the_pause(message: bytes) -> None:
    client, _ = paused()
    client.receive_message(message, 50.0)
    assert client.send_capacity == 0


def test_what_came_is_acknowledged_to_a_far_end_that_is_away() -> None:
    client, agent = begun()
    client.receive_message(agent.stream("last words"), 0.0)
    client.receive_message(agent.control("pause_publication"), 0.0)
    assert [each.message_type for each in sent_by(client, 0.0)] == ["acknowledge"]


def test_a_request_waits_for_a_client_that_is_away() -> None:
    agent, client = connected(Role.AGENT), Peer(Role.CLIENT)
    agent.receive_message(client.control("pause_publication"), 0.0)
    agent.request_handshake("Port", None, 0.0)
    assert agent.messages_to_send(0.0) == []
    agent.receive_message(client.control("start_publication"), 1.0)
    assert [each.payload_type for each in sent_by(agent, 1.0)] == [PayloadType.HANDSHAKE_REQUEST]


def test_start_without_pause_says_nothing() -> None:
    client, agent = begun()
    client.send_data(PayloadType.OUTPUT, b"x", 0.0)
    client.messages_to_send(0.0)
    client.receive_message(agent.control("start_publication"), 0.1)
    assert drain_events(client) == []
    assert client.messages_to_send(0.1) == []


# Sending.


@pytest.mark.parametrize("size", [0, INITIAL_WINDOW * MAX_PAYLOAD_SIZE + 1], ids=["empty", "more than the window"])
def test_what_cannot_be_sent_is_a_local_error_and_not_sent_in_part(size: int) -> None:
    client, _ = begun()
    with pytest.raises(LocalProtocolError):
        client.send_data(PayloadType.OUTPUT, bytes(size), 0.0)
    assert (client.in_flight, client.messages_to_send(0.0)) == (0, [])


@pytest.mark.parametrize("size", [1, MAX_PAYLOAD_SIZE, MAX_PAYLOAD_SIZE + 1, INITIAL_WINDOW * MAX_PAYLOAD_SIZE])
def test_data_leaves_in_messages_of_the_official_size(size: int) -> None:
    client, _ = begun()
    data = random.Random(size).randbytes(size)
    client.send_data(PayloadType.OUTPUT, data, 0.0)
    sent = sent_by(client, 0.0)
    assert [len(each.payload) for each in sent[:-1]] == [MAX_PAYLOAD_SIZE] * (len(sent) - 1)
    assert b"".join(each.payload for each in sent) == data
    assert [each.sequence_number for each in sent] == list(range(len(sent)))
    assert client.send_capacity == INITIAL_WINDOW - len(sent)


def test_the_opening_goes_first_on_every_websocket_then_what_is_unacknowledged() -> None:
    client, agent = begun()
    for payload in (b"a", b"b", b"c"):
        client.send_data(PayloadType.OUTPUT, payload, 0.0)
    client.messages_to_send(0.0)
    client.receive_message(agent.acknowledge(1), 0.1)
    client.disconnected(0.2)
    assert client.messages_to_send(0.3) == []
    client.connected("second token", 5.0)
    opening, *again = client.messages_to_send(5.0)
    assert isinstance(opening, str)
    assert json.loads(opening)["TokenValue"] == "second token"
    assert [data[-1:] for data in again if isinstance(data, bytes)] == [b"a", b"c"]
    assert client.retransmitting == 2


def test_an_agents_websocket_has_no_opening() -> None:
    agent = new_connection(Role.AGENT)
    agent.connected(None, 0.0)
    assert agent.messages_to_send(0.0) == []


def test_what_did_not_leave_the_old_websocket_is_not_sent_twice_on_the_new_one() -> None:
    client, _ = begun()
    client.send_data(PayloadType.OUTPUT, b"a", 0.0)
    client.disconnected(0.0)
    client.connected(None, 1.0)
    assert [each.payload for each in sent_by(client, 1.0)] == [b"a"]


def test_while_the_socket_is_stuck_copies_do_not_pile_up() -> None:
    """The owner takes nothing while it cannot write, but time passes and messages come."""
    client, agent = begun()
    while client.send_capacity:
        client.send_data(PayloadType.OUTPUT, bytes(MAX_PAYLOAD_SIZE), 0.0)
    for second in range(STUCK_SECONDS):
        at(client, second)
        client.receive_message(agent.control("pause_publication"), second)
        client.receive_message(agent.control("start_publication"), second)
        timeout = client.next_timeout()
        assert timeout is None or timeout > second
    assert len(client.messages_to_send(STUCK_SECONDS)) <= MAX_WINDOW + INITIAL_WINDOW


def test_what_is_not_acknowledged_is_sent_again_as_it_was() -> None:
    client, _ = begun()
    client.send_data(PayloadType.OUTPUT, b"x", 0.0)
    first = client.messages_to_send(0.0)
    assert client.next_timeout() == pytest.approx(0.2)
    client.handle_timeout(0.2)
    assert client.messages_to_send(0.2) == first
    assert client.retransmitting == 1
    assert client.stalled_since == 0.0


def test_the_round_trip_time_is_measured() -> None:
    client, agent = begun()
    assert client.round_trip_time == pytest.approx(0.1)
    for number in range(50):
        client.send_data(PayloadType.OUTPUT, b"x", float(number))
        client.receive_message(agent.acknowledge(number), number + 0.03)
    assert client.round_trip_time == pytest.approx(0.03, abs=0.001)
    assert client.stalled_since is None


def test_a_timer_that_fires_early_or_twice_does_no_harm() -> None:
    client, _ = begun()
    client.send_data(PayloadType.OUTPUT, b"x", 0.0)
    client.messages_to_send(0.0)
    for instant in (0.0, 0.1, 0.1, 0.19):
        client.handle_timeout(instant)
    assert client.messages_to_send(0.19) == []
    client.handle_timeout(0.2)
    client.handle_timeout(0.2)
    assert len(client.messages_to_send(0.2)) == 1
