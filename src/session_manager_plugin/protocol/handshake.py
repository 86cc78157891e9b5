"""The handshake that may open a session, for both roles.

The agent asks (HandshakeRequest), the client answers each requested action (HandshakeResponse), the agent says that it
is satisfied (HandshakeComplete). The request is always the agent's first stream message, so a first message of any
other kind means: there is none. Current agents send none for plain shells and interactive commands.

Client states::

    AWAITING   nothing has come yet; the client waits a little before it assumes that there is no handshake
    ASSUMED    nothing came; the client has begun, and what it sends may be thrown away if a request comes after all
    ANSWERING  a request came; its answer waits for a data key, if encryption is asked for
    RESPONDED  the request was answered; an encryption challenge may come
    PROVED     the challenge was answered: there is one, and whoever sends more only wants us to work
    COMPLETE   the agent is satisfied
    SKIPPED    there is no handshake

Agent states::

    AWAITING    it has not decided yet
    REQUESTED   the request was sent
    DECRYPTING  the answer brought an encrypted data key, which waits to be decrypted
    CHALLENGED  the client is to prove that it has the same key
    COMPLETE    it is satisfied
    SKIPPED     there is no handshake

FAILED is either side's. Invariant: an input without a row is a protocol error and leaves the state as it was. The
messages are ``negotiation.py``'s business, clocks and numbering are ``connection.py``'s.
"""

from __future__ import annotations

from enum import Enum, auto

from session_manager_plugin.errors import LocalProtocolError, RemoteProtocolError


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
    """What moves the machine: what came from the far end, or what the owner decided."""

    REQUEST_RECEIVED = auto()
    ANSWER = auto()
    CHALLENGE_RECEIVED = auto()
    COMPLETE_RECEIVED = auto()
    DATA_RECEIVED = auto()
    NOTHING_CAME = auto()
    REQUEST = auto()
    SKIP = auto()
    RESPONSE_ACCEPTED = auto()
    KEY_RECEIVED = auto()
    CHALLENGE = auto()
    CHALLENGE_ANSWERED = auto()
    FAIL = auto()


_S, _I = HandshakeState, HandshakeInput

TRANSITIONS: dict[tuple[HandshakeState, HandshakeInput], HandshakeState] = {
    # client
    (_S.AWAITING, _I.REQUEST_RECEIVED): _S.ANSWERING,
    (_S.AWAITING, _I.DATA_RECEIVED): _S.SKIPPED,
    (_S.AWAITING, _I.NOTHING_CAME): _S.ASSUMED,
    (_S.ASSUMED, _I.REQUEST_RECEIVED): _S.ANSWERING,
    (_S.ASSUMED, _I.DATA_RECEIVED): _S.SKIPPED,
    (_S.ASSUMED, _I.SKIP): _S.SKIPPED,
    (_S.ANSWERING, _I.DATA_RECEIVED): _S.ANSWERING,
    (_S.ANSWERING, _I.ANSWER): _S.RESPONDED,
    (_S.RESPONDED, _I.DATA_RECEIVED): _S.RESPONDED,
    (_S.RESPONDED, _I.CHALLENGE_RECEIVED): _S.PROVED,
    (_S.RESPONDED, _I.COMPLETE_RECEIVED): _S.COMPLETE,
    (_S.PROVED, _I.DATA_RECEIVED): _S.PROVED,
    (_S.PROVED, _I.COMPLETE_RECEIVED): _S.COMPLETE,
    # agent
    (_S.AWAITING, _I.REQUEST): _S.REQUESTED,
    (_S.AWAITING, _I.SKIP): _S.SKIPPED,
    (_S.REQUESTED, _I.RESPONSE_ACCEPTED): _S.COMPLETE,
    (_S.REQUESTED, _I.KEY_RECEIVED): _S.DECRYPTING,
    (_S.DECRYPTING, _I.CHALLENGE): _S.CHALLENGED,
    (_S.CHALLENGED, _I.CHALLENGE_ANSWERED): _S.COMPLETE,
    # both
    (_S.COMPLETE, _I.DATA_RECEIVED): _S.COMPLETE,
    (_S.SKIPPED, _I.DATA_RECEIVED): _S.SKIPPED,
    (_S.AWAITING, _I.FAIL): _S.FAILED,
    (_S.ASSUMED, _I.FAIL): _S.FAILED,
    (_S.ANSWERING, _I.FAIL): _S.FAILED,
    (_S.RESPONDED, _I.FAIL): _S.FAILED,
    (_S.PROVED, _I.FAIL): _S.FAILED,
    (_S.REQUESTED, _I.FAIL): _S.FAILED,
    (_S.DECRYPTING, _I.FAIL): _S.FAILED,
    (_S.CHALLENGED, _I.FAIL): _S.FAILED,
}

_SETTLED = (_S.COMPLETE, _S.SKIPPED)
_OPEN = (*_SETTLED, _S.ASSUMED)
_LOCAL_INPUTS = frozenset({_I.ANSWER, _I.NOTHING_CAME, _I.REQUEST, _I.SKIP, _I.CHALLENGE, _I.FAIL})


class Handshake:
    """The state. One instance for the life of a session: a reconnect repeats nothing."""

    def __init__(self) -> None:
        self.state = HandshakeState.AWAITING

    @property
    def open(self) -> bool:
        """Whether data may flow: the handshake is complete, or there is (or seems to be) none."""
        return self.state in _OPEN

    @property
    def settled(self) -> bool:
        """Whether a handshake message can no longer come."""
        return self.state in _SETTLED

    def apply(self, step: HandshakeInput) -> None:
        """Make the transition. Raises ``LocalProtocolError`` or ``RemoteProtocolError`` by whose step it was."""
        try:
            self.state = TRANSITIONS[self.state, step]
        except KeyError:
            error = LocalProtocolError if step in _LOCAL_INPUTS else RemoteProtocolError
            raise error(f"handshake: {step.name} in state {self.state.name}") from None
