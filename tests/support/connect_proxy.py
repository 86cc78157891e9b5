"""A small HTTP proxy: CONNECT only, to names that it knows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from tests.support.raw_server import Peer, RawServer, Request, http_answer, read_request

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class ConnectProxy(RawServer):
    """Connects ``host:port`` of a CONNECT request to the loopback port that ``routes`` gives for it.

    ``answer`` is what it says to a request that it obeys. With ``refuse_with``, which may be set at any time, it
    refuses everything with that status. ``requests`` holds what was asked.
    """

    def __init__(
        self, routes: Mapping[str, int], *, refuse_with: int | None = None, answer: bytes = ESTABLISHED
    ) -> None:
        super().__init__(self._serve)
        self.requests: list[Request] = []
        self._routes = routes
        self.refuse_with = refuse_with
        self._answer = answer

    def proxy_url(self, user_info: str = "") -> str:
        """Its URL, with ``user:password`` when given."""
        return f"http://{user_info + '@' if user_info else ''}127.0.0.1:{self.port}"

    async def _serve(self, peer: Peer) -> None:
        request = await read_request(peer.reader)
        self.requests.append(request)
        method, target, _ = request.line.split(" ")
        assert method == "CONNECT"
        if self.refuse_with is not None:
            peer.write(http_answer(self.refuse_with))
            peer.end()
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", self._routes[target])
        try:
            peer.write(self._answer)
            await asyncio.gather(_copy(peer.reader, writer), _copy(reader, peer.writer))
        finally:
            peer.cut()
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
