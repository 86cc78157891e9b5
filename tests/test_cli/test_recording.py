"""Which sessions are recorded, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.recording_options import recorder
from session_manager_plugin.errors import UsageError
from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.recording import Recording

SIZE = TerminalSize(80, 24)


def test_none_is_recorded_unless_asked_for() -> None:
    assert recorder(Environment(variables={}))("alice-1") is None


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "session.cast"
    open_recording = recorder(Environment(variables={"SMP_RECORD_DIR": str(tmp_path / "all")}), str(path))
    assert list(tmp_path.iterdir()) == [], "nothing before the session is one to be recorded"
    recording = open_recording("alice-1")
    assert isinstance(recording, Recording)
    assert recording.path == path
    recording.close()


def test_a_file_that_cannot_be_made_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "session.cast").touch()
    with pytest.raises(UsageError, match="exists"):
        recorder(Environment(variables={}), str(tmp_path / "session.cast"))
    assert (tmp_path / "session.cast").exists()
    with pytest.raises(UsageError, match="cannot create the recording"):
        recorder(Environment(variables={}), str(tmp_path / "absent" / "session.cast"))


@pytest.mark.parametrize("keeps_input", [False, True])
def test_a_directory(tmp_path: Path, keeps_input: bool) -> None:
    directory = tmp_path / "all"
    open_recording = recorder(Environment(variables={"SMP_RECORD_DIR": str(directory)}), keeps_input=keeps_input)
    assert not directory.exists()
    recording = open_recording("alice-1")
    assert isinstance(recording, Recording)
    assert recording.path.parent == directory
    assert recording.path.name.endswith("-alice-1.cast")
    recording.begin(SIZE, "", {})
    recording.input(b"typed")
    recording.close()
    assert (b"typed" in recording.path.read_bytes()) == keeps_input


def test_input_alone_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="--record-input needs --record"):
        recorder(Environment(variables={}), keeps_input=True)
