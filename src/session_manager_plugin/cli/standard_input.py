"""Checking whether standard input has data, without reading it."""

from __future__ import annotations

import os
import stat
import struct


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


def _pending_size(fd: int) -> int:
    import fcntl
    import termios

    size: int = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0]
    return size
