"""One received message goes from the socket to standard output in few calls."""

from __future__ import annotations

import asyncio
import os
import select
import sys
from types import FrameType
from typing import Any

from session_manager_plugin.session.runner import SessionRunner
from session_manager_plugin.session.session import Session
from session_manager_plugin.terminal.console import Console
from tests.support.agent_gateway import AgentGateway
from tests.support.waiting import DEADLINE, wait_until
from tests.test_communicator.test_data_channel import channel_to

MOST_CALLS = 45
"""Calls of Python functions for one message, its acknowledgement included; 42 with Python 3.11."""
WAY = [
    "GatewaySocket.buffer_updated",
    "WebSocketChannel.messages_received",
    "SessionDataChannel._messages_received",
    "SessionDataChannel._pump",
    "Inbox.receive",
    "ShellHandler._show",
    "OutputWriter.write",
]


class Calls:
    """A profiler: the calls of one read of the socket, and how standard output was reached."""

    def __init__(self) -> None:
        self.count = 0
        self.way: list[str] = []
        self._depth = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_code.co_qualname
        if event == "call" and (self._depth or name == WAY[0]):
            self._depth += 1
            self.count += 1
            if name == WAY[-1]:
                self.way = [name]
                while self.way[0] != WAY[0] and (caller := frame.f_back) is not None:
                    frame = caller
                    self.way.insert(0, frame.f_code.co_qualname)
        elif event == "return" and self._depth:
            self._depth -= 1


async def received(gateway: AgentGateway, output: int, data: bytes) -> None:
    """Have the far end write ``data``; return when it was written to the pipe ``output``."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[bytes] = loop.create_future()
    loop.add_reader(output, lambda: arrived.set_result(os.read(output, 100)))
    try:
        await gateway.write(data)
        assert await asyncio.wait_for(arrived, DEADLINE) == data
    finally:
        loop.remove_reader(output)


async def test_a_message_passes_through_few_calls() -> None:
    source, typed = os.pipe()
    shown, target = os.pipe()
    calls = Calls()
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
            sys.setprofile(calls)
            await received(gateway, shown, b"a message")
        finally:
            sys.setprofile(None)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            console.close()
            await session.close()
            for descriptor in (source, typed, shown, target):
                os.close(descriptor)
    assert calls.way == WAY
    assert calls.count <= MOST_CALLS
