"""Websocket frames as data channels carry them (RFC 6455 5.2): what is written, and what is cut out of a read.

A gateway sends unfragmented, unmasked binary messages of about 1 KiB, thousands a second, and now and then a ping or
a pong::

    0  1   0x82: FIN, binary
    1  1   length, or 126: a length of two bytes follows, big-endian
    …  n   payload

The library's parser, made for the general case, takes five times as long for each as the two slices here do.
"""

from __future__ import annotations

import struct

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform for which the library has no compiled part
    from websockets.utils import apply_mask

TEXT, BINARY = 0x81, 0x82
_PING, _PONG = 0x89, 0x8A
_MASKED = 0x80
_MEDIUM_LENGTH, _LONG_LENGTH = 126, 127
_MEDIUM_BINARY = BINARY << 8 | _MEDIUM_LENGTH

_SHORT, _MEDIUM, _LONG = struct.Struct(">BB"), struct.Struct(">BBH"), struct.Struct(">BBQ")
_START = struct.Struct(">HH")


def masked_frame(first_byte: int, payload: bytes, mask: bytes) -> bytes:
    """A whole message in one frame, as a client sends it; ``mask`` is 4 bytes nobody can foresee."""
    length = len(payload)
    if length < _MEDIUM_LENGTH:
        head = _SHORT.pack(first_byte, _MASKED | length)
    elif length < 65536:
        head = _MEDIUM.pack(first_byte, _MASKED | _MEDIUM_LENGTH, length)
    else:
        head = _LONG.pack(first_byte, _MASKED | _LONG_LENGTH, length)
    return b"".join((head, mask, apply_mask(payload, mask)))


class FrameCutter:
    """Cuts binary messages out of what a server sends, and leaves everything else to the library, in its place.

    Pings and pongs are left to it one by one. At the first frame of any other kind (fragments, text, close, 64 KiB and
    more, whatever breaks the rules) the cutting is over: the library gets that frame and all that comes behind it.
    So it sees whole frames from the start of one on, or everything, and no rule of the protocol is kept here. That
    needs the same ``max_size``, the most bytes a message may have.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._rest = b""
        self._over = False

    def cut(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Take the next bytes; gives the messages that come first, and the bytes behind them for the library.

        When there are such bytes, call it again, with none: more may follow them.
        """
        if self._over:
            return [], data
        if self._rest:
            data = self._rest + data
        messages: list[bytes] = []
        position, end = 0, len(data)
        while position + _START.size <= end:
            head, size = _START.unpack_from(data, position)
            start = position + 4
            if head != _MEDIUM_BINARY:
                size = head & 0xFF
                if head >> 8 != BINARY or size >= _MEDIUM_LENGTH:
                    break
                start = position + 2
            following = start + size
            if following > end or size > self._max_size:
                break
            messages.append(data[start:following])
            position = following
        self._rest = data[position:]
        return messages, self._take_other()

    def take_rest(self) -> bytes:
        """What is left when no more will come, for the library."""
        rest, self._rest, self._over = self._rest, b"", True
        return rest

    def _take_other(self) -> bytes:
        """What is not for us at the start of the rest, which begins with a frame; nothing if that may yet be for us."""
        rest = self._rest
        if not rest:
            return b""
        if rest[0] == BINARY:
            return self._take_binary()
        if rest[0] not in (_PING, _PONG) or (len(rest) > 1 and rest[1] >= _MEDIUM_LENGTH):
            return self.take_rest()
        if len(rest) == 1 or len(rest) < 2 + rest[1]:
            return b""
        self._rest = rest[2 + rest[1] :]
        return rest[: 2 + rest[1]]

    def _take_binary(self) -> bytes:
        """All of the rest if the message it begins with is none to cut; nothing if that is whole or only begun."""
        rest = self._rest
        size = rest[1] if len(rest) > 1 else 0
        if size == _MEDIUM_LENGTH:
            size = int.from_bytes(rest[2:4], "big") if len(rest) >= 4 else 0
        elif size > _MEDIUM_LENGTH:
            return self.take_rest()
        return self.take_rest() if size > self._max_size else b""
