"""``protocol/payloads.py``: the JSON texts of both official ends, serialized byte for byte and parsed."""

import json
import random
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from session_manager_plugin.errors import RemoteProtocolError
from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.protocol.events import SessionFailed, SessionReady
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.protocol.payloads import (
    KMS_ENCRYPTION_ACTION,
    ActionStatus,
    AgentSessionState,
    ChannelClosed,
    EncryptionChallenge,
    HandshakeComplete,
    HandshakeRequest,
    HandshakeResponse,
    KmsResult,
    OpenDataChannelInput,
    ProcessedAction,
    RequestedAction,
    Size,
    lower_keys,
)
from session_manager_plugin.protocol.role import Role
from tests.support.pair import EPOCH, SESSION_ID, Peer, drain_events, new_connection, sent_by
from tests.support.vectors import load_vectors

CLIENT = load_vectors("payload_json.json")["records"]
AGENT_FILE = load_vectors("payload_json_agent.json")
AGENT = AGENT_FILE["records"]

OFFICIAL_VERSION = "1.2.0.0"
"""The version of the recorded client."""

NOT_COVERED = {
    # This list is to shrink: whoever builds the thing takes its records out and tests them.
    "encryption challenge nil": "we never send a challenge without bytes",
    "agent_task_complete": "the control channel of an instance is no part of the embedded agent",
    "open control channel (agent)": "the control channel of an instance is no part of the embedded agent",
    "create data channel (agent, HTTP body)": "the embedded agent is joined to its gateway without this call",
    "open data channel (agent)": "the embedded agent is joined to its gateway without this message",
}
"""Records that no test reads yet, and why."""

ELSEWHERE = {
    "flags": "test_messages",
    "version_compare": "test_versions",
    "handshake: KMS with legacy caller": "test_negotiation",
}
"""Records that another module reads."""


def kms_action(arn: str, challenge: str) -> RequestedAction:
    return RequestedAction(KMS_ENCRYPTION_ACTION, {"KMSKeyId": arn, "Challenge": challenge})


# Texts. A row: the record's name, what gives its text.

CLIENT_TEXTS: dict[str, Callable[[], str]] = {
    "handshake complete": HandshakeComplete(1_500_000_000, "x").to_json,
    "encryption challenge": EncryptionChallenge(b"\0\1\2\xff").to_json,
    "handshake response with KMS failure": HandshakeResponse(
        OFFICIAL_VERSION,
        (
            ProcessedAction(
                KMS_ENCRYPTION_ACTION,
                ActionStatus.FAILED,
                None,
                "Failed to process action KMSEncryption: "
                "Error calling KMS GenerateDataKey API: AccessDeniedException: x",
            ),
        ),
        ("Error calling KMS GenerateDataKey API: AccessDeniedException: x",),
    ).to_json,
    "handshake response with KMS success": HandshakeResponse(
        OFFICIAL_VERSION,
        (ProcessedAction(KMS_ENCRYPTION_ACTION, ActionStatus.SUCCESS, KmsResult(b"ciphertext-blob").to_value()),),
    ).to_json,
    "size": Size(132, 45).to_json,
}
AGENT_TEXTS: dict[str, Callable[[], str]] = {
    "agent_session_state Connected": AgentSessionState(SESSION_ID, "Connected").to_json,
    "agent_session_state Terminating": AgentSessionState(SESSION_ID, "Terminating").to_json,
    "handshake complete": HandshakeComplete(1_500_000_000).to_json,
    "handshake complete encrypted": HandshakeComplete(
        1_500_000_000, "This session is encrypted using AWS KMS."
    ).to_json,
    "handshake request Standard_Stream with KMS": HandshakeRequest(
        "3.3.0.0",
        (
            RequestedAction("SessionType", {"SessionType": "Standard_Stream", "Properties": None}),
            kms_action("arn:aws:kms:us-east-1:111122223333:key/k", "AQIDBAUGBwgJCgsMDQ4PEA=="),
        ),
    ).to_json,
}
AGENT_REQUESTS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "handshake request NonInteractiveCommands": ("NonInteractiveCommands", None),
    "handshake request Port": (
        "Port",
        {"localPortNumber": "0", "portNumber": "80", "type": "LocalPortForwarding"},
    ),
    "handshake request Port to remote host": (
        "Port",
        {"host": "db.example", "localPortNumber": "0", "portNumber": "3306", "type": "LocalPortForwarding"},
    ),
}
REPLIES = {
    name: record
    for name, record in CLIENT.items()
    if name.startswith("handshake: ") and name not in {*NOT_COVERED, *ELSEWHERE}
}


def test_every_recorded_text_is_tested_or_named_as_not_covered() -> None:
    tested = {*CLIENT_TEXTS, *AGENT_TEXTS, *AGENT_REQUESTS, *REPLIES, *ELSEWHERE, "open_data_channel"}
    assert not tested & set(NOT_COVERED)
    assert {*CLIENT, *AGENT, "version_compare"} == tested | set(NOT_COVERED)
    assert "version_compare" in AGENT_FILE


