"""Garbage collection while a program starts."""

from __future__ import annotations

import contextlib
import gc

from session_manager_plugin.cli.garbage import collection_paused


def test_collection_is_paused_and_resumed_whatever_happens() -> None:
    assert gc.isenabled()
    with contextlib.suppress(KeyError), collection_paused():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
