"""Which tests a run selects: the slow ones only where their path or their mark is given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TESTS = """
import pytest

def test_quick():
    pass

@pytest.mark.slow
def test_slow():
    pass
"""
SETTINGS = f"""
[pytest]
testpaths = test_*
pythonpath = {ROOT}
addopts = --import-mode=importlib
markers = slow
"""


@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["alone", "workers"])
@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        ([], "1 passed, 1 deselected"),
        (["-m", "slow"], "1 passed, 1 deselected"),
        (["test_some"], "2 passed"),
        (["test_some/test_it.py::test_slow"], "1 passed"),
        (["-m", "not slow", "test_some"], "1 passed, 1 deselected"),
    ],
)
def test_a_path_selects_the_same_with_and_without_workers(
    workers: list[str], arguments: list[str], outcome: str, tmp_path: Path
) -> None:
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_configure\n")
    (tmp_path / "test_some").mkdir()
    (tmp_path / "test_some" / "test_it.py").write_text(TESTS)
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *workers, *arguments],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    # The processes of -n do not count what they leave out.
    expected = outcome.partition(",")[0] if workers else outcome
    assert f" {expected} in " in finished.stdout, finished.stdout
