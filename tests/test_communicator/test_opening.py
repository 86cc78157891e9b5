"""The stages of a link: data that arrives between two stages is not lost."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from session_manager_plugin.communicator.opening import Link, Opening, Stage, connect_to_any, look_up
from session_manager_plugin.communicator.route import route_of
from session_manager_plugin.utils.link_options import NetworkOptions
from tests.support.certificates import Authority
from tests.support.raw_server import Peer, RawServer
from tests.support.waiting import DEADLINE, Happenings

NAME = "gateway.test"
EARLY = b"HTTP/1.1 400 Bad Request\r\n\r\n"


class Receiver(asyncio.BufferedProtocol):
    """Notes what a connection calls."""

    def __init__(self) -> None:
        self.calls: list[bytes | str] = []
        self.happenings = Happenings()
        self._buffer = bytearray(1024)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("made")
        self.happenings.happened()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.calls.append(bytes(self._buffer[:nbytes]))
        self.happenings.happened()

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.happenings.happened()


async def link_to(port: int) -> Link:
    return Link(await connect_to_any(await look_up("127.0.0.1", port)))


async def say_and_end(peer: Peer) -> None:
    peer.write(EARLY)
    peer.end()


async def test_what_comes_before_the_last_protocol_is_handed_over(tmp_path: Path) -> None:
    """The far end speaks, and hangs up, as soon as TLS is there."""
    authority = Authority(tmp_path)
    async with RawServer(say_and_end, tls=authority.server_context(NAME)) as server:
        link = await link_to(server.port)
        async with asyncio.timeout(DEADLINE):
            await link.start_tls(ssl.create_default_context(cafile=authority.bundle), NAME)
            receiver = Receiver()
            await link.hand_over(receiver)
            await receiver.happenings.until(lambda: "lost" in receiver.calls)
        assert receiver.calls == ["made", EARLY, "lost"]


async def test_what_comes_behind_a_tunnels_answer_is_handed_over() -> None:
    """In later reads than the answer, and the connection is lost before the next stage."""
    answered = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await answered.wait()
        peer.write(b"first")
        peer.end()

    async with RawServer(script) as server:
        link = await link_to(server.port)
        async with asyncio.timeout(DEADLINE):
            assert (await link.get("/", NAME)).is_success
            answered.set()
            receiver = Receiver()
            await link.hand_over(receiver)
            await receiver.happenings.until(lambda: "lost" in receiver.calls)
        assert receiver.calls == ["made", b"first", "lost"]


async def test_a_port_that_speaks_first_is_no_tls_port(tmp_path: Path) -> None:
    """Its greeting reaches the TLS handshake, which would else wait for ever."""

    async def script(peer: Peer) -> None:
        peer.write(b"220 mail.test ESMTP\r\n")
        await peer.until_gone()

    async with RawServer(script) as server:
        link = await link_to(server.port)
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(ssl.SSLError, match=r"(?i)wrong.version|packet length|record layer"):
                await link.start_tls(ssl.create_default_context(cafile=Authority(tmp_path).bundle), NAME)
        link.abort()


async def test_the_stage_that_failed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    opening = Opening(route_of(f"ws://127.0.0.1:{port}/", NetworkOptions()), None)
    with pytest.raises(ConnectionRefusedError):
        await opening.open()
    assert opening.stage is Stage.TCP


async def test_a_link_can_be_cut_at_any_stage() -> None:
    gone: list[bytes] = []
    happenings = Happenings()

    async def script(peer: Peer) -> None:
        gone.append(await peer.until_gone())
        happenings.happened()

    async with RawServer(script) as server:
        first = await link_to(server.port)
        first.abort()
        first.abort()
        second = await link_to(server.port)
        await second.hand_over(Receiver())
        second.abort()
        await happenings.until(lambda: len(gone) == 2)
