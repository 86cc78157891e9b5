"""Whether a descriptor can be written to without blocking."""

from __future__ import annotations

import select


def is_writable(fd: int, timeout: float | None = 0.0) -> bool:
    """Return whether `fd` accepts bytes, or fails, within `timeout` seconds; None waits for that.

    Always true on Windows, which has no poll(2).
    """
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(None if timeout is None else timeout * 1000))
