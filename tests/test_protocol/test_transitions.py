"""The transition tables hold every transition that happens in a session, and no other.

Each scenario drives whole endpoints; every step that their machines take is recorded. Together the scenarios take every
row of every table.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import pytest

from session_manager_plugin.errors import ConfigurationError, LocalProtocolError
from session_manager_plugin.protocol import closing, handshake, outbox
from session_manager_plugin.protocol.crypto import DATA_KEY_SIZE
from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.protocol.events import DataKeyRequired
from session_manager_plugin.protocol.messages import MessageIds, PayloadType
from session_manager_plugin.protocol.payloads import (
    KMS_ENCRYPTION_ACTION,
    SESSION_TYPE_ACTION,
    ChannelClosed,
    HandshakeRequest,
    RequestedAction,
)
from session_manager_plugin.protocol.readiness import AGENT_HANDSHAKE_TIMEOUT, READY_DELAY
from session_manager_plugin.protocol.rejections import MAX_REJECTED
from session_manager_plugin.protocol.reliable import StreamSender
from session_manager_plugin.protocol.role import Role
from tests.support.pair import SESSION_ID, Pair, Peer, new_connection

KEY = bytes(range(DATA_KEY_SIZE))
SHELL = RequestedAction(SESSION_TYPE_ACTION, {"SessionType": "Standard_Stream", "Properties": None})
ENCRYPTION = RequestedAction(KMS_ENCRYPTION_ACTION, {"KMSKeyId": "alias/key", "Challenge": "AAAA"})
CLOSED = ChannelClosed(SESSION_ID, "").to_json().encode()


def client(**options: Any) -> tuple[SessionEndpoint, Peer]:
    endpoint = new_connection(Role.CLIENT, **options)
    endpoint.connected("token", 0.0)
    return endpoint, Peer()


def agent() -> tuple[SessionEndpoint, Peer]:
    endpoint = new_connection(Role.AGENT)
    endpoint.connected(None, 0.0)
    return endpoint, Peer(Role.CLIENT)


def request(*actions: RequestedAction) -> bytes:
    return HandshakeRequest("3.3.0.0", actions).to_json().encode()


def fail(endpoint: SessionEndpoint, now: float) -> None:
    for _ in range(MAX_REJECTED):
        endpoint.receive_message(b"not a message", now)


def asked(*actions: RequestedAction) -> tuple[SessionEndpoint, Peer]:
    """A client that was asked for a session type and more."""
    endpoint, far_end = client()
    endpoint.receive_message(far_end.stream(request(SHELL, *actions), PayloadType.HANDSHAKE_REQUEST), 0.1)
    return endpoint, far_end


def decrypting() -> Pair:
    """Two ends, of which the agent waits for the client's data key to be decrypted."""
    pair = Pair()
    pair.agent.connection.request_handshake("Standard_Stream", None, 0.0, kms_key_id="alias/key")
    pair.connect()
    pair.run_until(lambda: DataKeyRequired in map(type, pair.client.events))
    pair.client.connection.provide_data_key(KEY, pair.now, cipher_text=b"encrypted")
    pair.run_until(lambda: DataKeyRequired in map(type, pair.agent.events))
    return pair


def a_shell_without_a_handshake() -> None:
    endpoint, far_end = client()
    endpoint.receive_message(far_end.stream("$ "), 0.1)


def an_assumption_that_data_confirms() -> None:
    endpoint, far_end = client()
    endpoint.handle_timeout(READY_DELAY)
    endpoint.receive_message(far_end.stream("$ "), 3.0)


def an_assumption_that_time_confirms() -> None:
    endpoint, far_end = client()
    endpoint.handle_timeout(READY_DELAY)
    endpoint.send_data(PayloadType.OUTPUT, b"input", 3.0)
    endpoint.receive_message(far_end.acknowledge(0), 3.1)
    endpoint.handle_timeout(3.1 + AGENT_HANDSHAKE_TIMEOUT)


