"""The credentials of a sandbox, where botocore looks for credentials."""

from __future__ import annotations

import pytest

from session_manager_plugin.agent import Sandbox


def use_credentials(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the sandbox's credentials into the environment, for the length of the test."""
    for name, value in sandbox.environment.items():
        monkeypatch.setenv(name, value)
