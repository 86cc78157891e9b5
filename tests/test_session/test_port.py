"""Port sessions: the choice of the handler, the local end, and its errors."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from session_manager_plugin.errors import ConfigurationError, NotConnected, RemoteProtocolError, UsageError
from session_manager_plugin.protocol.events import SessionReady
from session_manager_plugin.protocol.messages import Flag, PayloadType
from session_manager_plugin.session.handler_options import HandlerOptions
from session_manager_plugin.session.listener import Listener, listen_on_path, listen_on_port
from session_manager_plugin.session.notices import SilentNotices
from session_manager_plugin.session.port import FORWARDING, LocalEnd, PortHandler, port_handler
from session_manager_plugin.session.runner import SessionRunner
from session_manager_plugin.session.session import Session
from session_manager_plugin.session.stdio import StdioHandler
from session_manager_plugin.terminal.console import Console
from tests.support.forwarding import (
    BASIC_VERSION,
    Forwarding,
    RecordedNotices,
    basic,
    is_listening,
    mux,
    port_properties,
    read_exactly,
    read_to_end,
)
from tests.support.memory_channel import MemoryAgent, MemoryChannel
from tests.support.port_agent import Echo, MuxAgent
from tests.support.ports import held_port
from tests.support.transitions import recorded
from tests.support.waiting import DEADLINE

PORT = import_module("session_manager_plugin.session.port")
TERMINATE = Flag.TERMINATE_SESSION.serialize()


@asynccontextmanager
async def session_with(properties: dict[str, Any], **options: Any) -> AsyncIterator[tuple[Forwarding, MuxAgent]]:
    """A session with an agent that multiplexes, not yet run."""
    agent = MemoryAgent(properties=properties, **options)
    forwarding = Forwarding(agent, MemoryChannel(agent))
    try:
        yield forwarding, MuxAgent(agent, Echo)
    finally:
        await forwarding.stop()


# Which handler.


@pytest.mark.parametrize("properties", [{}, {"portNumber": "22"}, {"type": ""}, {"type": "localportforwarding"}])
async def test_other_types_are_standard_input_and_output(properties: dict[str, Any]) -> None:
    console = Console()
    ready = SessionReady("Port", properties, "3.3.0.0")
    assert isinstance(port_handler(console, ready, SilentNotices()), StdioHandler)
    console.close()


@pytest.mark.parametrize("properties", [{"type": FORWARDING}, {"Type": FORWARDING}])
async def test_port_forwarding(properties: dict[str, Any]) -> None:
    console = Console()
    ready = SessionReady("Port", properties, "3.3.0.0")
    assert isinstance(port_handler(console, ready, SilentNotices()), PortHandler)
    console.close()


async def test_a_type_that_is_no_string() -> None:
    console = Console()
    ready = SessionReady("Port", {"type": 5}, "3.3.0.0")
    with pytest.raises(RemoteProtocolError, match="malformed properties of the port session: type is not a string"):
        port_handler(console, ready, SilentNotices())
    console.close()


@pytest.mark.parametrize(
    ("version", "multiplexed"),
    [("3.0.196.0", False), ("3.0.196.1", True), ("3.3.0.0", True), ("2.3.722.0", False)],
)
async def test_the_agents_version_decides_on_multiplexing(version: str, multiplexed: bool) -> None:
    async with session_with(port_properties(), version=version) as (forwarding, _):
        await forwarding.start()
        assert forwarding.notices.multiplexed is multiplexed


@pytest.mark.parametrize("version", ["3.3", "v3.2.1-rc1", "3.1.1732.0.custom", "main", ""])
async def test_u22_an_unusual_version_does_not_fall_back(version: str) -> None:
    """Reference defect U22: a version that has not exactly four numbers makes the client speak without the
    multiplexer, and the agent with it.

    Back with ``plugin_version_greater(version, MUX_AFTER)`` in ``agent_supports_mux``.
    """
    async with session_with(port_properties(), version=version) as (forwarding, agent):
        await forwarding.start()
        reader, writer = await forwarding.connect()
        writer.write(b"hello")
        assert await read_exactly(reader, 5) == b"hello"
        assert agent.failed is None


# The local end.


@pytest.mark.parametrize(
    ("properties", "local_end"),
    [
        ({}, LocalEnd(0)),
        ({"localPortNumber": ""}, LocalEnd(0)),
        ({"localPortNumber": None}, LocalEnd(0)),
        ({"localPortNumber": "0"}, LocalEnd(0)),
        ({"localPortNumber": "9999"}, LocalEnd(9999)),
        ({"localportnumber": "9999"}, LocalEnd(9999)),
        ({"localPortNumber": "65535", "localUnixSocket": "/tmp/x", "localConnectionType": "tcp"}, LocalEnd(65535)),
        ({"localConnectionType": "unix", "localUnixSocket": "/tmp/x"}, LocalEnd(path="/tmp/x")),
    ],
)
def test_the_local_end_of_a_session(properties: dict[str, Any], local_end: LocalEnd) -> None:
    assert LocalEnd.of_session(properties) == local_end


@pytest.mark.parametrize("key", ["localPortNumber", "localUnixSocket", "localConnectionType"])
@pytest.mark.parametrize("value", [5, 5.0, True, ["5"], {"port": "5"}])
def test_properties_of_the_wrong_type(key: str, value: object) -> None:
    with pytest.raises(RemoteProtocolError, match=f"{key} is not a string"):
        LocalEnd.of_session({key: value})


@pytest.mark.parametrize("port", ["http", "-1", "65536", "1e3", "80 ", "٣", "0x50", "99999999999999999999"])
def test_ports_that_are_none(port: str) -> None:
    with pytest.raises(UsageError, match=r"localPortNumber is .*; expected a port number, or 0 for any free port"):
        LocalEnd.of_session({"localPortNumber": port})


def test_a_unix_socket_without_a_path() -> None:
    with pytest.raises(UsageError, match="localUnixSocket is missing"):
        LocalEnd.of_session({"localConnectionType": "unix"})


@pytest.mark.parametrize(
    ("parameters", "local_end"),
    [
        ({}, None),
        ({"portNumber": ["5432"]}, None),
        ({"portNumber": ["5432"], "localPortNumber": ["9999"]}, LocalEnd(9999)),
        ({"localPortNumber": ["0"]}, LocalEnd(0)),
        ({"localPortNumber": "9999"}, None),
        ({"localPortNumber": [9999]}, None),
        ({"localPortNumber": ["1", "2"]}, None),
        ({"localPortNumber": []}, None),
        ({"localConnectionType": ["unix"], "localUnixSocket": ["/tmp/x"]}, LocalEnd(path="/tmp/x")),
    ],
)
def test_the_local_end_of_a_request(parameters: dict[str, Any], local_end: LocalEnd | None) -> None:
    assert LocalEnd.of_request(parameters) == local_end


def test_a_request_for_a_port_that_is_none() -> None:
    with pytest.raises(UsageError, match="localPortNumber is 'http'"):
        LocalEnd.of_request({"localPortNumber": ["http"]})


def test_what_a_listener_was_asked_for(tmp_path: Path) -> None:
    path = str(tmp_path / "db.sock")
    with LocalEnd(0).bind() as on_any, LocalEnd(path=path).bind() as on_path:
        assert LocalEnd(0).is_bound_by(on_any)
        assert not LocalEnd(on_any.port or 0).is_bound_by(on_any)
        assert not LocalEnd(path=path).is_bound_by(on_any)
        assert LocalEnd(path=path).is_bound_by(on_path)
        assert not LocalEnd(0).is_bound_by(on_path)
        assert not LocalEnd(path=path + "2").is_bound_by(on_path)


async def test_the_port_that_is_asked_for() -> None:
    with held_port() as port:
        async with mux(localPortNumber=str(port)) as (forwarding, _):
            assert forwarding.notices.port == port
            assert forwarding.notices.addresses == [f"127.0.0.1:{port}", f"[::1]:{port}"]


async def test_any_free_port_is_told() -> None:
    async with mux(localPortNumber="0") as (forwarding, _):
        assert is_listening(forwarding.notices.port)
        assert is_listening(forwarding.notices.port, "::1")


@pytest.mark.parametrize("multiplexed", [True, False])
async def test_a_unix_socket(tmp_path: Path, multiplexed: bool) -> None:
    path = str(tmp_path / "db.sock")
    session = mux if multiplexed else basic
    async with session(localConnectionType="unix", localUnixSocket=path) as (forwarding, _):
        assert forwarding.notices.path == path
        assert forwarding.notices.multiplexed is multiplexed
        reader, writer = await forwarding.connect()
        writer.write(b"hello")
        assert await read_exactly(reader, 5) == b"hello"
    assert not os.listdir(tmp_path)


async def test_connections_of_a_unix_socket_have_names(tmp_path: Path) -> None:
    path = str(tmp_path / "db.sock")
    async with mux(lambda: None, localConnectionType="unix", localUnixSocket=path) as (forwarding, _):
        reader, _writer = await forwarding.connect()
        assert await read_to_end(reader) == b""
        assert forwarding.notices.failures == ["connection 1"]


async def test_u15_a_percent_sign_in_a_path_is_one(tmp_path: Path) -> None:
    """Reference defect U15: the path is used as a format string.

    Back with ``text % ()`` in ``OfficialNotices._opened``; what it says is checked in ``test_notices``.
    """
    path = str(tmp_path / "100%s %d.sock")
    async with mux(localConnectionType="unix", localUnixSocket=path) as (forwarding, _):
        assert forwarding.notices.path == path


# What is wrong.


async def test_a_port_that_is_taken_ends_the_session_with_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        async with session_with(port_properties(localPortNumber=str(port))) as (forwarding, agent):
            await forwarding.start()
            with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port} is in use by another program"):
                await forwarding.result()
            await agent.until(lambda: agent.flags == [TERMINATE])


async def test_properties_of_the_wrong_type_end_the_session_with_a_sentence() -> None:
    async with session_with(port_properties(localPortNumber=5432)) as (forwarding, agent):
        await forwarding.start()
        with pytest.raises(RemoteProtocolError, match="localPortNumber is not a string"):
            await forwarding.result()
        await agent.until(lambda: agent.flags == [TERMINATE])


# A local end that was bound before.


@asynccontextmanager
async def run_with(
    listener: Listener, properties: dict[str, Any], version: str = "3.3.0.0"
) -> AsyncIterator[tuple[Forwarding, MuxAgent]]:
    """A session whose local end was bound before."""
    async with session_with(properties, version=version) as (forwarding, agent):
        await forwarding.start(listener)
        yield forwarding, agent


async def test_a_listener_bound_early_is_used_and_its_first_visitors_are_served() -> None:
    with held_port() as port:
        listener = listen_on_port(port)
        early_reader, early = await asyncio.open_connection("127.0.0.1", port)
        early.write(b"early")
        async with run_with(listener, port_properties(localPortNumber=str(port))) as (forwarding, _):
            assert forwarding.notices.port == port
            assert await read_exactly(early_reader, 5) == b"early"
            early.close()
    assert not is_listening(forwarding.notices.port)


async def test_a_session_that_wants_another_local_end_gets_it(tmp_path: Path) -> None:
    listener = listen_on_port(0)
    port, path = listener.port, str(tmp_path / "db.sock")
    properties = port_properties(localConnectionType="unix", localUnixSocket=path)
    async with run_with(listener, properties) as (forwarding, _):
        assert forwarding.notices.path == path
        assert not is_listening(port or 0)


async def test_a_listener_bound_early_is_closed_when_the_properties_are_wrong() -> None:
    listener = listen_on_port(0)
    port = listener.port
    async with run_with(listener, port_properties(localPortNumber=5432)) as (forwarding, _):
        with pytest.raises(RemoteProtocolError):
            await forwarding.result()
    assert not is_listening(port or 0)


# The state of the handler.


async def test_every_row_of_the_handler_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    table = recorded(monkeypatch, PORT)
    async with mux() as (interrupted, _):
        assert interrupted.handler.interrupt(signal.SIGINT)
        await interrupted.result()
    async with mux() as (ended, _):
        ended.channel.end("")
        await ended.result()
    async with session_with(port_properties(localPortNumber=5432)) as (refused, _):
        await refused.start()
        with pytest.raises(RemoteProtocolError):
            await refused.result()
    assert not table.missed


async def test_a_signal_is_taken_only_while_forwarding() -> None:
    async with session_with(port_properties()) as (forwarding, _):
        await forwarding.open()
        handler = PortHandler(await forwarding.channel.ready(), forwarding.notices)
        assert not handler.interrupt(signal.SIGINT)
        await forwarding.start()
        forwarding.channel.end("")
        await forwarding.result()
        assert not forwarding.handler.interrupt(signal.SIGINT)
        assert not forwarding.handler.interrupted
        assert forwarding.notices.interruptions == 0


# Through ``Session``.


@asynccontextmanager
async def opened(agent: MemoryAgent) -> AsyncIterator[tuple[Session, Console]]:
    """A session over a channel in memory, and a console that nobody uses."""
    channel = MemoryChannel(agent)
    session = Session(channel)
    inner, outer = os.pipe()
    console = Console(inner, outer, outer)
    try:
        await session.open()
        yield session, console
    finally:
        console.close()
        os.close(inner)
        os.close(outer)
        await session.close()


async def test_a_session_hands_on_what_it_is_told() -> None:
    agent = MemoryAgent(properties=port_properties())
    mux_agent = MuxAgent(agent, Echo)
    notices, listener = RecordedNotices(), listen_on_port(0)
    async with opened(agent) as (session, console):
        runner = SessionRunner(session)
        assert not runner.interrupt(signal.SIGINT)
        running = asyncio.ensure_future(runner.run(console, HandlerOptions(notices=notices, listener=listener)))
        await notices.until(lambda: notices.port)
        assert notices.port == listener.port
        assert runner.interrupt(signal.SIGINT)
        assert not runner.interrupt(signal.SIGINT)
        assert (await asyncio.wait_for(running, DEADLINE)).is_normal
        assert not runner.interrupt(signal.SIGINT)
        assert mux_agent.flags == [TERMINATE]


async def test_a_session_that_is_no_port_session_closes_the_listener(tmp_path: Path) -> None:
    path = str(tmp_path / "db.sock")
    agent = MemoryAgent("Standard_Stream")
    listener = listen_on_path(path)
    async with opened(agent) as (session, console):
        runner = SessionRunner(session)
        running = asyncio.ensure_future(runner.run(console, HandlerOptions(listener=listener)))
        await agent.until(lambda: agent.received)
        assert not runner.interrupt(signal.SIGINT)
        agent.close_channel()
        assert (await asyncio.wait_for(running, DEADLINE)).is_normal
    assert not os.listdir(tmp_path)


async def test_without_notices_nothing_is_said() -> None:
    agent = MemoryAgent(properties=port_properties(), version=BASIC_VERSION)
    async with opened(agent) as (session, console):
        runner = SessionRunner(session)
        running = asyncio.ensure_future(runner.run(console))
        agent.send(Flag.CONNECT_TO_PORT_ERROR.serialize(), PayloadType.FLAG)
        agent.close_channel()
        assert (await asyncio.wait_for(running, DEADLINE)).is_normal


async def test_a_session_that_is_not_open_runs_nothing() -> None:
    with listen_on_port(0) as listener:
        session = Session(MemoryChannel(MemoryAgent()))
        console = Console()
        with pytest.raises(NotConnected):
            await SessionRunner(session).run(console, HandlerOptions(listener=listener))
        console.close()
