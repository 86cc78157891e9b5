"""A non-blocking descriptor of our own for a terminal or pipe that other processes write to as well."""

from __future__ import annotations

import contextlib
import os
import stat


def open_own_descriptor(fd: int) -> int | None:
    """Open the terminal or pipe behind ``fd`` a second time, non-blocking. Returns None where that is not possible.

    ``O_NONBLOCK`` belongs to the open file description. The description of a standard stream is shared with our parent
    and the other processes of the pipeline, so the flag may be set only on a description of our own. A file must not
    be opened again: its offset and ``O_APPEND`` belong to the description too.
    """
    status = os.fstat(fd)
    paths = []
    if stat.S_ISFIFO(status.st_mode):
        paths.append(f"/proc/self/fd/{fd}")
    elif os.isatty(fd) and not _is_pty_master(status):
        with contextlib.suppress(OSError):
            paths.append(os.ttyname(fd))
        with contextlib.suppress(OSError):
            os.tcgetpgrp(fd)  # fails unless ``fd`` is our controlling terminal
            # After su(1) the terminal's device belongs to another user; /dev/tty may be opened by all.
            paths.append("/dev/tty")
    for path in paths:
        with contextlib.suppress(OSError):
            return os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    return None


def _is_pty_master(status: os.stat_result) -> bool:
    """Whether ``status`` is of the master end of a pty; opening that by its name would create another pty."""
    try:
        return status.st_rdev == os.stat("/dev/ptmx").st_rdev
    except OSError:
        return False
