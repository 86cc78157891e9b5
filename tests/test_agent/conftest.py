"""What the sandbox's tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from session_manager_plugin.agent import Sandbox
from tests.support.botocore_clients import AwsClients
from tests.test_agent.far_end import FarEnd


@pytest.fixture
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    """A sandbox with the ``INVENTORY`` of the test's module; the default one without."""
    async with Sandbox(inventory=getattr(request.module, "INVENTORY", None)) as running:
        yield running


@pytest.fixture
async def aws(sandbox: Sandbox) -> AsyncIterator[AwsClients]:
    """botocore's clients of it."""
    async with AwsClients(sandbox) as clients:
        yield clients


@pytest.fixture
async def far_ends() -> AsyncIterator[list[FarEnd]]:
    """Those that a test has made; their agents are closed at the end."""
    ends: list[FarEnd] = []
    yield ends
    for end in ends:
        await end.agent.close()
