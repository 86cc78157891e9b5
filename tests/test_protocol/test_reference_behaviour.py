"""The recorded scripts of the official client, replayed.

Where it does right we do the same; where the record holds a defect of it the test says which, and what happens here
instead.
"""

import json
import re
import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from session_manager_plugin.errors import LocalProtocolError, RemoteProtocolError
from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.protocol.events import (
    DataReceived,
    Event,
    MessageRejected,
    PublicationPaused,
    PublicationStarted,
    SessionFailed,
    SessionReady,
)
from session_manager_plugin.protocol.messages import ClientMessage, ClientMessageType, PayloadType
from session_manager_plugin.protocol.reliable import INITIAL_WINDOW
from session_manager_plugin.protocol.role import Role
from tests.support.pair import EPOCH, Peer, drain_events, new_connection, sent_by
from tests.support.vectors import load_vectors

SCRIPTS: dict[str, list[dict[str, Any]]] = {
    record["name"]: record["steps"] for record in load_vectors("receive_behaviour.json")["records"]
}
SENDING = load_vectors("send_behaviour.json")

HANDSHAKE_REQUEST = (
    '{"AgentVersion":"3.3.0.0","RequestedClientActions":'
    '[{"ActionType":"SessionType","ActionParameters":{"SessionType":"Standard_Stream"}}]}'
)
HANDSHAKE_COMPLETE = '{"HandshakeTimeToComplete":1500000000,"CustomerMessage":""}'
ENC_CHALLENGE = '{"Challenge":"AAEC/w=="}'


@dataclass
class Step:
    """One step as it went here, in the words of the record."""

    delivered: list[str]
    sent: list[str]
    events: list[Event]
    official: dict[str, Any]

    @property
    def acknowledged(self) -> list[int]:
        """The sequence numbers that were acknowledged."""
        payloads = [each.split(" ", 4)[4] for each in self.sent if each.startswith("acknowledge ")]
        return [json.loads(payload)["AcknowledgedMessageSequenceNumber"] for payload in payloads]

    def as_recorded(self) -> bool:
        """Whether it went as in the record. The order in one write is our own: answers first."""
        return self.delivered == (self.official["delivered"] or []) and sorted(self.sent) == sorted(
            self.official["sent"] or []
        )

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def incoming(step: dict[str, Any], position: int) -> bytes:
    """The message that a step's ``receive`` describes."""
    number, payload_type, message_type = position, 0, ClientMessageType.OUTPUT_STREAM_DATA
    payload = ""
    text = step["receive"]
    if match := re.fullmatch(r'output seq (-?\d+) "(\w+)"', text):
        number, payload_type, payload = int(match[1]), PayloadType.OUTPUT, match[2]
    elif match := re.fullmatch(r"(handshake request|handshake complete|enc challenge) seq (\d+)", text):
        number = int(match[2])
        payload_type, payload = {
            "handshake request": (PayloadType.HANDSHAKE_REQUEST, HANDSHAKE_REQUEST),
            "handshake complete": (PayloadType.HANDSHAKE_COMPLETE, HANDSHAKE_COMPLETE),
            "enc challenge": (PayloadType.ENC_CHALLENGE_REQUEST, ENC_CHALLENGE),
        }[match[1]]
    elif match := re.fullmatch(r"type (\d+)", text):
        payload_type, payload = int(match[1]), step["delivered"][0].partition(":")[2]
    elif match := re.fullmatch(r"acknowledge (\d+)", text):
        message_type = ClientMessageType.ACKNOWLEDGE
        payload = f'{{"AcknowledgedMessageSequenceNumber":{match[1]}}}'
    else:
        message_type, payload = ClientMessageType(text), text
    message_id = uuid.UUID(f"00112233-4455-4677-8899-{abs(number):012d}").bytes
    created_date = int(EPOCH * 1000)
    return ClientMessage(
        message_type.value, number, payload_type, payload.encode(), message_id, created_date
    ).serialize()


