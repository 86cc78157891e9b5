"""The keyboard: escapes are obeyed whether anybody takes what is typed or not."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncIterator
from importlib import import_module

import pytest

from session_manager_plugin.terminal.escapes import Escape, EscapeScanner
from session_manager_plugin.terminal.input import InputReader
from session_manager_plugin.terminal.keyboard import Keyboard
from tests.support.waiting import DEADLINE, Happenings, wait_until

ESCAPES = import_module("session_manager_plugin.terminal.escapes")
KEYBOARD = import_module("session_manager_plugin.terminal.keyboard")


class Typist(Happenings):
    """A keyboard, and somebody who types on it: a pipe, of which it is known when it has been read."""

    def __init__(self) -> None:
        super().__init__()
        self.read_end, self.write_end = os.pipe()
        self.reader = InputReader(self.read_end)
        self.obeyed: list[Escape] = []
        self.bells = 0
        self.keyboard = Keyboard(self.reader, EscapeScanner(), self._obey, self._bell)

    def _obey(self, escape: Escape) -> None:
        self.obeyed.append(escape)
        self.happened()

    def _bell(self) -> None:
        self.bells += 1
        self.happened()

    async def type(self, *reads: bytes) -> None:
        """Type pieces that are read one by one."""
        for data in reads:
            os.write(self.write_end, data)
            await wait_until(lambda: not select.select([self.read_end], [], [], 0)[0])

    async def read(self, size: int) -> bytes:
        """So many bytes, as the session gets them."""
        data = b""
        while len(data) < size:
            piece = await asyncio.wait_for(self.keyboard.read(), DEADLINE)
            assert piece
            data += piece
        return data


@pytest.fixture
async def typist() -> AsyncIterator[Typist]:
    typist = Typist()
    typist.keyboard.start()
    yield typist
    await typist.keyboard.close()
    for fd in (typist.read_end, typist.write_end):
        os.close(fd)


async def test_what_is_typed_is_kept_until_somebody_asks(typist: Typist) -> None:
    await typist.type(b"ls", b"\r", b"~?", b"pwd\r")
    await typist.until(lambda: typist.obeyed)
    assert await typist.read(7) == b"ls\rpwd\r"
    reading = asyncio.ensure_future(typist.keyboard.read())
    await typist.type(b"~~")
    assert await asyncio.wait_for(reading, DEADLINE) == b"~"
    assert typist.obeyed == [Escape.HELP]


async def test_escapes_are_obeyed_while_nobody_reads(typist: Typist) -> None:
    await typist.type(b"echo typed ahead\r", b"~i", b"~.")
    await typist.until(lambda: typist.obeyed == [Escape.DETAILS, Escape.LEAVE])
    assert typist.keyboard.take() == b"echo typed ahead\r"


async def test_a_full_store_makes_the_reading_wait(typist: Typist, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as something is taken from it, nothing is lost."""
    monkeypatch.setattr(KEYBOARD, "CAPACITY", 4096)
    monkeypatch.setattr(KEYBOARD, "PATIENCE", DEADLINE)
    sent = bytes(range(256)) * 400
    writing = asyncio.create_task(asyncio.to_thread(os.write, typist.write_end, sent))
    assert await typist.read(len(sent)) == sent
    await writing
    assert typist.bells == 0


async def test_escapes_behind_more_than_can_be_kept(typist: Typist, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link is away, and a huge paste has been typed ahead: leaving works nevertheless."""
    monkeypatch.setattr(KEYBOARD, "CAPACITY", 4096)
    monkeypatch.setattr(KEYBOARD, "PATIENCE", 0.0)
    monkeypatch.setattr(ESCAPES, "CHUNK_INTERVAL", 0.0)
    await typist.type(b"x" * 4096, b"dropped, though it is a line\r")
    await typist.until(lambda: typist.bells)
    await typist.type(b"~.")
    await typist.until(lambda: typist.obeyed == [Escape.LEAVE])
    assert await typist.read(4096) == b"x" * 4096
    await typist.type(b"there is room again")
    assert await typist.read(19) == b"there is room again"


async def test_the_end_of_the_input_comes_last(typist: Typist) -> None:
    os.write(typist.write_end, b"last words")
    os.close(typist.write_end)
    typist.write_end = os.open(os.devnull, os.O_WRONLY)
    assert await typist.read(10) == b"last words"
    assert await asyncio.wait_for(typist.keyboard.read(), DEADLINE) == b""
    assert await asyncio.wait_for(typist.keyboard.read(), DEADLINE) == b""


async def test_what_reading_raises_is_raised(typist: Typist, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, size: int) -> bytes:
        raise PermissionError(1, "not allowed")

    monkeypatch.setattr(os, "read", fail)
    os.write(typist.write_end, b"x")
    with pytest.raises(PermissionError, match="not allowed"):
        await asyncio.wait_for(typist.keyboard.read(), DEADLINE)


async def test_an_answer_of_the_terminal_is_not_scanned(typist: Typist) -> None:
    await typist.type(b"\r")
    assert await typist.read(1) == b"\r"
    typist.keyboard.insert(b"\x1b[8;23;80t")
    assert await typist.read(10) == b"\x1b[8;23;80t"
    await typist.type(b"~.")
    await typist.until(lambda: typist.obeyed == [Escape.LEAVE])


async def test_somebody_else_reads_on(typist: Typist) -> None:
    await typist.type(b"typed\r", b"~")
    assert await typist.keyboard.close() == b"typed\r~"
    await typist.type()
    os.write(typist.write_end, b"for another")
    assert await asyncio.wait_for(typist.reader.read(), DEADLINE) == b"for another"
    assert typist.obeyed == []


async def test_a_line_starts_after_the_program_was_away(typist: Typist) -> None:
    await typist.type(b"half a line")
    assert await typist.read(11) == b"half a line"
    typist.keyboard.start_line()
    await typist.type(b"~.")
    await typist.until(lambda: typist.obeyed == [Escape.LEAVE])
