"""`smp connect` through pipes and in a terminal."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.api import StartedSession
from session_manager_plugin.agent.session import EndReason
from tests.e2e.conftest import BIN
from tests.support.pty_process import PtyProcess
from tests.support.waiting import DEADLINE

PROMPT = r"[#$] $"
SMP = str(BIN / "smp")
QUIET_PTY = "stty -echo -onlcr; PS1=; "
"""What a shell is told first where its output is compared: no echo, no \\r, no prompt."""


def connect(started: StartedSession, *options: str) -> list[str]:
    return [SMP, "connect", "--url", started.stream_url, "--token", started.token or "", *options]


async def through_pipes(
    started: StartedSession, environment: dict[str, str], commands: bytes, *options: str
) -> tuple[bytes, bytes, int | None]:
    process = await asyncio.create_subprocess_exec(
        *connect(started, *options), stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment
    )
    async with asyncio.timeout(60):
        output, errors = await process.communicate(commands)
    return output, errors, process.returncode


async def test_commands_from_a_pipe(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """Reference defect D7: the end of the input ends the official client at once, and most of the output is lost."""
    started = await sandbox.start_session()
    output, errors, status = await through_pipes(started, environment, b"seq 100000; exit\n")
    expected = "".join(f"{number}\r\n" for number in range(1, 100001)).encode()
    assert expected in output
    assert (errors, status) == (f"smp: session {started.session_id} ended\n".encode(), 0)
    assert sandbox.session(started.session_id).end_reason is EndReason.EXITED


async def test_the_end_of_the_input_ends_a_shell(sandbox: Sandbox, environment: dict[str, str]) -> None:
    started = await sandbox.start_session()
    output, _, status = await through_pipes(started, environment, b"echo done''so\n")
    assert b"doneso" in output
    assert status == 0
    assert sandbox.session(started.session_id).end_reason is EndReason.EXITED


async def test_the_end_of_the_input_ends_a_program_in_the_middle_of_a_line(
    sandbox: Sandbox, environment: dict[str, str]
) -> None:
    started = await sandbox.start_session("AWS-StartInteractiveCommand", {"command": ["stty -echo; cat"]})
    output, _, status = await through_pipes(started, environment, b"one\ntwo")
    assert output.endswith(b"one\r\ntwo")
    assert status == 0


async def test_the_end_of_the_input_can_end_the_session(sandbox: Sandbox, environment: dict[str, str]) -> None:
    started = await sandbox.start_session()
    _, _, status = await through_pipes(started, environment, b"exec sleep 600\n", "--stdin-eof", "close")
    assert status == 0


async def test_20_mib_of_output_through_a_pipe(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """Byte for byte, with memory that does not grow with it."""
    started = await sandbox.start_session()
    size = 20 * 1024 * 1024
    script = (
        f"{QUIET_PTY}stty -opost; echo begin; {sys.executable} -c 'import random, sys; "
        f"sys.stdout.buffer.write(random.Random(1).randbytes({size}))'; echo end; exit\n"
    )
    peak = measuring_peak(connect(started))
    process = await asyncio.create_subprocess_exec(*peak, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment)
    async with asyncio.timeout(60):
        output, errors = await process.communicate(script.encode())
    match = re.search(b"begin\n(.*)end\n", output, re.DOTALL)
    assert match is not None
    assert hashlib.sha256(match[1]).hexdigest() == hashlib.sha256(random.Random(1).randbytes(size)).hexdigest()
    assert int(errors.split()[-1]) < 64 * 1024, "kilobytes at the peak"


def measuring_peak(argv: list[str]) -> list[str]:
    """`argv`, followed by its peak resident memory in KiB on stderr."""
    program = (
        "import resource, subprocess, sys; status = subprocess.call(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(status)"
    )
    return [sys.executable, "-c", program, *argv]


async def test_an_idle_shell_is_small(sandbox: Sandbox, environment: dict[str, str]) -> None:
    started = await sandbox.start_session()
    async with PtyProcess(connect(started), env=environment) as terminal:
        await terminal.expect(r"[#$] ")
        assert peak_memory(terminal.process.pid) < 45 * 1024
        terminal.type("exit\r")
        assert await terminal.wait() == 0


def peak_memory(pid: int) -> int:
    """The peak of a process's resident memory, in KiB."""
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(peak)


async def test_1_mib_pasted(sandbox: Sandbox, environment: dict[str, str]) -> None:
    started = await sandbox.start_session()
    data = random.Random(2).randbytes(1024 * 1024)
    async with PtyProcess(connect(started, "--status", "off"), env=environment) as terminal:
        await terminal.expect(PROMPT)
        terminal.type("stty raw -echo; printf %s go; head -c 1048576 | sha256sum; stty sane\r")
        await terminal.expect("go$")
        await terminal.paste(data)
        await terminal.expect(hashlib.sha256(data).hexdigest())


async def test_typed_ahead_of_a_silent_command(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """Reference defect H9: without a handshake the official client waits for output that `cat` never gives first."""
    started = await sandbox.start_session("AWS-StartInteractiveCommand", {"command": ["cat"]})
    async with PtyProcess(connect(started, "--status", "off"), env=environment) as terminal:
        terminal.type("typed ahead\r")
        # Echoed by the local terminal, by the remote's, and then said by cat.
        await terminal.expect("typed ahead\r\n.*typed ahead\r\n.*typed ahead\r\n")
        terminal.type("\x04")
        assert await terminal.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT], ids=["TERM", "HUP", "QUIT"])
async def test_a_signal_leaves_the_terminal_as_it_was(
    sandbox: Sandbox, environment: dict[str, str], number: signal.Signals
) -> None:
    """Reference defect U3."""
    started = await sandbox.start_session()
    api = ["--region", sandbox.region, "--endpoint-url", sandbox.endpoint_url]
    async with PtyProcess(connect(started, *api), env=environment) as terminal:
        before = terminal.attributes
        await terminal.expect(r"[#$] ")
        assert terminal.attributes != before
        terminal.process.send_signal(number)
        assert await terminal.wait() == -number
        assert terminal.attributes == before
        assert b"Traceback" not in terminal.output
    assert sandbox.session(started.session_id).end_reason is EndReason.TERMINATED


async def test_a_closed_terminal(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """The process is gone and the session terminated within 2 s, or when a busy machine allows."""
    started = await sandbox.start_session()
    api = ["--region", sandbox.region, "--endpoint-url", sandbox.endpoint_url]
    async with PtyProcess(connect(started, *api), env=environment) as terminal:
        await terminal.expect(r"[#$] ")
        terminal.close_terminal()
        assert await terminal.wait() == -signal.SIGHUP
    assert sandbox.session(started.session_id).end_reason is EndReason.TERMINATED


async def test_nobody_reads_the_output_any_more(sandbox: Sandbox, environment: dict[str, str]) -> None:
    started = await sandbox.start_session()
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *connect(started), stdin=PIPE, stdout=writer, stderr=PIPE, env=environment
    )
    os.close(writer)
    assert process.stdin is not None
    process.stdin.write(b"while :; do echo y; done\n")
    await asyncio.to_thread(os.read, reader, 100)
    os.close(reader)
    async with asyncio.timeout(DEADLINE):
        _, errors = await process.communicate()
    assert process.returncode == -signal.SIGPIPE
    assert errors == b""