def replay(name: str) -> list[Step]:
    """The script ``name``, played to a client of the recorded version."""
    client = new_connection(Role.CLIENT, version="1.2.0.0")
    client.connected("token", 0.0)
    client.messages_to_send(0.0)
    steps = []
    for position, official in enumerate(SCRIPTS[name]):
        client.receive_message(incoming(official, position), 0.0)
        sent = [
            f"{message.message_type} flags={message.flags} seq={message.sequence_number} pt={message.payload_type} "
            + message.payload.decode()
            for message in sent_by(client, 0.0)
        ]
        events = drain_events(client)
        delivered = [
            f"{event.payload_type}:{payload.decode()}"
            for event in events
            if isinstance(event, DataReceived)
            for payload in event.payloads
        ]
        steps.append(Step(delivered, sent, events, official))
    return steps


AS_RECORDED = [
    "in order",
    "out of order is acknowledged at once and buffered",
    "handshake request then complete in order",
    "negative sequence number is ignored",
    "acknowledge of unknown sequence is ignored",
    "start/pause publication are ignored",
]
NO_HANDLER = [
    "handler not ready: no ack, not advanced, then ready",
    "handler error: no ack, not advanced",
    "session type known but no session handler registered: not acknowledged",
    "no handler at all: not acknowledged",
]
DUPLICATES = "duplicate of an already processed message is neither delivered nor acknowledged"
DRAINING = "handler not ready while draining the buffer: the buffered message is lost"
HELD_REQUEST = "handshake request arriving out of order is handed to the session handler, not processed as a handshake"
CHALLENGE = "encryption challenge without a negotiated key: nil pointer panic (listener recovers and dies)"
PAYLOAD_TYPES = "all other payload types reach the session handler"


def test_every_recorded_script_is_tested() -> None:
    assert sorted(SCRIPTS) == sorted(
        [*AS_RECORDED, *NO_HANDLER, DUPLICATES, DRAINING, HELD_REQUEST, CHALLENGE, PAYLOAD_TYPES]
    )


@pytest.mark.parametrize("name", AS_RECORDED)
def test_a_script_goes_as_recorded(name: str) -> None:
    for step in replay(name):
        assert step.as_recorded(), step
        assert not step.of(MessageRejected)


def test_pause_and_start_are_more_than_ignored() -> None:
    """Reference defect A5: pause_publication is ignored. Nothing is sent or delivered here either, but it is told."""
    pause, start = replay("start/pause publication are ignored")
    assert pause.events == [PublicationPaused()]
    assert start.events == [PublicationStarted()]


def test_a_duplicate_is_acknowledged_again() -> None:
    """Reference defect A1: a duplicate of a processed message is not acknowledged, so that after one lost
    acknowledgement the agent sends that message for ever."""
    steps = replay(DUPLICATES)
    assert [step.delivered for step in steps] == [["1:a"], [], ["1:b"], []]
    assert [step.acknowledged for step in steps] == [[0], [0], [1], [0]]
    assert [step.as_recorded() for step in steps] == [True, False, True, False]


@pytest.mark.parametrize("name", NO_HANDLER)
def test_nothing_waits_for_a_handler(name: str) -> None:
    """The official client leaves a message unacknowledged while nobody is there to take it. Here it is acknowledged and
    told at once, and the owner keeps it until somebody is; of what the far end sends again only the first counts."""
    steps = replay(name)
    wanted = []
    numbers: set[str] = set()
    for step in steps:
        number, text = re.findall(r'output seq (\d) "(\w)"', step.official["receive"])[0]
        wanted.append([] if number in numbers else [f"1:{text}"])
        numbers.add(number)
        assert step.acknowledged == [int(number)]
    assert [step.delivered for step in steps] == wanted


def test_d4_a_held_message_is_delivered_whoever_is_ready() -> None:
    """Reference defect D4: a message that was held, and acknowledged, is thrown away when its handler is not
    ready at the moment when its turn comes.

    It would be back if ``protocol/endpoint.py``: ``SessionEndpoint._receive_stream`` delivered only
    ``in_order[:1]``. For handlers that are set late see ``test_d4_handlers_set_late_get_everything_in_order``.
    """
    steps = replay(DRAINING)
    assert [step.delivered for step in steps] == [[], ["1:a", "1:b"], ["1:c"]]
    assert [step.acknowledged for step in steps] == [[1], [0], [2]]


