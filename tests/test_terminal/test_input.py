"""InputReader on what a standard input may be: a terminal, a pipe, a socket, a file, a device."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from session_manager_plugin.terminal.input import InputReader
from session_manager_plugin.terminal.raw import RawMode
from tests.support.waiting import DEADLINE
from tests.test_terminal.conftest import Pty


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The read and the write end of a pipe, the latter to be closed by the test."""
    read_end, write_end = os.pipe()
    yield read_end, write_end
    os.close(read_end)


async def read(reader: InputReader) -> bytes:
    async with asyncio.timeout(DEADLINE):
        return await reader.read()


async def read_to_end(reader: InputReader) -> bytes:
    data = b""
    while piece := await read(reader):
        data += piece
    return data


async def test_pipe_is_read_to_its_end(pipe: tuple[int, int]) -> None:
    reader = InputReader(pipe[0])
    waiting = asyncio.create_task(read(reader))
    await asyncio.sleep(0)
    os.write(pipe[1], b"first")
    assert await waiting == b"first"
    os.write(pipe[1], b"second")
    os.close(pipe[1])
    assert await read_to_end(reader) == b"second"
    assert await read(reader) == b""
    assert not reader.hung_up


async def test_flags_of_the_shared_description_stay(pipe: tuple[int, int]) -> None:
    before = fcntl.fcntl(pipe[0], fcntl.F_GETFL)
    reader = InputReader(pipe[0])
    waiting = asyncio.create_task(read(reader))
    await asyncio.sleep(0)
    assert fcntl.fcntl(pipe[0], fcntl.F_GETFL) == before
    os.write(pipe[1], b"x")
    await waiting
    reader.close()
    assert fcntl.fcntl(pipe[0], fcntl.F_GETFL) == before
    os.close(pipe[1])


async def test_nothing_is_taken_unless_somebody_waits(pipe: tuple[int, int]) -> None:
    reader = InputReader(pipe[0])
    os.write(pipe[1], b"one")
    assert await read(reader) == b"one"
    os.write(pipe[1], b"two")
    await asyncio.sleep(0)
    assert os.read(pipe[0], 10) == b"two"
    os.close(pipe[1])


@pytest.mark.parametrize("turns", range(6))
async def test_cancelling_loses_nothing(pipe: tuple[int, int], turns: int) -> None:
    """Whenever it is cancelled: what it would have returned is returned by it or by the next call."""
    reader = InputReader(pipe[0])
    waiting = asyncio.create_task(reader.read())
    await asyncio.sleep(0)
    os.write(pipe[1], b"precious")
    os.close(pipe[1])
    for _ in range(turns):
        await asyncio.sleep(0)
    waiting.cancel()
    (first,) = await asyncio.gather(waiting, return_exceptions=True)
    rest = await read_to_end(reader)
    assert (first if isinstance(first, bytes) else b"") + rest == b"precious"


async def test_only_one_may_wait(pipe: tuple[int, int]) -> None:
    reader = InputReader(pipe[0])
    waiting = asyncio.create_task(read(reader))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="waiting"):
        await reader.read()
    os.close(pipe[1])
    assert await waiting == b""


async def test_close_wakes_who_waits(pipe: tuple[int, int]) -> None:
    reader = InputReader(pipe[0])
    waiting = asyncio.create_task(read(reader))
    await asyncio.sleep(0)
    os.write(pipe[1], b"left alone")
    reader.close()
    assert await waiting == b""
    assert await read(reader) == b""
    assert not asyncio.get_running_loop().remove_reader(pipe[0])
    assert os.read(pipe[0], 20) == b"left alone"
    os.close(pipe[1])


async def test_description_somebody_made_non_blocking(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[0], False)
    reader = InputReader(pipe[0])
    waiting = asyncio.create_task(read(reader))
    await asyncio.sleep(0)
    os.write(pipe[1], b"x")
    assert await waiting == b"x"
    os.close(pipe[1])
    assert not os.get_blocking(pipe[0])


@pytest.mark.parametrize("blocking", [True, False])
async def test_another_reader_is_faster(pipe: tuple[int, int], blocking: bool) -> None:
    """Between the loop's word that there is something and our read another process takes it: we wait on."""
    os.set_blocking(pipe[0], blocking)
    reader = InputReader(pipe[0])
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(read(reader))
    await asyncio.sleep(0)
    os.write(pipe[1], b"stolen")
    reader._readable()  # what the loop does when it sees the bytes
    assert os.read(pipe[0], 10) == b"stolen"
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    loop.call_soon(os.write, pipe[1], b"ours")
    assert await waiting == b"ours"
    os.close(pipe[1])


async def test_file_is_read_in_turns_with_the_loop(tmp_path: Path) -> None:
    content = bytes(range(256)) * 1024
    path = tmp_path / "input"
    path.write_bytes(content)
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(turn)

    with path.open("rb") as file:
        reader = InputReader(file.fileno())
        turn()
        assert await read_to_end(reader) == content
    assert turns >= len(content) // 65536


async def test_dev_null_is_at_its_end() -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    reader = InputReader(fd)
    assert await read(reader) == b""
    assert await read(reader) == b""
    assert not reader.hung_up
    os.close(fd)


async def test_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader = InputReader(ours.fileno())
        theirs.sendall(b"x")
        assert await read(reader) == b"x"
        theirs.shutdown(socket.SHUT_WR)
        assert await read(reader) == b""


async def test_directory_is_an_error(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    reader = InputReader(fd)
    with pytest.raises(IsADirectoryError):
        await read(reader)
    os.close(fd)


async def test_descriptor_that_is_not_open() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        InputReader(987654)


async def test_end_of_file_typed_at_a_terminal_is_not_its_end(terminal: Pty) -> None:
    reader = InputReader(terminal.slave)
    os.write(terminal.master, b"\x04")
    assert await read(reader) == b""
    assert not reader.hung_up
    os.write(terminal.master, b"more\n")
    assert await read(reader) == b"more\n"


async def test_every_key_of_a_raw_terminal(terminal: Pty) -> None:
    with RawMode(terminal.slave):
        reader = InputReader(terminal.slave)
        os.write(terminal.master, bytes(range(256)))
        data = b""
        while len(data) < 256:
            data += await read(reader)
    assert data == bytes(range(256))


@pytest.mark.parametrize("waiting_before", [True, False])
async def test_terminal_that_hangs_up(terminal: Pty, waiting_before: bool) -> None:
    reader = InputReader(terminal.slave)
    if waiting_before:
        waiting = asyncio.create_task(read(reader))
        await asyncio.sleep(0)
        os.close(terminal.master)
    else:
        os.close(terminal.master)
        waiting = asyncio.create_task(read(reader))
    assert await waiting == b""
    assert reader.hung_up


async def test_input_output_error_is_a_hang_up(terminal: Pty) -> None:
    """The master's side gives EIO once no slave is open, as a terminal does to a read that is under way."""
    reader = InputReader(terminal.master)
    os.write(terminal.slave, b"last words")
    os.close(terminal.slave)
    assert await read_to_end(reader) == b"last words"
    assert reader.hung_up
