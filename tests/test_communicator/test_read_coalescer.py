"""``ReadCoalescer``: only reads of a steady stream of full messages wait for several messages."""

from __future__ import annotations

import asyncio
import bisect
import random
import socket
from typing import Any, cast

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from session_manager_plugin.communicator.gateway_socket import GatewaySocket, GatewaySocketOwner
from session_manager_plugin.communicator.opening import deliver
from session_manager_plugin.communicator.read_coalescer import (
    ANSWER_TIME,
    FULL_SIZE,
    MAX_WAIT,
    MEMORY,
    PAUSE,
    STREAK,
    ReadCoalescer,
)

FULL = b"x" * FULL_SIZE
PACE = 0.0015


def read_steadily(coalescer: ReadCoalescer, count: int, *, start: float = 0.0, gap: float = PACE) -> list[int]:
    """For how many bytes the read after each of ``count`` full messages waits."""
    return [coalescer.received([FULL], start + gap * (number + 1)) for number in range(count)]


def test_a_steady_stream_of_full_messages_is_read_by_threes() -> None:
    coalescer = ReadCoalescer()
    assert read_steadily(coalescer, STREAK + 2) == [1] * STREAK + [3 * FULL_SIZE] * 2
    assert coalescer.wait == pytest.approx(PACE + MAX_WAIT)
    assert coalescer.received([FULL] * 3, PACE * (STREAK + 5)) == 3 * FULL_SIZE


def test_jitter_does_not_end_it() -> None:
    """One by one while the machine is busy, then two at once, as they are on many networks."""
    coalescer = ReadCoalescer()
    now, due = PACE * 2 * STREAK, PACE
    read_steadily(coalescer, 2 * STREAK)
    for gap in (4, 0.1, 0.1, 0.1, 1, 2, 0.05, 6, 0.1) * 20:
        now += gap * due
        count = max(1, int(gap))
        waits = coalescer.received([FULL] * count, now)
        assert waits >= 2 * FULL_SIZE
        assert coalescer.wait < 2 * MAX_WAIT


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.5, 4.0])
def test_reads_for_a_message_at_the_pace_of_the_agent(jitter: float) -> None:
    """A message is late by at most ``jitter`` gaps, as through a network or on a busy machine."""
    dice = random.Random(1)
    count, coalescer = 2000, ReadCoalescer()
    arrivals = sorted(PACE * (number + jitter * dice.random()) for number in range(count))
    now, position, reads, low_water = 0.0, 0, 0, 1
    while position < count:
        wanted = -(-low_water // FULL_SIZE)
        whole = arrivals[min(count, position + wanted) - 1]
        now = max(arrivals[position], min(whole, now + coalescer.wait) if low_water > 1 else whole)
        read = bisect.bisect_right(arrivals, now, lo=position) - position
        low_water = coalescer.received([FULL] * read, now)
        position += read
        reads += 1
    assert reads <= 0.4 * count


def test_a_short_message_ends_it() -> None:
    coalescer = ReadCoalescer()
    read_steadily(coalescer, STREAK + 1)
    assert coalescer.received([FULL, b"short"], PACE * (STREAK + 3)) == 1
    assert set(read_steadily(coalescer, STREAK, start=PACE * (STREAK + 3))) == {1}


def test_a_stream_that_pauses_or_is_fast_is_read_at_once() -> None:
    assert set(read_steadily(ReadCoalescer(), 3 * STREAK, gap=0.01)) == {1}
    assert set(read_steadily(ReadCoalescer(), 3 * STREAK, gap=0.0001)) == {1}
    coalescer = ReadCoalescer()
    read_steadily(coalescer, STREAK + 1)
    assert set(read_steadily(coalescer, STREAK, start=PACE * STREAK + PAUSE)) == {1}


def test_a_stream_whose_pace_changes_is_read_accordingly() -> None:
    coalescer = ReadCoalescer()
    assert read_steadily(coalescer, 4 * MEMORY)[-1] > 1
    faster = read_steadily(coalescer, 4 * MEMORY, start=PACE * 4 * MEMORY, gap=0.0001)
    assert faster[-1] == 1


def test_nothing_waits_while_an_answer_is_expected() -> None:
    coalescer = ReadCoalescer()
    assert read_steadily(coalescer, STREAK + 1)[-1] > 1
    start = PACE * (STREAK + 1)
    coalescer.sent(start)
    awaited = int(ANSWER_TIME / PACE)
    waits = read_steadily(coalescer, awaited + 2, start=start)
    assert set(waits[: awaited - 1]) == {1}
    assert waits[-1] > 1


class Wire(asyncio.Transport):
    """Notes the low-water marks that its socket is given."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[int] = []
        self.written = bytearray()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else default

    def setsockopt(self, level: int, option: int, value: int) -> None:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_RCVLOWAT)
        self.marks.append(value)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False


class Owner:
    """Acknowledges each read, as a data channel does."""

    last_contact_at = 0.0

    def messages_received(self, connection: GatewaySocket, messages: list[Any]) -> None:
        connection.write_messages([b"acknowledgement"])


async def test_the_kernel_is_asked_to_wait_until_input_is_sent() -> None:
    now = 0.0
    protocol = ClientProtocol(parse_uri("ws://127.0.0.1/"), max_size=1 << 20, state=State.OPEN)
    wire = Wire()
    connection = GatewaySocket(cast(GatewaySocketOwner, Owner()), protocol, lambda: now)
    connection.connection_made(wire)
    connection.attach()
    frame = Frame(Opcode.BINARY, FULL).serialize(mask=False)
    for _ in range(2 * STREAK):
        now += PACE
        deliver(connection, frame)
    assert wire.marks == [3 * FULL_SIZE]
    connection.write_messages([b"a key"])
    assert wire.marks == [3 * FULL_SIZE, 1]
    now += PACE
    deliver(connection, frame)
    assert wire.marks == [3 * FULL_SIZE, 1]
