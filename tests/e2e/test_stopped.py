"""A stopped session in a real terminal: `kill %1`, and timeout(1), end it, and leave the shell's terminal alone."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.session import EndReason
from tests.support.programs import need
from tests.support.tmux import Terminal, Tmux, View
from tests.support.waiting import DEADLINE, wait_until

LOCAL, REMOTE = "local>", "remote>"
SHELLS = {"bash": ["bash", "--noprofile", "--rcfile", "start", "-i"], "zsh": ["zsh", "-f", "-i"]}


@pytest.fixture
def tmux(environment: dict[str, str], tmp_path: Path) -> Iterator[Tmux]:
    (tmp_path / "start").write_text(f"PS1='{LOCAL} '\n")
    with Tmux({**environment, "SHELL": "/bin/sh", "PS1": f"{LOCAL} "}, tmp_path) as running:
        yield running


@pytest.fixture(params=list(SHELLS))
def shell(request: pytest.FixtureRequest, tmux: Tmux) -> Terminal:
    """An interactive shell, which keeps jobs."""
    need(request.param)
    terminal = tmux.terminal(*SHELLS[request.param])
    terminal.wait(at(LOCAL), "the prompt of the shell")
    terminal.enter("clear; stty -g > before")
    terminal.wait(at(LOCAL), "the prompt of the shell")
    return terminal


def at(prompt: str) -> Callable[[View], bool]:
    return lambda view: view.rows[view.cursor[1]] == prompt


def log_in(terminal: Terminal, command: str) -> None:
    terminal.enter(f"clear; {command}")
    terminal.wait(lambda view: view.rows[view.cursor[1]].endswith(("$", "#")), "a prompt")
    terminal.enter(f"PS1='{REMOTE} '; clear")
    terminal.wait(at(REMOTE), "the prompt of the session")


def expect_the_end(terminal: Terminal, command: str) -> View:
    """`command` ends the job; the terminal is as it was, and the shell's line editor still works."""
    terminal.enter(f"clear; {command}")
    terminal.wait_for("was ended by SIGTERM")
    terminal.enter("clear; wait; stty -g > after; cmp before after && echo sa''me")
    terminal.wait(lambda view: at(LOCAL)(view) and "same" in view.rows, "the modes of before")
    terminal.enter("clear; jobs; echo jo''bs")
    view = terminal.wait_for("jobs")
    assert not any("topped" in row or "suspended" in row for row in view.rows)
    return view


async def joining(sandbox: Sandbox) -> str:
    """The command that joins a new session."""
    session = await sandbox.start_session()
    api = ["--region", sandbox.region, "--endpoint-url", sandbox.endpoint_url]
    return shlex.join(["smp", "connect", "--url", session.stream_url, "--token", session.token or "", *api])


async def expect_terminated(sandbox: Sandbox) -> None:
    (session,) = sandbox.sessions.values()
    await asyncio.wait_for(session.ended.wait(), DEADLINE)
    assert session.end_reason is EndReason.TERMINATED


def stopped(view: View) -> bool:
    """Whether the shell has said so."""
    return any("Stopped" in row or "suspended" in row for row in view.rows)


async def test_started_in_the_background(shell: Terminal, sandbox: Sandbox) -> None:
    def drive(command: str) -> None:
        shell.enter(f"clear; {command} &")

        def asked(view: View) -> bool:
            if stopped(view):
                return True
            shell.press("Enter")  # shells tell about jobs with the next prompt
            return False

        shell.wait(asked, "a stopped job")
        expect_the_end(shell, "kill %1")

    await asyncio.to_thread(drive, await joining(sandbox))
    await expect_terminated(sandbox)


async def test_suspended_and_killed(shell: Terminal, sandbox: Sandbox) -> None:
    def drive(command: str) -> None:
        log_in(shell, command)
        shell.press("Enter", "~", "C-z")
        shell.wait(lambda view: stopped(view) and at(LOCAL)(view), "the prompt of the shell")
        expect_the_end(shell, "kill %1")

    await asyncio.to_thread(drive, await joining(sandbox))
    await expect_terminated(sandbox)


async def test_stopped_from_elsewhere_and_killed(shell: Terminal, sandbox: Sandbox, tmp_path: Path) -> None:
    """The session had no chance to take its bar away; the modes are those of the shell's line editor by then."""

    def drive(command: str) -> None:
        (tmp_path / "script").write_text(f"echo $$ > pid; exec {command}\n")
        log_in(shell, "sh script")
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGSTOP)
        shell.wait(lambda view: stopped(view) and at(LOCAL)(view), "the prompt of the shell")
        expect_the_end(shell, "kill %1")

    await asyncio.to_thread(drive, await joining(sandbox))
    await expect_terminated(sandbox)