@pytest.mark.parametrize("name", CLIENT_TEXTS)
def test_a_text_of_the_client(name: str) -> None:
    assert CLIENT_TEXTS[name]() == CLIENT[name]


@pytest.mark.parametrize("name", AGENT_TEXTS)
def test_a_text_of_the_agent(name: str) -> None:
    assert AGENT_TEXTS[name]() == AGENT[name]


@pytest.mark.parametrize("name", AGENT_REQUESTS)
def test_a_handshake_request_of_the_agent(name: str) -> None:
    agent = new_connection(Role.AGENT, version="3.3.0.0")
    agent.connected(None, 0.0)
    session_type, properties = AGENT_REQUESTS[name]
    agent.request_handshake(session_type, properties, 0.0)
    (message,) = sent_by(agent, 0.0)
    assert message.payload_type == PayloadType.HANDSHAKE_REQUEST
    assert message.payload.decode() == AGENT[name]


def test_the_opening_message() -> None:
    text = CLIENT["open_data_channel"]["text_with_random_RequestId"]
    opening = OpenDataChannelInput.from_json(text)
    assert opening.token == "AAEAA<token>&+/="
    assert opening.to_json() == text


def test_a_connection_opens_with_that_message() -> None:
    client = new_connection(Role.CLIENT, version=OFFICIAL_VERSION)
    client.connected("AAEAA<token>&+/=", 0.0)
    (text,) = client.messages_to_send(0.0)
    assert isinstance(text, str)  # a text message
    opening = OpenDataChannelInput.from_json(text)
    assert (opening.token, opening.client_version) == ("AAEAA<token>&+/=", OFFICIAL_VERSION)
    for made_up in (opening.request_id, opening.client_id):
        assert str(uuid.UUID(made_up)) == made_up
        assert uuid.UUID(made_up).version == 4


def test_the_client_id_stays_and_the_request_id_changes_with_the_websocket() -> None:
    client = new_connection(Role.CLIENT)
    openings = []
    for instant in (0.0, 1.0):
        client.connected("token", instant)
        (text,) = client.messages_to_send(instant)
        openings.append(OpenDataChannelInput.from_json(text))
        client.disconnected(instant)
    assert openings[0].client_id == openings[1].client_id
    assert openings[0].request_id != openings[1].request_id


def test_the_token_is_not_in_the_repr() -> None:
    assert "secret" not in repr(OpenDataChannelInput("r", "secret", "c", "v"))


# The recorded replies to handshake requests.

NO_REPLY = {"handshake: invalid JSON", "handshake: wrong type for AgentVersion"}
"""Requests that cannot be read: acknowledged, as officially, but then the session fails (reference defect D6 is to wait
for ever)."""


@pytest.mark.parametrize("name", REPLIES)
def test_the_reply_to_a_handshake_request(name: str) -> None:
    """Byte for byte, but for an unsupported action: its status is 3 (reference defect U17: the status 0, and 3 as the
    result). The acknowledgement leaves behind the reply: they are one write, and no end minds the order."""
    record = REPLIES[name]
    client = new_connection(Role.CLIENT, version=OFFICIAL_VERSION)
    client.connected("token", 0.0)
    client.messages_to_send(0.0)
    client.receive_message(Peer().stream(record["request"], PayloadType.HANDSHAKE_REQUEST), 0.0)
    *replies, acknowledgement = sent_by(client, 0.0)

    official_acknowledgement, *official_replies = record["sent"]
    for message, official in zip(
        [acknowledgement, *replies], [official_acknowledgement, *official_replies], strict=True
    ):
        assert message.message_type == official["message_type"]
        assert message.sequence_number == official["sequence_number"]
        assert message.flags == official["flags"]
        assert message.payload_type == official["payload_type"]
        assert message.schema_version == official["schema_version"]
        assert message.created_date == int(EPOCH * 1000)
    # The ids of acknowledged messages are each recorder's own.
    own, theirs = json.loads(acknowledgement.payload), json.loads(official_acknowledgement["payload"])
    assert uuid.UUID(own.pop("AcknowledgedMessageId")) != uuid.UUID(theirs.pop("AcknowledgedMessageId"))
    assert list(own.items()) == list(theirs.items())
    assert (name in NO_REPLY) == (not replies)
    for message, official in zip(replies, official_replies, strict=True):
        assert message.payload.decode() == official["payload"].replace(
            '"ActionStatus":0,"ActionResult":3', '"ActionStatus":3,"ActionResult":null'
        )

    failures = [event for event in drain_events(client) if isinstance(event, SessionFailed)]
    assert bool(failures) == (name in NO_REPLY or name == "handshake: unknown session type")


@pytest.mark.parametrize("name", sorted(set(REPLIES) - NO_REPLY))
def test_what_a_handshake_request_settles(name: str) -> None:
    """The official client calls all shell types Standard_Stream; here each keeps its name."""
    record = REPLIES[name]
    client = new_connection(Role.CLIENT)
    agent = Peer()
    client.connected("token", 0.0)
    client.receive_message(agent.stream(record["request"], PayloadType.HANDSHAKE_REQUEST), 0.0)
    client.receive_message(agent.stream(CLIENT["handshake complete"], PayloadType.HANDSHAKE_COMPLETE), 0.0)
    (event,) = drain_events(client)
    if record["session_type_after"]:
        announced = name.removeprefix("handshake: ")
        shell_types = {"InteractiveCommands", "NonInteractiveCommands"}
        session_type = announced if announced in shell_types else record["session_type_after"]
        assert event == SessionReady(session_type, record["properties_after"] or {}, record["agent_version_after"], "x")
    else:
        assert isinstance(event, SessionFailed)


