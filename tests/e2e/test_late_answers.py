"""Answers of the terminal that arrive as the session ends are not typed to the shell below."""

from __future__ import annotations

import re
import sys

import pytest

from session_manager_plugin.agent import Sandbox
from tests.e2e.conftest import BIN
from tests.support.pty_process import PtyProcess

COLOUR = "\x1b]11;rgb:0000/0000/0000\x1b\\"
ATTRIBUTES = "\x1b[?62;22c"


# A question counts as unanswered after seconds, and the last answer is awaited for a part of one: not here.
PATIENT = """
import sys
from session_manager_plugin.cli.main import main
from session_manager_plugin.terminal import answers, questions
answers.discard_answers.__defaults__ = (3600.0,)
questions.LATEST = 3600.0
sys.exit(main())
"""


async def joining(sandbox: Sandbox, *options: str) -> list[str]:
    session = await sandbox.start_session()
    return ["connect", "--url", session.stream_url, "--token", session.token or "", *options]


@pytest.mark.parametrize("status", ["off", "bar"])
async def test_the_session_ends_before_the_terminal_has_answered(
    sandbox: Sandbox, environment: dict[str, str], status: str
) -> None:
    arguments = await joining(sandbox, "--status", status)
    async with PtyProcess([sys.executable, "-c", PATIENT, *arguments], env=environment) as terminal:
        await terminal.expect(r"[#$] ")
        terminal.type("printf '\\033]11;?\\033\\\\\\033[c'; exit\r")
        await terminal.expect(re.escape("\x1b]11;?\x1b\\\x1b[c"))
        await terminal.expect(re.escape("\x1b[c"))
        terminal.type(COLOUR + ATTRIBUTES + ATTRIBUTES)
        assert await terminal.wait() == 0
        assert terminal.unread_input() == b""


async def test_a_session_that_asks_nothing_ends_without_a_question(
    sandbox: Sandbox, environment: dict[str, str]
) -> None:
    arguments = await joining(sandbox, "--status", "off")
    async with PtyProcess([str(BIN / "smp"), *arguments], env=environment) as terminal:
        await terminal.expect(r"[#$] ")
        terminal.type("exit\r")
        assert await terminal.wait() == 0
        assert b"\x1b[c" not in terminal.output
