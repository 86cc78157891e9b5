"""Message gateways that misbehave, as scripts of a `RawServer`, and a way to run a server beside code that blocks."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

from session_manager_plugin.protocol.messages import PayloadType
from tests.support import pair
from tests.support.raw_server import BINARY, CLOSE, Peer, Script, close_frame, frame, http_answer, read_request
from tests.support.waiting import DEADLINE

T = TypeVar("T")


@contextmanager
def served(server: AbstractAsyncContextManager[T], loop: asyncio.AbstractEventLoop | None = None) -> Iterator[T]:
    """`server`, entered in an event loop that a thread of its own runs: what is tested has the main thread's.

    The loop is closed at the end.
    """
    loop = loop or asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        running = asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(DEADLINE)
        try:
            yield running
        finally:
            asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(DEADLINE)
            asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(DEADLINE)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE)
        loop.close()


async def _cancel_all() -> None:
    """Cancel all other tasks: a connection that is still in its TLS handshake is known to the event loop alone."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for _ in range(5):  # a socket is closed in the round after its transport, that of TLS one round later
        for transport in list(getattr(asyncio.get_running_loop(), "_transports", {}).values()):
            transport.abort()  # of a connection that was accepted last, and that no server knows
        await asyncio.sleep(0)


def refuse(status: int, *headers: str) -> Script:
    """Answers the opening request with an HTTP status."""

    async def script(peer: Peer) -> None:
        await read_request(peer.reader)
        peer.write(http_answer(status, *headers))
        peer.end()

    return script


def close(code: int, reason: str = "") -> Script:
    """Takes the token and closes the websocket, as the service does with one it does not like."""

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.receive_frame()
        peer.write(close_frame(code, reason))
        await _until_closed(peer)

    return script


def say(*messages: bytes, opened: Callable[[], object] = lambda: None) -> Script:
    """Takes the token, calls ``opened``, sends binary messages and then nothing more."""

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.receive_frame()
        opened()
        peer.write(b"".join(frame(BINARY, message) for message in messages))
        await _until_closed(peer)

    return script


def say_and_close(*messages: bytes) -> Script:
    """Takes the token, sends binary messages and closes the websocket."""

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.receive_frame()
        peer.write(b"".join(frame(BINARY, message) for message in messages) + close_frame(1000))
        await _until_closed(peer)

    return script


def close_after_a_message(code: int) -> Script:
    """Takes the token and closes the websocket when the client sends more: it has taken silence for a shell."""

    async def script(peer: Peer) -> None:
        await peer.accept()
        opcode = 0
        while opcode != BINARY:
            opcode, _ = await peer.receive_frame()
        peer.write(close_frame(code))
        await _until_closed(peer)

    return script


def say_with_the_answer(*messages: bytes) -> Script:
    """Sends binary messages in one write with the 101 answer."""

    async def script(peer: Peer) -> None:
        await peer.accept(b"".join(frame(BINARY, message) for message in messages))
        await _until_closed(peer)

    return script


def cut_after(message: bytes) -> Script:
    """Takes the token, sends a message and resets the connection once it is acknowledged."""

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.receive_frame()
        peer.write(frame(BINARY, message))
        opcode = 0
        while opcode != BINARY:
            opcode, _ = await peer.receive_frame()
        peer.cut()

    return script


async def no_http(peer: Peer) -> None:
    """Talks like an ssh server."""
    peer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    peer.end()


async def silence(peer: Peer) -> None:
    """Accepts the TCP connection and says nothing."""
    await peer.until_gone()


async def _until_closed(peer: Peer) -> None:
    """Wait for the client's close frame, and answer it."""
    opcode = 0
    while opcode != CLOSE:
        opcode, payload = await peer.receive_frame()
    peer.write(frame(CLOSE, payload))
    peer.end()


def stream(*payloads: bytes) -> list[bytes]:
    """The remote program's output, as messages."""
    agent = pair.Peer()
    return [agent.stream(payload) for payload in payloads]


def channel_closed(output: str = "") -> bytes:
    """The service's word that the session is over."""
    return pair.Peer().control("channel_closed", json.dumps({"SessionId": "s", "Output": output}).encode())


def handshake_request(session_type: str) -> bytes:
    """The first message of a handshake."""
    request = {
        "AgentVersion": "3.3.0.0",
        "RequestedClientActions": [
            {"ActionType": "SessionType", "ActionParameters": {"SessionType": session_type, "Properties": None}}
        ],
    }
    return pair.Peer().stream(json.dumps(request).encode(), PayloadType.HANDSHAKE_REQUEST)
