"""The messages of the handshake, for each role.

A negotiation processes received payloads of types 5 to 9 and returns the payloads to send. It is the only class that
applies inputs to the ``Handshake``. If encryption is requested, it sets ``key_required`` and waits until its owner has
called KMS. Texts and order are those of the official client and agent (``src/datachannel/streaming.go``,
``agent/session/datachannel/datachannel.go``).
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from session_manager_plugin.errors import (
    AgentTooOld,
    ConfigurationError,
    EncryptionError,
    RemoteProtocolError,
    SessionManagerError,
)
from session_manager_plugin.protocol.crypto import PayloadCipher
from session_manager_plugin.protocol.events import DataKeyRequired
from session_manager_plugin.protocol.handshake import Handshake, HandshakeInput, HandshakeState
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.protocol.payloads import (
    KMS_ENCRYPTION_ACTION,
    SESSION_TYPE_ACTION,
    ActionStatus,
    EncryptionChallenge,
    HandshakeComplete,
    HandshakeRequest,
    HandshakeResponse,
    KmsResult,
    ProcessedAction,
    RequestedAction,
    lower_keys,
)
from session_manager_plugin.protocol.role import Role
from session_manager_plugin.protocol.versions import SEPARATE_OUTPUTS_FROM, agent_supports_separate_outputs

Replies = list[tuple[PayloadType, bytes]]
RandomBytes = Callable[[int], bytes]

AGENT_CHALLENGE_SIZE = 16
"""Bytes of the challenge that goes into the data key's encryption context."""
CHALLENGE_SIZE = 64
"""Bytes of the challenge that the agent seals. The client opens it and seals it again."""
MAX_SESSION_TYPE_LENGTH = 128
"""Characters kept of a session type's name. The answer to an unknown session type repeats them."""
ENCRYPTED_MESSAGE = "This session is encrypted using AWS KMS."


class Agreement(NamedTuple):
    """The result of a handshake. ``error`` is set if the handshake failed: the session ends with that error."""

    session_type: str | None
    properties: dict[str, Any]
    peer_version: str = ""
    customer_message: str = ""
    error: SessionManagerError | None = None


class Negotiation:
    """The part that both roles share."""

    def __init__(self, role: Role, version: str, random_bytes: RandomBytes) -> None:
        self.handshake = Handshake(role)
        self.agreement = Agreement(None, {})
        self.cipher: PayloadCipher | None = None
        """Set once this end has the data key."""
        self.key_required: DataKeyRequired | None = None
        """Set while waiting for the owner to call KMS."""
        self._version = version
        self._random_bytes = random_bytes

    def receive(self, payload_type: int, payload: bytes | bytearray, now: float) -> Replies:
        """Process a handshake payload of the far end. Returns the payloads to send.

        Raises ``ProtocolError`` or ``EncryptionError``.
        """
        raise RemoteProtocolError(f"handshake: unexpected payload type {payload_type}")

    def data_received(self) -> None:
        """Handle data received while a handshake message may still follow."""
        self.handshake.apply(HandshakeInput.DATA_RECEIVED)

    def assume_none(self) -> None:
        """Begin as a client on the assumption that no handshake follows."""
        self.handshake.apply(HandshakeInput.ASSUME_NONE)

    def skip(self) -> None:
        """Note that the session has no handshake: decided by the agent, or certain for the client."""
        self.handshake.apply(HandshakeInput.SKIP)

    def fail(self) -> None:
        """Fail the handshake. Does nothing if the handshake is complete or was skipped."""
        if not self.handshake.settled:
            self.handshake.apply(HandshakeInput.FAIL)