def a_late_handshake() -> None:
    endpoint, far_end = client()
    endpoint.handle_timeout(READY_DELAY)
    endpoint.receive_message(far_end.stream(request(SHELL), PayloadType.HANDSHAKE_REQUEST), 3.0)
    endpoint.receive_message(far_end.stream("early"), 3.1)
    endpoint.receive_message(
        far_end.stream('{"HandshakeTimeToComplete":1,"CustomerMessage":""}', PayloadType.HANDSHAKE_COMPLETE), 3.2
    )


def data_while_the_key_is_awaited() -> None:
    endpoint, far_end = asked(ENCRYPTION)
    endpoint.receive_message(far_end.stream("early"), 0.2)


def an_encrypted_handshake() -> None:
    pair = decrypting()
    pair.agent.connection.provide_data_key(KEY, pair.now)
    pair.run_until(lambda: pair.client.connection.ready and pair.agent.connection.ready)


def proved() -> SessionEndpoint:
    """A client that has answered the encryption challenge; the next message it receives has the number 2."""
    pair = decrypting()
    pair.agent.connection.provide_data_key(KEY, pair.now)
    challenge_response = PayloadType.ENC_CHALLENGE_RESPONSE
    pair.run_until(lambda: any(message.payload_type == challenge_response for message in pair.to_agent.carried))
    return pair.client.connection


def data_after_the_challenge() -> None:
    proved().receive_message(Peer().stream("early", number=2), 10.0)


def failure_after_the_challenge() -> None:
    fail(proved(), 10.0)


def an_agent_discards_early_data() -> None:
    endpoint, far_end = agent()
    endpoint.receive_message(far_end.stream("early"), 0.1)
    endpoint.request_handshake("Standard_Stream", None, 0.2)
    endpoint.receive_message(far_end.stream("early"), 0.3)
    response = '{"ClientVersion":"1.3.0.0","ProcessedClientActions":[{"ActionType":"SessionType","ActionStatus":1}]}'
    endpoint.receive_message(far_end.stream(response, PayloadType.HANDSHAKE_RESPONSE), 0.4)


def early_data_of_an_encrypted_session() -> None:
    endpoint, far_end = agent()
    endpoint.request_handshake("Standard_Stream", None, 0.2, kms_key_id="alias/key")
    response = (
        '{"ClientVersion":"1.3.0.0","ProcessedClientActions":[{"ActionType":"SessionType","ActionStatus":1},'
        '{"ActionType":"KMSEncryption","ActionStatus":1,"ActionResult":{"KMSCipherTextKey":"AAAA"}}]}'
    )
    endpoint.receive_message(far_end.stream(response, PayloadType.HANDSHAKE_RESPONSE), 0.4)
    endpoint.receive_message(far_end.stream("early"), 0.5)
    endpoint.provide_data_key(KEY, 0.6)
    endpoint.receive_message(far_end.stream("early"), 0.7)
    fail(endpoint, 0.8)


def an_agent_that_skips() -> None:
    endpoint, _ = agent()
    endpoint.skip_handshake()


def failures() -> None:
    """A session can fail in every state of its handshake."""
    fail(client()[0], 0.1)
    fail(agent()[0], 0.1)
    endpoint, _ = client()
    endpoint.handle_timeout(READY_DELAY)
    fail(endpoint, 3.0)
    fail(asked()[0], 1.0)
    fail(asked(ENCRYPTION)[0], 1.0)
    endpoint, _ = agent()
    endpoint.request_handshake("Standard_Stream", None, 0.2)
    fail(endpoint, 1.0)
    endpoint, _ = asked(ENCRYPTION)
    endpoint.refuse_data_key(ConfigurationError("no key"), 0.2)
    pair = decrypting()
    pair.agent.connection.refuse_data_key(ConfigurationError("no key"), pair.now)


