"""``protocol/handshake.py``: every transition and every refused one."""

import itertools

import pytest

from session_manager_plugin.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from session_manager_plugin.protocol.handshake import TRANSITIONS, Handshake, HandshakeInput, HandshakeState

S, I = HandshakeState, HandshakeInput  # noqa: E741

EXPECTED: dict[tuple[HandshakeState, HandshakeInput], HandshakeState] = {
    # A client to which nothing has come: a request, data, or the end of its patience.
    (S.AWAITING, I.REQUEST_RECEIVED): S.ANSWERING,
    (S.AWAITING, I.DATA_RECEIVED): S.SKIPPED,
    (S.AWAITING, I.NOTHING_CAME): S.ASSUMED,
    # A client that has begun without a handshake: one may follow, or data shows that none will, or the owner is sure.
    (S.ASSUMED, I.REQUEST_RECEIVED): S.ANSWERING,
    (S.ASSUMED, I.DATA_RECEIVED): S.SKIPPED,
    (S.ASSUMED, I.SKIP): S.SKIPPED,
    # A client that is about to answer, as soon as it has the data key.
    (S.ANSWERING, I.DATA_RECEIVED): S.ANSWERING,
    (S.ANSWERING, I.ANSWER): S.RESPONDED,
    # A client that has answered.
    (S.RESPONDED, I.DATA_RECEIVED): S.RESPONDED,
    (S.RESPONDED, I.CHALLENGE_RECEIVED): S.PROVED,
    (S.RESPONDED, I.COMPLETE_RECEIVED): S.COMPLETE,
    # A client that has answered the encryption challenge as well: there is one only.
    (S.PROVED, I.DATA_RECEIVED): S.PROVED,
    (S.PROVED, I.COMPLETE_RECEIVED): S.COMPLETE,
    # An agent asks, or does not.
    (S.AWAITING, I.REQUEST): S.REQUESTED,
    (S.AWAITING, I.SKIP): S.SKIPPED,
    (S.REQUESTED, I.RESPONSE_ACCEPTED): S.COMPLETE,
    # An agent that wants encryption has the data key decrypted and challenges the client.
    (S.REQUESTED, I.KEY_RECEIVED): S.DECRYPTING,
    (S.DECRYPTING, I.CHALLENGE): S.CHALLENGED,
    (S.CHALLENGED, I.CHALLENGE_ANSWERED): S.COMPLETE,
    # When it is over, only data comes.
    (S.COMPLETE, I.DATA_RECEIVED): S.COMPLETE,
    (S.SKIPPED, I.DATA_RECEIVED): S.SKIPPED,
    # It fails only while it is going on.
    **{(state, I.FAIL): S.FAILED for state in S if state not in {S.COMPLETE, S.SKIPPED, S.FAILED}},
}
OWN_INPUTS = {I.ANSWER, I.NOTHING_CAME, I.REQUEST, I.SKIP, I.CHALLENGE, I.FAIL}
"""What this side decides; the other inputs are the far end's doing."""


def in_state(state: HandshakeState) -> Handshake:
    handshake = Handshake()
    handshake.state = state
    return handshake


def name(value: HandshakeState | HandshakeInput) -> str:
    return value.name


def test_the_table_is_the_expected_one() -> None:
    assert TRANSITIONS == EXPECTED


@pytest.mark.parametrize(("state", "step"), [*itertools.product(S, I)], ids=name)
def test_every_state_with_every_input(state: HandshakeState, step: HandshakeInput) -> None:
    handshake = in_state(state)
    if (state, step) in EXPECTED:
        handshake.apply(step)
        assert handshake.state is EXPECTED[state, step]
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
    handshake = in_state(state)
    assert handshake.open == (state in {S.ASSUMED, S.COMPLETE, S.SKIPPED})
    assert handshake.settled == (state in {S.COMPLETE, S.SKIPPED})