class ClientNegotiation(Negotiation):
    """The client's part. ``session_types`` are the supported ones. With ``separate_outputs`` an agent that cannot keep
    a command's outputs apart is refused."""

    def __init__(
        self, version: str, random_bytes: RandomBytes, session_types: Collection[str], *, separate_outputs: bool = False
    ) -> None:
        super().__init__(Role.CLIENT, version, random_bytes)
        self._separate_outputs = separate_outputs
        self._session_types = session_types
        self._request = HandshakeRequest("")

    def receive(self, payload_type: int, payload: bytes | bytearray, now: float) -> Replies:
        match payload_type:
            case PayloadType.HANDSHAKE_REQUEST:
                return self._take_request(HandshakeRequest.from_json(payload))
            case PayloadType.ENC_CHALLENGE_REQUEST:
                return self._prove(EncryptionChallenge.from_json(payload))
            case PayloadType.HANDSHAKE_COMPLETE:
                self._take_complete(HandshakeComplete.from_json(payload))
                return []
        return super().receive(payload_type, payload, now)

    def provide_data_key(self, data_key: bytes, cipher_text: bytes) -> Replies:
        """Answer the request with the data key that KMS has generated, in plaintext and encrypted.

        Raises ``EncryptionError`` for a key of the wrong size.
        """
        self.cipher = PayloadCipher(data_key, agent=False, random_bytes=self._random_bytes)
        required, self.key_required = self.key_required, None
        return self._answer(KmsResult(cipher_text, challenge_acknowledged=bool(required and required.challenge)))

    def refuse_data_key(self, error: SessionManagerError) -> Replies:
        """Answer the request with the reason why KMS returned no data key. This sets ``agreement.error``."""
        self.key_required = None
        return self._answer(error)

    def _take_request(self, request: HandshakeRequest) -> Replies:
        self.handshake.apply(HandshakeInput.REQUEST_RECEIVED)
        self._request = request
        self.agreement = self._agree(request)
        for action in request.actions:
            if action.action_type == KMS_ENCRYPTION_ACTION and self.agreement.error is None:
                return self._require_key(lower_keys(action.parameters))
        return self._answer(None)

    def _agree(self, request: HandshakeRequest) -> Agreement:
        agreement = Agreement(None, {}, request.agent_version)
        if self._separate_outputs and not agent_supports_separate_outputs(request.agent_version):
            too_old = AgentTooOld(
                f"the target's agent, {request.agent_version}, sends no exit status of a command: "
                f"that takes version {SEPARATE_OUTPUTS_FROM}"
            )
            agreement = agreement._replace(error=too_old)
        for action in request.actions:
            if action.action_type == SESSION_TYPE_ACTION:
                session_type, properties = _session_type(action.parameters)
                if session_type in self._session_types:
                    agreement = agreement._replace(session_type=session_type, properties=properties)
                else:
                    error = ConfigurationError(f"Unknown session type {session_type}")
                    agreement = agreement._replace(error=agreement.error or error)
        return agreement

    def _require_key(self, parameters: dict[str, Any]) -> Replies:
        key_id, challenge = parameters.get("kmskeyid"), parameters.get("challenge")
        if not isinstance(key_id, str) or not key_id:
            # The official client calls KMS with an empty key id (reference defect U19).
            return self._answer(EncryptionError("the agent requests encryption without a key id"))
        self.key_required = DataKeyRequired(key_id, challenge if isinstance(challenge, str) else "")
        return []

    def _answer(self, key: KmsResult | SessionManagerError | None) -> Replies:
        """Answer every action. An unsupported action gets status 3, which the official client writes into the result
        instead of the status (reference defect U17)."""
        processed: list[ProcessedAction] = []
        errors: list[str] = []
        for action in self._request.actions:
            failure: SessionManagerError | None = None
            result: object = None
            if action.action_type == SESSION_TYPE_ACTION:
                failure = self.agreement.error
            elif action.action_type != KMS_ENCRYPTION_ACTION:
                error = f"Unsupported action {action.action_type}"
                processed.append(ProcessedAction(action.action_type, ActionStatus.UNSUPPORTED, None, error))
                errors.append(error)
                continue
            elif isinstance(key, KmsResult):
                result = key.to_value()
            else:
                failure = key or self.agreement.error
            if failure is None:
                processed.append(ProcessedAction(action.action_type, ActionStatus.SUCCESS, result))
            else:
                error = f"Failed to process action {action.action_type}: {failure}"
                processed.append(ProcessedAction(action.action_type, ActionStatus.FAILED, None, error))
                errors.append(str(failure))
        if isinstance(key, SessionManagerError):
            self.agreement = self.agreement._replace(error=key)
        self.handshake.apply(HandshakeInput.ANSWER)
        response = HandshakeResponse(self._version, tuple(processed), tuple(errors))
        return [(PayloadType.HANDSHAKE_RESPONSE, response.to_json().encode())]

    def _prove(self, challenge: EncryptionChallenge) -> Replies:
        if self.cipher is None:
            # The official client stops reading at this message (reference defect H4).
            raise RemoteProtocolError("handshake: an encryption challenge without a key")
        self.handshake.apply(HandshakeInput.CHALLENGE_RECEIVED)
        answer = EncryptionChallenge(self.cipher.seal(self.cipher.open(challenge.challenge)))
        return [(PayloadType.ENC_CHALLENGE_RESPONSE, answer.to_json().encode())]

    def _take_complete(self, complete: HandshakeComplete) -> None:
        if self.agreement.session_type is None:
            raise RemoteProtocolError("the handshake ended without a session type")
        self.handshake.apply(HandshakeInput.COMPLETE_RECEIVED)
        self.agreement = self.agreement._replace(customer_message=complete.customer_message)