# Reading.


@pytest.mark.parametrize(
    "payload",
    [
        HandshakeRequest("3.3.0.0", (RequestedAction("SessionType", {"SessionType": "Port"}),)),
        HandshakeRequest("3.3.0.0"),
        HandshakeResponse(
            "1.3.0.0", (ProcessedAction("SessionType", 1), ProcessedAction("T", 2, {"a": 1}, "e")), ("e",)
        ),
        HandshakeResponse("1.3.0.0"),
        HandshakeComplete(5, "Grüße <&>\u2028"),
        Size(80, 24),
        ChannelClosed(SESSION_ID, "out", "id", "destination", "2026-11-22T21:00:00Z"),
        AgentSessionState(SESSION_ID, "Connected"),
        OpenDataChannelInput("r", "t", "c", "v"),
    ],
    ids=lambda payload: type(payload).__name__,
)
def test_what_is_written_is_read_back(payload: Any) -> None:
    text = payload.to_json()
    assert type(payload).from_json(text) == payload
    assert type(payload).from_json(text.encode()) == payload
    assert type(payload).from_json(bytearray(text.encode())) == payload


@pytest.mark.parametrize(
    ("kind", "empty"),
    [
        (HandshakeRequest, HandshakeRequest("")),
        (HandshakeResponse, HandshakeResponse("")),
        (HandshakeComplete, HandshakeComplete()),
        (Size, Size(0, 0)),
        (ChannelClosed, ChannelClosed()),
        (AgentSessionState, AgentSessionState("", "")),
        (OpenDataChannelInput, OpenDataChannelInput("", "", "", "")),
    ],
)
def test_missing_and_null_keys_read_as_nothing(kind: Any, empty: object) -> None:
    assert kind.from_json("{}") == empty
    assert kind.from_json(json.dumps(dict.fromkeys(json.loads(empty.to_json())))) == empty  # type: ignore[attr-defined]
    assert kind.from_json('{"Unknown": {"key": [1]}}') == empty


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        (HandshakeRequest, "[]", "HandshakeRequest: the payload is not a JSON object"),
        (HandshakeRequest, "", "HandshakeRequest: the payload is not JSON"),
        (HandshakeRequest, '{"AgentVersion":3}', "HandshakeRequest: AgentVersion is not a string"),
        (HandshakeRequest, '{"RequestedClientActions":{}}', "RequestedClientActions is not a list of objects"),
        (HandshakeRequest, '{"RequestedClientActions":[1]}', "RequestedClientActions is not a list of objects"),
        (HandshakeRequest, '{"RequestedClientActions":[{"ActionType":1}]}', "ActionType is not a string"),
        (HandshakeResponse, '{"Errors":"e"}', "Errors is not a list"),
        (HandshakeResponse, '{"ProcessedClientActions":[{"ActionStatus":"1"}]}', "ActionStatus is not an integer"),
        (HandshakeResponse, '{"ProcessedClientActions":[{"ActionStatus":true}]}', "ActionStatus is not an integer"),
        (HandshakeComplete, '{"HandshakeTimeToComplete":1.5}', "HandshakeTimeToComplete is not an integer"),
        (Size, '{"cols":"80"}', "Size: cols is not an integer"),
        (ChannelClosed, '{"Output":1}', "channel_closed: Output is not a string"),
        (AgentSessionState, '{"SessionState":1}', "agent_session_state: SessionState is not a string"),
        (OpenDataChannelInput, '{"TokenValue":1}', "OpenDataChannelInput: TokenValue is not a string"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(kind: Any, text: str, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        kind.from_json(text)
    assert complaint in str(caught.value)


def test_lower_keys_of_what_is_no_object() -> None:
    assert lower_keys({"SessionType": "Port"}) == {"sessiontype": "Port"}
    assert lower_keys(["SessionType"]) == lower_keys(None) == {}


def test_half_a_surrogate_pair_in_a_request_can_be_answered() -> None:
    """JSON can say one; UTF-8 cannot, and the answer repeats the request's words."""
    client = SessionEndpoint(Role.CLIENT, version="1.3.0.0", epoch=EPOCH, random_bytes=random.Random(1).randbytes)
    client.connected("token", 0.0)
    client.messages_to_send(0.0)
    request = '{"AgentVersion":"3.3.0.0","RequestedClientActions":[{"ActionType":"\\ud800"}]}'
    client.receive_message(Peer().stream(request, PayloadType.HANDSHAKE_REQUEST), 0.0)
    response = HandshakeResponse.from_json(sent_by(client, 0.0)[0].payload)
    assert response.errors == ("Unsupported action \ufffd",)
