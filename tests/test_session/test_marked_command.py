"""A command in a shell session: its exact output and its exit status, from real shells in a real pty."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager_plugin.errors import LocalProtocolError
from session_manager_plugin.session.marked_command import (
    END_OF_INPUT,
    INPUT_LINE,
    INPUT_WINDOW,
    MAX_SIZE,
    MarkedCommand,
    MarkedState,
    encode_input,
)
from session_manager_plugin.session.outcome import CommandExit, killed_exit
from tests.support.programs import need
from tests.support.waiting import DEADLINE

SHELLS = ["dash -i", "bash --norc -i", "zsh -f -i", "busybox ash -i", "fish --no-config -i"]


class Shell:
    """A shell in a pty, and the command that is run in it."""

    def __init__(self, argv: list[str], command: bytes, sh: bytes = b"/bin/sh", *, has_input: bool = False) -> None:
        self._child, self._master = pty.fork()
        if not self._child:
            os.environ["PS1"] = "prompt> "
            os.execvp(argv[0], argv)
        self.marked = MarkedCommand(command, has_input=has_input)
        self.output = b""
        os.write(self._master, self.marked.first_line.replace(b"/bin/sh", sh))

    def run(self, until: bytes | None = None) -> None:
        """Read to the end of the command, or until its output holds ``until``."""
        deadline = time.monotonic() + DEADLINE
        while self.marked.state is not MarkedState.ENDED and (until is None or until not in self.output):
            self.run_once(deadline - time.monotonic())

    def run_once(self, timeout: float = DEADLINE) -> None:
        """Read once, within ``timeout`` seconds, and send what is due."""
        assert select.select([self._master], [], [], timeout)[0], self.output
        self.output += self.marked.receive_data(os.read(self._master, 65536))
        self.type(self.marked.data_to_send())

    def type(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._master, data[:1024]) :]

    def close(self) -> None:
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)
        os.close(self._master)


def run(shell: str, command: bytes) -> tuple[bytes, CommandExit | None]:
    argv = shell.split()
    need(argv[0])
    running = Shell(argv, command)
    try:
        running.run()
    finally:
        running.close()
    return running.output, running.marked.exit


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("command", "output", "status"),
    [
        (b"echo out; echo err >&2; exit 3", b"out\nerr\n", 3),
        (b"printf 'no newline'", b"no newline", 0),
        (b"true", b"", 0),
        (b"printf '\\n\\n'", b"\n\n", 0),
        (b"printf 'a\\r\\nb\\rc\\n'", b"a\r\nb\rc\n", 0),
        (b"tty; cat; test -t 1", b"not a tty\n", 1),
        (b"exec sh -c 'kill -9 $$'", b"", killed_exit(signal.SIGKILL)),
        (b"echo out; kill $$; echo more", b"out\n", killed_exit(signal.SIGTERM)),
        (b"exit 137", b"", 137),
        (b"exit 130", b"", 130),
        (b"no-such-program 2>&-", b"", 127),
        (b"exit 255", b"", 255),
        (b"echo 'it'\\''s \"quoted\" $HOME' `echo x` #\necho second", b'it\'s "quoted" $HOME x\nsecond\n', 0),
        (b"echo " + b"x" * 20000, b"x" * 20000 + b"\n", 0),
        (b"seq 20000", b"".join(b"%d\n" % number for number in range(1, 20001)), 0),
    ],
    ids=lambda value: repr(value)[:24] if isinstance(value, bytes) else None,
)
def test_output_and_status(shell: str, command: bytes, output: bytes, status: int | CommandExit) -> None:
    shown, came = run(shell, command)
    assert came == (CommandExit(status) if isinstance(status, int) else status)
    assert shown == output


@pytest.mark.parametrize("shell", ["dash -i", "bash --norc -i"])
def test_ctrl_c_interrupts_the_command_alone(shell: str) -> None:
    running = Shell(shell.split(), b"yes began; echo went on")
    try:
        running.run(until=b"began\n")
        running.type(running.marked.interrupt())
        running.run()
    finally:
        running.close()
    assert running.marked.exit == killed_exit(signal.SIGINT)
    assert b"went on" not in running.output


@pytest.mark.parametrize("sh", ["dash", "bash --posix", "busybox sh"])
@pytest.mark.parametrize(
    ("command", "end"),
    [
        (b"echo out; kill -9 $$", killed_exit(signal.SIGKILL)),
        (b"echo out; exec sh -c 'kill $$'", killed_exit(signal.SIGTERM)),
        (b"echo out; exit 137", CommandExit(137)),
    ],
)
def test_a_killed_command_is_told_from_an_exit_status(sh: str, command: bytes, end: CommandExit) -> None:
    need(sh.split()[0])
    running = Shell(["dash", "-i"], command, sh.encode())
    try:
        running.run()
    finally:
        running.close()
    assert (running.output, running.marked.exit) == (b"out\n", end)


def test_a_command_of_any_allowed_size() -> None:
    running = Shell(["dash", "-i"], b"echo out; exit 3 #".ljust(MAX_SIZE, b"x"))
    try:
        running.run()
    finally:
        running.close()
    assert (running.output, running.marked.exit) == (b"out\n", CommandExit(3))


TRAPS = """sh -c 'trap "echo trapped" INT; echo began; until [ -e {stop} ]; do sleep 0.05; done; echo end; exit 3'"""


@pytest.mark.parametrize("sh", ["dash", "bash --posix", "busybox sh"])
@pytest.mark.parametrize("command", [f"exec {TRAPS}", f"{TRAPS}; exit 3"], ids=["program", "program of a shell"])
@pytest.mark.parametrize("has_input", [True, False])
def test_a_command_that_traps_ctrl_c_continues(sh: str, command: str, has_input: bool, tmp_path: Path) -> None:
    need(sh.split()[0])
    stop = tmp_path / "stop"
    running = Shell(["dash", "-i"], command.format(stop=stop).encode(), sh.encode(), has_input=has_input)
    try:
        running.run(until=b"began\n")
        running.type(running.marked.interrupt())
        running.run(until=b"trapped\n")
        assert running.marked.state is MarkedState.RUNNING
        stop.touch()
        running.run()
    finally:
        running.close()
    assert running.output == b"began\ntrapped\nend\n"
    # Of the program, or of a shell that the signal has killed.
    assert running.marked.exit in (CommandExit(3), killed_exit(signal.SIGINT))


@pytest.mark.parametrize("sh", ["dash", "bash --posix", "busybox sh"])
def test_input_of_all_byte_values_arrives_as_it_is(sh: str) -> None:
    need(sh.split()[0])
    data = (bytes(range(256)) + b"\n\n -n \\c %s .\n") * 20
    lines = [*encode_input(data), END_OF_INPUT]
    running = Shell(["dash", "-i"], b"od -An -v -tx1 | tr -d ' \\n'", sh.encode(), has_input=True)
    try:
        while running.marked.state is MarkedState.STARTING:
            running.run_once()
        room = INPUT_WINDOW
        while running.marked.state is MarkedState.RUNNING:
            running.type(b"".join(lines[:room]))
            del lines[:room]
            running.run_once()
            room = running.marked.take_lines_taken()
    finally:
        running.close()
    assert (running.output.decode(), running.marked.exit) == (data.hex(), CommandExit(0))


def test_a_command_with_input_ends_although_its_input_does_not() -> None:
    running = Shell(["dash", "-i"], b"head -n1; exit 5", has_input=True)
    try:
        while running.marked.state is MarkedState.STARTING:
            running.run_once()
        running.type(b"".join(encode_input(b"one\ntwo\n")))
        running.run()
    finally:
        running.close()
    assert (running.output, running.marked.exit) == (b"one\n", CommandExit(5))


@pytest.mark.parametrize("shell", ["dash -i", "bash --norc -i"])
def test_ctrl_c_interrupts_a_command_with_input(shell: str) -> None:
    running = Shell(shell.split(), b"yes began; echo went on", has_input=True)
    try:
        running.run(until=b"began\n")
        running.type(running.marked.interrupt())
        running.run()
    finally:
        running.close()
    assert running.marked.exit == killed_exit(signal.SIGINT)


@pytest.mark.parametrize("sh", ["dash", "bash --posix", "busybox sh"])
def test_ctrl_c_reaches_a_command_that_does_not_read_its_input(sh: str) -> None:
    need(sh.split()[0])
    running = Shell(["dash", "-i"], b"yes began", sh.encode(), has_input=True)
    try:
        running.run(until=b"began\n")
        room, sent = INPUT_WINDOW, 0
        while room and sent < 300:  # the command's pipe takes 64 KiB
            running.type(b"".join(encode_input(b"x" * INPUT_LINE) * room))
            sent += room
            running.run_once()
            room = running.marked.take_lines_taken()
        running.type(running.marked.interrupt())
        running.run()
    finally:
        running.close()
    assert running.marked.exit == killed_exit(signal.SIGINT)


@pytest.mark.parametrize("sh", ["dash", "bash --posix", "busybox sh"])
def test_ctrl_backslash_ends_the_command_alone(sh: str) -> None:
    need(sh.split()[0])
    running = Shell(["dash", "-i"], b"ulimit -c 0; exec yes began", sh.encode())
    try:
        running.run(until=b"began\n")
        running.type(running.marked.interrupt(b"\x1c"))
        running.run()
    finally:
        running.close()
    assert running.marked.exit == killed_exit(signal.SIGQUIT)


@given(data=st.binary(max_size=4000))
def test_lines_of_input_are_short_and_hold_whole_characters(data: bytes) -> None:
    lines = encode_input(data)
    assert all(
        re.fullmatch(rb"(?:[ -[\]-~]|\\0[0-7]{3}){1,960}\n", line) and len(line) <= INPUT_LINE + 1 for line in lines
    )
    text = b"".join(line[:-1] for line in lines)
    assert re.sub(rb"\\0([0-7]{3})", lambda match: bytes([int(match[1], 8)]), text) == data


def test_interrupting_what_does_not_run() -> None:
    with pytest.raises(LocalProtocolError):
        MarkedCommand(b"true").interrupt()


def markers(marked: MarkedCommand) -> tuple[bytes, bytes]:
    """The two markers, from the line that is typed."""
    halves = re.findall(rb"[0-9a-f]{12}", marked.first_line)
    return halves[0] + halves[1], halves[2] + halves[3]


def test_the_line_is_short_and_contains_no_marker() -> None:
    marked = MarkedCommand(b"x" * 100000)
    assert len(marked.first_line) < 1024
    for marker in markers(marked):
        assert len(marker) == 24
        assert marker not in marked.first_line
    assert marked.receive_data(b"\n" + marked.first_line) == b""
    assert marked.state is MarkedState.STARTING


def feed(marked: MarkedCommand, data: bytes, sizes: list[int]) -> bytes:
    output, position = b"", 0
    for size in [*sizes, len(data)]:
        output += marked.receive_data(data[position : position + size])
        position += size
    return output


TAKEN = b"\x1eEND +\n"
"""The note that a line of input was taken."""


@given(
    before=st.binary(max_size=80),
    output=st.lists(
        st.one_of(st.binary(max_size=20), st.sampled_from([b"\n", b"END", b"\x1eEN", b"\x1eEND 300x", TAKEN]))
    ),
    status=st.integers(0, 255),
    sizes=st.lists(st.integers(1, 60), max_size=20),
)
def test_any_output_in_any_pieces(before: bytes, output: list[bytes], status: int, sizes: list[int]) -> None:
    """END stands for the marker, whole or cut; only a marker behind RS with a status ends it."""
    marked = MarkedCommand(b"command")
    begin, end = markers(marked)
    printed = b"".join(piece for piece in output if piece != TAKEN).replace(b"END", end).replace(b"EN", end[:12])
    notes = b"".join(output).replace(b"END", end).replace(b"EN", end[:12])
    shown = before + b"\n" + begin + b"\n" + notes + b"\x1e" + end + b" %d\n" % status + b"prompt> "
    assert feed(marked, shown, sizes) == printed
    assert marked.exit == CommandExit(status)
    assert marked.take_lines_taken() == output.count(TAKEN)
    assert marked.take_lines_taken() == 0
    assert marked.data_to_send() == b"command"
    assert marked.data_to_send() == b""
    assert marked.finish() == b""
    assert marked.receive_data(b"more") == b""


@given(output=st.binary(max_size=40), cut=st.integers(0, 30), sizes=st.lists(st.integers(1, 20), max_size=10))
def test_a_session_that_ends_early_loses_nothing(output: bytes, cut: int, sizes: list[int]) -> None:
    marked = MarkedCommand(b"command")
    begin, end = markers(marked)
    printed = output + (b"\x1e" + end)[:cut]
    came = feed(marked, b"\n" + begin + b"\n" + printed, sizes)
    assert came + marked.finish() == printed
    assert marked.exit is None