class AgentNegotiation(Negotiation):
    """The agent's part."""

    def __init__(self, version: str, random_bytes: RandomBytes) -> None:
        super().__init__(Role.AGENT, version, random_bytes)
        self._requested: tuple[str, dict[str, Any]] = ("", {})
        self._key_id = ""
        self._key_challenge = ""
        self._challenge = b""
        self._peer_version = ""
        self._customer_message: Callable[[str], str] = lambda _client_version: ""
        self._began_at = 0.0

    def request(
        self,
        session_type: str,
        properties: dict[str, Any] | None,
        now: float,
        *,
        kms_key_id: str = "",
        customer_message: Callable[[str], str] | None = None,
    ) -> Replies:
        """Request a session type and, if ``kms_key_id`` is set, encryption.

        ``customer_message`` returns the text to show to the user for the client's version. Raises
        ``LocalProtocolError`` if the handshake has begun already.
        """
        self.handshake.apply(HandshakeInput.REQUEST)
        self._requested = (session_type, properties or {})
        self._key_id = kms_key_id
        self._customer_message = customer_message or self._customer_message
        self._began_at = now
        actions = [
            RequestedAction(SESSION_TYPE_ACTION, {"SessionType": session_type, "Properties": properties}),
        ]
        if kms_key_id:
            self._key_challenge = b64encode(self._random_bytes(AGENT_CHALLENGE_SIZE)).decode()
            parameters = {"KMSKeyId": kms_key_id, "Challenge": self._key_challenge}
            actions.append(RequestedAction(KMS_ENCRYPTION_ACTION, parameters))
        request = HandshakeRequest(self._version, tuple(actions))
        return [(PayloadType.HANDSHAKE_REQUEST, request.to_json().encode())]

    def receive(self, payload_type: int, payload: bytes | bytearray, now: float) -> Replies:
        match payload_type:
            case PayloadType.HANDSHAKE_RESPONSE:
                return self._take_response(HandshakeResponse.from_json(payload), now)
            case PayloadType.ENC_CHALLENGE_RESPONSE:
                return self._take_proof(EncryptionChallenge.from_json(payload), now)
        return super().receive(payload_type, payload, now)

    def provide_data_key(self, data_key: bytes) -> Replies:
        """Return the challenge by which the client proves that it has the data key."""
        self.cipher = PayloadCipher(data_key, agent=True, random_bytes=self._random_bytes)
        self.key_required = None
        self.handshake.apply(HandshakeInput.CHALLENGE)
        self._challenge = self._random_bytes(CHALLENGE_SIZE)
        challenge = EncryptionChallenge(self.cipher.seal(self._challenge))
        return [(PayloadType.ENC_CHALLENGE_REQUEST, challenge.to_json().encode())]

    def _take_response(self, response: HandshakeResponse, now: float) -> Replies:
        result: KmsResult | None = None
        for action in response.actions:
            if action.status != ActionStatus.SUCCESS:
                raise RemoteProtocolError(
                    f"{action.action_type} failed on client with status {action.status} error: {action.error}"
                )
            if action.action_type == KMS_ENCRYPTION_ACTION:
                result = KmsResult.from_value(action.result)
        self._peer_version = response.client_version
        if not self._key_id:
            self.handshake.apply(HandshakeInput.RESPONSE_ACCEPTED)
            return self._complete(now)
        if result is None:
            raise RemoteProtocolError(f"{KMS_ENCRYPTION_ACTION} was not answered by the client")
        self.handshake.apply(HandshakeInput.KEY_RECEIVED)
        challenge = self._key_challenge if result.challenge_acknowledged else ""
        self.key_required = DataKeyRequired(self._key_id, challenge, result.cipher_text_key)
        return []

    def _take_proof(self, proof: EncryptionChallenge, now: float) -> Replies:
        if self.cipher is None or self.handshake.state is not HandshakeState.CHALLENGED:
            raise RemoteProtocolError("handshake: a challenge response without a challenge")
        if not hmac.compare_digest(self.cipher.open(proof.challenge), self._challenge):
            raise EncryptionError("the client's challenge response is wrong; it does not hold the session key")
        self.handshake.apply(HandshakeInput.CHALLENGE_ANSWERED)
        return self._complete(now)

    def _complete(self, now: float) -> Replies:
        message = self._customer_message(self._peer_version) + (ENCRYPTED_MESSAGE if self._key_id else "")
        self.agreement = Agreement(*self._requested, self._peer_version, message)
        complete = HandshakeComplete(int((now - self._began_at) * 1e9), message)
        return [(PayloadType.HANDSHAKE_COMPLETE, complete.to_json().encode())]


def _session_type(parameters: object) -> tuple[str, dict[str, Any]]:
    """Return the requested session type and its properties. Malformed fields are empty, as in the official client."""
    fields = lower_keys(parameters)
    session_type, properties = fields.get("sessiontype"), fields.get("properties")
    return (
        session_type[:MAX_SESSION_TYPE_LENGTH] if isinstance(session_type, str) else "",
        properties if isinstance(properties, dict) else {},
    )