async def test_continued_in_the_background_it_stops_again(shell: Terminal, sandbox: Sandbox, tmp_path: Path) -> None:
    """And in the foreground it shows what it received meanwhile."""
    go = tmp_path / "go"
    os.mkfifo(go)

    def drive(command: str) -> None:
        log_in(shell, command)
        shell.enter(f"(read x < {go}; echo mean''while) & clear")
        # Or the screen is cleared behind the line that is looked for.
        shell.wait(lambda view: at(REMOTE)(view) and not any("read x" in row for row in view.rows), "a clear screen")
        shell.press("Enter", "~", "C-z")
        shell.wait(lambda view: stopped(view) and at(LOCAL)(view), "the prompt of the shell")
        go.write_text("\n")
        shell.enter("clear; kill -CONT %1; wait %1; echo con''tinued")
        shell.wait(lambda view: "continued" in view.rows and at(LOCAL)(view), "the prompt of the shell")
        assert not any("meanwhile" in row for row in shell.view().rows)
        shell.enter("fg %1")
        shell.wait_for("meanwhile")
        shell.enter("exit")
        shell.wait(at(LOCAL), "the prompt of the shell")

    await asyncio.to_thread(drive, await joining(sandbox))


async def test_a_time_limit_in_a_script(shell: Terminal, sandbox: Sandbox, tmp_path: Path) -> None:
    """timeout(1) runs its command in a group of its own, which the terminal does not belong to."""
    (tmp_path / "script").write_text(
        f"timeout 600 sh -c 'echo $$ > pid; exec {await joining(sandbox)}'\necho status $?\n"
    )

    def state() -> list[str]:
        """State and parent of the session's process, from /proc/PID/stat."""
        pid = (tmp_path / "pid").read_text().strip() if (tmp_path / "pid").exists() else ""
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() if pid else [""]

    shell.enter("clear; sh script")
    await wait_until(lambda: state()[0] == "T")
    os.kill(int(state()[1]), signal.SIGTERM)  # it passes the signal on, and SIGCONT, as when the time is over
    await expect_terminated(sandbox)

    def look() -> None:
        shell.wait_for("status 143")
        shell.enter("clear; stty -g > after; cmp before after && echo sa''me")
        shell.wait_for("same")

    await asyncio.to_thread(look)


async def test_a_table_is_drawn_in_the_foreground_only(shell: Terminal, sandbox: Sandbox) -> None:
    """In the background nothing is drawn; in the foreground again it stands below what the shell has written; neither
    a stop nor the end erases more than the table."""

    def headings(view: View) -> list[int]:
        return [number for number, row in enumerate(view.rows) if row.startswith("From ")]

    def below(text: str) -> Callable[[View], bool]:
        def shown(view: View) -> bool:
            found = [number for number, row in enumerate(view.rows) if row == text]
            return bool(found and headings(view)) and headings(view)[-1] > found[-1]

        return shown

    api = f"--region {sandbox.region} --endpoint-url {sandbox.endpoint_url}"

    def drive() -> None:
        shell.enter(f"clear; smp forward local -L 0:9 {api} &")
        shell.wait_for("listening on")
        shell.enter("clear; seq 3")
        shell.wait(lambda view: "3" in view.rows and at(LOCAL)(view), "the prompt of the shell")
        shell.enter("fg %1")
        view = shell.wait(below(f"{LOCAL} fg %1"), "the table")
        assert view.rows[1:4] == ("2", "3", f"{LOCAL} fg %1") or view.rows[:4] == ("1", "2", "3", f"{LOCAL} fg %1")
        assert len(headings(view)) == 1
        shell.press("C-z")
        view = shell.wait(lambda view: stopped(view) and at(LOCAL)(view), "the prompt of the shell")
        assert not headings(view)
        shell.enter("bg")
        shell.enter("echo wri''tten")
        shell.wait(lambda view: "written" in view.rows and at(LOCAL)(view), "the prompt of the shell")
        shell.enter("fg")
        view = shell.wait(below(f"{LOCAL} fg"), "the table")
        assert len(headings(view)) == 1
        shell.press("C-c")
        ended = shell.wait(lambda view: at(LOCAL)(view) and "smp: forwarding ended" in view.rows, "the end")
        assert ended.rows[: headings(view)[0]] == view.rows[: headings(view)[0]]
        assert ended.rows[headings(view)[0]] == "smp: forwarding ended"

    await asyncio.to_thread(drive)
