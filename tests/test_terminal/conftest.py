"""Real ptys for the tests of the terminal."""

from __future__ import annotations

import contextlib
import os
import pty
from collections.abc import Iterator
from typing import NamedTuple

import pytest


class Pty(NamedTuple):
    """The two ends of a pty: `master` is the window and the keyboard, `slave` what programs are given."""

    master: int
    slave: int


@pytest.fixture
def terminal() -> Iterator[Pty]:
    """A pty of which the test may close either end."""
    pair = Pty(*pty.openpty())
    yield pair
    for fd in pair:
        with contextlib.suppress(OSError):
            os.close(fd)
