"""The binary message of the data channel: one record per websocket message.

Layout, big-endian (official client ``src/message/clientmessage.go``)::

      0   4  header length: offset of the payload length, 116 when written
      4  32  message type, padded with spaces
     36   4  schema version, 1
     40   8  created date, milliseconds since the Unix epoch
     48   8  sequence number, signed
     56   8  flags: bit 0 SYN, bit 1 FIN; neither end reads them
     64  16  message id: a UUID whose two 8-byte halves are swapped
     80  32  SHA-256 of the payload
    112   4  payload type          (absent in a channel_closed, whose header length is 112)
    116   4  payload length
    120   n  payload

Parsing is as lenient as in the official client: the payload is everything from
``header length + 4`` on, regardless of the payload length; payload type and length are read at 112 and 116 even if the
header is shorter; a payload length of 0 disables the digest check.
"""

from __future__ import annotations

import itertools
import json
import re
import struct
import uuid
from binascii import hexlify
from collections.abc import Callable, Iterable
from enum import IntEnum, StrEnum
from hashlib import sha256
from typing import Any, NamedTuple

from session_manager_plugin.errors import LocalProtocolError, RemoteProtocolError

SCHEMA_VERSION = 1
HEADER_LENGTH = 116
"""Offset of the payload length in the messages we write."""
PAYLOAD_OFFSET = 120
MAX_PAYLOAD_SIZE = 1024
"""Bytes of data in one stream message: both official ends read at most this much from their source."""
MAX_JSON_SIZE = 128 * 1024
"""Most bytes of a JSON payload: twice the limit of a session's document. The parsed value may take 30 times as many."""
MAX_JSON_DEPTH = 64
"""Most levels of nesting in a JSON payload: deeper values could overflow the stack."""
_INT64 = range(-(1 << 63), 1 << 63)

_HEADER = struct.Struct(">I32sIQqQ8s8s32sII")


class ClientMessageType(StrEnum):
    """The message types that a data channel carries."""

    INPUT_STREAM_DATA = "input_stream_data"
    OUTPUT_STREAM_DATA = "output_stream_data"
    ACKNOWLEDGE = "acknowledge"
    CHANNEL_CLOSED = "channel_closed"
    START_PUBLICATION = "start_publication"
    PAUSE_PUBLICATION = "pause_publication"
    AGENT_SESSION_STATE = "agent_session_state"


class PayloadType(IntEnum):
    """The type of a stream message's payload."""

    NONE = 0
    OUTPUT = 1
    ERROR = 2
    SIZE = 3
    PARAMETER = 4
    HANDSHAKE_REQUEST = 5
    HANDSHAKE_RESPONSE = 6
    HANDSHAKE_COMPLETE = 7
    ENC_CHALLENGE_REQUEST = 8
    ENC_CHALLENGE_RESPONSE = 9
    FLAG = 10
    STDERR = 11
    EXIT_CODE = 12


class Flag(IntEnum):
    """The payload of a FLAG message: four bytes, big-endian."""

    DISCONNECT_TO_PORT = 1
    TERMINATE_SESSION = 2
    CONNECT_TO_PORT_ERROR = 3

    def serialize(self) -> bytes:
        """Return the four bytes on the wire."""
        return self.to_bytes(4, "big")


_PADDED = {message_type.value.encode().ljust(32): message_type.value for message_type in ClientMessageType}
_PADDED_ACKNOWLEDGE = ClientMessageType.ACKNOWLEDGE.value.encode().ljust(32)
_UNVALIDATED = frozenset({ClientMessageType.START_PUBLICATION, ClientMessageType.PAUSE_PUBLICATION})


