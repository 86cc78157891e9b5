"""What a ``Connection`` tells its owner, in the order in which it happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from session_manager_plugin.errors import SessionManagerError


@dataclass(frozen=True, slots=True)
class SessionReady:
    """The session has begun: size and input may be sent.

    ``session_type`` is None when no handshake told it (current agents send none for a plain shell);
    ``peer_version`` is then empty. ``properties`` are the session type's, as they came. Comes a second time when a
    handshake follows after the client had begun without one.
    """

    session_type: str | None
    properties: dict[str, Any] = field(default_factory=dict)
    peer_version: str = ""
    customer_message: str = ""


@dataclass(frozen=True, slots=True)
class DataKeyRequired:
    """Encryption is asked for: KMS has to be called, which the core cannot do.

    A client has it generate a data key under ``key_id``; an agent has ``cipher_text`` decrypted. ``challenge``,
    unless it is empty, is to be part of the encryption context. The answer is ``provide_data_key`` or
    ``refuse_data_key``.
    """

    key_id: str
    challenge: str = ""
    cipher_text: bytes = b""


@dataclass(frozen=True, slots=True)
class DataReceived:
    """Payloads of one type, in order, each once: all that one read of the socket brought in a row."""

    payload_type: int
    payloads: list[bytes | bytearray]

    @property
    def data(self) -> bytes:
        """The payloads joined."""
        return b"".join(self.payloads)


@dataclass(frozen=True, slots=True)
class ChannelClosedReceived:
    """The service closed the session; ``output`` is its reason, empty at a normal end.

    ``undelivered`` messages had come and are lost, since others before them never came.
    """

    output: str
    undelivered: int = 0


@dataclass(frozen=True, slots=True)
class PublicationPaused:
    """The other end is away; nothing is sent until it is back."""


@dataclass(frozen=True, slots=True)
class PublicationStarted:
    """The other end is back; what is unacknowledged goes out again."""


@dataclass(frozen=True, slots=True)
class MessageRejected:
    """A message could not be used and was dropped unacknowledged; the session goes on."""

    reason: str


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """The session cannot go on; ``error`` is what its owner should raise."""

    error: SessionManagerError


Event = (
    SessionReady
    | DataKeyRequired
    | DataReceived
    | ChannelClosedReceived
    | PublicationPaused
    | PublicationStarted
    | MessageRejected
    | SessionFailed
)
