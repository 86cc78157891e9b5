"""Discarding answers of the terminal that arrive after the session has ended."""

from __future__ import annotations

import os
import select
import time

from session_manager_plugin.terminal.questions import ATTRIBUTES

DISCARD_TIME = 0.25
"""Seconds to wait for the last answer. A local terminal takes a few milliseconds."""

_READ_SIZE = 65536


def discard_answers(fd: int, count: int, timeout: float = DISCARD_TIME) -> None:
    """Read the terminal ``fd`` until it has answered DA1 ``count`` times, for ``timeout`` seconds at most.

    The caller has sent the requests. Everything read is discarded, keys typed in the meantime included, since they
    cannot be put back. ``fd`` must be in raw mode and in the foreground. Blocks; returns early when reading fails.
    """
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + timeout
    data = b""
    while len(ATTRIBUTES.findall(data)) < count:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return
        try:
            piece = os.read(fd, _READ_SIZE)
        except OSError:
            return
        if not piece:
            return
        data += piece
