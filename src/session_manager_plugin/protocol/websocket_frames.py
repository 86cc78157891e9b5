"""Parsing the websocket frames of data channels. Nearly all are unfragmented binary messages (RFC 6455, section 5.2).

::

    0  1   FIN (0x80), three reserved bits, opcode; 0x82 is a whole binary message
    1  1   bit 7: masked (a client's frames are, a server's are not); the rest: length, or
           126: a length of two bytes follows, or 127: of eight
    …  4   masking key, if masked
    …  n   payload

Thousands of these frames arrive per second, so they are parsed here, in a fraction of the time that a library needs for
the general case. All other frames, illegal ones included, are passed to the library, unchanged and in order.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

Mask = Callable[[bytes, bytes], bytes]
"""Masks a payload, or removes its mask: ``websockets.speedups.apply_mask``."""

_BINARY = 0x82
_TEXT = 0x81
_FIN = 0x80
_MASKED = 0x80
_RESERVED_BITS = 0x70
_OPCODE = 0x0F
_CONTINUATION = 0x0
_OPCODES = frozenset({0x0, 0x1, 0x2, 0x8, 0x9, 0xA})
_CONTROL = 0x8
"""The opcode bit of control frames. Those have at most 125 bytes of payload and are not fragmented."""
_MEDIUM = 126
_LONG = 127
_SHORT_HEADER = struct.Struct(">BB")
_HEADER = struct.Struct(">BBH")
_LONG_HEADER = struct.Struct(">BBQ")
_USUAL_HEADER = struct.Struct(">HH")


def frame_header(size: int) -> bytes:
    """Return a server's frame header for a binary message of less than 64 KiB."""
    return _HEADER.pack(_BINARY, _MEDIUM, size) if size >= _MEDIUM else bytes((_BINARY, size))


MASKING_KEYS = 1024
"""Bytes of masking keys drawn at once: a system call for each write would cost more than the masking."""


class FrameWriter:
    """Serializes a client's messages, each as one masked frame.

    ``random_bytes(n)`` returns n unpredictable bytes (RFC 6455, sections 5.3 and 10.3), ``mask`` applies a key to a
    payload.
    """

    def __init__(self, random_bytes: Callable[[int], bytes], mask: Mask) -> None:
        self._random_bytes = random_bytes
        self._mask = mask
        self._keys = b""
        self._position = 0

    def write(self, messages: Iterable[bytes | str]) -> bytes:
        """Return the frames of ``messages``: ``bytes`` as binary messages, ``str`` as text."""
        mask, keys, position = self._mask, self._keys, self._position
        frames = []
        for message in messages:
            payload, opcode = (message.encode(), _TEXT) if isinstance(message, str) else (message, _BINARY)
            size = len(payload)
            if size < _MEDIUM:
                frames.append(_SHORT_HEADER.pack(opcode, _MASKED | size))
            elif size < 65536:
                frames.append(_HEADER.pack(opcode, _MASKED | _MEDIUM, size))
            else:
                frames.append(_LONG_HEADER.pack(opcode, _MASKED | _LONG, size))
            if position == len(keys):
                keys, position = self._random_bytes(MASKING_KEYS), 0
            key = keys[position : position + 4]
            position += 4
            frames += (key, mask(payload, key))
        self._keys, self._position = keys, position
        return b"".join(frames)