class ClientMessage(NamedTuple):
    """One message. ``message_id`` is in UUID byte order; ``created_date`` in milliseconds since the epoch.

    ``payload_type`` is a plain int, because the far end may send numbers that are not in ``PayloadType``.
    """

    message_type: str
    sequence_number: int
    payload_type: int
    payload: bytes | bytearray
    message_id: bytes
    created_date: int
    flags: int = 0
    schema_version: int = SCHEMA_VERSION

    def serialize(self) -> bytes:
        """Return the message as bytes.

        Raises ``LocalProtocolError``, as the official serializer fails, for an empty payload (the far end cannot
        distinguish it from a missing one), a message type over 32 bytes, and an id that is not 16 bytes.
        """
        message_type = self.message_type.encode()
        if len(message_type) > 32:
            raise LocalProtocolError(f"message type {self.message_type!r} is longer than 32 bytes")
        if not self.payload:
            raise LocalProtocolError("an empty payload cannot be sent")
        if len(self.message_id) != 16:
            raise LocalProtocolError("a message id is 16 bytes")
        return (
            _HEADER.pack(
                HEADER_LENGTH,
                message_type.ljust(32),
                self.schema_version,
                self.created_date,
                self.sequence_number,
                self.flags,
                self.message_id[8:],
                self.message_id[:8],
                sha256(self.payload).digest(),
                self.payload_type,
                len(self.payload),
            )
            + self.payload
        )

    @classmethod
    def parse(cls, data: bytes | bytearray) -> ClientMessage:
        """Parse one message by the rules at the top of this module.

        Raises ``RemoteProtocolError`` if the message is cut short, lacks a required field or does not match its digest.
        Of ``start_publication`` and ``pause_publication`` only the type is checked, because their bodies vary.
        """
        if len(data) < PAYLOAD_OFFSET:
            raise RemoteProtocolError(f"a message of {len(data)} bytes is shorter than its header")
        (
            header_length,
            padded_type,
            schema_version,
            created_date,
            sequence_number,
            flags,
            id_low,
            id_high,
            digest,
            payload_type,
            payload_length,
        ) = _HEADER.unpack_from(data)
        message_type = _PADDED.get(padded_type) or _message_type(padded_type)
        payload = data[header_length + 4 :]
        if message_type not in _UNVALIDATED:
            if not message_type:
                raise RemoteProtocolError("a message has no message type")
            if not header_length:
                raise RemoteProtocolError(f"{message_type!r}: the header length is zero")
            if not created_date:
                raise RemoteProtocolError(f"{message_type!r}: the created date is missing")
            if header_length + 4 > len(data):
                raise RemoteProtocolError(
                    f"{message_type!r}: the header length {header_length} is beyond the end of the message"
                )
            if payload_length and sha256(payload).digest() != digest:
                raise RemoteProtocolError(f"{message_type!r}: the payload does not match its digest")
        # Without the constructor of a named tuple, which is one more call for every message.
        return tuple.__new__(
            cls,
            (
                message_type,
                sequence_number,
                payload_type,
                payload,
                id_high + id_low,
                created_date,
                flags,
                schema_version,
            ),
        )


def _message_type(padded: bytes) -> str:
    """Return a message type as the official client does: NULs, then white space, are stripped at both ends."""
    try:
        return padded.strip(b"\0").decode().strip()
    except UnicodeDecodeError:
        raise RemoteProtocolError("a message type is not UTF-8") from None


class MessageIds:
    """Generates distinct version 4 UUIDs, as 16 bytes, from one random start.

    ``uuid4`` would draw 122 random bits per message. Ids only have to be distinct, so the 62 low bits, which RFC 9562
    leaves free, are a counter.
    """

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        start = uuid.UUID(bytes=random_bytes(16), version=4).bytes
        self.high = start[:8]
        """The upper half of every id, 8 bytes."""
        self.next_low: Callable[[], int] = itertools.count(_VARIANT | int.from_bytes(start[8:]) & _START_BITS).__next__
        """Return the lower half of the next id; the upper half is ``high``."""

    def next(self) -> bytes:
        """Return the next id, 16 bytes in UUID order."""
        return self.high + self.next_low().to_bytes(8, "big")


_START_BITS = (1 << 61) - 1
"""The counter starts in the lower half of its 62 bits, so that it cannot overflow."""
_VARIANT = 1 << 63


_STREAM_HEADER = struct.Struct(">I32sIQqQQ8s32sII")


class StreamMessageWriter:
    """Serializes the stream messages of one direction like ``ClientMessage``, without creating an object for each.

    ``first_flags`` are the flags of the message with sequence number 0; later messages have none.
    """

    def __init__(self, message_type: ClientMessageType, message_ids: MessageIds, *, first_flags: int) -> None:
        self._message_ids = message_ids
        self._first_flags = first_flags
        self._padded_type = message_type.value.encode().ljust(32)

    def write(self, sequence_number: int, payload_type: int, payload: bytes, created_date: int) -> bytes:
        """Return one message, with an id of its own. The payload must not be empty."""
        ids = self._message_ids
        return (
            _STREAM_HEADER.pack(
                HEADER_LENGTH,
                self._padded_type,
                SCHEMA_VERSION,
                created_date,
                sequence_number,
                0 if sequence_number else self._first_flags,
                ids.next_low(),
                ids.high,
                sha256(payload).digest(),
                payload_type,
                len(payload),
            )
            + payload
        )


