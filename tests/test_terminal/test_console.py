"""``Console`` on a pty."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios

import pytest

from session_manager_plugin.session.link_health import LinkHealth, LinkState, LinkStatus, StreamProgress
from session_manager_plugin.terminal.console import Console
from session_manager_plugin.terminal.link_status import StatusMode
from session_manager_plugin.terminal.status_line import StatusLine
from tests.support.waiting import DEADLINE
from tests.test_terminal.conftest import Pty

ASKED = b"\x1b[6n"
ANSWER = b"\x1b[5;7R"


async def read_to(fd: int, end: bytes) -> None:
    """Read what is shown, up to ``end``."""
    shown = b""
    while end not in shown:
        shown += await asyncio.wait_for(asyncio.to_thread(os.read, fd, 65536), DEADLINE)


async def test_answers_from_before_a_stop_are_not_waited_for(terminal: Pty) -> None:
    """Another program had the terminal and got them. What is answered from then on is answered to us."""
    fcntl.ioctl(terminal.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    status = LinkStatus(LinkHealth(LinkState.CONNECTED), "")
    line = StatusLine(hint="", color=False, unicode=False)
    console = Console(terminal.slave, terminal.slave, terminal.slave, status_line=line)
    with console.held(lambda: status, lambda: StreamProgress(0, 0, 0.0), lambda _size: None):
        await read_to(terminal.master, ASKED)
        os.write(terminal.master, ANSWER + b"1")
        assert await asyncio.wait_for(console.read(), DEADLINE) == b"1"
        console.write(b"of the remote: " + ASKED)
        await read_to(terminal.master, b"remote: " + ASKED)
        console.continued()
        await read_to(terminal.master, ASKED)
        os.write(terminal.master, ANSWER + b"2")
        assert await asyncio.wait_for(console.read(), DEADLINE) == b"2"
    console.close()


@pytest.mark.parametrize(("output", "break_"), [(b"half", b"\n"), (b"whole\r\n", b""), (b"", b"")])
async def test_a_message_begins_a_line(terminal: Pty, output: bytes, break_: bytes) -> None:
    """Whatever the remote has printed last, with the status shown or not, and no empty line is added."""
    status = LinkStatus(LinkHealth(LinkState.CONNECTED), "")
    for line in (None, StatusLine(hint="", color=False, unicode=False)):
        console = Console(terminal.slave, terminal.slave, terminal.slave, status_line=line, mode=StatusMode.NOTICE)
        with console.held(lambda: status, lambda: StreamProgress(0, 0, 0.0), lambda _size: None):
            if output:
                console.write(output)
            assert console.is_inside_line is bool(break_)
        assert console.place_message(b"smp: ended\n") == break_ + b"smp: ended\n"
        assert console.place_message(b"smp: next\n") == b"smp: next\n"
        console.close()


async def test_a_text_that_begins_with_a_newline_needs_no_other(terminal: Pty) -> None:
    """The texts of the official plugin."""
    console = Console(terminal.slave, terminal.slave, terminal.slave)
    console.write_error(b"half")
    assert console.place_message(b"\n\nExiting session") == b"\n\nExiting session"
    console.close()


async def test_a_message_while_the_terminal_is_held(terminal: Pty) -> None:
    """It takes the output's way, and returns to the first column in raw mode."""
    status = LinkStatus(LinkHealth(LinkState.CONNECTED), "")
    console = Console(terminal.slave, terminal.slave, terminal.slave)
    with console.held(lambda: status, lambda: StreamProgress(0, 0, 0.0), lambda _size: None):
        console.write(b"half")
        assert console.place_message(b"smp: a warning\n") == b""
        console.say(["~?"], at_cursor=True)
        console.write(b"more")
        console.say(["one", "two"])
        shown = b""
        while not shown.endswith(b"two\r\n"):
            shown += await asyncio.wait_for(asyncio.to_thread(os.read, terminal.master, 65536), DEADLINE)
        assert shown == b"half\r\nsmp: a warning\r\n~?\r\nmore\r\none\r\ntwo\r\n"
    console.close()
