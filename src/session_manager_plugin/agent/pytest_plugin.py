"""The sandbox as a pytest fixture, for the test suites of other projects.

In their top ``conftest.py``::

    pytest_plugins = ["session_manager_plugin.agent.pytest_plugin"]

It runs in a thread, so blocking tests (boto3, the AWS CLI in a subprocess) may use it. An asyncio test that wants to
await a session's events enters ``Sandbox`` itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from session_manager_plugin.agent.background import BackgroundSandbox


@pytest.fixture
def smp_sandbox() -> Iterator[BackgroundSandbox]:
    """A running sandbox of the test's own."""
    with BackgroundSandbox() as background:
        yield background
