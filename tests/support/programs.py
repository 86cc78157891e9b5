"""Programs that tests drive and that may be absent."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

PATIENCE = str(Path(__file__).with_name("patience"))
"""What is in PYTHONPATH of a program that is not to hurry when it ends; see ``sitecustomize.py`` there."""


def need_program(name: str) -> None:
    """Skip the test where ``name`` is not installed; fail it where SMP_TEST_REQUIRE_PROGRAMS wants all of them."""
    if shutil.which(name) is not None:
        return
    if os.environ.get("SMP_TEST_REQUIRE_PROGRAMS"):
        pytest.fail(f"{name} is not installed")
    pytest.skip(f"{name} is not installed")
