"""A program on a terminal of its own."""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from session_manager_plugin.agent import process
from session_manager_plugin.agent.program import ProgramError
from session_manager_plugin.agent.shell import Shell
from tests.support.raw_client import DEADLINE
from tests.support.waiting import wait_until
from tests.test_agent.processes import is_alive


class Terminal:
    """Starts a program and collects its output as it comes."""

    def __init__(self, *argv: str) -> None:
        self.output = bytearray()
        self.input_taken = asyncio.Event()
        self._changed = asyncio.Event()
        self.shell = Shell(argv, on_output=self._read, on_input_taken=self.input_taken.set)

    def _read(self) -> None:
        self.output += b"".join(message.payload for message in self.shell.read(64))
        if self.shell.ended:
            self.shell.set_reading(False)
        self._changed.set()

    def start(self) -> None:
        self.shell.start()
        self.shell.set_reading(True)

    async def until(self, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not predicate():
                self._changed.clear()
                await self._changed.wait()

    async def read_until(self, marker: bytes) -> bytes:
        await self.until(lambda: marker in self.output)
        end = self.output.index(marker) + len(marker)
        taken = bytes(self.output[:end])
        del self.output[:end]
        return taken

    async def read_to_end(self) -> bytes:
        await self.until(lambda: self.shell.ended)
        return bytes(self.output)


Start = Callable[..., Terminal]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts ``sh -c COMMAND``; everything is closed at the end."""
    terminals = []

    def start_command(command: str) -> Terminal:
        terminal = Terminal("sh", "-c", command)
        terminals.append(terminal)
        terminal.start()
        return terminal

    yield start_command
    for terminal in terminals:
        await terminal.shell.close()


async def test_the_terminal_is_the_controlling_terminal_of_a_new_session(start: Start) -> None:
    terminal = start(
        'echo "$(ps -o sid= -p $$)" $$; echo here > /dev/tty; test -t 0 && test -t 1 && test -t 2 && echo all'
    )
    lines = (await terminal.read_to_end()).decode().split("\r\n")
    session, process = lines[0].split()
    assert session == process == str(terminal.shell.pid)
    assert lines[1:] == ["here", "all", ""]


async def test_the_environment(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("COLUMNS", "7")
    monkeypatch.delenv("LANG", raising=False)
    terminal = start("echo $TERM $HOME $LANG ${COLUMNS-unset}")
    assert await terminal.read_to_end() == b"xterm-256color /somewhere C.UTF-8 unset\r\n"


async def test_a_given_language_is_kept(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    assert await start("echo $LANG").read_to_end() == b"de_DE.UTF-8\r\n"


async def test_the_size_is_unset_at_first_then_what_was_asked_for(start: Start) -> None:
    terminal = start("stty size; trap 'stty size' WINCH; echo ready; read x")
    assert await terminal.read_until(b"ready\r\n") == b"0 0\r\nready\r\n"
    terminal.shell.resize(132, 43)
    assert await terminal.read_until(b"132\r\n") == b"43 132\r\n"


async def test_a_size_is_limited_to_16_bits(start: Start) -> None:
    terminal = start("echo ready; read x; stty size")
    await terminal.read_until(b"ready\r\n")
    terminal.shell.resize(70_000, -1)
    terminal.shell.write(b"\n")
    assert (await terminal.read_to_end()).endswith(b"0 65535\r\n")


async def test_an_interrupt_works_although_we_ignore_it(start: Start) -> None:
    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # A shell can only trap what was not ignored when it began.
        terminal = start("trap 'echo interrupted; exit' INT; echo ready; read x")
    finally:
        signal.signal(signal.SIGINT, ours)
    await terminal.read_until(b"ready\r\n")
    terminal.shell.write(b"\x03")
    assert (await terminal.read_to_end()).replace(b"^C", b"") == b"interrupted\r\n"


async def test_input_that_the_terminal_does_not_take_yet_waits(start: Start, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(1024 * 1024)
    fifo = tmp_path / "go"
    terminal = start(f"stty raw -echo; mkfifo {fifo}; echo ready; cat {fifo}; head -c {len(data)} | sha256sum")
    await terminal.read_until(b"ready\n")
    terminal.shell.write(data)
    assert not terminal.shell.takes_input
    assert not terminal.input_taken.is_set()
    await asyncio.to_thread(fifo.write_text, "")
    await asyncio.wait_for(terminal.input_taken.wait(), DEADLINE)
    assert terminal.shell.takes_input
    assert await terminal.read_to_end() == f"{hashlib.sha256(data).hexdigest()}  -\n".encode()


async def test_the_end_comes_with_the_program_although_a_child_keeps_the_terminal_open(start: Start) -> None:
    terminal = start("trap '' HUP; sleep 1000 & echo $!")
    background = int(await terminal.read_to_end())
    assert is_alive(background)


async def test_the_end_comes_although_a_child_goes_on_writing(start: Start) -> None:
    terminal = start("trap '' HUP; yes & echo done")
    assert b"done\r\n" in await terminal.read_to_end()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds a session's processes through /proc")
async def test_closing_ends_what_the_program_left_behind(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "KILL_DELAY", 0.1)
    terminal = start("trap '' HUP; sleep 1000 & echo $!")
    background = int(await terminal.read_to_end())
    await terminal.shell.close()
    await wait_until(lambda: not is_alive(background))  # it has been sent SIGKILL


async def test_closing_hangs_up(start: Start) -> None:
    terminal = start("sleep 1000 & echo $!; echo ready; wait")
    background = int(await terminal.read_until(b"\r\n"))
    await terminal.read_until(b"ready\r\n")
    await terminal.shell.close()
    assert not is_alive(terminal.shell.pid)
    await wait_until(lambda: not is_alive(background))


async def test_a_program_that_ignores_the_hang_up_is_killed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "KILL_DELAY", 0.1)
    terminal = start("trap '' HUP; echo ready; while :; do sleep 1; done")
    await terminal.read_until(b"ready\r\n")
    await terminal.shell.close()
    assert not is_alive(terminal.shell.pid)


async def test_a_closed_shell_takes_and_gives_nothing(start: Start) -> None:
    terminal = start("cat")
    await terminal.shell.close()
    terminal.shell.write(b"x")
    terminal.shell.resize(80, 24)
    terminal.shell.set_reading(True)
    assert terminal.shell.read(1) == []
    assert terminal.shell.takes_input
    await terminal.shell.close()


async def test_a_program_that_does_not_exist_is_an_error() -> None:
    terminal = Terminal("/no/such/program")
    with pytest.raises(ProgramError, match="Unable to start command: /no/such/program: No such file or directory"):
        terminal.start()
    await terminal.shell.close()