class FrameReader:
    """Splits received bytes into frames.

    ``max_size`` is the largest payload of a frame in bytes. Pass ``unmask`` if the peer is a client, whose frames are
    masked.
    """

    def __init__(self, max_size: int, unmask: Mask | None = None) -> None:
        self._max_size = max_size
        self._unmask = unmask
        self._mask_bit, self._mask_size = (_MASKED, 4) if unmask is not None else (0, 0)
        self._usual = _BINARY << 8 | self._mask_bit | _MEDIUM
        """The first two bytes of a binary message with a length field of two bytes."""
        self._data = b""
        """The bytes being read, up to ``_position``. Slicing ``bytes`` is faster than slicing a ``bytearray``."""
        self._position = 0
        self._buffer = bytearray()
        """The start of a frame that did not end in ``_data``, and the bytes received since."""
        self._needed = 0
        """The length of the buffer at which its first frame is complete, as far as the received bytes determine it."""

    def feed(self, data: bytes | memoryview) -> None:
        """Add received bytes. They are copied."""
        if self._data or self._buffer:
            self._buffer += self._data[self._position :]
            self._buffer += data
            self._data, self._position = b"", 0
        else:
            self._data = bytes(data)

    def read(self, *, binary: bool) -> tuple[list[bytes], bytes]:
        """Return the payloads of the binary messages at the start of the buffer, and the next frame of another kind.

        The frame is empty if none has arrived completely. Without ``binary``, binary messages too count as frames of
        another kind. An illegal or oversized frame is returned with the rest of the buffer.
        """
        payloads: list[bytes] = []
        other = b""
        if self._buffer and not self._data:
            if len(self._buffer) < self._needed:
                return payloads, other
            self._data = bytes(self._buffer)
            self._buffer.clear()
        data, position, end = self._data, self._position, len(self._data)
        while position < end and not other:
            if binary:
                position = self._take_usual(data, position, payloads)
                if position == end:
                    break
            start, following = self._extent(data, position)
            if following > end:
                self._buffer += data[position:]
                self._needed = following - position
                position = end
            else:
                if binary and start and data[position] == _BINARY:
                    payloads.append(self._payload(data, start, following))
                else:
                    other = data[position:following]
                position = following
        if position == end:
            self._data, position = b"", 0
        self._position = position
        return payloads, other

    def _take_usual(self, data: bytes, position: int, payloads: list[bytes]) -> int:
        """Parse consecutive messages with a length field of two bytes (nearly all). Returns the position after them."""
        max_size, unmask = self._max_size, self._unmask
        unpack, usual = _USUAL_HEADER.unpack_from, self._usual
        header_size = _USUAL_HEADER.size + self._mask_size
        end = len(data)
        while end - position >= header_size:
            head, size = unpack(data, position)
            start = position + header_size
            following = start + size
            if head != usual or following > end or size > max_size:
                break
            payload = data[start:following]
            payloads.append(payload if unmask is None else unmask(payload, data[start - 4 : start]))
            position = following
        return position

    def _extent(self, data: bytes, position: int) -> tuple[int, int]:
        """Return the start of the payload and the end of the frame at ``position``.

        The end is beyond the received bytes if the frame is incomplete. For an illegal or oversized frame,
        returns 0 and the end of the received bytes."""
        end = len(data)
        start = position + 2
        if start > end:
            return start, start
        first, second = data[position:start]
        opcode, size = first & _OPCODE, second & ~_MASKED
        legal = opcode in _OPCODES and not first & _RESERVED_BITS and second & _MASKED == self._mask_bit
        if opcode & _CONTROL:
            legal = legal and size < _MEDIUM and first & _FIN != 0
        if legal and size >= _MEDIUM:
            width = 2 if size == _MEDIUM else 8
            if start + width > end:
                return start, start + width
            size = int.from_bytes(data[start : start + width], "big")
            start += width
        if not legal or size > self._max_size:
            return 0, end
        start += self._mask_size
        return start, start + size

    def _payload(self, data: bytes, start: int, end: int) -> bytes:
        payload = data[start:end]
        return payload if self._unmask is None else self._unmask(payload, data[start - 4 : start])


class FragmentJoiner:
    """Joins the frames of fragmented messages (RFC 6455, section 5.4).

    The order of frames is not checked here: the library has refused an illegal order.
    """

    def __init__(self) -> None:
        self._opcode: int | None = None
        """The opcode of the incomplete message; None if there is none."""
        self._data = bytearray()

    @property
    def is_waiting(self) -> bool:
        """Whether a message is incomplete."""
        return self._opcode is not None

    def add(self, opcode: int, data: bytes | bytearray, *, fin: bool) -> tuple[int, bytes | bytearray] | None:
        """Add one frame of a text or binary message. Returns the message's opcode and payload once it is complete."""
        if opcode != _CONTINUATION:
            if fin:
                return opcode, data
            self._opcode, self._data = opcode, bytearray()
        self._data += data
        if not fin or self._opcode is None:
            return None
        message = self._opcode, self._data
        self._opcode, self._data = None, bytearray()
        return message
