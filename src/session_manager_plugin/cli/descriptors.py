"""Raises the limit of open files and sockets of this process."""

from __future__ import annotations

import contextlib

_ENOUGH = (1 << 20, 10_240)
"""Limits that are tried one after the other. More is of no use: programs that we start (a credential process) inherit
the limit, and some close every descriptor below it. macOS refuses more than 10,240 although it names no limit."""


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open descriptors to the hard one, as far as that is of use: each connection that is
    forwarded takes one. Where there is no such limit, or it may not be changed, it stays as it is."""
    import resource  # absent on Windows, where there is no session either

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    for enough in _ENOUGH:
        wanted = enough if hard == resource.RLIM_INFINITY else min(hard, enough)
        if wanted <= soft:
            return
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return
