"""Where a port session leads: what a host resolves to, what is forbidden, which address answers."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from session_manager_plugin.agent.agent_versions import DEFAULT_AGENT_VERSION, LOOPBACK_DENIED_FROM
from session_manager_plugin.agent.destination import Destination, DialledConnection
from session_manager_plugin.agent.program import ProgramError
from tests.support.ports import held_port
from tests.support.tcp_server import TcpServer
from tests.support.waiting import wait_until


class Owner:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.closed = False

    def destination_sent(self, connection: DialledConnection, data: bytes) -> None:
        self.received += data

    def destination_caught_up(self, connection: DialledConnection) -> None:
        pass

    def destination_closed(self, connection: DialledConnection, error: Exception | None) -> None:
        self.closed = True


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every host resolve to these."""

    def getaddrinfo(host: str, port: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (address, int(port), 0, 0) if ":" in address else (address, int(port)),
            )
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.169.253",
        "169.254.169.123",
        "169.254.169.250",
        "169.254.169.251",
        "fd00:ec2::254",
        "fd00:ec2::253",
        "fd00:ec2::123",
        "fd00:ec2::240",
        "fd00:0ec2:0:0::0254",
        "::ffff:169.254.169.254",
    ],
)
async def test_addresses_that_are_denied(address: str) -> None:
    with pytest.raises(ProgramError) as caught:
        await Destination({"host": address, "portNumber": "80"}, DEFAULT_AGENT_VERSION).resolve()
    assert str(caught.value) == f"Forwarding to IP address {address} is forbidden."


@pytest.mark.parametrize(
    "address",
    [
        "localhost",
        "127.0.0.1",
        "127.255.1.2",
        "127.1",
        "0x7f000001",
        "2130706433",
        "::1",
        "0:0:0:0:0:0:0:1",
        "::ffff:127.0.0.1",
        "169.254.170.2",
        "169.254.170.23",
        "fd00:ec2::23",
    ],
)
async def test_what_newer_agents_deny_too(address: str) -> None:
    with pytest.raises(ProgramError) as caught:
        await Destination({"host": address, "portNumber": "80"}, LOOPBACK_DENIED_FROM).resolve()
    assert str(caught.value) == f"Forwarding to IP address {address} is forbidden."
    await Destination({"host": address, "portNumber": "80"}, "3.3.4850.9").resolve()


async def test_newer_agents_forward_to_a_port_of_their_own_machine() -> None:
    await Destination({"portNumber": "80"}, LOOPBACK_DENIED_FROM).resolve()
    await Destination({"host": "192.0.2.1", "portNumber": "80"}, LOOPBACK_DENIED_FROM).resolve()


async def test_a_name_is_denied_when_one_of_its_addresses_is(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1", "169.254.169.254")
    with pytest.raises(ProgramError) as caught:
        await Destination({"host": "innocent.example", "portNumber": "80"}, DEFAULT_AGENT_VERSION).resolve()
    assert str(caught.value) == "Forwarding to IP address innocent.example is forbidden."


async def test_an_address_that_is_only_similar_is_not_denied() -> None:
    destination = Destination({"host": "169.254.169.252", "portNumber": "80"}, DEFAULT_AGENT_VERSION)
    await destination.resolve()
    assert destination.addresses == [("169.254.169.252", 80)]


@pytest.mark.parametrize("properties", [{}, {"host": ""}, {"host": "localhost"}, {"host": "127.0.0.1"}])
async def test_the_destination_is_this_machine_unless_a_host_is_given(properties: dict[str, str]) -> None:
    async with TcpServer() as server:
        destination = Destination({**properties, "portNumber": str(server.port)}, DEFAULT_AGENT_VERSION)
        await destination.resolve()
        connection = DialledConnection(Owner())
        await destination.dial(connection)
        connection.abort()
        await connection.gone
        assert len(server.peers) == 1


async def test_the_addresses_are_tried_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.3", "127.0.0.1", "127.0.0.4")
    async with (
        TcpServer(host="127.0.0.1") as other,  # the address whose ports are in use
        TcpServer(host="127.0.0.3", port=other.port, greeting=b"third") as server,
    ):
        destination = Destination({"host": "several.example", "portNumber": str(server.port)}, DEFAULT_AGENT_VERSION)
        await destination.resolve()
        owner = Owner()
        connection = DialledConnection(owner)
        await destination.dial(connection)
        await wait_until(lambda: owner.received == b"third")
        connection.abort()
        await connection.gone
        assert not other.peers


async def test_the_error_is_that_of_the_first_address(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "::1", "127.0.0.1")
    with held_port() as port:
        destination = Destination({"host": "nowhere.example", "portNumber": str(port)}, DEFAULT_AGENT_VERSION)
        await destination.resolve()
        with pytest.raises(ConnectionError) as caught:
            await destination.dial(DialledConnection(Owner()))
    assert str(caught.value) in (
        f"dial tcp [::1]:{port}: connect: connection refused",
        f"dial tcp [::1]:{port}: connect: cannot assign requested address",  # where there is no IPv6
    )


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 64 + ".example"])
async def test_a_host_that_is_not_found_is_told_when_it_is_dialled(host: str) -> None:
    destination = Destination({"host": host, "portNumber": "80"}, DEFAULT_AGENT_VERSION)
    await destination.resolve()
    with pytest.raises(ConnectionError) as caught:
        await destination.dial(DialledConnection(Owner()))
    assert str(caught.value) == f"dial tcp: lookup {host}: no such host"


async def test_what_is_written_before_the_connection_is_made_leaves_first() -> None:
    async with TcpServer() as server:
        destination = Destination({"portNumber": str(server.port)}, DEFAULT_AGENT_VERSION)
        await destination.resolve()
        owner = Owner()
        connection = DialledConnection(owner)
        connection.write([b"early ", b"bird "])
        connection.close()
        connection.write([b"too late"])
        await destination.dial(connection)
        await connection.gone
        assert owner.closed
        await (await server.accepted(0)).until_received(b"early bird ")


async def test_a_connection_that_was_never_made_is_gone_at_once() -> None:
    connection = DialledConnection(Owner())
    connection.set_reading(False)
    connection.abort()
    assert connection.gone.done()
    connection.abort()
