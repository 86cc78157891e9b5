"""Forwards: bound before anything is started, several ports and sessions, and an end that leaves nothing open."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from session_manager_plugin.agent.session import EndReason
from session_manager_plugin.errors import ConfigurationError, ConnectError, ForwardEnded, UsageError
from session_manager_plugin.forwarding import pool as pool_module
from session_manager_plugin.forwarding.events import (
    ConnectionClosed,
    ConnectionOpened,
    LinkRestored,
    LinkTroubled,
    PortReady,
    SessionOver,
    Trouble,
)
from session_manager_plugin.session.link_health import LinkHealth, LinkState
from session_manager_plugin.session.session import Session
from tests.support import forward_services
from tests.support.forward_services import TARGET, bench, echo_server
from tests.support.forwarding import is_listening, read_exactly
from tests.support.waiting import DEADLINE, wait_until


async def say(port: int, data: bytes = b"hello") -> bytes:
    """Send ``data`` through a local port and return as many bytes of the answer."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), DEADLINE)
    writer.write(data)
    try:
        return await read_exactly(reader, len(data))
    finally:
        writer.close()


async def test_one_port() -> None:
    async with bench() as at, echo_server() as port:
        async with at.forward(f"0:{port}") as forward:
            assert forward.port is not None
            assert forward.ports[0].remote == f"localhost:{port}"
            assert at.of(PortReady) == [PortReady(forward.ports[0])]
            reader, writer = await asyncio.open_connection("127.0.0.1", forward.port)
            writer.write(b"hello")
            assert await read_exactly(reader, 5) == b"hello"
            (connection,) = forward.connections()
            assert (connection.sent, connection.received) == (5, 5)
            assert connection.local == f"127.0.0.1:{forward.port}"
            assert connection.peer == "127.0.0.1:{}".format(writer.get_extra_info("sockname")[1])
            writer.close()
            await wait_until(lambda: at.of(ConnectionClosed))
            assert not forward.connections()
        assert not is_listening(forward.port)
        assert not at.open_sessions
        assert len(at.of(ConnectionOpened)) == len(at.of(ConnectionClosed)) == len(at.of(SessionOver)) == 1


async def test_several_ports_have_a_session_for_each_destination(tmp_path: Path) -> None:
    async with bench() as at, echo_server() as one, echo_server(bytes.upper) as other:
        path = tmp_path / "other.sock"
        async with at.forward(f"0:{one}", f"0:127.0.0.1:{other}", f"{path}:127.0.0.1:{other}") as forward:
            assert [port.remote for port in forward.ports] == [
                f"localhost:{one}",
                f"127.0.0.1:{other}",
                f"127.0.0.1:{other}",
            ]
            assert len(at.open_sessions) == len(forward.sessions()) == 2
            first, second, _ = forward.ports
            assert await say(first.port or 0) == b"hello"
            assert await say(second.port or 0) == b"HELLO"
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b"path")
            assert await read_exactly(reader, 4) == b"PATH"
            assert [(each.local, each.peer) for each in forward.connections()][-1] == (str(path), "")
            writer.close()
        assert not path.exists()


@pytest.mark.parametrize(
    "specs",
    [
        ("0:80", "[::1]:0:localhost:80", "0:127.0.0.1:80", "0:[::1]:80", "0:LocalHost.:80"),
        ("0:db.internal:80", "0:DB.internal:80"),
        ("0:[2001:db8::1]:80", "0:[2001:DB8:0::1]:80"),
    ],
)
async def test_one_session_for_all_spellings_of_a_destination(specs: tuple[str, ...]) -> None:
    async with bench() as at, at.forward(*specs) as forward:
        assert len(at.open_sessions) == len(forward.sessions()) == 1
        assert len(forward.ports) == len(specs)


@pytest.mark.parametrize(
    ("spec", "document", "host"),
    [
        ("0:80", "AWS-StartPortForwardingSession", None),
        ("0:localhost:80", "AWS-StartPortForwardingSession", None),
        ("0:127.9.9.9:80", "AWS-StartPortForwardingSession", None),
        ("0:[::1]:80", "AWS-StartPortForwardingSession", None),
        ("0:db.internal:80", "AWS-StartPortForwardingSessionToRemoteHost", "db.internal"),
    ],
)
async def test_documents(spec: str, document: str, host: str | None) -> None:
    async with bench() as at:
        async with at.forward(spec):
            pass
        (session,) = at.sandbox.sessions.values()
        assert session.document == document
        assert at.services.calls == ["target", f"start {spec[2:] if host or ':' in spec[2:] else 'localhost:80'}"]


async def test_a_port_in_use_is_known_before_anything_happens() -> None:
    async with bench() as at:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            forward = at.forward("0:80", f"{port}:81")
            with pytest.raises(ConfigurationError, match=f":{port} is in use by another program"):
                await forward.open()
        assert not at.services.calls
        assert not at.events


async def test_a_local_end_given_twice() -> None:
    async with bench() as at:
        with pytest.raises(UsageError, match="port 8080 is given twice"):
            await at.forward("8080:80", "8080:81").open()


async def test_a_session_that_cannot_be_started_leaves_none_of_the_others() -> None:
    async with bench() as at:
        at.services.refusals = [ConnectError("refused")]
        with pytest.raises(ConnectError, match="refused"):
            await at.forward("0:80", "0:81", "0:82", pool=3).open()
        await wait_until(lambda: not at.open_sessions)
        assert not at.of(PortReady)


async def test_an_opening_that_is_cancelled_leaves_no_session() -> None:
    async with bench() as at:
        opening = asyncio.ensure_future(at.forward("0:80", pool=4).open())
        await wait_until(lambda: at.sandbox.sessions)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        assert opening.cancelled()
        assert not at.open_sessions


