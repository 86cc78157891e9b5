"""TCP ports of loopback that belong to a test."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def held_port() -> Iterator[int]:
    """Yield a port of 127.0.0.1 and ::1 on which nothing listens, so that connections to it are refused.

    It is bound until the block ends: the kernel assigns it to no other program, and the source port of no connection
    equals it. A server that the test starts can listen on it, since servers set ``SO_REUSEADDR``.
    """
    with contextlib.ExitStack() as held:
        port = 0
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with contextlib.suppress(OSError):  # a machine may have no IPv6
                bound = held.enter_context(socket.socket(family))
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.bind((address, port))
                port = bound.getsockname()[1]
        yield port
