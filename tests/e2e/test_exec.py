"""`smp exec` against the sandbox: the real botocore, real processes and signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import NamedTuple

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.session import SandboxSession
from tests.e2e.conftest import BIN
from tests.support.pty_process import PtyProcess
from tests.support.waiting import until_a_signal_counts_again, wait_until

SMP = str(BIN / "smp")
SLEEP = "exec sleep 600"


class Run(NamedTuple):
    """What a command did."""

    status: int | None
    out: bytes
    err: str


async def start(sandbox: Sandbox, environment: dict[str, str], *arguments: str, stdin: int = DEVNULL) -> Process:
    return await asyncio.create_subprocess_exec(
        SMP,
        "exec",
        "--endpoint-url",
        sandbox.endpoint_url,
        *arguments,
        stdin=stdin,
        stdout=PIPE,
        stderr=PIPE,
        env=environment,
    )


async def finish(process: Process, data: bytes | None = None) -> Run:
    async with asyncio.timeout(60):
        out, err = await process.communicate(data)
    return Run(process.returncode, out, err.decode())


async def test_a_command_with_both_outputs_and_its_status(sandbox: Sandbox, environment: dict[str, str]) -> None:
    process = await start(sandbox, environment, "web-1", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert await finish(process) == (7, b"out\n", "err\n")


async def test_input_by_a_shell(sandbox: Sandbox, environment: dict[str, str]) -> None:
    process = await start(sandbox, environment, "web-1", "--via", "shell", "--", "cat", stdin=PIPE)
    assert await finish(process, bytes(range(256))) == (0, bytes(range(256)), "")
    assert all(session.ended.is_set() for session in sandbox.sessions.values())


@pytest.mark.parametrize("targets", [["web-1"], ["web-1", "local"]])
async def test_input_that_arrives_while_the_command_runs_is_a_failure(
    sandbox: Sandbox, environment: dict[str, str], targets: list[str], tmp_path: Path
) -> None:
    """The pipe is silent and of the program that has started ``smp``, so the command has begun."""
    script = f"touch {tmp_path}/$$; while [ ! -e {tmp_path}/end ]; do sleep 0.1; done"
    process = await start(sandbox, environment, *targets, "--", "sh", "-c", script, stdin=PIPE)
    await wait_until(lambda: len(list(tmp_path.iterdir())) == len(targets))
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(b"x")
    async with asyncio.timeout(60):
        assert b"standard input" in await process.stderr.readline()
    (tmp_path / "end").touch()
    assert (await finish(process)).status == 255


@pytest.mark.parametrize("via", ["document", "shell"])
async def test_the_first_ctrl_c_is_the_commands_and_the_second_leaves(
    sandbox: Sandbox, environment: dict[str, str], via: str
) -> None:
    script = "trap 'echo interrupted' INT; echo began; while :; do sleep 0.1; done"
    process = await start(sandbox, environment, "web-1", "--via", via, "--", "sh", "-c", script)
    async with asyncio.timeout(60):
        assert process.stdout is not None
        assert await process.stdout.readline() == b"began\n"
        process.send_signal(signal.SIGINT)
        assert await process.stdout.readline() == b"interrupted\n"
        await until_a_signal_counts_again()
        process.send_signal(signal.SIGINT)
        run = await finish(process)
    assert run.status == -signal.SIGINT
    assert run.err.endswith(" was ended by SIGINT\n")
    await wait_until(lambda: all(session.ended.is_set() for session in sandbox.sessions.values()))


async def test_a_signal_terminates_the_session(sandbox: Sandbox, environment: dict[str, str]) -> None:
    process = await start(sandbox, environment, "web-1", "--", "sh", "-c", "echo $$; exec sleep 600")
    async with asyncio.timeout(60):
        assert process.stdout is not None
        pid = int(await process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert (await finish(process)).status == -signal.SIGTERM
    await wait_until(lambda: not os.path.exists(f"/proc/{pid}"))


async def test_several_targets(sandbox: Sandbox, environment: dict[str, str]) -> None:
    script = "echo out; echo err >&2"
    process = await start(sandbox, environment, "web-1", "local", "nobody", "--", "sh", "-c", script)
    run = await finish(process)
    assert run.status == 255
    assert sorted(run.out.splitlines()) == [b"local: out", b"web-1: out"]
    errors = sorted(run.err.splitlines())
    assert errors[0] == "local: err"
    assert errors[1].startswith("smp: 3 targets: 2 succeeded, 1 failed, in ")
    assert errors[2].startswith("smp: nobody: no target matches nobody")
    assert errors[3:] == ["web-1: err"]


async def test_a_tag_and_folding(sandbox: Sandbox, environment: dict[str, str]) -> None:
    run = await finish(await start(sandbox, environment, "--tag", "role=web", "-b", "-q", "--", "echo", "same"))
    assert run == (0, b"---------------\nweb-[1-2] (2)\n---------------\nsame\n", "")


async def test_json_of_targets_in_a_file(sandbox: Sandbox, environment: dict[str, str]) -> None:
    process = await start(sandbox, environment, "--targets", "-", "--json", "-q", "--", "false", stdin=PIPE)
    run = await finish(process, b"web-1\nlocal\n")
    assert run.status == 1
    assert sorted((line["name"], line["status"]) for line in map(json.loads, run.out.splitlines())) == [
        ("local", 1),
        ("web-1", 1),
    ]


@pytest.mark.parametrize(("redirection", "name"), [(">/dev/full", "output"), ("2>/dev/full", "error")])
@pytest.mark.parametrize("targets", [("web-1",), ("web-1", "web-2")], ids=["one", "many"])
async def test_lost_output_is_a_failure(
    sandbox: Sandbox, environment: dict[str, str], targets: tuple[str, ...], redirection: str, name: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'"$0" "$@" {redirection}', SMP, "exec"),
        *("--endpoint-url", sandbox.endpoint_url, *targets, "--", "sh", "-c", "echo out; echo err >&2"),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=environment,
    )
    run = await finish(process)
    assert run.status == 255
    if name == "output":
        assert "smp: standard output: No space left on device\n" in run.err


async def test_a_signal_terminates_every_session(sandbox: Sandbox, environment: dict[str, str]) -> None:
    process = await start(sandbox, environment, "web-1", "web-2", "--", "sh", "-c", "echo; exec sleep 600")
    async with asyncio.timeout(60):
        assert process.stdout is not None
        for _ in range(2):
            await process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        run = await finish(process)
    assert run.status == -signal.SIGTERM
    assert "smp: web-[1-2]: ended by SIGTERM\n" in run.err
    assert run.err.endswith("smp: ended by SIGTERM\n")
    await wait_until(lambda: all(session.ended.is_set() for session in sandbox.sessions.values()))


async def test_a_reader_of_the_output_that_leaves(sandbox: Sandbox, environment: dict[str, str]) -> None:
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec(
        SMP,
        *("exec", "--endpoint-url", sandbox.endpoint_url, "web-1", "web-2", "--", "yes"),
        stdin=DEVNULL,
        stdout=writer,
        stderr=DEVNULL,
        env=environment,
    )
    os.close(writer)
    async with asyncio.timeout(60):
        assert (await asyncio.to_thread(os.read, reader, 3)) in (b"web", b"we", b"w")
        os.close(reader)
        assert await process.wait() == -signal.SIGPIPE
    await wait_until(lambda: all(session.ended.is_set() for session in sandbox.sessions.values()))


def _has_acknowledged_output(session: SandboxSession) -> bool:
    endpoint = session.agent.endpoint
    return endpoint.progress.sent > 2 and not endpoint.in_flight  # the first two messages are those of the handshake


async def test_a_fleet_that_ctrl_c_has_ended_before_all_targets_began(
    sandbox: Sandbox, environment: dict[str, str]
) -> None:
    script = f"echo began; {SLEEP}"
    process = await start(sandbox, environment, "web-1", "web-2", "--fanout", "1", "--json", "--", "sh", "-c", script)
    # The client has begun the session before it acknowledges output; the program may start earlier.
    await wait_until(lambda: any(_has_acknowledged_output(session) for session in sandbox.sessions.values()))
    process.send_signal(signal.SIGINT)
    run = await finish(process)
    assert run.status == -signal.SIGINT
    (line,) = map(json.loads, run.out.splitlines())
    assert (line["name"], line["status"], line["error"]) == ("web-1", 130, "the command was killed by SIGINT")
    assert "smp: 2 targets: 0 succeeded, 1 failed, 1 not run, in " in run.err
    assert run.err.endswith("smp: ended by SIGINT\n")
    await wait_until(lambda: all(session.ended.is_set() for session in sandbox.sessions.values()))


async def test_a_command_that_goes_on_after_ctrl_c(sandbox: Sandbox, environment: dict[str, str]) -> None:
    script = "trap '' INT; echo began; exec sleep 600"
    process = await start(sandbox, environment, "web-1", "--", "sh", "-c", script)
    async with asyncio.timeout(60):
        assert process.stdout is not None
        assert process.stderr is not None
        assert await process.stdout.readline() == b"began\n"
        process.send_signal(signal.SIGINT)
        waiting = b"smp: waiting for the command, and what it started, to end; Ctrl-C again leaves\n"
        assert await process.stderr.readline() == waiting
        process.send_signal(signal.SIGINT)
        assert (await finish(process)).status == -signal.SIGINT


async def test_a_command_in_a_terminal_finds_its_size_and_its_status_arrives(
    sandbox: Sandbox, environment: dict[str, str]
) -> None:
    command = [
        SMP,
        "exec",
        "--endpoint-url",
        sandbox.endpoint_url,
        "-t",
        "web-1",
        "--",
        "sh",
        "-c",
        "stty size; exit 7",
    ]
    async with PtyProcess(command, env=environment, rows=33, columns=99) as terminal:
        await terminal.expect(r"32 99\r\n")
        assert await terminal.wait() == 7


async def test_a_command_in_a_terminal_that_somebody_terminates(sandbox: Sandbox, environment: dict[str, str]) -> None:
    command = [SMP, "exec", "--endpoint-url", sandbox.endpoint_url, "-t", "web-1", "--", "sh", "-c", "echo on; cat"]
    async with PtyProcess(command, env=environment) as terminal:
        await terminal.expect("on")
        (session,) = sandbox.sessions.values()
        session.terminate()
        await terminal.expect("was ended: the command's exit status did not arrive: somebody terminated the session")
        assert await terminal.wait() == 255


async def test_input_of_a_terminal(sandbox: Sandbox, environment: dict[str, str]) -> None:
    command = [SMP, "exec", "--endpoint-url", sandbox.endpoint_url, "web-1", "--", "cat"]
    async with PtyProcess(command, env=environment) as terminal:
        assert await terminal.wait() == 0
        await terminal.expect("the agent passes no standard input to a command; -t runs it in a terminal")
    async with PtyProcess([*command[:-1], "true"], env=environment) as terminal:
        assert await terminal.wait() == 0
        assert b"standard input" not in terminal.output
    async with PtyProcess([*command[:-2], "--via", "shell", "--", "cat"], env=environment) as terminal:
        terminal.type(b"typed\n\x04")
        await terminal.expect(r"typed\r\ntyped\r\n")
        assert await terminal.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_cancels_what_run_command_runs(
    sandbox: Sandbox, environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    script = f"echo $$ >{tmp_path}/pid; exec sleep 600"
    process = await start(sandbox, environment, "web-1", "--via", "send-command", "--shell", "--", script)
    await wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    process.send_signal(number)
    run = await finish(process)
    assert run.status == -number
    assert run.err.startswith("smp: web-1: the command was cancelled\nsmp: 1 target: 0 succeeded, 1 failed, in ")
    await wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
