"""Notices the end of the parent process without polling."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def watched_parent(gone: Callable[[], None]) -> Iterator[None]:
    """Have the running event loop call `gone` once, for the length of the block, when the parent process ends.

    By a descriptor that becomes readable then: a pidfd (Linux) or a kqueue (macOS, BSD). Where there is neither,
    nothing is watched.
    """
    loop = asyncio.get_running_loop()
    try:
        fd, close = _death_notice(os.getppid())
    except OSError:  # an old kernel, or a sandbox that forbids it
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
    """A descriptor that becomes readable when process `pid` has ended, and what closes it. Raises `OSError`."""
    if sys.platform == "linux":
        fd = os.pidfd_open(pid)
        return fd, lambda: os.close(fd)
    if hasattr(select, "kqueue"):
        queue = select.kqueue()
        event = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD | select.KQ_EV_ONESHOT, select.KQ_NOTE_EXIT)
        queue.control([event], 0, 0)
        return queue.fileno(), queue.close
    raise OSError("no way to watch a process")