def ends() -> None:
    """A session that the service closes, with and without a gap in front of what was received."""
    endpoint, far_end = client()
    endpoint.receive_message(far_end.stream("$ "), 0.1)
    endpoint.receive_message(far_end.control("channel_closed", CLOSED), 0.2)

    def with_gap() -> tuple[SessionEndpoint, Peer]:
        endpoint, far_end = client()
        endpoint.receive_message(far_end.stream("0"), 0.1)
        endpoint.receive_message(far_end.stream("2", number=2), 0.1)
        endpoint.receive_message(far_end.control("channel_closed", CLOSED), 0.2)
        return endpoint, far_end

    endpoint, far_end = with_gap()
    endpoint.receive_message(far_end.stream("1", number=1), 0.3)
    endpoint, _ = with_gap()
    endpoint.handle_timeout(0.2 + closing.CLOSE_DELAY)
    endpoint, _ = with_gap()
    endpoint.disconnected(0.3)
    endpoint, _ = with_gap()
    fail(endpoint, 0.3)


def pauses() -> None:
    endpoint, far_end = client()
    endpoint.receive_message(far_end.stream("$ "), 0.1)
    endpoint.receive_message(far_end.control("pause_publication"), 0.2)
    endpoint.receive_message(far_end.control("start_publication"), 0.3)
    endpoint.receive_message(far_end.control("pause_publication"), 0.4)
    endpoint.disconnected(0.5)
    endpoint.connected("token", 0.6)
    endpoint.disconnected(0.7)


SCENARIOS: list[Callable[[], None]] = [
    a_shell_without_a_handshake,
    an_assumption_that_data_confirms,
    an_assumption_that_time_confirms,
    a_late_handshake,
    data_while_the_key_is_awaited,
    an_encrypted_handshake,
    data_after_the_challenge,
    an_agent_discards_early_data,
    early_data_of_an_encrypted_session,
    an_agent_that_skips,
    failures,
    failure_after_the_challenge,
    ends,
    pauses,
]
Row = tuple[str, Enum, Enum]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> set[Row]:
    """Every step that a machine takes: the machine's table, the state and the input."""
    rows: set[Row] = set()

    def record(module: Any, machine: str, name: Callable[[Any], str], state: str) -> None:
        kind = getattr(module, machine)
        apply = kind.apply

        def recording(self: Any, step: Enum) -> None:
            before = getattr(self, state)
            apply(self, step)
            rows.add((name(self), before, step))

        monkeypatch.setattr(kind, "apply", recording)

    record(handshake, "Handshake", lambda machine: machine.role.name, "state")
    record(closing, "Closing", lambda _machine: "closing", "state")
    record(outbox, "Outbox", lambda _machine: "outbox", "flow")
    return rows


def test_together_the_scenarios_take_every_row(taken: set[Row]) -> None:
    for scenario in SCENARIOS:
        scenario()
    tables: dict[str, Mapping[Any, Any]] = {role.name: table for role, table in handshake.TRANSITIONS.items()}
    tables |= {"closing": closing.TRANSITIONS, "outbox": outbox.TRANSITIONS}
    assert taken == {(name, *row) for name, table in tables.items() for row in table}


@pytest.mark.parametrize("life", [*closing.Life])
@pytest.mark.parametrize("step", [*closing.ClosingInput])
def test_closing_refuses_what_has_no_row(life: closing.Life, step: closing.ClosingInput) -> None:
    machine = closing.Closing()
    machine.state = life
    if (life, step) in closing.TRANSITIONS:
        machine.apply(step)
        assert machine.state is closing.TRANSITIONS[life, step]
    else:
        with pytest.raises(LocalProtocolError, match=f"{step.name} in state {life.name}"):
            machine.apply(step)
        assert machine.state is life


@pytest.mark.parametrize("flow", [*outbox.Flow])
@pytest.mark.parametrize("step", [*outbox.FlowInput])
def test_the_outbox_refuses_what_has_no_row(flow: outbox.Flow, step: outbox.FlowInput) -> None:
    machine = outbox.Outbox(Role.CLIENT, MessageIds(bytes), 0.0, StreamSender())
    machine.flow = flow
    if (flow, step) in outbox.TRANSITIONS:
        machine.apply(step)
        assert machine.flow is outbox.TRANSITIONS[flow, step]
    else:
        with pytest.raises(LocalProtocolError, match=f"{step.name} in state {flow.name}"):
            machine.apply(step)
        assert machine.flow is flow
