"""Raising the limit of open files and sockets of this process."""

from __future__ import annotations

import contextlib

_ENOUGH = (1 << 20, 10_240)
"""Limits to try in this order. They are not higher because child processes (a credential process) inherit the limit,
and some close every descriptor below it. macOS refuses more than 10,240 although it reports no limit."""


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open descriptors towards the hard limit, since each forwarded connection needs one. Does
    nothing where that is not possible."""
    import resource  # absent on Windows

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
