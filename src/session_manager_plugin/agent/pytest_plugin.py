"""The pytest plugin: a local Session Manager as the fixture ``session_manager``, for the test suites of other projects.

pytest loads this module wherever the package is installed (entry point ``pytest11``), so the sandbox is imported only
when a test uses the fixture. See docs/testing.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from session_manager_plugin.agent.background import BackgroundSandbox

_MARKER = "session_manager(**settings): the arguments of Sandbox(**settings) for the fixture session_manager"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def session_manager(request: pytest.FixtureRequest) -> Iterator[BackgroundSandbox]:
    """A local Session Manager for one test, with credentials that reach no AWS account."""
    from session_manager_plugin.agent.background import BackgroundSandbox
    from session_manager_plugin.agent.sandbox import Sandbox

    marker = request.node.get_closest_marker("session_manager")
    with BackgroundSandbox(Sandbox(**(marker.kwargs if marker else {}))) as background:
        yield background
