"""Lists at terminals of many widths, and in a pipe."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import termios
from collections.abc import Iterator

import pytest
from rich.cells import cell_len

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.listing import Column, Row, write_rows

COLUMNS = [
    Column("name", "Name", cut_at=24),
    Column("id", "Id"),
    Column("platform", "Platform", 2, folds_at=24),
    Column("ip", "IP", 1),
]
ROWS: list[Row] = [
    {"id": "i-0a1b2c3d4e5f60001", "name": "web-1", "platform": "Amazon Linux 2023", "ip": "10.0.1.11"},
    {"id": "mi-0a1b2c3d4e5f60004", "name": "東京の事務所", "platform": "Debian", "ip": "192.168.1.10"},
    {"id": "i-0a1b2c3d4e5f60009", "name": "", "platform": "", "ip": ""},
]


class Screen:
    """A terminal that a list was written to."""

    def __init__(self, columns: int) -> None:
        self._master, self._slave = os.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        attributes = termios.tcgetattr(self._slave)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(self._slave, termios.TCSANOW, attributes)
        self.notes, self._error = os.pipe()
        self.environment = Environment(stdout=self._slave, stderr=self._error, color="never")

    def list(self, rows: list[Row]) -> tuple[list[str], str]:
        """Return the lines of the list, and the notes."""
        write_rows(self.environment, rows, COLUMNS, as_json=False)
        os.write(self._error, b"\n")
        return os.read(self._master, 65536).decode().splitlines(), os.read(self.notes, 65536).decode()[:-1]

    def close(self) -> None:
        for fd in (self._master, self._slave, self.notes, self._error):
            os.close(fd)


@pytest.fixture
def screen(request: pytest.FixtureRequest) -> Iterator[Screen]:
    made = Screen(request.param)
    yield made
    made.close()


@pytest.mark.parametrize("screen", [22, 30, 40, 60, 80, 200], indirect=True)
def test_no_line_is_wider_than_the_terminal_and_what_is_left_out_is_said(screen: Screen) -> None:
    size = os.get_terminal_size(screen.environment.stdout)
    lines, note = screen.list(ROWS)
    assert max(map(cell_len, lines)) <= size.columns
    text = "\n".join(lines)
    for row in ROWS:
        assert str(row["id"]) in text
        assert str(row["name"]) in text
    absent = [heading for heading, value in (("Platform", "Debian"), ("IP", "192.168.1.10")) if value not in text]
    if absent:
        assert note == f"smp: {size.columns} columns are too few for {', '.join(absent)}; --json shows all\n"
    else:
        assert note == ""


@pytest.mark.parametrize("screen", [30, 40, 80, 200], indirect=True)
@pytest.mark.parametrize("long", ["long" * 60, "名前" * 60])
def test_a_long_name_is_cut(screen: Screen, long: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    size = os.get_terminal_size(screen.environment.stdout)
    lines, _ = screen.list([{**ROWS[0], "name": long}, *ROWS[1:]])
    assert max(map(cell_len, lines)) <= size.columns
    text = "\n".join(lines)
    assert long[:7] in text
    assert text.count("…") == 1
    assert all(str(row["id"]) in text for row in ROWS)
    assert ("10.0.1.11" in text) == (size.columns >= 80)


@pytest.mark.parametrize("screen", [300], indirect=True)
def test_a_long_name_with_room_is_whole(screen: Screen) -> None:
    assert screen.list([{**ROWS[0], "name": "long" * 60}])[0][1].startswith("long" * 60)


@pytest.mark.parametrize("screen", [8], indirect=True)
def test_one_column_in_a_very_narrow_terminal(screen: Screen) -> None:
    write_rows(screen.environment, ROWS, [Column("id", "Id"), Column("ip", "IP", 1)], as_json=False)
    assert os.read(screen.notes, 4096) == b"smp: 8 columns are too few for IP; --json shows all\n"


def test_a_pipe_gets_everything() -> None:
    reader, writer = os.pipe()
    row: Row = {**ROWS[0], "name": "long" * 60}
    write_rows(Environment(stdout=writer), [row], COLUMNS, as_json=False)
    assert os.read(reader, 65536).decode() == "\t".join(str(value) for value in row.values()) + "\n"
    write_rows(Environment(stdout=writer), [row], COLUMNS, as_json=True)
    assert json.loads(os.read(reader, 65536)) == row
    os.close(reader)
    os.close(writer)
