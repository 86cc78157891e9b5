"""A TCP server whose connections are functions of a reader and a writer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine

from tests.support.waiting import rounds

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[object, object, None]]


@contextlib.asynccontextmanager
async def stream_server(serve: Serve, *, host: str = "127.0.0.1", backlog: int = 100) -> AsyncIterator[int]:
    """Run ``serve`` for each connection, and yield the port.

    When the block ends, connections that are still open are reset: none outlives the test's event loop.
    """
    connections: list[tuple[asyncio.Task[None], asyncio.StreamWriter]] = []

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append((asyncio.ensure_future(serve(reader, writer)), writer))

    server = await asyncio.start_server(connected, host, 0, backlog=backlog)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await rounds()  # asyncio leaks a connection that it has accepted but not set up when the server is closed
        server.close()
        for task, writer in connections:
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*(task for task, _ in connections), return_exceptions=True)
        for _, writer in connections:
            with contextlib.suppress(OSError):
                await writer.wait_closed()