def test_d5_a_handshake_message_that_was_held_is_no_data() -> None:
    """Reference defect D5: a handshake message that came out of order is printed as output. In this script it
    also comes behind data, so that there can be no handshake any more: it is dropped, aloud.

    It would be back if ``protocol/endpoint.py``: ``SessionEndpoint._receive_stream`` delivered what is not
    ``message`` itself as ``PayloadType.OUTPUT``.
    """
    steps = replay(HELD_REQUEST)
    assert [step.delivered for step in steps] == [[], ["1:a"]]
    assert [step.acknowledged for step in steps] == [[1], [0]]
    assert len(steps[1].of(MessageRejected)) == 1


def test_d5_a_handshake_in_the_wrong_order_is_completed() -> None:
    """Reference defect D5: its consequence: with the two messages of the agent exchanged the session never
    starts.

    It would be back if ``protocol/endpoint.py``: ``SessionEndpoint._receive_stream`` delivered what is not
    ``message`` itself as ``PayloadType.OUTPUT``.
    """
    client = new_connection(Role.CLIENT)
    client.connected("token", 0.0)
    agent = Peer()
    request = agent.stream(HANDSHAKE_REQUEST, PayloadType.HANDSHAKE_REQUEST)
    complete = agent.stream(HANDSHAKE_COMPLETE, PayloadType.HANDSHAKE_COMPLETE)
    client.receive_message(complete, 0.0)
    client.receive_message(request, 0.0)
    assert drain_events(client) == [SessionReady("Standard_Stream", {}, "3.3.0.0")]


def test_a_challenge_without_a_key_ends_the_session() -> None:
    """Reference defect H4: it crashes the reader, and the session hangs."""
    (step,) = replay(CHALLENGE)
    assert step.acknowledged == [0]
    (failure,) = step.of(SessionFailed)
    assert isinstance(failure, SessionFailed)
    assert isinstance(failure.error, RemoteProtocolError)


def test_every_payload_type_is_delivered_as_what_it_is() -> None:
    """Those that only an agent may receive (6 and 9) are dropped, aloud; in the official client they reach the
    terminal. The script begins with a message that is not Output: reference defect D13 is to hang after such a one."""
    steps = replay(PAYLOAD_TYPES)
    for step in steps:
        kind = int(step.official["receive"].removeprefix("type "))
        if kind in (PayloadType.HANDSHAKE_RESPONSE, PayloadType.ENC_CHALLENGE_RESPONSE):
            assert step.delivered == []
            assert len(step.of(MessageRejected)) == 1
            assert step.acknowledged
        else:
            assert step.as_recorded()


def test_d6_a_request_that_cannot_be_read_ends_the_session() -> None:
    """Reference defect D6: it is acknowledged but never processed, and never sent again: both sides wait for
    ever.

    It would be back if ``protocol/endpoint.py``: ``SessionEndpoint._handshake_error`` did not call
    ``self._fail(error)``.
    """
    client = new_connection(Role.CLIENT)
    client.connected("token", 0.0)
    client.receive_message(Peer().stream('{"AgentVersion":', PayloadType.HANDSHAKE_REQUEST), 0.0)
    (failure,) = drain_events(client)
    assert isinstance(failure, SessionFailed)
    assert "HandshakeRequest" in str(failure.error)
    assert client.next_timeout() is None


# Sending.


def ready_client() -> SessionEndpoint:
    """A client whose session has begun without a handshake."""
    client = new_connection(Role.CLIENT)
    client.connected("token", 0.0)
    client.receive_message(Peer().stream("$ "), 0.0)
    client.messages_to_send(0.0)
    drain_events(client)
    return client


def test_every_record_of_sending_is_tested() -> None:
    assert set(SENDING) == {
        "incoming_overflow_after_10001_future_messages",
        "newline_rewrite",
        "outgoing_overflow_after_10001",
        "send_failure",
        "unacknowledged_resend_times_ms_rounded_50",  # in test_reliable
    }


