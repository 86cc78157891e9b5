"""What travels: messages and websocket frames, made and read with as little work as the far ends need.

Nothing here checks what it reads: both ends are known. A stream message's payload is of the full size, 1024 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from hashlib import sha256

from websockets.speedups import apply_mask

PAYLOAD_SIZE = 1024
HEADER = struct.Struct(">I32sIQqQ16s32sII")
PAYLOAD_OFFSET = 120
SEQUENCE_NUMBER = struct.Struct(">q")
SEQUENCE_NUMBER_OFFSET = 48
PAYLOAD_TYPE = struct.Struct(">I")
PAYLOAD_TYPE_OFFSET = 112
OUTPUT = b"output_stream_data".ljust(32)
INPUT = b"input_stream_data".ljust(32)
ACKNOWLEDGE = b"acknowledge".ljust(32)
CHANNEL_CLOSED = b"channel_closed".ljust(32)
TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
_MESSAGE_ID = bytes(range(16))
_ACKNOWLEDGEMENT = (
    '{"AcknowledgedMessageType":"%s","AcknowledgedMessageId":"00010203-0405-4607-8809-0a0b0c0d0e0f",'
    '"AcknowledgedMessageSequenceNumber":%d,"IsSequentialMessage":true}'
)


def message(message_type: bytes, number: int, payload_type: int, payload: bytes) -> bytes:
    """One message of the data channel."""
    digest = sha256(payload).digest()
    return HEADER.pack(116, message_type, 1, 1, number, 0, _MESSAGE_ID, digest, payload_type, len(payload)) + payload


def acknowledgement(acknowledged: str, number: int) -> bytes:
    """The acknowledgement of a stream message."""
    return message(ACKNOWLEDGE, 0, 0, (_ACKNOWLEDGEMENT % (acknowledged, number)).encode())


def channel_closed() -> bytes:
    """The normal end of a session."""
    return message(CHANNEL_CLOSED, 0, 0, b'{"MessageType":"channel_closed","Output":""}')


def frame(payload: bytes, head: int = BINARY) -> bytes:
    """A whole websocket message of a server."""
    if len(payload) < 126:
        return bytes((head, len(payload))) + payload
    return struct.pack(">BBH", head, 126, len(payload)) + payload


def output_blocks(payloads: list[bytes], count: int, first: int) -> Iterator[bytes]:
    """Frames of `count` output messages, numbered from `first`, with the payloads in a cycle; 256 in each block."""
    whole = message(OUTPUT, 0, 1, payloads[0])
    before, after = whole[:SEQUENCE_NUMBER_OFFSET], SEQUENCE_NUMBER_OFFSET + SEQUENCE_NUMBER.size
    heads, tails = [], []
    for payload in payloads:
        heads.append(struct.pack(">BBH", BINARY, 126, PAYLOAD_OFFSET + len(payload)) + before)
        tails.append(message(OUTPUT, 0, 1, payload)[after:])
    period, pack = len(payloads), SEQUENCE_NUMBER.pack
    for start in range(0, count, 256):
        pieces: list[bytes] = []
        for position in range(start, min(start + 256, count)):
            place = position % period
            pieces += (heads[place], pack(first + position), tails[place])
        yield b"".join(pieces)


def take_frames(buffer: bytearray, largest: int = 1 << 20) -> list[tuple[int, bytes]]:
    """Removes the whole masked frames that `buffer` begins with; gives opcode byte and payload of each.

    Those with more payload than `largest` are only skipped.
    """
    frames = []
    position, end = 0, len(buffer)
    while end - position >= 6:
        length = buffer[position + 1] & 0x7F
        start = position + 6
        if length == 126:
            length = (buffer[position + 2] << 8) | buffer[position + 3]
            start = position + 8
        following = start + length
        if following > end:
            break
        if length <= largest:
            frames.append((buffer[position], apply_mask(buffer[start:following], buffer[start - 4 : start])))
        position = following
    del buffer[:position]
    return frames
