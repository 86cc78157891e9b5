"""The real AWS CLIs, which spawn our `session-manager-plugin` in a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.api import StartedSession
from session_manager_plugin.agent.session import EndReason, SandboxSession
from tests.support.pty_process import PtyProcess
from tests.support.waiting import DEADLINE

PROMPT = r"[#$] $"
INTERRUPTED = r"[#$] (\^C)?$"
"""The prompt after Ctrl-C: the kernel sends the signal before it echoes the key, so that the prompt may come first."""


def start_session(aws: str, endpoint_url: str, *arguments: str) -> list[str]:
    return [aws, "ssm", "start-session", "--endpoint-url", endpoint_url, "--target", "local", *arguments]


def only_session(sandbox: Sandbox) -> SandboxSession:
    (session,) = sandbox.sessions.values()
    return session


async def test_a_shell(aws: str, sandbox: Sandbox, environment: dict[str, str]) -> None:
    async with PtyProcess(start_session(aws, sandbox.endpoint_url), env=environment, rows=30, columns=100) as terminal:
        before = terminal.attributes
        await terminal.expect(PROMPT)
        session = only_session(sandbox)
        # Byte for byte: other tools parse it. The terminal makes \r\n of \n.
        assert terminal.output.startswith(f"\r\nStarting session with SessionId: {session.session_id}\r\n".encode())

        terminal.type("echo $((40+2))\r")
        await terminal.expect(r"\r\n42\r\n.*" + PROMPT)

        terminal.type("stty size\r")
        await terminal.expect(r"\r\n30 100\r\n.*" + PROMPT)
        terminal.resize(120, 40)
        terminal.type("while [ \"$(stty size)\" != '40 120' ]; do :; done; stty size\r")
        await terminal.expect(r"\r\n40 120\r\n.*" + PROMPT)

        # The program that is interrupted is the one that says that it runs: an interrupt that reaches the shell
        # before its next program is in the foreground ends nothing.
        terminal.type("sh -c 'echo sleeping; exec sleep 600'\r")
        await terminal.expect(r"\r\nsleeping\r\n")
        terminal.type("\x03")
        await terminal.expect(INTERRUPTED)
        terminal.type("echo status $?\r")
        await terminal.expect(r"\r\nstatus 130\r\n.*" + PROMPT)

        terminal.type("\x04")
        assert await terminal.wait() == 0
        assert terminal.output.endswith(
            f"\r\n\r\nExiting session with sessionId: {session.session_id}.\r\n\r\n".encode()
        )
        assert terminal.attributes == before
        assert session.end_reason is EndReason.EXITED


async def test_an_interactive_command(aws: str, sandbox: Sandbox, environment: dict[str, str]) -> None:
    arguments = ["--document-name", "AWS-StartInteractiveCommand", "--parameters", "command=tr a-z A-Z"]
    async with PtyProcess(start_session(aws, sandbox.endpoint_url, *arguments), env=environment) as terminal:
        await terminal.expect("Starting session")
        terminal.type("typed ahead of a program that prints nothing\r")
        await terminal.expect("TYPED AHEAD OF A PROGRAM THAT PRINTS NOTHING")
        terminal.type("\x04")
        assert await terminal.wait() == 0
    assert only_session(sandbox).end_reason is EndReason.EXITED


async def test_a_refused_connection(aws: str, sandbox: Sandbox, environment: dict[str, str]) -> None:
    """Version 1 makes 255 of every failure of the plugin; Debian's version 2 passes the token in argv, so we give 0."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        with stream_urls_at(sandbox, nobody.getsockname()[1]):
            async with PtyProcess(start_session(aws, sandbox.endpoint_url), env=environment) as terminal:
                before = terminal.attributes
                status = await terminal.wait()
                assert terminal.attributes == before
    assert re.search(r"127\.0\.0\.1:\d+ refused the connection", terminal.text)
    assert status == (255 if "/usr/bin" not in aws else 0)
    assert "Traceback" not in terminal.text


@contextlib.contextmanager
def stream_urls_at(sandbox: Sandbox, port: int) -> Iterator[None]:
    """Within the block StartSession names stream URLs at `port`."""
    start = sandbox.start

    def start_elsewhere(
        target: str, document: str | None, parameters: Mapping[str, Sequence[str]], **options: Any
    ) -> StartedSession:
        started = start(target, document, parameters, **options)
        return replace(started, stream_url=started.stream_url.replace(f":{sandbox.port}/", f":{port}/"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "start", start_elsewhere)
        yield


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["TERM", "HUP"])
async def test_a_killed_plugin_ends_the_session(
    aws: str, sandbox: Sandbox, environment: dict[str, str], number: signal.Signals
) -> None:
    async with PtyProcess(start_session(aws, sandbox.endpoint_url), env=environment) as terminal:
        before = terminal.attributes
        await terminal.expect(PROMPT)
        os.kill(child_of(terminal.process.pid), number)
        async with asyncio.timeout(DEADLINE):
            await only_session(sandbox).ended.wait()
        await terminal.wait()
        assert terminal.attributes == before
    assert only_session(sandbox).end_reason is EndReason.TERMINATED


async def test_a_closed_terminal_ends_the_session(aws: str, sandbox: Sandbox, environment: dict[str, str]) -> None:
    async with PtyProcess(start_session(aws, sandbox.endpoint_url), env=environment) as terminal:
        await terminal.expect(PROMPT)
        plugin = child_of(terminal.process.pid)
        terminal.close_terminal()
        async with asyncio.timeout(DEADLINE):
            await only_session(sandbox).ended.wait()
            while is_running(plugin):  # noqa: ASYNC110 - not our child: nobody tells us of its end
                await asyncio.sleep(0.01)
    assert only_session(sandbox).end_reason is EndReason.TERMINATED


async def test_a_killed_cli_leaves_no_plugin_behind(aws: str, sandbox: Sandbox, environment: dict[str, str]) -> None:
    async with PtyProcess(start_session(aws, sandbox.endpoint_url), env=environment) as terminal:
        await terminal.expect(PROMPT)
        plugin = child_of(terminal.process.pid)
        terminal.process.kill()
        async with asyncio.timeout(DEADLINE):
            await only_session(sandbox).ended.wait()
            while is_running(plugin):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert only_session(sandbox).end_reason is EndReason.TERMINATED


def child_of(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
