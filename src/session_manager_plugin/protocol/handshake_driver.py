"""Drives the handshake of one endpoint: sends replies, emits events, and fails the session.

``Negotiation`` processes the payloads, and ``Readiness`` decides when the session may begin. This module acts on
their results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from session_manager_plugin.errors import EncryptionError, LocalProtocolError, ProtocolError, SessionManagerError
from session_manager_plugin.protocol.events import Event, MessageRejected, SessionReady
from session_manager_plugin.protocol.handshake import HandshakeState
from session_manager_plugin.protocol.negotiation import AgentNegotiation, ClientNegotiation
from session_manager_plugin.protocol.readiness import Readiness


class HandshakeDriver:
    """See the module docstring.

    ``send`` sends each payload in a message of its own, ``emit`` passes an event to the endpoint's owner, and ``fail``
    ends the session.
    """

    def __init__(
        self,
        negotiation: ClientNegotiation | AgentNegotiation,
        readiness: Readiness,
        *,
        send: Callable[[int, Iterable[bytes], float], None],
        emit: Callable[[Event], None],
        fail: Callable[[SessionManagerError], None],
    ) -> None:
        self._negotiation = negotiation
        self._handshake = negotiation.handshake
        self._readiness = readiness
        self._send = send
        self._emit = emit
        self._fail = fail

    def agent(self) -> AgentNegotiation:
        """Return the agent's negotiation. Raises ``LocalProtocolError`` in the client's role."""
        if not isinstance(self._negotiation, AgentNegotiation):
            raise LocalProtocolError("only the agent does this")
        return self._negotiation

    def receive(self, payload_type: int, payload: bytes | bytearray, now: float) -> None:
        """Process a handshake payload. An invalid one fails the session; after the handshake it is only rejected."""
        before = self._handshake.state
        try:
            self._reply(self._negotiation.receive(payload_type, payload, now), now)
            if self._handshake.state is not before:
                self._moved(now)
        except (ProtocolError, EncryptionError) as error:
            if self._handshake.settled:
                self._emit(MessageRejected(str(error)))
            else:
                self._fail(error)

    def data_received(self) -> None:
        """Handle data received while a handshake message may still follow."""
        before = self._handshake.state
        self._negotiation.data_received()
        if self._handshake.settled:
            self._readiness.handshake_excluded()
            if before is HandshakeState.AWAITING:
                self.become_ready()

    def handle_timeout(self, now: float) -> None:
        """Begin without a handshake, and stop waiting for a late one, when these are due."""
        if self._readiness.assumption_due(now):
            self._negotiation.assume_none()
            self.become_ready()
        if self._readiness.certain_by_now(now):
            self._negotiation.skip()
            self._readiness.handshake_excluded()

    def become_ready(self) -> None:
        """Emit ``SessionReady``."""
        self._readiness.began()
        agreement = self._negotiation.agreement
        self._emit(
            SessionReady(
                agreement.session_type, agreement.properties, agreement.peer_version, agreement.customer_message
            )
        )

    def request(
        self,
        session_type: str,
        properties: dict[str, Any] | None,
        now: float,
        *,
        kms_key_id: str,
        customer_message: Callable[[str], str] | None,
    ) -> None:
        """See ``SessionEndpoint.request_handshake``."""
        replies = self.agent().request(
            session_type, properties, now, kms_key_id=kms_key_id, customer_message=customer_message
        )
        self._readiness.handshake_moved(now)
        self._reply(replies, now)

    def provide_data_key(self, data_key: bytes, cipher_text: bytes, now: float) -> None:
        """See ``SessionEndpoint.provide_data_key``. Must not be called after the end of the session."""
        before = self._handshake.state
        try:
            if isinstance(self._negotiation, ClientNegotiation):
                self._reply(self._negotiation.provide_data_key(data_key, cipher_text), now)
            else:
                self._reply(self._negotiation.provide_data_key(data_key), now)
        except EncryptionError as error:
            self.refuse_data_key(error, now)
            return
        if self._handshake.state is not before:
            self._moved(now)

    def refuse_data_key(self, error: SessionManagerError, now: float) -> None:
        """See ``SessionEndpoint.refuse_data_key``. Must not be called after the end of the session."""
        if isinstance(self._negotiation, ClientNegotiation):
            self._reply(self._negotiation.refuse_data_key(error), now)
        self._fail(error)

    def _reply(self, replies: Iterable[tuple[int, bytes]], now: float) -> None:
        for payload_type, payload in replies:
            self._send(payload_type, [payload], now)

    def _moved(self, now: float) -> None:
        """Act on a change of the handshake's state."""
        self._readiness.handshake_moved(now)
        if self._negotiation.key_required is not None:
            self._emit(self._negotiation.key_required)
        if self._handshake.state is HandshakeState.COMPLETE:
            self.become_ready()
            self._reply(self._readiness.take_discarded(), now)
        if self._negotiation.agreement.error is not None:
            self._fail(self._negotiation.agreement.error)
