"""Detecting the end of the parent process without polling."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def watched_parent(gone: Callable[[], None]) -> Iterator[None]:
    """During the block, call ``gone`` once in the running event loop when the parent process ends.

    Uses a descriptor that becomes readable then: a pidfd (Linux) or a kqueue (macOS, BSD). Does nothing on systems
    without both.
    """
    loop = asyncio.get_running_loop()
    try:
        fd, close = _death_notice(os.getppid())
    except OSError:  # an old kernel, or not permitted
        yield
        return

    def ended() -> None:
        loop.remove_reader(fd)
        gone()

    loop.add_reader(fd, ended)
    try:
        yield
    finally:
        loop.remove_reader(fd)
        close()


def _death_notice(pid: int) -> tuple[int, Callable[[], None]]:
    """Return a descriptor that is readable once process ``pid`` has ended, and its close function. Raises
    ``OSError``."""
    if sys.platform == "linux":
        fd = os.pidfd_open(pid)
        return fd, lambda: os.close(fd)
    if hasattr(select, "kqueue"):
        queue = select.kqueue()
        event = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD | select.KQ_EV_ONESHOT, select.KQ_NOTE_EXIT)
        queue.control([event], 0, 0)
        return queue.fileno(), queue.close
    raise OSError("no way to watch a process")
