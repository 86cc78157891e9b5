"""``protocol/websocket_frames.py``: frames are serialized and parsed as by the library."""

from __future__ import annotations

import random
import time

import pytest
from websockets.frames import Frame, Opcode
from websockets.utils import apply_mask

from session_manager_plugin.protocol.websocket_frames import FrameReader, frame_header

MAX_SIZE = 64 * 1024
SIZES = [0, 1, 125, 126, 127, 1024, 1144, 65535]
FROM_CLIENT, FROM_SERVER = True, False
both_ways = pytest.mark.parametrize("masked", [FROM_CLIENT, FROM_SERVER])


def reader_of(masked: bool) -> FrameReader:
    return FrameReader(MAX_SIZE, apply_mask if masked else None)


def serialize(data: bytes, masked: bool, opcode: Opcode = Opcode.BINARY, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=masked)


def read_all(reader: FrameReader, data: bytes) -> list[bytes]:
    """All messages in ``data``, which holds nothing else."""
    reader.feed(data)
    payloads, other = reader.read(binary=True)
    assert other == b""
    return payloads


@pytest.mark.parametrize("size", SIZES)
def test_a_written_frame_is_the_librarys(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert frame_header(size) + data == Frame(Opcode.BINARY, data).serialize(mask=False)


@both_ways
@pytest.mark.parametrize("size", [*SIZES, 65536])
def test_the_librarys_frame_is_read(size: int, masked: bool) -> None:
    data = random.Random(size).randbytes(size)
    assert read_all(reader_of(masked), serialize(data, masked)) == [data]


@both_ways
def test_frames_cut_anywhere_are_read_in_order(masked: bool) -> None:
    source = random.Random(1)
    messages = [source.randbytes(source.choice(SIZES[:-1])) for _ in range(200)]
    data = b"".join(serialize(message, masked) for message in messages)
    reader = reader_of(masked)
    received = []
    while data:
        cut = source.randrange(1, 2000)
        received += read_all(reader, data[:cut])
        data = data[cut:]
    assert received == messages


@both_ways
def test_a_header_cut_at_every_place_waits(masked: bool) -> None:
    for size in (5, 1000, 65536):
        whole = serialize(bytes(size), masked)
        for cut in range(min(14, len(whole))):
            reader = reader_of(masked)
            assert read_all(reader, whole[:cut]) == []
            assert read_all(reader, whole[cut:]) == [bytes(size)]


@both_ways
@pytest.mark.parametrize(
    ("opcode", "data", "fin"),
    [
        (Opcode.PING, b"hello", True),
        (Opcode.PONG, b"", True),
        (Opcode.TEXT, b"text", True),
        (Opcode.CLOSE, b"\x03\xe8bye", True),
        (Opcode.BINARY, b"part", False),
        (Opcode.BINARY, bytes(1000), False),
        (Opcode.CONT, b"rest", True),
        (Opcode.TEXT, bytes(65536), True),
    ],
)
def test_other_frames_are_handed_on_undivided_and_in_their_place(
    opcode: Opcode, data: bytes, fin: bool, masked: bool
) -> None:
    frame, behind = serialize(data, masked, opcode, fin=fin), serialize(b"behind", masked)
    reader = reader_of(masked)
    stream = serialize(b"before", masked) + frame + behind
    for position in range(len(stream)):
        if position == len(stream) - len(behind) - 1:
            payloads, other = reader.read(binary=True)
            assert (payloads, other) == ([b"before"], b"")
        reader.feed(stream[position : position + 1])
    assert reader.read(binary=True) == ([], frame)
    assert reader.read(binary=True) == ([b"behind"], b"")
    assert reader.read(binary=True) == ([], b"")


@both_ways
def test_every_frame_is_of_the_other_kind_when_that_is_asked_for(masked: bool) -> None:
    first, second = serialize(b"first", masked), serialize(b"second", masked)
    reader = reader_of(masked)
    reader.feed(first + second)
    assert reader.read(binary=False) == ([], first)
    assert reader.read(binary=True) == ([b"second"], b"")


@both_ways
@pytest.mark.parametrize(
    "head",
    [b"\xc2\x05", b"\x83\x05", b"\x8f\x05", b"\x09\x05", b"\x89\x7e", b"HT"],
    ids=["reserved bit", "unknown opcode", "unknown control", "divided control", "long control", "no websocket at all"],
)
def test_what_breaks_the_rules_is_not_waited_for(head: bytes, masked: bool) -> None:
    """The library refuses it as soon as it sees it, and so must we: what is announced may never come."""
    if masked:
        head = bytes((head[0], head[1] | 0x80))
    reader = reader_of(masked)
    reader.feed(serialize(b"good", masked) + head)
    assert reader.read(binary=True) == ([b"good"], head)
    reader.feed(b"and so on")
    assert reader.read(binary=False) == ([], b"and so on")


@both_ways
@pytest.mark.parametrize("size", [5, 1000])
def test_a_mask_where_none_belongs_and_none_where_one_does(size: int, masked: bool) -> None:
    frame = serialize(bytes(size), not masked)
    reader = reader_of(masked)
    reader.feed(frame + frame)
    assert reader.read(binary=True) == ([], frame + frame)


@both_ways
def test_a_frame_with_too_much_payload_is_not_waited_for(masked: bool) -> None:
    head = serialize(bytes(MAX_SIZE + 1), masked)[:20]
    reader = reader_of(masked)
    reader.feed(serialize(b"good", masked) + head)
    assert reader.read(binary=True) == ([b"good"], head)
    assert reader.read(binary=True) == ([], b"")


@pytest.mark.slow
def test_a_read_full_of_small_frames_costs_what_they_cost() -> None:
    """Whoever sends nothing but empty pings must not have us copy what is left for each of them."""

    def cost(count: int) -> float:
        reader = reader_of(FROM_SERVER)
        begun_at = time.process_time()
        reader.feed(serialize(b"", FROM_SERVER, Opcode.PING) * count)
        for _ in range(count):
            assert reader.read(binary=True)[1]
        assert reader.read(binary=True) == ([], b"")
        return time.process_time() - begun_at

    few, many = 1 << 15, 1 << 18
    ratio = min(cost(many) for _ in range(3)) / min(cost(few) for _ in range(3))
    assert ratio < 2 * many / few
