"""Files that only the user reads, and that other processes use too."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from session_manager_plugin.utils.private_files import locked_directory, replace_file
from tests.support.waiting import DEADLINE


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_and_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "smp" / "file"
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert os.listdir(path.parent) == ["file"]


def test_a_file_that_cannot_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        replace_file(tmp_path / "file", b"one")
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_names_the_file(tmp_path: Path) -> None:
    """That of a write has no name, as on a full disk, for which a limit of the file's size stands here."""
    program = (
        "import resource, sys; from pathlib import Path; "
        "from session_manager_plugin.utils.private_files import replace_file; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)); replace_file(Path(sys.argv[1]), b'x' * 11)"
    )
    path = tmp_path / "file"
    run = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False, timeout=DEADLINE
    )
    assert run.stderr.endswith(f"File too large: '{path}'\n")
    assert os.listdir(tmp_path) == []


def test_one_at_a_time(tmp_path: Path) -> None:
    entered, order = threading.Event(), []

    def second() -> None:
        entered.set()
        with locked_directory(tmp_path / "smp"):
            order.append("second")

    thread = threading.Thread(target=second)
    with locked_directory(tmp_path / "smp"):
        thread.start()
        assert entered.wait(DEADLINE)
        thread.join(0.02)
        order.append("first")
    thread.join(DEADLINE)
    assert order == ["first", "second"]
