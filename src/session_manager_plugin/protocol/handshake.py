"""The handshake that may open a session, for both roles.

The agent asks (HandshakeRequest), the client answers each requested action (HandshakeResponse), the agent says that it
is satisfied (HandshakeComplete). The request is always the agent's first stream message, so a first message of any
other kind means: there is none. Current agents send none for plain shells and interactive commands.

Client states::

    AWAITING   nothing has come yet; the client waits a little before it assumes that there is no handshake
    ASSUMED    nothing came; the client has begun, and what it sends may be thrown away if a request comes after all
    RESPONDED  the request was answered
    COMPLETE   the agent is satisfied
    SKIPPED    there is no handshake

Agent states: AWAITING (before it has decided), REQUESTED, COMPLETE, SKIPPED. FAILED is either side's.

Invariant: an input without a row is a protocol error and leaves the state as it was. Clocks, numbering and the
messages themselves are the owner's business (``connection.py``).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

from session_manager_plugin.errors import ConfigurationError, EncryptionError, LocalProtocolError, RemoteProtocolError
from session_manager_plugin.protocol.payloads import (
    KMS_ENCRYPTION_ACTION,
    SESSION_TYPE_ACTION,
    ActionStatus,
    HandshakeRequest,
    HandshakeResponse,
    ProcessedAction,
    lower_keys,
)


class HandshakeState(Enum):
    """See the module docstring."""

    AWAITING = auto()
    ASSUMED = auto()
    REQUESTED = auto()
    RESPONDED = auto()
    COMPLETE = auto()
    SKIPPED = auto()
    FAILED = auto()


class HandshakeInput(Enum):
    """What moves the machine: what came from the far end, or what the owner decided."""

    REQUEST_RECEIVED = auto()
    COMPLETE_RECEIVED = auto()
    DATA_RECEIVED = auto()
    NOTHING_CAME = auto()
    REQUEST = auto()
    SKIP = auto()
    RESPONSE_ACCEPTED = auto()
    FAIL = auto()


_S, _I = HandshakeState, HandshakeInput

TRANSITIONS: dict[tuple[HandshakeState, HandshakeInput], HandshakeState] = {
    # client
    (_S.AWAITING, _I.REQUEST_RECEIVED): _S.RESPONDED,
    (_S.AWAITING, _I.DATA_RECEIVED): _S.SKIPPED,
    (_S.AWAITING, _I.NOTHING_CAME): _S.ASSUMED,
    (_S.ASSUMED, _I.REQUEST_RECEIVED): _S.RESPONDED,
    (_S.ASSUMED, _I.DATA_RECEIVED): _S.SKIPPED,
    (_S.ASSUMED, _I.SKIP): _S.SKIPPED,
    (_S.RESPONDED, _I.DATA_RECEIVED): _S.RESPONDED,
    (_S.RESPONDED, _I.COMPLETE_RECEIVED): _S.COMPLETE,
    # agent
    (_S.AWAITING, _I.REQUEST): _S.REQUESTED,
    (_S.AWAITING, _I.SKIP): _S.SKIPPED,
    (_S.REQUESTED, _I.RESPONSE_ACCEPTED): _S.COMPLETE,
    # both
    (_S.COMPLETE, _I.DATA_RECEIVED): _S.COMPLETE,
    (_S.SKIPPED, _I.DATA_RECEIVED): _S.SKIPPED,
    (_S.AWAITING, _I.FAIL): _S.FAILED,
    (_S.ASSUMED, _I.FAIL): _S.FAILED,
    (_S.REQUESTED, _I.FAIL): _S.FAILED,
    (_S.RESPONDED, _I.FAIL): _S.FAILED,
}

_SETTLED = (_S.COMPLETE, _S.SKIPPED)
_OPEN = (*_SETTLED, _S.ASSUMED)
_LOCAL_INPUTS = frozenset({_I.NOTHING_CAME, _I.REQUEST, _I.SKIP, _I.FAIL})


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a handshake settled. ``error`` is set when it failed: what the owner should end the session with."""

    session_type: str | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    peer_version: str = ""
    error: ConfigurationError | EncryptionError | RemoteProtocolError | None = None


class Handshake:
    """The state, and what was agreed. One instance for the life of a session: a reconnect repeats nothing."""

    def __init__(self) -> None:
        self.state = HandshakeState.AWAITING
        self.agreement = Agreement()

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

    def answer(
        self, request: HandshakeRequest, client_version: str, session_types: Collection[str]
    ) -> HandshakeResponse:
        """The client's answer to ``request``; ``agreement`` tells afterwards what was agreed or what failed.

        Texts and order are the official client's; an unsupported action is answered with status 3 (the official one
        puts the status into the result: reference defect U17).
        """
        self.apply(HandshakeInput.REQUEST_RECEIVED)
        agreement = Agreement(peer_version=request.agent_version)
        processed: list[ProcessedAction] = []
        errors: list[str] = []
        for action in request.actions:
            failure: ConfigurationError | EncryptionError | None = None
            if action.action_type == SESSION_TYPE_ACTION:
                session_type, properties = _session_type(action.parameters)
                if session_type in session_types:
                    agreement = replace(agreement, session_type=session_type, properties=properties)
                else:
                    failure = ConfigurationError(f"Unknown session type {session_type}")
            elif action.action_type == KMS_ENCRYPTION_ACTION:
                failure = EncryptionError("encryption with a KMS key is not supported by this version of the client")
            else:
                error = f"Unsupported action {action.action_type}"
                processed.append(ProcessedAction(action.action_type, ActionStatus.UNSUPPORTED, None, error))
                errors.append(error)
                continue
            if failure is None:
                processed.append(ProcessedAction(action.action_type, ActionStatus.SUCCESS))
            else:
                error = f"Failed to process action {action.action_type}: {failure}"
                processed.append(ProcessedAction(action.action_type, ActionStatus.FAILED, None, error))
                errors.append(str(failure))
                agreement = replace(agreement, error=agreement.error or failure)
        self.agreement = agreement
        return HandshakeResponse(client_version, tuple(processed), tuple(errors))

    def accept(self, response: HandshakeResponse, session_type: str, properties: dict[str, Any]) -> None:
        """The agent's judgement of the client's answer.

        Raises ``RemoteProtocolError`` with the official text when an action failed; the state stays as it was.
        """
        for action in response.actions:
            if action.status != ActionStatus.SUCCESS:
                raise RemoteProtocolError(
                    f"{action.action_type} failed on client with status {action.status} error: {action.error}"
                )
        self.apply(HandshakeInput.RESPONSE_ACCEPTED)
        self.agreement = Agreement(session_type, properties, response.client_version)


def _session_type(parameters: object) -> tuple[str, dict[str, Any]]:
    """The session type asked for and its properties; what cannot be read is empty, as in the official client."""
    fields = lower_keys(parameters)
    session_type, properties = fields.get("sessiontype"), fields.get("properties")
    return (
        session_type if isinstance(session_type, str) else "",
        properties if isinstance(properties, dict) else {},
    )
