"""Programs that tests drive and that may be absent."""

from __future__ import annotations

import os
import shutil

import pytest


def need_program(name: str) -> None:
    """Skip the test where ``name`` is not installed; fail it where SMP_TEST_REQUIRE_PROGRAMS wants all of them."""
    if shutil.which(name) is not None:
        return
    if os.environ.get("SMP_TEST_REQUIRE_PROGRAMS"):
        pytest.fail(f"{name} is not installed")
    pytest.skip(f"{name} is not installed")
