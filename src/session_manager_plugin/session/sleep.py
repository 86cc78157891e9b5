"""Waiting by a clock that a test may replace."""

from __future__ import annotations

import asyncio

from session_manager_plugin.session.protocols import Clock


async def sleep(seconds: float, clock: Clock) -> None:
    """Wait until ``seconds`` have passed on ``clock``."""
    passed = asyncio.Event()
    timer = clock.call_later(seconds, passed.set)
    try:
        await passed.wait()
    finally:
        timer.cancel()
