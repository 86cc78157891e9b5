"""Received messages go from the socket to standard output, or to a local program, in few calls.

The number of calls does not depend on how busy the machine is. At the pace of the official agent each read of the
socket begins with cold caches, so the calls are most of what a message costs.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE
from session_manager_plugin.session.runner import SessionRunner
from session_manager_plugin.session.session import Session
from session_manager_plugin.terminal.console import Console
from tests.support.agent_gateway import AgentGateway
from tests.support.forwarding import mux
from tests.support.port_agent import Echo
from tests.support.waiting import DEADLINE, wait_until
from tests.test_communicator.test_data_channel import channel_to

MOST_CALLS = 45
"""Calls of Python functions for one message, its acknowledgement included; 42 with Python 3.11."""
MOST_FURTHER_CALLS = 8
"""The same for each further message of a read; 7 with Python 3.11."""
MOST_MUX_CALLS = 22
"""Calls for a piece of data on its way from the data channel to a local program; 20 with Python 3.11."""
WAY = [
    "GatewaySocket.buffer_updated",
    "WebSocketChannel.messages_received",
    "SessionDataChannel._messages_received",
    "SessionDataChannel._pump",
    "Inbox.receive",
    "ShellHandler._show",
    "OutputWriter.write",
]
MUX_WAY = ["MuxForwarder._received", "MuxForwarder._dispatch", "MuxForwarder._deliver", "LocalConnection.deliver"]


class Calls:
    """A profiler: the calls below the first function of ``way``, and how the last one was reached."""

    def __init__(self, way: list[str]) -> None:
        self._first, self._last = way[0], way[-1]
        self.entries = 0
        """How often the first function was called."""
        self.count = 0
        self.way: list[str] = []
        self._depth = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_code.co_qualname
        if event == "call" and (self._depth or name == self._first):
            self.entries += not self._depth
            self._depth += 1
            self.count += 1
            if name == self._last:
                self.way = [name]
                while self.way[0] != self._first and (caller := frame.f_back) is not None:
                    frame = caller
                    self.way.insert(0, frame.f_code.co_qualname)
        elif event == "return" and self._depth:
            self._depth -= 1


@contextmanager
def counted(way: list[str]) -> Iterator[Calls]:
    """Count calls during the block."""
    calls = Calls(way)
    sys.setprofile(calls)
    try:
        yield calls
    finally:
        sys.setprofile(None)


async def received(gateway: AgentGateway, output: int, data: bytes) -> None:
    """Have the far end write ``data``; return when it was written to the pipe ``output``."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[None] = loop.create_future()
    so_far = bytearray()

    def read() -> None:
        so_far.extend(os.read(output, len(data)))
        if len(so_far) >= len(data) and not arrived.done():
            arrived.set_result(None)

    loop.add_reader(output, read)
    try:
        await gateway.write(data)
        await asyncio.wait_for(arrived, DEADLINE)
        assert so_far == data
    finally:
        loop.remove_reader(output)


async def test_a_message_passes_through_few_calls() -> None:
    source, typed = os.pipe()
    shown, target = os.pipe()
    async with AgentGateway(greeting=b"") as gateway:
        session = Session(channel_to(gateway.url))
        opening = asyncio.ensure_future(session.open())
        await gateway.until(lambda: gateway.openings)
        await gateway.write(b"$ ")
        await asyncio.wait_for(opening, DEADLINE)
        console = Console(source, target, target)
        running = asyncio.ensure_future(SessionRunner(session).run(console))
        try:
            await wait_until(lambda: select.select([shown], [], [], 0)[0])
            assert os.read(shown, 100) == b"$ "
            await received(gateway, shown, b"the first one")
            with counted(WAY) as one:
                await received(gateway, shown, bytes(MAX_PAYLOAD_SIZE))
            with counted(WAY) as four:
                await received(gateway, shown, bytes(4 * MAX_PAYLOAD_SIZE))
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            console.close()
            await session.close()
            for descriptor in (source, typed, shown, target):
                os.close(descriptor)
    assert one.way == four.way == WAY
    assert one.count <= MOST_CALLS
    assert four.count <= four.entries * MOST_CALLS + (4 - four.entries) * MOST_FURTHER_CALLS


async def test_data_for_a_local_program_passes_through_few_calls() -> None:
    async with mux(Echo) as (forwarding, _agent):
        reader, writer = await forwarding.connect()
        writer.write(b"the first one")
        await asyncio.wait_for(reader.readexactly(13), DEADLINE)
        with counted(MUX_WAY) as calls:
            writer.write(b"x" * 100)
            await asyncio.wait_for(reader.readexactly(100), DEADLINE)
    assert calls.way == MUX_WAY
    assert calls.count <= calls.entries * MOST_MUX_CALLS
