"""Answers of the terminal that arrive when nobody is left to receive them."""

from __future__ import annotations

import os
import select
import time

from session_manager_plugin.terminal.questions import ATTRIBUTES

DISCARD_TIME = 0.25
"""Seconds to wait for the last answer. A terminal on this machine takes some milliseconds."""

_READ_SIZE = 65536


def discard_answers(fd: int, count: int, timeout: float = DISCARD_TIME) -> None:
    """Read the terminal `fd` until it has answered `count` times to DA1, at most for `timeout` seconds.

    What is read is dropped, keys that were typed meanwhile too: they cannot be put back. `fd` must be in raw mode and
    in the foreground. The caller has asked for DA1. Blocks; returns early when reading fails or the terminal is gone.
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
