"""A forwarded port with one connection at a time: ssh, and clients or agents without smux."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from collections.abc import Callable
from dataclasses import replace

import pytest

from session_manager_plugin.agent import destination as destination_module
from session_manager_plugin.agent.agent import AgentSettings
from session_manager_plugin.agent.documents import DOCUMENTS, SessionType
from session_manager_plugin.agent.port_basic import READ_HIGH_WATER, READ_LOW_WATER, BasicPort
from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE, ClientMessageType, Flag, PayloadType
from tests.support.ports import held_port
from tests.support.tcp_server import TcpServer
from tests.support.waiting import DEADLINE, wait_until
from tests.test_agent.far_end import SETTINGS, FarEnd, publication

SSH = "AWS-StartSSHSession"
FORWARDING = "AWS-StartPortForwardingSession"
OLD_CLIENT = "1.1.69.0"

Forward = Callable[..., FarEnd]


@pytest.fixture
def forward(far_ends: list[FarEnd]) -> Forward:
    """Starts a port session with a document; it is closed at the end."""

    def start(
        document: str,
        port: int,
        *,
        version: str = OLD_CLIENT,
        settings: AgentSettings = SETTINGS,
        **parameters: str,
    ) -> FarEnd:
        values = {name: [value] for name, value in {"portNumber": str(port), **parameters}.items()}
        end = FarEnd(SessionType.PORT, DOCUMENTS[document].resolve(values), settings, version=version)
        far_ends.append(end)
        end.agent.start()
        return end

    return start


async def until_ready(far: FarEnd) -> None:
    await far.until(lambda: far.connection.send_capacity)


async def until_basic(far: FarEnd) -> BasicPort:
    await far.until(lambda: far.agent.program is not None)
    assert isinstance(far.program, BasicPort)
    return far.program


def send_flag(far: FarEnd, flag: Flag) -> None:
    far.type(flag.serialize(), PayloadType.FLAG)


# ssh.


async def test_the_destination_is_dialled_before_the_client_has_anything_to_say(forward: Forward) -> None:
    async with TcpServer(greeting=b"SSH-2.0-test\r\n") as server:
        far = forward(SSH, server.port)
        await far.until_output(b"SSH-2.0-test\r\n")
        assert far.ready is not None
        assert (far.ready.session_type, far.ready.properties) == ("Port", {"portNumber": str(server.port)})
        far.type(b"SSH-2.0-client\r\n")
        await server.peers[0].until_received(b"SSH-2.0-client\r\n")


async def test_ssh_is_basic_with_a_current_client_too(forward: Forward) -> None:
    async with TcpServer() as server:
        far = forward(SSH, server.port, version="1.3.0.0")
        await until_ready(far)
        far.type(b"bytes as they are")
        await (await server.accepted(0)).until_received(b"bytes as they are")


async def test_the_end_of_file_ends_an_ssh_session_behind_its_last_bytes(forward: Forward) -> None:
    data = random.Random(1).randbytes(1024 * 1024 + 1)
    async with TcpServer(greeting=data, hangs_up=True) as server:
        far = forward(SSH, server.port)
        assert await far.until_finished() == ""
        assert far.failed is False
        assert hashlib.sha256(far.output).digest() == hashlib.sha256(data).digest()
        assert far.states() == ["Connected", "Terminating"]
        assert max(len(payload) for _, payload in far.received) == MAX_PAYLOAD_SIZE


async def test_a_broken_connection_ends_an_ssh_session_as_failed(forward: Forward) -> None:
    async with TcpServer() as server:
        far = forward(SSH, server.port)
        peer = await server.accepted(0)
        linger = (1).to_bytes(4, "little") + bytes(4)
        peer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        peer.transport.abort()
        assert await far.until_finished() == ""
        assert far.failed is True


async def test_disconnecting_ends_an_ssh_session(forward: Forward) -> None:
    async with TcpServer() as server:
        far = forward(SSH, server.port)
        peer = await server.accepted(0)
        await until_ready(far)
        send_flag(far, Flag.DISCONNECT_TO_PORT)
        assert await far.until_finished() == ""
        assert far.failed is True
        await wait_until(lambda: peer.at_end)


# LocalPortForwarding.


async def test_an_old_client_gets_the_bytes_as_they_are(forward: Forward) -> None:
    async with TcpServer(echoes=True) as server:
        far = forward(FORWARDING, server.port, localPortNumber="8080")
        await until_ready(far)
        far.type(b"hello")
        await far.until_output(b"hello")
        assert far.ready is not None
        assert list(far.ready.properties.items()) == [
            ("localPortNumber", "8080"),
            ("portNumber", str(server.port)),
            ("type", "LocalPortForwarding"),
        ]


async def test_disconnecting_closes_the_destination_and_the_next_output_dials_again(forward: Forward) -> None:
    async with TcpServer(echoes=True) as server:
        far = forward(FORWARDING, server.port)
        await until_ready(far)
        far.type(b"one")
        await far.until_output(b"one")
        send_flag(far, Flag.DISCONNECT_TO_PORT)
        await wait_until(lambda: server.peers[0].at_end)
        assert len(server.peers) == 1
        send_flag(far, Flag.DISCONNECT_TO_PORT)  # there is none: nothing happens
        far.type(b"two")
        await far.until_output(b"onetwo")
        assert server.peers[1].received == b"two"
        assert server.peers[0].received == b"one"


async def test_all_that_came_in_one_batch_reaches_the_right_connection(forward: Forward) -> None:
    async with TcpServer() as server:
        far = forward(FORWARDING, server.port)
        await until_ready(far)
        await server.accepted(0)
        now = asyncio.get_running_loop().time()
        for number in range(3):
            far.connection.send_data(PayloadType.OUTPUT, b"%d" % number, now)
            far.connection.send_data(PayloadType.FLAG, Flag.DISCONNECT_TO_PORT.serialize(), now)
        far.answer()
        await wait_until(lambda: len(server.peers) == 3 and all(peer.at_end for peer in server.peers))
        assert sorted(bytes(peer.received) for peer in server.peers) == [b"0", b"1", b"2"]


async def test_the_destinations_end_is_not_told_and_the_next_output_dials_again(forward: Forward) -> None:
    async with TcpServer(greeting=b"bye", hangs_up=True) as server:
        far = forward(FORWARDING, server.port)
        await far.until_output(b"bye")
        await wait_until(lambda: server.peers[0].gone)
        server.hangs_up = False
        await until_ready(far)
        far.type(b"again")
        await (await server.accepted(1)).until_received(b"again")
        await far.until_output(b"byebye")
        assert far.result is None
        assert [payload_type for payload_type, _ in far.received if payload_type != PayloadType.OUTPUT] == []


async def test_a_destination_that_is_gone_when_dialled_again_ends_the_session(forward: Forward) -> None:
    async with TcpServer() as server:
        far = forward(FORWARDING, server.port)
        await until_ready(far)
        await server.accepted(0)
        send_flag(far, Flag.DISCONNECT_TO_PORT)
        await wait_until(lambda: server.peers[0].at_end)
        await server.stop()
        far.type(b"x")
        assert await far.until_finished() == (
            f"Unable to connect to specified port: dial tcp 127.0.0.1:{server.port}: connect: connection refused"
        )
        assert far.failed is True


async def test_output_that_its_reader_no_longer_wants_is_dropped(forward: Forward) -> None:
    async with TcpServer(greeting=bytes(4 * 1024 * 1024)) as server:
        far = forward(FORWARDING, server.port)
        await far.until_output(bytes(MAX_PAYLOAD_SIZE))
        far.send(publication(ClientMessageType.PAUSE_PUBLICATION))
        far.agent.set_congested(True)
        program = await until_basic(far)
        await wait_until(lambda: program.output_size > MAX_PAYLOAD_SIZE)
        send_flag(far, Flag.DISCONNECT_TO_PORT)
        assert program.output_size == 0
        server.greeting = b"the second"
        far.type(b"x")
        far.agent.set_congested(False)
        await far.until_output(b"the second")
        assert len(far.output) < 4 * 1024 * 1024


# Both.


@pytest.mark.parametrize("document", [SSH, FORWARDING])
async def test_the_terminate_flag_ends_the_session(forward: Forward, document: str) -> None:
    async with TcpServer() as server:
        far = forward(document, server.port)
        peer = await server.accepted(0)
        await until_ready(far)
        send_flag(far, Flag.TERMINATE_SESSION)
        assert await far.until_finished() == ""
        assert far.failed is False
        await wait_until(lambda: peer.at_end or peer.gone)


async def test_a_client_that_terminates_need_not_stay_for_the_rest(forward: Forward) -> None:
    async with TcpServer(greeting=bytes(8 * 1024 * 1024)) as server:
        far = forward(FORWARDING, server.port)
        await far.until_output(bytes(MAX_PAYLOAD_SIZE))
        far.receiving = False
        await far.until(lambda: far.agent.endpoint.send_capacity == 0)
        send_flag(far, Flag.TERMINATE_SESSION)
        far.send(publication(ClientMessageType.PAUSE_PUBLICATION))
        assert await far.until_finished() == ""
        assert far.agent.endpoint.in_flight > 0


async def test_an_agent_from_before_the_terminate_flag_ignores_it(forward: Forward) -> None:
    async with TcpServer(echoes=True) as server:
        far = forward(FORWARDING, server.port, settings=replace(SETTINGS, version="2.3.722.0"))
        await until_ready(far)
        send_flag(far, Flag.TERMINATE_SESSION)
        far.type(b"still here")
        await far.until_output(b"still here")


@pytest.mark.parametrize("document", [SSH, FORWARDING])
async def test_a_port_where_nobody_listens(forward: Forward, document: str) -> None:
    with held_port() as port:
        far = forward(document, port)
        assert await far.until_finished() == (
            f"Unable to connect to specified port: dial tcp 127.0.0.1:{port}: connect: connection refused"
        )
    assert far.failed is True
    assert far.ready is not None


async def test_input_waits_unacknowledged_while_the_destination_is_dialled(
    forward: Forward, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_dial = asyncio.Event()
    dial = destination_module.Destination.dial

    async def slow_dial(self: destination_module.Destination, connection: destination_module.DialledConnection) -> None:
        await may_dial.wait()
        await dial(self, connection)

    monkeypatch.setattr(destination_module.Destination, "dial", slow_dial)
    async with TcpServer() as server:
        far = forward(FORWARDING, server.port)
        await until_ready(far)
        await far.until(lambda: far.agent.program is not None)
        in_flight = far.connection.in_flight
        far.type(b"one ")
        far.type(b"two")
        for _ in range(50):
            await asyncio.sleep(0)
        assert far.connection.in_flight == in_flight + 2
        may_dial.set()
        await (await server.accepted(0)).until_received(b"one two")
        await far.until(lambda: far.connection.in_flight == 0)


async def test_a_destination_that_does_not_read_stops_the_sender_at_its_window(forward: Forward) -> None:
    async with TcpServer(reading=False) as server:
        far = forward(SSH, server.port)
        await until_ready(far)
        peer = await server.accepted(0)
        sent = 0
        while sent < 64 * 1024 * 1024:
            if not far.connection.send_capacity:
                for _ in range(50):
                    await asyncio.sleep(0)
                if not far.connection.send_capacity:
                    break
            far.type(bytes(MAX_PAYLOAD_SIZE))
            sent += MAX_PAYLOAD_SIZE
        # What sockets, buffers and a window hold.
        assert sent < 16 * 1024 * 1024
        peer.transport.resume_reading()
        await wait_until(lambda: len(peer.received) == sent)
        await far.until(lambda: far.connection.in_flight == 0)


async def test_a_client_that_does_not_acknowledge_stops_the_reading_of_the_destination(forward: Forward) -> None:
    size = 32 * 1024 * 1024
    async with TcpServer(greeting=bytes(size)) as server:
        far = forward(SSH, server.port)
        await until_ready(far)
        far.receiving = False
        peer = await server.accepted(0)
        program = await until_basic(far)
        await wait_until(lambda: program.output_size > READ_LOW_WATER and not far.agent.endpoint.send_capacity)
        for _ in range(200):
            await asyncio.sleep(0)
        # One read of the event loop may exceed the limit.
        assert program.output_size <= READ_HIGH_WATER + 256 * 1024
        assert peer.transport.get_write_buffer_size() > size // 4


async def test_closing_the_agent_drops_the_connection(forward: Forward) -> None:
    async with TcpServer(greeting=bytes(8 * 1024 * 1024)) as server:
        far = forward(SSH, server.port)
        peer = await server.accepted(0)
        await far.until_output(bytes(MAX_PAYLOAD_SIZE))
        await far.agent.close()
        await wait_until(lambda: peer.gone)
        assert far.result is None


async def test_closing_the_agent_while_it_dials(forward: Forward, monkeypatch: pytest.MonkeyPatch) -> None:
    dialling = asyncio.Event()

    async def dial_for_ever(*_: object) -> None:
        dialling.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(destination_module.Destination, "dial", dial_for_ever)
    far = forward(SSH, 80)
    await asyncio.wait_for(dialling.wait(), DEADLINE)
    await far.agent.close()
    assert far.result is None
