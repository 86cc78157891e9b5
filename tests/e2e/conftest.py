"""A sandbox and the environment in which the AWS CLIs find it and our plugin."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from tests.support.programs import PATIENCE

BIN = Path(sys.executable).parent
"""Where the console scripts of the environment under test are."""


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as running:
        yield running


@pytest.fixture
def environment(sandbox: Sandbox, tmp_path: Path) -> dict[str, str]:
    """No configuration of the user's, our plugin first on PATH, the sandbox's credentials."""
    return {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": PATIENCE,
        "HOME": str(tmp_path),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "AWS_PAGER": "",
        "AWS_EC2_METADATA_DISABLED": "true",
        **sandbox.environment,
    }


@pytest.fixture(params=["v1", "v2"])
def aws(request: pytest.FixtureRequest) -> str:
    """The path of an AWS CLI: version 1 from PyPI, version 2 as Debian packages it."""
    variable = f"SMP_TEST_AWS_{request.param.upper()}"
    path = os.environ.get(variable) or (shutil.which("aws", path="/usr/bin") if request.param == "v2" else None)
    if path is None:
        pytest.skip(f"no AWS CLI {request.param} here: set {variable} to its path")
    return path
