"""What holds for every test."""

import os
import sys

import pytest
from hypothesis import settings

from session_manager_plugin.utils import logging

# Modules are compiled once, not in each of the processes that run tests and in each program that a test starts.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The same examples in every run, and no verdict that depends on how busy the machine is.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test registers its own secrets: those of earlier tests would hide its words, or a missing registration."""
    monkeypatch.setattr(logging, "_secrets", {})
    monkeypatch.setattr(logging, "_spellings", ())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """The processes of ``-n auto``: two more than processors, since many tests wait rather than compute."""
    return (os.cpu_count() or 1) + 2
