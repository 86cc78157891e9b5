"""Standard input of commands that receive none: whether it has data, without reading it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import struct
from collections.abc import Callable, Iterator

PIPELINE_PATIENCE = 1.0
"""Seconds that another program of a pipeline has to write its first byte, or to end."""


def has_input(fd: int) -> bool:
    """Whether ``fd`` has bytes to read, or may still receive some from another program of a shell's pipeline.

    In a pipeline, waits until the other program has written or closed the pipe, at most ``PIPELINE_PATIENCE`` seconds.
    Returns at once for a silent pipe of the program that started us, as that of a CI job is.
    """
    if not has_pending_input(fd) and is_stream(fd) and _ends_pipeline(fd) and not _is_ready(fd, PIPELINE_PATIENCE):
        return True
    return has_pending_input(fd)


def has_pending_input(fd: int) -> bool:
    """Whether ``fd`` is a file, a pipe or a socket with bytes to read now. False for terminals, other devices, and a
    closed descriptor."""
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode):
            return os.fstat(fd).st_size > os.lseek(fd, 0, os.SEEK_CUR)
        return is_stream(fd) and _pending_size(fd) > 0
    except OSError:
        return False


def is_stream(fd: int) -> bool:
    """Whether ``fd`` is a pipe or a socket."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def can_read_terminal(fd: int) -> bool:
    """Whether ``fd`` is a terminal that this process may read: the kernel stops one in the background that does."""
    try:
        return os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # not our controlling terminal: no job control
        return os.isatty(fd)


@contextlib.contextmanager
def watched_input(fd: int, received: Callable[[], None]) -> Iterator[None]:
    """Call ``received`` once if ``fd``, a pipe or a socket, has bytes to read during the block or at its end."""
    if not is_stream(fd):
        yield
        return
    loop = asyncio.get_running_loop()
    is_watched = True

    def readable() -> None:
        nonlocal is_watched
        is_watched = False
        loop.remove_reader(fd)
        if has_pending_input(fd):
            received()

    loop.add_reader(fd, readable)
    try:
        yield
    finally:
        if is_watched:
            readable()


def _ends_pipeline(fd: int) -> bool:
    """Whether a pipe is written by other programs than this process and its ancestors, as in a shell's pipeline.

    Read from Linux's /proc, for the processes of this user; False where nothing can be found out.
    """
    try:
        name = os.readlink(f"/proc/self/fd/{fd}")
        others = {int(each) for each in os.listdir("/proc") if each.isdecimal()}
    except OSError:
        return False
    pid = os.getpid()
    while pid:
        if _writes(pid, name):
            return False
        others.discard(pid)
        pid = _parent(pid)
    return any(_writes(each, name) for each in others)


def _writes(pid: int, name: str) -> bool:
    """Whether a process has the file called ``name`` in /proc open for writing."""
    directory = f"/proc/{pid}/fd"
    try:
        links = [f"{directory}/{each}" for each in os.listdir(directory)]
    except OSError:
        return False
    for link in links:
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.readlink(link) == name and os.lstat(link).st_mode & stat.S_IWUSR:
                return True
    return False


def _parent(pid: int) -> int:
    """Return the parent of a process; 0 if there is none, or it is hidden."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _is_ready(fd: int, timeout: float) -> bool:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _pending_size(fd: int) -> int:
    import fcntl
    import termios

    size: int = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0]
    return size
