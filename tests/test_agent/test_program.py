"""What the programs have in common."""

from __future__ import annotations

import asyncio

from session_manager_plugin.agent.program import OutputMessage, OutputSignal, to_messages
from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE


class Source:
    """Output in memory, read one piece at a time."""

    def __init__(self) -> None:
        self.pieces: list[int] = []
        self.read: list[int] = []
        self.signal = OutputSignal(self._read, lambda: bool(self.pieces))

    def _read(self) -> None:
        self.read.append(self.pieces.pop(0))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_output_is_called_for_until_there_is_none() -> None:
    source = Source()
    source.signal.set_reading(True)
    source.pieces += [1, 2, 3]
    source.signal.notify()
    source.signal.notify()
    assert source.read == []  # never from within
    await asyncio.sleep(0)
    assert source.read == [1]  # others have their turn in between
    await settle()
    assert source.read == [1, 2, 3]


async def test_nothing_is_called_for_while_it_is_not_wanted() -> None:
    source = Source()
    source.pieces += [1, 2]
    source.signal.notify()
    await settle()
    assert source.read == []
    source.signal.set_reading(True)
    source.signal.set_reading(False)
    await settle()
    assert source.read == []
    source.signal.set_reading(True)
    await settle()
    assert source.read == [1, 2]


def test_messages_have_the_full_size_but_for_the_last() -> None:
    data = bytes(range(256)) * 9
    messages = to_messages(1, data)
    assert [len(message.payload) for message in messages] == [MAX_PAYLOAD_SIZE, MAX_PAYLOAD_SIZE, 256]
    assert b"".join(message.payload for message in messages) == data
    assert to_messages(11, b"x") == [OutputMessage(11, b"x")]
    assert to_messages(1, b"") == []
