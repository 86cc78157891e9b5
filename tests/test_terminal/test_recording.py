"""Recordings: asciicast v2, whole at every moment, and in nobody's way."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.recording import LONGEST_NAME, Recording, recording_path
from tests.support.asciicast import check_asciicast
from tests.support.waiting import DEADLINE

SIZE = TerminalSize(100, 30)
VARIABLES = {
    "TERM": "xterm-256color",
    "SHELL": "/bin/zsh",
    "SMP_TOKEN": "the-token",
    "AWS_SECRET_ACCESS_KEY": "the-key",
}


class Clock:
    """Seconds, as set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.cast"


def lines(path: Path) -> list[Any]:
    """The header and the events; it is a well-formed recording."""
    return check_asciicast(path.read_bytes())


def test_header_and_events(path: Path, clock: Clock) -> None:
    began = int(time.time())
    recording = Recording(path, clock=clock)
    recording.begin(SIZE, "alice-1", VARIABLES)
    clock.now += 0.25
    recording.output(b"$ ")
    clock.now += 1.1234567
    recording.input(b"secret\r")
    recording.resize(SIZE)
    recording.resize(TerminalSize(80, 24))
    recording.output('日本語\x1b[m\r\n\x00\x7f"\\'.encode())
    recording.close()
    header, *events = lines(path)
    assert began <= header.pop("timestamp") <= time.time()
    assert header == {
        "version": 2,
        "width": 100,
        "height": 30,
        "title": "alice-1",
        "env": {"TERM": "xterm-256color", "SHELL": "/bin/zsh"},
    }
    assert events == [
        [0.25, "o", "$ "],
        [1.373457, "r", "80x24"],
        [1.373457, "o", '日本語\x1b[m\r\n\x00\x7f"\\'],
    ]
    assert b"the-token" not in path.read_bytes()


def test_what_is_not_known_is_left_out(path: Path, clock: Clock) -> None:
    recording = Recording(path, clock=clock)
    recording.begin(SIZE, "", {})
    recording.close()
    (header,) = lines(path)
    assert set(header) == {"version", "width", "height", "timestamp"}


def test_input_is_recorded_if_asked_for(path: Path, clock: Clock) -> None:
    recording = Recording(path, keeps_input=True, clock=clock)
    recording.begin(SIZE, "alice-1", {})
    recording.input(b"ls \xc3")
    recording.output(b"l\xe6\x97")
    recording.input(b"\xa4\r")
    recording.output(b"\xa5")
    recording.close()
    assert lines(path)[1:] == [[0.0, "i", "ls "], [0.0, "o", "l"], [0.0, "i", "ä\r"], [0.0, "o", "日"]]


@given(st.text(max_size=40), st.lists(st.integers(1, 5), max_size=60))
def test_a_character_is_whole_however_its_bytes_come(
    tmp_path_factory: pytest.TempPathFactory, text: str, sizes: list[int]
) -> None:
    path = tmp_path_factory.mktemp("recording") / "session.cast"
    recording = Recording(path)
    recording.begin(SIZE, "", {})
    data = text.encode()
    for size in sizes:
        recording.output(data[:size])
        data = data[size:]
    recording.output(data)
    recording.close()
    assert "".join(event[2] for event in lines(path)[1:]) == text


@pytest.mark.parametrize(
    ("chunks", "text"),
    [
        ([b"a\xffb"], "a\ufffdb"),
        ([b"\xe6\x97", b"x"], "\ufffdx"),
        ([b"\xe6\x97"], "\ufffd"),
        ([b"\xed\xa0\x80"], "\ufffd\ufffd\ufffd"),
        ([bytes(range(128, 256))], "\ufffd" * 128),
    ],
)
def test_what_is_no_utf8_is_replaced(path: Path, chunks: list[bytes], text: str) -> None:
    recording = Recording(path)
    recording.begin(SIZE, "", {})
    for chunk in chunks:
        recording.output(chunk)
    recording.close()
    assert "".join(event[2] for event in lines(path)[1:]) == text


def test_the_file_is_whole_after_every_event(path: Path) -> None:
    recording = Recording(path)
    recording.begin(SIZE, "", {})
    for number in range(100):
        recording.output(b"x" * 1000)
        assert len(lines(path)) == number + 2
    recording.close()
    assert len(lines(path)) == 101


def test_only_the_owner_may_read_it(path: Path) -> None:
    previous = os.umask(0)
    try:
        Recording(path).begin(SIZE, "", {})
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_overwritten(path: Path, tmp_path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(ConfigurationError, match="exists; choose another file"):
        Recording(path)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="exists"):
        Recording(link)
    assert path.read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot create the recording .*: No such file or directory"):
        Recording(tmp_path / "absent" / "session.cast")


def test_a_session_that_never_began_leaves_no_file(path: Path) -> None:
    recording = Recording(path)
    recording.output(b"early")
    recording.close()
    recording.close()
    assert not path.exists()


def test_after_the_end_nothing_is_recorded(path: Path) -> None:
    recording = Recording(path)
    recording.begin(SIZE, "", {})
    recording.close()
    recording.output(b"late")
    recording.resize(TerminalSize(1, 1))
    recording.close()
    assert len(lines(path)) == 1


FULL = """
import resource, sys
from pathlib import Path
from session_manager_plugin.terminal.recording import Recording
from session_manager_plugin.session.protocols import TerminalSize

resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
recording = Recording(Path(sys.argv[1]))
recording.failed = print
recording.begin(TerminalSize(80, 24), "", {})
for _ in range(20):
    recording.output(b"x" * 1000)
recording.close()
"""


def test_a_disk_that_is_full_ends_the_recording_only(path: Path) -> None:
    """A limit of the file's size stands for the disk: with its signal ignored write(2) writes less, then fails."""
    finished = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=DEADLINE)
    assert finished.stderr == ""
    assert re.fullmatch(
        rf"the recording {re.escape(str(path))} has ended: .+; the session continues\n", finished.stdout
    )
    assert len(lines(path)) == 1 + 4, "whole events only"


def test_where_recordings_of_all_shells_are(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    previous = os.umask(0o022)
    try:
        path = recording_path(directory, "alice-0a1b")
        assert recording_path(directory, "../../etc/passwd\x1b[m").name.endswith("Z-.._.._etc_passwd__m.cast")
    finally:
        os.umask(previous)
    assert path.parent == directory
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert re.fullmatch(r"20\d{6}T\d{6}Z-alice-0a1b\.cast", path.name)
    assert len(recording_path(directory, "x" * 500).name) == LONGEST_NAME + len("20260101T000000Z-.cast")
    assert recording_path(directory, "").name.endswith("Z-session.cast")


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"cannot create the directory .* for recordings"):
        recording_path(tmp_path / "file" / "below", "alice-1")


def test_every_line_is_json_in_utf8(path: Path) -> None:
    recording = Recording(path)
    recording.begin(SIZE, "", {})
    recording.output("\u2028 é \x85".encode())
    recording.close()
    (_, event) = path.read_bytes().split(b"\n")[:2]
    assert json.loads(event)[2] == "\u2028 é \x85"