_ACKNOWLEDGEMENT_OPENING = struct.Struct(">I32sIQqQ")
_ACKNOWLEDGEMENT_HEADER = struct.Struct(f">{_ACKNOWLEDGEMENT_OPENING.size}sQ8s32sII")
_UUID_GROUPS = struct.Struct("8s4s4s4s12s")
_NO_PAYLOAD_TYPE = PayloadType.NONE.value
_SYN_FIN = 3


class AcknowledgementWriter:
    """Serializes acknowledgements, one for each stream message received.

    The acknowledgement's own sequence number is 0 and its flags are 3, as the official ends write them.
    """

    def __init__(self, acknowledged_type: ClientMessageType, message_ids: MessageIds) -> None:
        self._message_ids = message_ids
        self._text = (
            f'{{"AcknowledgedMessageType":"{acknowledged_type}","AcknowledgedMessageId":"%b",'
            '"AcknowledgedMessageSequenceNumber":%d,"IsSequentialMessage":true}'
        ).encode()

    def write(self, received: Iterable[tuple[bytes, int]], created_date: int) -> list[bytes]:
        """Return the acknowledgements of messages with these ids (16 bytes) and sequence numbers."""
        opening = _ACKNOWLEDGEMENT_OPENING.pack(
            HEADER_LENGTH, _PADDED_ACKNOWLEDGE, SCHEMA_VERSION, created_date, 0, _SYN_FIN
        )
        text, next_id_low, id_high = self._text, self._message_ids.next_low, self._message_ids.high
        groups, header, none = _UUID_GROUPS.unpack, _ACKNOWLEDGEMENT_HEADER.pack, _NO_PAYLOAD_TYPE
        messages = []
        for message_id, sequence_number in received:
            payload = text % (b"-".join(groups(hexlify(message_id))), sequence_number)
            digest = sha256(payload).digest()
            messages.append(header(opening, next_id_low(), id_high, digest, none, len(payload)) + payload)
        return messages


_ACKNOWLEDGED = re.compile(
    rb'\{"AcknowledgedMessageType":"\w*","AcknowledgedMessageId":"[\w-]*",'
    rb'"AcknowledgedMessageSequenceNumber":(-?\d{1,18}),"IsSequentialMessage":true\}'
)


def acknowledged_sequence_number(payload: bytes | bytearray) -> int:
    """Return the sequence number in an acknowledgement, the only field in use.

    The text of the official ends is matched with a pattern, for speed; any other text is parsed as JSON.
    A missing number is 0. Raises ``RemoteProtocolError`` if the payload is not a JSON object or the number is not an
    integer.
    """
    if match := _ACKNOWLEDGED.fullmatch(payload):
        return int(match[1])
    value = parse_json_object(payload, "acknowledge").get("acknowledgedmessagesequencenumber", 0)
    if type(value) is not int or value not in _INT64:
        raise RemoteProtocolError("acknowledge: the sequence number is not an integer")
    return value


def parse_json_object(payload: bytes | bytearray | str, what: str) -> dict[str, Any]:
    """Return a JSON object with its keys in lower case: the official ends (Go) ignore the case of keys.

    As in Go, invalid UTF-8 and lone surrogates become U+FFFD, so that every string in the object can be encoded. Raises
    ``RemoteProtocolError``, which names ``what``, if the payload is not a JSON object, is larger than ``MAX_JSON_SIZE``
    or nested deeper than ``MAX_JSON_DEPTH``.
    """
    data = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else payload
    if len(data) > MAX_JSON_SIZE:
        raise RemoteProtocolError(f"{what}: a JSON payload of {len(data)} bytes is too long")
    text = data.decode(errors="replace")
    try:
        value = _DECODER.decode(text)
        if text.count("[") + text.count("{") > MAX_JSON_DEPTH and _is_too_deep(value):
            raise RecursionError
        if "\\ud" in text.lower():
            whole = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass")
            value = _DECODER.decode(whole.decode("utf-16", "replace"))
    except ValueError:
        raise RemoteProtocolError(f"{what}: the payload is not JSON") from None
    except RecursionError:
        raise RemoteProtocolError(f"{what}: the JSON payload is nested too deep") from None
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"{what}: the payload is not a JSON object")
    return {key.lower(): item for key, item in value.items()}


def _is_too_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
"""Refuses NaN and infinities, which Python accepts by default and the official ends do not."""
