"""Predictive echo at 150 ms ± 30 ms with real programs: what is drawn, what never is, and the screen at the end."""

from __future__ import annotations

import os
import random
import re
import shutil
import string
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import BIN
from tests.support.echo_session import EchoSession
from tests.support.emulator import need_emulator
from tests.support.servers import ssh_server
from tests.support.typist import Keystroke, Typist

SESSIONS = int(os.environ.get("SMP_TEST_ECHO_SESSIONS", "0"))
"""Sessions for each way of asking without echo, with all programs; if not given, one session with the first of each."""
KEYS = 20
SHELLS = ("bash", "dash", "zsh", "fish")
SCREENS = {"vi": "vi file", "less": "less file", "tmux": "tmux -L echo-inner new bash", "top": "top"}
ASKING = {
    "read": "read -sp 'pass: ' x",
    "stty": "printf 'pass: '; stty -echo; read x; stty echo",
    "getpass": f"{sys.executable} -c 'import getpass; getpass.getpass()'",
    "su": "setpriv --reuid 65534 --clear-groups su",
    "sudo": "setpriv --reuid 65534 --clear-groups sudo id",
    "ssh": "ssh -F none $SSH_OPTIONS -o PreferredAuthentications=password,keyboard-interactive 127.0.0.1",
    "passphrase": "ssh -F none $SSH_OPTIONS -i $SSH_KEY -o PreferredAuthentications=publickey 127.0.0.1",
    "ssh-keygen": "ssh-keygen -y -f $SSH_KEY",
}


def chosen(all_of_them: Iterable[str]) -> list[str]:
    return list(all_of_them)[: None if SESSIONS else 1]


@pytest.fixture(autouse=True)
def _emulator() -> None:
    need_emulator()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path), "PS1": "$ "}


@pytest.fixture
async def ssh_environment(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """What the commands of ``ASKING`` need to reach an sshd that asks for a password or accepts a key."""
    async with ssh_server(tmp_path, passphrase="correct horse", passwords=True) as server:
        options = f"-p {server.port} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        yield {"SSH_OPTIONS": options, "SSH_KEY": str(server.key)}


Begin = Callable[..., EchoSession]


@pytest.fixture
def begin(environment: dict[str, str], tmp_path: Path) -> Begin:
    """Begin a session with a shell."""

    def begun(shell: str, **options: Any) -> EchoSession:
        path = shutil.which(shell)
        if path is None:
            if os.environ.get("SMP_TEST_REQUIRE_PROGRAMS"):
                pytest.fail(f"{shell} is missing")
            pytest.skip(f"{shell} is not installed")
        session = EchoSession(str(BIN / "smp"), path, environment, tmp_path, **options)
        session.wait_for_output()
        session.settle()
        return session

    return begun


def typed(text: str, pause: float) -> list[Keystroke]:
    return [Keystroke(pause, character.encode()) for character in text]


@pytest.mark.parametrize("shell", chosen(SHELLS))
def test_keys_are_drawn_at_once_and_the_screen_ends_as_without(begin: Begin, shell: str, tmp_path: Path) -> None:
    (tmp_path / ".zshrc").write_text("PROMPT='$ '\n")
    with begin(shell) as session:
        for _ in range(2):  # a prompt is learned
            session.type(typed("echo", 0.1) + typed("\r", 0.3))
            session.settle()
        session.typed.clear()
        session.type(Typist(1, edits=False).keys(KEYS))
        session.settle()
        session.close()
        figures = session.figures(at_once=0.1)
        session.assert_same_screen()
    assert figures.at_once > 0.6 * figures.printable, figures
    assert not figures.wrong, figures


@pytest.mark.parametrize("way", chosen(ASKING))
def test_nothing_typed_without_echo_is_drawn(
    begin: Begin, environment: dict[str, str], ssh_environment: dict[str, str], tmp_path: Path, way: str
) -> None:
    """The secret is pasted or typed, before or after the program asks; the line before is pasted, or typed and echoed
    like the lines before that."""
    environment.update(ssh_environment)
    (tmp_path / "ask").write_text(ASKING[way])
    asked = 0
    for seed in range(max(1, SESSIONS)):
        dice = random.Random(f"{way} {seed}")
        secret = "".join(dice.sample(string.ascii_uppercase, 8))
        with begin("bash" if seed % 2 == 0 else "dash") as session:
            for _ in range(3):
                session.type(typed("true", 0.1) + typed("\r", 0.3))
                session.settle(0.4)
            if dice.random() < 0.5:
                session.enter("bash ask")
            else:
                session.type(typed("bash ask\r", 0.1))
            session.run(dice.choice((0.0, 0.1, 0.3, 0.6, 1.5, 3.0)))
            if dice.random() < 0.2:
                session.enter(secret)
            else:
                session.type(typed(secret + "\r", dice.choice((0.03, 0.1, 0.2))))
            session.settle()
            session.close()
            shown = session.rows_ever_shown()
        echoed = b"".join(written.data for written in session.remote_written()).decode()
        asked += bool(re.search(r"(?i)pass(word|phrase)?\b[^\n]*: ", echoed))
        leaked = {letter for letter in secret if letter not in echoed and any(letter in row for row in shown)}
        assert not leaked, f"seed {seed}"
    assert asked == max(1, SESSIONS), f"asked in {asked} sessions"


@pytest.mark.parametrize("program", chosen(SCREENS))
def test_nothing_is_drawn_over_a_whole_screen(
    begin: Begin, environment: dict[str, str], program: str, tmp_path: Path
) -> None:
    """Not a byte is written but what the program writes."""
    (tmp_path / "file").write_text("line\n" * 100)
    with begin("bash") as session:
        session.type(typed("true", 0.1) + typed("\r", 0.3))
        session.settle()
        session.enter(SCREENS[program])
        session.wait_for(b"Tasks" if program == "top" else b"\x1b[?1049h")
        session.settle(0.8, deadline=4.0)
        start = len(session.output)
        session.type(typed("ihello\x1b:jjk/line\r", 0.12))
        session.run(1.0)
        written = session.output[start:]
        if program == "tmux":
            subprocess.run(["tmux", "-L", "echo-inner", "kill-server"], env=environment, check=False)
        session.close()
        assert written in b"".join(each.data for each in session.remote_written())


def test_on_a_fast_link_no_byte_differs(begin: Begin) -> None:
    with begin("bash", predict="auto", latency=0.02, jitter=0.0) as session:
        session.type(Typist(1, edits=False).keys(KEYS))
        session.settle()
        written = session.output
        session.close()
        assert b"".join(each.data for each in session.remote_written()).startswith(written)
