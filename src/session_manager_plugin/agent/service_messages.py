"""The messages that the gateway itself creates: ``channel_closed``, ``pause_publication``, ``start_publication``.

The service writes ``channel_closed`` with a header of 112 bytes, without the payload type::

      0   4  header length, 112
      4  32  message type … 80  32  SHA-256 of the payload      as in ``protocol/messages.py``
    112   4  payload length
    116   n  payload

Clients have to accept that, so the sandbox writes the same header.
"""

from __future__ import annotations

import struct
import uuid
from datetime import UTC, datetime
from hashlib import sha256

from session_manager_plugin.protocol.messages import ClientMessage, ClientMessageType, PayloadType
from session_manager_plugin.protocol.payloads import ChannelClosed

_HEADER_LENGTH = 112
_HEADER = struct.Struct(">I32sIQqQ8s8s32sI")


def channel_closed_message(
    session_id: str, output: str, *, created_at: datetime, message_id: uuid.UUID, sequence_number: int = 0
) -> bytes:
    """Return the message that ends a session at both ends. ``output`` is the reason; empty at a normal end."""
    text = created_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    payload = ChannelClosed(session_id, output, str(message_id), session_id, text).to_json().encode()
    return (
        _HEADER.pack(
            _HEADER_LENGTH,
            ClientMessageType.CHANNEL_CLOSED.value.encode().ljust(32),
            1,
            _milliseconds(created_at),
            sequence_number,
            0,
            message_id.bytes[8:],
            message_id.bytes[:8],
            sha256(payload).digest(),
            len(payload),
        )
        + payload
    )


def publication_message(message_type: ClientMessageType, *, created_at: datetime, message_id: uuid.UUID) -> bytes:
    """Return ``pause_publication`` (the other end is away) or ``start_publication`` (it is back)."""
    return ClientMessage(
        message_type.value,
        0,
        PayloadType.NONE,
        message_type.value.encode(),
        message_id.bytes,
        _milliseconds(created_at),
    ).serialize()


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
