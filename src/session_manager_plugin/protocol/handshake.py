"""The handshake that may open a session, as one state machine for each role.

The agent requests actions (HandshakeRequest), the client answers each action (HandshakeResponse), and the agent
confirms (HandshakeComplete). The request is always the agent's first stream message, so any other first message shows
that the session has no handshake. Current agents make no handshake for plain shells and interactive commands.

Client states::

    AWAITING   no message has been received; after a delay the client assumes that there is no handshake
    ASSUMED    the client has begun without a handshake; if a request follows, the agent has discarded all input so far
    ANSWERING  a request was received; the answer waits for a data key if encryption was requested
    RESPONDED  the request was answered; an encryption challenge may follow
    PROVED     the challenge was answered; a second one is a protocol error
    COMPLETE   the agent has confirmed
    SKIPPED    the session has no handshake

Agent states::

    AWAITING    the owner has not called ``request_handshake`` or ``skip_handshake`` yet
    REQUESTED   the request was sent
    DECRYPTING  the response contained an encrypted data key, which is being decrypted
    CHALLENGED  the client has to prove that it holds the same key
    COMPLETE    the agent has confirmed
    SKIPPED     the session has no handshake

Either role can reach FAILED. Invariants: an input without a row in ``TRANSITIONS`` raises a ``ProtocolError`` and
leaves the state unchanged; only ``Negotiation`` applies inputs. ``negotiation.py`` handles the messages,
``readiness.py`` the time limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from session_manager_plugin.errors import LocalProtocolError, RemoteProtocolError
from session_manager_plugin.protocol.role import Role


class HandshakeState(Enum):
    """See the module docstring."""

    AWAITING = auto()
    ASSUMED = auto()
    ANSWERING = auto()
    RESPONDED = auto()
    PROVED = auto()
    REQUESTED = auto()
    DECRYPTING = auto()
    CHALLENGED = auto()
    COMPLETE = auto()
    SKIPPED = auto()
    FAILED = auto()


class HandshakeInput(Enum):
    """The inputs of the machine: a message from the far end, or a decision of this end."""

    REQUEST_RECEIVED = auto()
    ANSWER = auto()
    CHALLENGE_RECEIVED = auto()
    COMPLETE_RECEIVED = auto()
    DATA_RECEIVED = auto()
    """A stream message that is not part of a handshake, while a handshake message may still follow."""
    ASSUME_NONE = auto()
    REQUEST = auto()
    SKIP = auto()
    RESPONSE_ACCEPTED = auto()
    KEY_RECEIVED = auto()
    CHALLENGE = auto()
    CHALLENGE_ANSWERED = auto()
    FAIL = auto()


_S, _I = HandshakeState, HandshakeInput
Transitions = Mapping[tuple[HandshakeState, HandshakeInput], HandshakeState]

TRANSITIONS: Mapping[Role, Transitions] = {
    Role.CLIENT: {
        (_S.AWAITING, _I.REQUEST_RECEIVED): _S.ANSWERING,
        (_S.AWAITING, _I.DATA_RECEIVED): _S.SKIPPED,
        (_S.AWAITING, _I.ASSUME_NONE): _S.ASSUMED,
        (_S.AWAITING, _I.FAIL): _S.FAILED,
        (_S.ASSUMED, _I.REQUEST_RECEIVED): _S.ANSWERING,
        (_S.ASSUMED, _I.DATA_RECEIVED): _S.SKIPPED,
        (_S.ASSUMED, _I.SKIP): _S.SKIPPED,
        (_S.ASSUMED, _I.FAIL): _S.FAILED,
        (_S.ANSWERING, _I.DATA_RECEIVED): _S.ANSWERING,
        (_S.ANSWERING, _I.ANSWER): _S.RESPONDED,
        (_S.ANSWERING, _I.FAIL): _S.FAILED,
        (_S.RESPONDED, _I.DATA_RECEIVED): _S.RESPONDED,
        (_S.RESPONDED, _I.CHALLENGE_RECEIVED): _S.PROVED,
        (_S.RESPONDED, _I.COMPLETE_RECEIVED): _S.COMPLETE,
        (_S.RESPONDED, _I.FAIL): _S.FAILED,
        (_S.PROVED, _I.DATA_RECEIVED): _S.PROVED,
        (_S.PROVED, _I.COMPLETE_RECEIVED): _S.COMPLETE,
        (_S.PROVED, _I.FAIL): _S.FAILED,
    },
    Role.AGENT: {
        (_S.AWAITING, _I.DATA_RECEIVED): _S.AWAITING,
        (_S.AWAITING, _I.REQUEST): _S.REQUESTED,
        (_S.AWAITING, _I.SKIP): _S.SKIPPED,
        (_S.AWAITING, _I.FAIL): _S.FAILED,
        (_S.REQUESTED, _I.DATA_RECEIVED): _S.REQUESTED,
        (_S.REQUESTED, _I.RESPONSE_ACCEPTED): _S.COMPLETE,
        (_S.REQUESTED, _I.KEY_RECEIVED): _S.DECRYPTING,
        (_S.REQUESTED, _I.FAIL): _S.FAILED,
        (_S.DECRYPTING, _I.DATA_RECEIVED): _S.DECRYPTING,
        (_S.DECRYPTING, _I.CHALLENGE): _S.CHALLENGED,
        (_S.DECRYPTING, _I.FAIL): _S.FAILED,
        (_S.CHALLENGED, _I.DATA_RECEIVED): _S.CHALLENGED,
        (_S.CHALLENGED, _I.CHALLENGE_ANSWERED): _S.COMPLETE,
        (_S.CHALLENGED, _I.FAIL): _S.FAILED,
    },
}

SETTLED = (_S.COMPLETE, _S.SKIPPED)
"""The states after which no handshake message can follow."""
_OPEN = (*SETTLED, _S.ASSUMED)
_LOCAL_INPUTS = frozenset({_I.ANSWER, _I.ASSUME_NONE, _I.REQUEST, _I.SKIP, _I.CHALLENGE, _I.FAIL})


class Handshake:
    """The state of the handshake. One instance per session: a reconnect does not repeat the handshake."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.state = HandshakeState.AWAITING

    @property
    def open(self) -> bool:
        """Whether data may be sent: the handshake is complete, or there is none, or the client assumes none."""
        return self.state in _OPEN

    @property
    def settled(self) -> bool:
        """Whether no further handshake message can follow."""
        return self.state in SETTLED

    def apply(self, step: HandshakeInput) -> None:
        """Make the transition.

        If the table has no row for it, raises ``RemoteProtocolError`` for a message of the far end, otherwise
        ``LocalProtocolError``.
        """
        try:
            self.state = TRANSITIONS[self.role][self.state, step]
        except KeyError:
            error = LocalProtocolError if step in _LOCAL_INPUTS else RemoteProtocolError
            raise error(f"handshake: {step.name} in state {self.state.name}") from None
