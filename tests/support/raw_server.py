"""A server that does just what its script says, byte by byte: everything a well-behaved one would never do."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha1
from http import HTTPStatus
from types import TracebackType
from typing import Self

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
"""The opcodes of RFC 6455."""

_ACCEPT_KEY = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """A websocket frame as a server sends it: not masked."""
    head = bytes([opcode | (0x80 if final else 0)])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 65536:
        return head + b"\x7e" + len(payload).to_bytes(2, "big") + payload
    return head + b"\x7f" + len(payload).to_bytes(8, "big") + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame with a code."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason.encode())


def http_answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    """An HTTP response without a body of interest."""
    phrase = HTTPStatus(status).phrase
    lines = [f"HTTP/1.1 {status} {phrase}", *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass
class Request:
    """An HTTP request: its first line, and its headers in order."""

    line: str
    headers: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        """The values of one header."""
        return [value for given, value in self.headers if given.lower() == name.lower()]


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Read the head of a request."""
    head = await reader.readuntil(b"\r\n\r\n")
    line, *lines = head.decode().rstrip("\r\n").split("\r\n")
    return Request(line, [(name, value.strip()) for name, _, value in (given.partition(":") for given in lines)])


class Peer:
    """One connection as the script of a ``RawServer`` sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.request = Request("", [])

    async def accept(self, behind: bytes = b"") -> None:
        """Read the request and answer 101, with ``behind`` in the same write."""
        self.request = await read_request(self.reader)
        key = self.request.values("Sec-WebSocket-Key")[0]
        accept = b64encode(sha1((key + _ACCEPT_KEY).encode()).digest()).decode()
        head = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept}",
        ]
        self.write("\r\n".join([*head, "", ""]).encode() + behind)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)

    def end(self) -> None:
        """Close the TCP connection in order."""
        self.writer.close()

    def cut(self) -> None:
        """Close the TCP connection with a reset."""
        self.writer.transport.abort()

    async def receive_frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload, unmasked."""
        head = await self.reader.readexactly(2)
        assert head[1] & 0x80, "a client must mask its frames"
        length = head[1] & 0x7F
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        elif length == 127:
            length = int.from_bytes(await self.reader.readexactly(8), "big")
        mask = await self.reader.readexactly(4)
        payload = await self.reader.readexactly(length)
        repeated = mask * (length // 4 + 1)
        masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:length], "big")
        return head[0] & 0x0F, masked.to_bytes(length, "big")

    async def until_gone(self) -> bytes:
        """Wait until the other end has closed the connection; gives what it still sent."""
        rest = b""
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(65536):
                rest += data
        return rest


Script = Callable[[Peer], Awaitable[None]]


class RawServer:
    """Listens on loopback and runs ``script`` for each connection; use as an async context manager.

    What a script raises fails the test, unless the other end is gone. A connection stays open until its script ends
    it or the server is left. ``connections`` counts them, ``port`` is where it listens.
    """

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.connections = 0
        self.port = 0
        self._script = script
        self._tls = tls
        self._host = host
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._is_left = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, self._host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        self._is_left = True
        for task in self._tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
        await self._server.wait_closed()
        if exc is None:
            for outcome in outcomes:
                if isinstance(outcome, Exception):
                    raise outcome

    def url(self, path: str = "/v1/data-channel/session-1?role=publish_subscribe") -> str:
        """A stream URL that leads here."""
        return f"{'ws' if self._tls is None else 'wss'}://{self._host}:{self.port}{path}"

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._is_left:  # accepted in the moment before
            writer.transport.abort()
            return
        self._writers.append(writer)
        self._tasks.append(asyncio.ensure_future(self._run(Peer(reader, writer))))

    async def _run(self, peer: Peer) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._script(peer)
