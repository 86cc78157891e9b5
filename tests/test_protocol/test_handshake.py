"""``protocol/handshake.py``: every row of the two tables, and every input without a row."""

import itertools

import pytest

from session_manager_plugin.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from session_manager_plugin.protocol.handshake import TRANSITIONS, Handshake, HandshakeInput, HandshakeState
from session_manager_plugin.protocol.role import Role

S, I = HandshakeState, HandshakeInput  # noqa: E741

CLIENT: dict[tuple[HandshakeState, HandshakeInput], HandshakeState] = {
    # Nothing was received yet: a request, data, or the end of the delay.
    (S.AWAITING, I.REQUEST_RECEIVED): S.ANSWERING,
    (S.AWAITING, I.DATA_RECEIVED): S.SKIPPED,
    (S.AWAITING, I.ASSUME_NONE): S.ASSUMED,
    # It has begun without a handshake: a request may follow, or data or time shows that none will.
    (S.ASSUMED, I.REQUEST_RECEIVED): S.ANSWERING,
    (S.ASSUMED, I.DATA_RECEIVED): S.SKIPPED,
    (S.ASSUMED, I.SKIP): S.SKIPPED,
    # It answers as soon as it has the data key.
    (S.ANSWERING, I.DATA_RECEIVED): S.ANSWERING,
    (S.ANSWERING, I.ANSWER): S.RESPONDED,
    # It has answered.
    (S.RESPONDED, I.DATA_RECEIVED): S.RESPONDED,
    (S.RESPONDED, I.CHALLENGE_RECEIVED): S.PROVED,
    (S.RESPONDED, I.COMPLETE_RECEIVED): S.COMPLETE,
    # It has answered the encryption challenge as well; there is one only.
    (S.PROVED, I.DATA_RECEIVED): S.PROVED,
    (S.PROVED, I.COMPLETE_RECEIVED): S.COMPLETE,
    **{(state, I.FAIL): S.FAILED for state in (S.AWAITING, S.ASSUMED, S.ANSWERING, S.RESPONDED, S.PROVED)},
}
AGENT: dict[tuple[HandshakeState, HandshakeInput], HandshakeState] = {
    (S.AWAITING, I.REQUEST): S.REQUESTED,
    (S.AWAITING, I.SKIP): S.SKIPPED,
    (S.REQUESTED, I.RESPONSE_ACCEPTED): S.COMPLETE,
    # With encryption it has the data key decrypted and challenges the client.
    (S.REQUESTED, I.KEY_RECEIVED): S.DECRYPTING,
    (S.DECRYPTING, I.CHALLENGE): S.CHALLENGED,
    (S.CHALLENGED, I.CHALLENGE_ANSWERED): S.COMPLETE,
    # Data is discarded until the handshake is over.
    **{(state, I.DATA_RECEIVED): state for state in (S.AWAITING, S.REQUESTED, S.DECRYPTING, S.CHALLENGED)},
    **{(state, I.FAIL): S.FAILED for state in (S.AWAITING, S.REQUESTED, S.DECRYPTING, S.CHALLENGED)},
}
EXPECTED = {Role.CLIENT: CLIENT, Role.AGENT: AGENT}
OWN_INPUTS = {I.ANSWER, I.ASSUME_NONE, I.REQUEST, I.SKIP, I.CHALLENGE, I.FAIL}
"""Decisions of this side; the other inputs are messages of the far end."""


def in_state(role: Role, state: HandshakeState) -> Handshake:
    handshake = Handshake(role)
    handshake.state = state
    return handshake


def name(value: Role | HandshakeState | HandshakeInput) -> str:
    return value.name


def test_the_tables_are_the_expected_ones() -> None:
    assert {role: dict(table) for role, table in TRANSITIONS.items()} == EXPECTED


@pytest.mark.parametrize(("role", "state", "step"), [*itertools.product(Role, S, I)], ids=name)
def test_every_state_with_every_input(role: Role, state: HandshakeState, step: HandshakeInput) -> None:
    handshake = in_state(role, state)
    if (state, step) in EXPECTED[role]:
        handshake.apply(step)
        assert handshake.state is EXPECTED[role][state, step]
    else:
        kind = LocalProtocolError if step in OWN_INPUTS else RemoteProtocolError
        with pytest.raises(ProtocolError) as caught:
            handshake.apply(step)
        assert type(caught.value) is kind
        assert state.name in str(caught.value)
        assert step.name in str(caught.value)
        assert handshake.state is state


@pytest.mark.parametrize("state", [*S], ids=name)
def test_when_data_may_flow_and_when_all_is_settled(state: HandshakeState) -> None:
    handshake = in_state(Role.CLIENT, state)
    assert handshake.open == (state in {S.ASSUMED, S.COMPLETE, S.SKIPPED})
    assert handshake.settled == (state in {S.COMPLETE, S.SKIPPED})
