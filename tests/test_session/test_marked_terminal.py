"""The status of a command in a terminal: found in its output in whatever pieces, and by real shells."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager_plugin.session.marked_terminal import TerminalCommand
from session_manager_plugin.session.protocols import TerminalSize
from tests.support.programs import need

SIZE = TerminalSize(100, 30)


def feed(command: TerminalCommand, data: bytes, sizes: list[int]) -> bytes:
    output = b""
    for size in [*sizes, len(data)]:
        output += command.receive_data(data[:size])
        data = data[size:]
    return output


@given(
    output=st.lists(st.one_of(st.binary(max_size=20), st.sampled_from([b"\x1e", b"\x1e00", b"\x1e" + b"00" * 11]))),
    status=st.integers(0, 255),
    end=st.sampled_from([b"\n", b"\r\n"]),
    sizes=st.lists(st.integers(1, 40), max_size=20),
)
def test_any_output_in_any_pieces(output: list[bytes], status: int, end: bytes, sizes: list[int]) -> None:
    marker = "0123456789abcdef01234567"
    command = TerminalCommand("top", SIZE, lambda _size: marker)
    printed = b"".join(output)
    assert feed(command, printed + b"\x1e%s %d%s" % (marker.encode(), status, end), sizes) == printed
    assert command.status == status


@given(output=st.binary(), sizes=st.lists(st.integers(1, 40), max_size=20))
def test_output_without_the_marker(output: bytes, sizes: list[int]) -> None:
    command = TerminalCommand("top", SIZE)
    assert feed(command, output + b"\x1e end", sizes) == output + b"\x1e end"
    assert command.status is None


@pytest.mark.parametrize("sh", ["dash", "bash --posix", "busybox sh"])
@pytest.mark.parametrize(
    ("words", "output", "status"),
    [
        ("stty size", b"30 100\r\n", 0),
        ("sh -c 'exit 7'", b"", 7),
        ("sh -c 'printf no-newline'", b"no-newline", 0),
        ("sh -c 'kill -INT $$'", b"", 130),
        ("sh -c 'stty raw -echo; echo raw'", b"raw\n", 0),
    ],
)
def test_the_status_and_the_size(sh: str, words: str, output: bytes, status: int) -> None:
    need(sh.split()[0])
    command = TerminalCommand(words, SIZE)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*sh.split(), "-c", command.line], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    shown = b""
    try:
        while command.status is None and (data := os.read(ours, 1024)):
            shown += command.receive_data(data)
        process.wait(timeout=60)
    finally:
        process.kill()
        os.close(ours)
    assert (shown, command.status) == (output, status)
