"""What the sandbox's tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from session_manager_plugin.agent import Sandbox


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox with its defaults."""
    async with Sandbox() as running:
        yield running
