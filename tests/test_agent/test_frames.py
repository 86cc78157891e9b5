"""Websocket frames written and read without the library agree with what the library makes of them."""

from __future__ import annotations

import random

import pytest
from websockets.frames import Frame, Opcode

from session_manager_plugin.agent.frames import FrameReader, frame_header

MAX_SIZE = 64 * 1024
SIZES = [0, 1, 125, 126, 127, 1024, 1144, 65535]


def masked(data: bytes, opcode: Opcode = Opcode.BINARY, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


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


@pytest.mark.parametrize("size", [*SIZES, 65536])
def test_the_librarys_frame_is_read(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert read_all(FrameReader(MAX_SIZE), masked(data)) == [data]


def test_frames_cut_anywhere_are_read_in_order() -> None:
    source = random.Random(1)
    messages = [source.randbytes(source.choice(SIZES[:-1])) for _ in range(200)]
    data = b"".join(map(masked, messages))
    reader = FrameReader(MAX_SIZE)
    received = []
    while data:
        cut = source.randrange(1, 2000)
        received += read_all(reader, data[:cut])
        data = data[cut:]
    assert received == messages


def test_a_header_cut_at_every_place_waits() -> None:
    for size in (5, 1000, 65536):
        whole = masked(bytes(size))
        for cut in range(min(14, len(whole))):
            reader = FrameReader(MAX_SIZE)
            assert read_all(reader, whole[:cut]) == []
            assert read_all(reader, whole[cut:]) == [bytes(size)]


@pytest.mark.parametrize(
    "frame",
    [
        masked(b"hello", Opcode.PING),
        masked(b"", Opcode.PONG),
        masked(b"text", Opcode.TEXT),
        masked(b"\x03\xe8bye", Opcode.CLOSE),
        masked(b"part", fin=False),
        masked(b"rest", Opcode.CONT),
        masked(bytes(65536), Opcode.TEXT),
        Frame(Opcode.BINARY, b"not masked").serialize(mask=False),
        b"\xc2" + masked(b"a bit that is reserved")[1:],
    ],
)
def test_other_frames_are_handed_on_undivided_and_in_their_place(frame: bytes) -> None:
    reader = FrameReader(MAX_SIZE)
    stream = masked(b"before") + frame + masked(b"behind")
    for position in range(len(stream)):
        if position == len(stream) - len(masked(b"behind")) - 1:
            payloads, other = reader.read(binary=True)
            assert (payloads, other) == ([b"before"], b"")
        reader.feed(stream[position : position + 1])
    assert reader.read(binary=True) == ([], frame)
    assert reader.read(binary=True) == ([b"behind"], b"")
    assert reader.read(binary=True) == ([], b"")


def test_every_frame_is_of_the_other_kind_when_that_is_asked_for() -> None:
    first, second = masked(b"first"), masked(b"second")
    reader = FrameReader(MAX_SIZE)
    reader.feed(first + second)
    assert reader.read(binary=False) == ([], first)
    assert reader.read(binary=True) == ([b"second"], b"")


def test_a_frame_with_too_much_payload_is_not_waited_for() -> None:
    head = masked(bytes(MAX_SIZE + 1))[:20]
    reader = FrameReader(MAX_SIZE)
    reader.feed(masked(b"good") + head)
    assert reader.read(binary=True) == ([b"good"], head)
    assert reader.read(binary=True) == ([], b"")
