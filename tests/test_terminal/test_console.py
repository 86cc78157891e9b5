"""``Console`` on a pty."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios

from session_manager_plugin.session.link_health import LinkHealth, LinkState, LinkStatus, StreamProgress
from session_manager_plugin.terminal.console import Console
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
    with console.held(lambda: status, lambda: StreamProgress(0, 0), lambda _size: None):
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
