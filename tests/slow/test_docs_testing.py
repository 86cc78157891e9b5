"""The example in docs/testing.md is a project with tests that pass."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from session_manager_plugin.agent import pytest_plugin
from tests.support.other_project import PLUGIN, run_pytest
from tools.docs import ROOT


def test_the_example_projects_tests_pass(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    files = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    assert set(files) == {"free_space.py", "test_free_space.py"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    result = run_pytest(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{files['test_free_space.py'].count('def test_')} passed" in result.stdout


def test_pytest_loads_the_plugin_of_an_installed_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {PLUGIN: pytest_plugin.__name__}
