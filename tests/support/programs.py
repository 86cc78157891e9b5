"""Programs that tests drive and that may be absent."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

PATIENCE = str(Path(__file__).with_name("patience"))
"""What is in PYTHONPATH of a program that is not to hurry when it ends; see ``sitecustomize.py`` there."""


def need(program: str, *directories: str) -> str:
    """Return the path of ``program``, on PATH or in ``directories``; skip the test where it is not installed."""
    path = shutil.which(program, path=os.pathsep.join([os.environ["PATH"], *directories]))
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path