async def test_the_end_of_a_session_is_the_end_of_the_forward() -> None:
    async with bench() as at, at.forward("0:80", "0:81") as forward:
        session = at.open_sessions[0]
        at.sandbox.end_session(session.session_id, "Idle timeout.")
        with pytest.raises(
            ForwardEnded, match=r"session \S+ to localhost:8\d was closed by the far end: Idle timeout."
        ):
            await asyncio.wait_for(forward.wait(), DEADLINE)
        assert len(at.of(SessionOver)) == 1


async def test_a_lost_session_is_the_end_of_the_forward() -> None:
    async with bench() as at, at.forward("0:80") as forward:
        at.open_sessions[0].disconnect()
        with pytest.raises(ForwardEnded, match=r"session \S+ to localhost:80 was lost: "):
            await asyncio.wait_for(forward.wait(), DEADLINE)


async def test_a_session_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections wait meanwhile."""
    monkeypatch.setattr(pool_module, "REPLACE_INTERVALS", (0.0,))
    async with bench() as at, echo_server() as port, at.forward(f"0:{port}", new_session=True) as forward:
        assert forward.port is not None
        waiting = asyncio.ensure_future(forward.wait())
        at.services.refusals = [ConnectError("busy"), ConnectError("busy")]
        (session,) = at.open_sessions
        at.sandbox.end_session(session.session_id, "Terminated.")
        await wait_until(lambda: not forward.sessions())
        assert await say(forward.port) == b"hello"
        assert len(at.of(LinkRestored)) == 1
        assert not waiting.done()
        assert session.end_reason is EndReason.ENDED
        waiting.cancel()


async def test_connections_are_dealt_to_a_pool_in_turn() -> None:
    async with bench() as at, echo_server() as port, at.forward(f"0:{port}", pool=3) as forward:
        assert forward.port is not None
        assert len(at.open_sessions) == 3
        for _ in range(9):
            assert await say(forward.port) == b"hello"
        used = [event.connection.session_id for event in at.events if isinstance(event, ConnectionOpened)]
        assert sorted(used.count(each) for each in set(used)) == [3, 3, 3]


async def test_messages_and_events_number_connections_alike() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refused = closed.getsockname()[1]
    async with bench() as at, at.forward(f"0:{refused}", pool=2) as forward:
        assert forward.port is not None
        for _ in range(3):
            reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", forward.port), DEADLINE)
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), DEADLINE)
            writer.close()
        await wait_until(lambda: len(at.of(Trouble)) == 3)
        opened = [event.connection for event in at.events if isinstance(event, ConnectionOpened)]
        told = [event.sentence for event in at.events if isinstance(event, Trouble)]
    named = [f"connection {connection.number} from {connection.peer}" for connection in opened]
    assert [name.split()[1] for name in named] == ["1", "2", "3"]
    assert all(name in sentence for name, sentence in zip(named, told, strict=True))


async def test_a_database_by_its_name() -> None:
    async with bench() as at, echo_server() as port:
        at.services.databases = {"orders": ("127.0.0.1", port), "other": ("127.0.0.1", 1)}
        async with at.forward("0:rds:orders", f"0:rds:other:{port}") as forward:
            for each in forward.ports:
                assert await say(each.port or 0) == b"hello"
            assert forward.ports[0].target == TARGET
        with pytest.raises(ConnectError, match="no database nothing"):
            await at.forward("0:rds:nothing").open()


async def test_an_agent_that_takes_one_connection_at_a_time() -> None:
    async with bench(agent_version="3.0.196.0") as at, echo_server() as port, at.forward(f"0:{port}") as forward:
        assert forward.port is not None
        assert await asyncio.gather(*(say(forward.port) for _ in range(3))) == [b"hello"] * 3
        assert at.of(Trouble) == [Trouble(f"localhost:{port}: the agent is old and serves one connection at a time")]


class TroubledSession(Session):
    """A session whose link is as the test says."""

    link = LinkHealth(LinkState.CONNECTED)
    handler: Callable[[], None]

    @property
    def health(self) -> LinkHealth:
        return self.link

    def set_link_handler(self, handler: Callable[[], None]) -> None:
        self.handler = handler

    def change(self, link: LinkHealth) -> None:
        """The link is like that from now on."""
        self.link = link
        self.handler()


async def test_a_link_that_is_lost_and_restored_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_services, "Session", TroubledSession)
    async with bench() as at, at.forward("0:80") as forward:
        (session,) = at.services.sessions
        assert isinstance(session, TroubledSession)
        session.change(LinkHealth(LinkState.RECONNECTING))
        assert not at.of(LinkTroubled)
        for seconds in (1.0, 2.0):
            session.change(LinkHealth(LinkState.RECONNECTING, True, seconds, "attempt 2", "cut"))
        for _ in range(2):
            session.change(LinkHealth(LinkState.CONNECTED, restored_after=2.0))
        (facts,) = forward.sessions()
        sentence = "connection lost 1 s ago; reconnecting, attempt 2: cut"
        assert at.of(LinkTroubled) == [LinkTroubled(facts, sentence)]
        assert at.of(LinkRestored) == [LinkRestored(facts, "connection restored after 2 s")]


@pytest.mark.parametrize(("agent_version", "ends_by_itself"), [("3.3.987.0", True), ("2.3.612.0", False)])
async def test_the_service_is_asked_only_where_the_agent_does_not_end_a_session(
    agent_version: str, ends_by_itself: bool
) -> None:
    async with bench(agent_version=agent_version) as at, echo_server() as port:
        async with at.forward(f"0:{port}"):
            pass
        assert (f"terminate localhost:{port}" not in at.services.calls) is ends_by_itself
        assert not at.open_sessions