def test_d1_no_byte_is_rewritten() -> None:
    """Reference defect D1: a message that is one newline becomes a carriage return, in forwarded data too.

    It would be back if ``protocol/endpoint.py``: ``SessionEndpoint.send_data`` transmitted ``b"\\r" if payload ==
    b"\\n" else payload``.
    """
    client = ready_client()
    for record in SENDING["newline_rewrite"]:
        payload = bytes.fromhex(record["input_hex"])
        if "error" in record:
            with pytest.raises(LocalProtocolError):
                client.send_data(PayloadType.OUTPUT, payload, 0.0)
            client.send_data(PayloadType.OUTPUT, b"next", 0.0)
            (message,) = sent_by(client, 0.0)
            assert message.sequence_number == record["next_sequence_after"]
        else:
            client.send_data(PayloadType.OUTPUT, payload, 0.0)
            (message,) = sent_by(client, 0.0)
            assert (message.sequence_number, message.flags) == (record["sequence_number"], record["flags"])
            assert message.payload == payload


def test_d3_a_full_window_refuses_instead_of_forgetting() -> None:
    """Reference defect D3: the 10,001st message throws out the first, for which the far end then waits for ever.

    It would be back if ``protocol/endpoint.py``: ``SessionEndpoint.send_data`` removed the oldest message of
    ``sender._in_flight`` where it raises for want of capacity.
    """
    assert SENDING["outgoing_overflow_after_10001"]["oldest_kept_sequence"] == 1
    client = ready_client()
    while client.send_capacity:
        client.send_data(PayloadType.OUTPUT, b"x", 0.0)
    assert client.in_flight == INITIAL_WINDOW
    with pytest.raises(LocalProtocolError):
        client.send_data(PayloadType.OUTPUT, b"x", 0.0)
    client.disconnected(0.0)
    client.connected(None, 0.0)
    assert [message.sequence_number for message in sent_by(client, 0.0)] == list(range(INITIAL_WINDOW))


def test_d2_what_is_sent_while_the_link_is_down_is_kept() -> None:
    """Reference defect D2: when the websocket cannot be written to, the data is gone and its number used again.

    It would be back if ``protocol/outbox.py``: ``Outbox.send`` called ``sender.sent`` only ``if self.flow is
    Flow.FLOWING``.
    """
    assert SENDING["send_failure"]["outgoing_buffer_after"] == 0
    client = ready_client()
    client.disconnected(0.0)
    client.send_data(PayloadType.OUTPUT, b"typed while away", 0.0)
    client.send_data(PayloadType.OUTPUT, b" and more", 0.0)
    assert client.messages_to_send(0.0) == []
    assert client.next_timeout() is None
    client.connected(None, 5.0)
    messages = sent_by(client, 5.0)
    assert [(each.sequence_number, each.payload) for each in messages] == [(0, b"typed while away"), (1, b" and more")]


def test_as_much_is_acknowledged_out_of_order_as_by_the_official_client() -> None:
    recorded = SENDING["incoming_overflow_after_10001_future_messages"]
    client = new_connection(Role.CLIENT)
    client.connected("token", 0.0)
    client.messages_to_send(0.0)
    agent = Peer()
    for number in range(1, 10_002):
        client.receive_message(agent.stream("x", number=number), 0.0)
    assert len(client.messages_to_send(0.0)) == recorded["acknowledged"]
    client.receive_message(agent.stream("x", number=0), 0.0)
    data = [event for event in drain_events(client) if isinstance(event, DataReceived)]
    assert sum(len(event.payloads) for event in data) == recorded["buffered"] + 1


def test_a_windowful_leaves_at_once() -> None:
    """Reference defect A6: a millisecond's sleep after every message."""
    client = ready_client()
    for _ in range(INITIAL_WINDOW):
        client.send_data(PayloadType.OUTPUT, bytes(1024), 0.0)
    assert len(client.messages_to_send(0.0)) == INITIAL_WINDOW
