"""One line about a wait, at a terminal, if it takes long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.render import tell_note

EXPLAINED_AFTER = 3.0
"""Seconds."""


@contextlib.contextmanager
def explained_wait(environment: Environment, what: str) -> Iterator[None]:
    """Write ``what`` is being done, and the key that ends it, if the block takes longer than ``EXPLAINED_AFTER``.

    For waits in which nothing reads the terminal, so that no escape is obeyed: a credential process may ask there.
    """
    if not environment.is_interactive:
        yield
        return
    timer = asyncio.get_running_loop().call_later(EXPLAINED_AFTER, tell_note, environment, f"{what}; Ctrl-C ends it")
    try:
        yield
    finally:
        timer.cancel()
