"""The test suite of another project, run as its developers run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PLUGIN = "session_manager_plugin.agent.pytest_plugin"


def run_pytest(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the tests in ``directory`` with the plugin, which is named in case the installed package is older."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", PLUGIN, "-p", "no:cacheprovider", "."],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
