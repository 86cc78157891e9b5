"""A port session under test: a ``PortHandler``, the agent in memory behind it, and local programs on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from importlib import import_module
from typing import Any

import pytest

from session_manager_plugin.session.forwarder import PortSettings
from session_manager_plugin.session.listener import Listener
from session_manager_plugin.session.outcome import Outcome
from session_manager_plugin.session.port import FORWARDING, PortHandler
from session_manager_plugin.session.protocols import Notices
from tests.support.memory_channel import MemoryAgent, MemoryChannel
from tests.support.port_agent import BasicAgent, Destination, Dial, Echo, MuxAgent
from tests.support.waiting import DEADLINE, Happenings, wait_until

LISTENER = import_module("session_manager_plugin.session.listener")

BASIC_VERSION = "3.0.196.0"
"""The newest agent without multiplexing."""


class RecordedNotices(Happenings, Notices):
    """Keeps what a handler had to say."""

    def __init__(self) -> None:
        super().__init__()
        self.port = 0
        self.addresses: list[str] = []
        self.path = ""
        self.multiplexed: bool | None = None
        self.accepted = 0
        self.failures: list[str] = []
        self.interruptions = 0
        self.troubles: list[str] = []

    def port_opened(self, port: int, addresses: Sequence[str], *, multiplexed: bool) -> None:
        self.port, self.addresses, self.multiplexed = port, list(addresses), multiplexed
        self.happened()

    def unix_socket_opened(self, path: str, *, multiplexed: bool) -> None:
        self.path, self.multiplexed = path, multiplexed
        self.happened()

    def connection_accepted(self, *, multiplexed: bool) -> None:
        self.accepted += 1
        self.happened()

    def destination_failed(self, connection: str) -> None:
        self.failures.append(connection)
        self.happened()

    def interrupted(self) -> None:
        self.interruptions += 1

    def trouble(self, sentence: str) -> None:
        self.troubles.append(sentence)
        self.happened()


class Forwarding:
    """A running ``PortHandler``, and everything around it."""

    def __init__(self, agent: MemoryAgent, channel: MemoryChannel, settings: PortSettings | None = None) -> None:
        self.agent = agent
        self.settings = settings
        self.channel = channel
        self.notices = RecordedNotices()
        self.handler: PortHandler
        self.running: asyncio.Task[Outcome]
        self._opened = False
        self._programs: list[asyncio.StreamWriter] = []

    async def open(self) -> None:
        """Open the channel, if it is not."""
        if not self._opened:
            self._opened = True
            await self.channel.open()
        await self.channel.ready()

    async def start(self, listener: Listener | None = None) -> None:
        """Run the handler; returns when it listens or has ended."""
        await self.open()
        self.handler = PortHandler(await self.channel.ready(), self.notices, listener, self.settings)
        self.running = asyncio.ensure_future(self.handler.run(self.channel))
        self.running.add_done_callback(lambda _running: self.notices.happened())
        await self.notices.until(lambda: self.notices.multiplexed is not None or self.running.done())

    async def connect(self, host: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A local program connects; it is closed in the end."""
        if self.notices.path:
            reader, writer = await asyncio.open_unix_connection(self.notices.path)
        else:
            reader, writer = await asyncio.open_connection(host, self.notices.port)
        self._programs.append(writer)
        return reader, writer

    async def half_closed(self, count: int) -> None:
        """Wait until so many connections are held half closed."""
        await wait_until(lambda: sum("half closed" in line for line in self.handler.connections()) == count)

    async def result(self) -> Outcome:
        """How the session ended, once it has."""
        return await asyncio.wait_for(asyncio.shield(self.running), DEADLINE)

    async def stop(self) -> None:
        """End what runs."""
        self.channel.end("")
        await asyncio.gather(self.running, return_exceptions=True)
        for program in self._programs:
            program.close()
        await self.channel.close()


def port_properties(**properties: Any) -> dict[str, Any]:
    """What the documents for port forwarding give."""
    return {"type": FORWARDING, "portNumber": "5432", "localPortNumber": "0", **properties}


@contextlib.asynccontextmanager
async def mux(
    dial: Dial = Echo,
    *,
    version: str = "3.3.0.0",
    keepalive: bool = False,
    settings: PortSettings | None = None,
    **properties: Any,
) -> AsyncIterator[tuple[Forwarding, MuxAgent]]:
    """A session with an agent that multiplexes."""
    agent = MemoryAgent(properties=port_properties(**properties), version=version)
    forwarding = Forwarding(agent, MemoryChannel(agent), settings)
    mux_agent = MuxAgent(agent, dial, keepalive=keepalive)
    await forwarding.start()
    try:
        yield forwarding, mux_agent
    finally:
        await forwarding.stop()


@contextlib.asynccontextmanager
async def basic(
    dial: Callable[[], Destination] = Echo,
    *,
    version: str = BASIC_VERSION,
    settings: PortSettings | None = None,
    **properties: Any,
) -> AsyncIterator[tuple[Forwarding, BasicAgent]]:
    """A session with an agent that does not."""
    agent = MemoryAgent(properties=port_properties(**properties), version=version)
    forwarding = Forwarding(agent, MemoryChannel(agent), settings)
    basic_agent = BasicAgent(agent, dial)
    await forwarding.start()
    basic_agent.connect()
    try:
        yield forwarding, basic_agent
    finally:
        await forwarding.stop()


@contextlib.asynccontextmanager
async def stalled(port: int) -> AsyncIterator[socket.socket]:
    """A local program that connects and reads nothing by itself."""
    with socket.socket() as program:
        program.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        program.setblocking(False)
        await asyncio.get_running_loop().sock_connect(program, ("127.0.0.1", port))
        yield program


async def receive_all(program: socket.socket) -> bytes:
    """Read a stalled program's socket to its end."""
    loop, data = asyncio.get_running_loop(), bytearray()
    async with asyncio.timeout(DEADLINE):
        while piece := await loop.sock_recv(program, 1 << 18):
            data += piece
    return bytes(data)


async def receive_until_reset(program: socket.socket) -> bytes:
    """The same for a connection that must not end in any other way than by a reset."""
    loop, data = asyncio.get_running_loop(), bytearray()
    async with asyncio.timeout(DEADLINE):
        try:
            while piece := await loop.sock_recv(program, 1 << 18):
                data += piece
        except ConnectionResetError:
            return bytes(data)
    raise AssertionError("the connection came to a proper end")


def use_small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel keep little for programs that do not read; by itself it may take 4 MiB and more."""
    bind = LISTENER._bind

    def bind_with_small_buffers(host: str, port: int) -> socket.socket:
        listening: socket.socket = bind(host, port)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)  # which accepted ones inherit
        return listening

    monkeypatch.setattr(LISTENER, "_bind", bind_with_small_buffers)


async def read_exactly(reader: asyncio.StreamReader, size: int) -> bytes:
    """So many bytes, in time."""
    return await asyncio.wait_for(reader.readexactly(size), DEADLINE)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """Everything up to the end, in time; raises ``ConnectionResetError`` when there is none."""
    return await asyncio.wait_for(reader.read(-1), DEADLINE)


def is_listening(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody can connect there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        return probe.connect_ex((host, port)) == 0
