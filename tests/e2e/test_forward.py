"""`smp forward` as a program: what it prints, how it ends, and that no session is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator

import pytest

from session_manager_plugin.agent import Sandbox
from tests.e2e.conftest import BIN
from tests.support.forward_services import echo_server
from tests.support.pty_process import PtyProcess
from tests.support.waiting import DEADLINE, wait_until

SMP = str(BIN / "smp")
WEB = "i-0a1b2c3d4e5f60001"


@contextlib.asynccontextmanager
async def forwarding(
    sandbox: Sandbox, environment: dict[str, str], *arguments: str, parent: tuple[str, ...] = ()
) -> AsyncIterator[Process]:
    """`smp forward --json` on web-1, started by the command line ``parent``, if any; it is killed in the end."""
    argv = [*parent, SMP, "forward", "web-1", *arguments, "--json", "--endpoint-url", sandbox.endpoint_url]
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        async with asyncio.timeout(DEADLINE):
            await process.communicate()  # closes the pipes


async def next_event(process: Process) -> dict[str, object]:
    """The next line of standard output."""
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), DEADLINE)
    event: dict[str, object] = json.loads(line)
    return event


async def ready_port(process: Process) -> int:
    """The local port of the next event, which has to be ``ready``."""
    event = await next_event(process)
    assert event["event"] == "ready"
    port = event["port"]
    assert isinstance(port, int)
    return port


def read_to_end(descriptor: int) -> bytes:
    """Everything, to the end; closes the descriptor."""
    with open(descriptor, "rb") as file:
        return file.read()


def is_over(sandbox: Sandbox) -> bool:
    """Whether no session is open."""
    return all(session.ended.is_set() for session in sandbox.sessions.values())


async def test_events(sandbox: Sandbox, environment: dict[str, str]) -> None:
    async with echo_server() as port, forwarding(sandbox, environment, "-L", f":{port}") as process:
        ready = await next_event(process)
        local = ready["port"]
        assert isinstance(local, int)
        assert ready == {
            "event": "ready",
            "local": f"127.0.0.1:{local}",
            "port": local,
            "target": WEB,
            "remote": f"localhost:{port}",
        }
        reader, writer = await asyncio.open_connection("127.0.0.1", local)
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.readexactly(5), DEADLINE) == b"hello"
        writer.close()
        opened, closed = await next_event(process), await next_event(process)
        (session,) = sandbox.sessions
        assert opened["event"] == "connection"
        assert opened["session"] == session
        assert closed == {**opened, "event": "closed", "sent": 5, "received": 5}
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(DEADLINE):
            rest, errors = await process.communicate()
        assert process.returncode == 0
        ended = json.loads(rest)
        assert (ended["event"], ended["session"], ended["remote"]) == ("ended", session, f"localhost:{port}")
        assert errors == b"smp: forwarding ended\n"
        assert is_over(sandbox)


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
async def test_events_that_cannot_be_written_end_it(
    sandbox: Sandbox, environment: dict[str, str], redirection: str
) -> None:
    """A program that waits for them would wait for ever."""
    command = f'"{SMP}" forward web-1 -L 0:80 --json --endpoint-url "{sandbox.endpoint_url}" {redirection}'
    process = await asyncio.create_subprocess_exec("sh", "-c", command, stdin=DEVNULL, stderr=PIPE, env=environment)
    async with asyncio.timeout(DEADLINE):
        _, errors = await process.communicate()
    assert process.returncode == 255
    assert errors.startswith(b"smp: standard output: ")
    await wait_until(lambda: is_over(sandbox))


async def test_ready_descriptor(sandbox: Sandbox, environment: dict[str, str]) -> None:
    reading, writing = os.pipe()
    argv = [SMP, "forward", "web-1", "-L", "0:80", "-L", ":db.internal:5432", "-D", "0", "--ready-fd", str(writing)]
    process = await asyncio.create_subprocess_exec(
        *argv, "--endpoint-url", sandbox.endpoint_url, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment,
        pass_fds=[writing],
    )  # fmt: skip
    os.close(writing)
    lines = (await asyncio.to_thread(read_to_end, reading)).splitlines()
    events = [json.loads(line) for line in lines]
    assert [(event["event"], event["remote"]) for event in events] == [
        ("ready", "localhost:80"),
        ("ready", "db.internal:5432"),
        ("ready", "socks5"),
    ]
    process.terminate()
    async with asyncio.timeout(DEADLINE):
        output, errors = await process.communicate()
    assert process.returncode == -signal.SIGTERM
    assert output == b""
    assert re.fullmatch(
        rf"smp: listening on 127.0.0.1:\d+ and \[::1\]:\d+, for port 80 of {WEB}\n"
        rf"smp: listening on 127.0.0.1:\d+ and \[::1\]:\d+, for db.internal:5432 through {WEB}\n"
        rf"smp: listening on 127.0.0.1:\d+ and \[::1\]:\d+, a SOCKS5 server through {WEB}\n"
        r"smp: forwarding was ended by SIGTERM\n",
        errors.decode(),
    )
    assert is_over(sandbox)


async def test_a_ready_descriptor_that_cannot_be_written_to(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """A program that waits for the ready events would wait for ever."""
    command = f'"{SMP}" forward web-1 -L 0:80 --ready-fd 3 --endpoint-url "{sandbox.endpoint_url}" 3>/dev/full'
    process = await asyncio.create_subprocess_exec("sh", "-c", command, stdin=DEVNULL, stderr=PIPE, env=environment)
    async with asyncio.timeout(DEADLINE):
        _, errors = await process.communicate()
    assert process.returncode == 255
    assert errors.splitlines()[-1] == b"smp: --ready-fd 3: No space left on device"
    assert is_over(sandbox)


async def test_a_port_in_use(sandbox: Sandbox, environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with forwarding(sandbox, environment, "-L", ":80", "-L", f"{port}:81") as process:
            async with asyncio.timeout(DEADLINE):
                output, errors = await process.communicate()
    assert process.returncode == 255
    assert output == b""
    assert errors.startswith(b"smp: 127.0.0.1:%d is in use by another program; " % port)
    assert not sandbox.sessions


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("is_ready", [True, False])
async def test_a_signal_leaves_no_session(
    sandbox: Sandbox, environment: dict[str, str], number: signal.Signals, is_ready: bool
) -> None:
    async with forwarding(sandbox, environment, "-L", ":80", "-L", ":81", "--pool", "2") as process:
        if is_ready:
            await ready_port(process)
        else:
            await wait_until(lambda: sandbox.sessions)
        process.send_signal(number)
        async with asyncio.timeout(DEADLINE):
            _, errors = await process.communicate()
    assert process.returncode == (0 if is_ready and number == signal.SIGINT else -number)
    if process.returncode == 0:
        assert errors == b"smp: forwarding ended\n"
    elif is_ready:
        assert errors == f"smp: forwarding was ended by {number.name}\n".encode()
    else:
        assert errors == f"smp: forwarding, which had not begun, was ended by {number.name}\n".encode()
    assert is_over(sandbox)


async def test_the_end_of_the_parent_leaves_no_session(sandbox: Sandbox, environment: dict[str, str]) -> None:
    parent = ("sh", "-c", '"$@" & wait', "sh")
    async with forwarding(sandbox, environment, "-L", ":80", parent=parent) as process:
        await ready_port(process)
        process.kill()
        await wait_until(lambda: is_over(sandbox))


async def test_a_session_that_is_terminated_ends_it(sandbox: Sandbox, environment: dict[str, str]) -> None:
    async with forwarding(sandbox, environment, "-L", ":80") as process:
        await ready_port(process)
        (session,) = sandbox.sessions
        sandbox.end_session(session, "Your session has been terminated by an administrator.")
        async with asyncio.timeout(DEADLINE):
            output, errors = await process.communicate()
    assert process.returncode == 255
    assert json.loads(output)["event"] == "ended"
    assert f"session {session} to localhost:80 was closed by the far end: Your session has been" in errors.decode()


async def test_the_table_of_a_terminal(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """It shows the connections, and leaves nothing behind."""
    async with echo_server() as port:
        argv = [SMP, "forward", "web-1", "-L", f":{port}", "--endpoint-url", sandbox.endpoint_url]
        async with PtyProcess(argv, env={**environment, "NO_COLOR": "1"}) as terminal:
            listening = await terminal.expect(r"listening on 127\.0\.0\.1:(\d+) ")
            await terminal.expect(rf"From +To .*\n- +localhost:{port} +.*connected")
            _, writer = await asyncio.open_connection("127.0.0.1", int(listening[1]))
            writer.write(b"x" * 2000)
            await terminal.expect(rf"127\.0\.0\.1:\d+ +localhost:{port} +2\.0 kB +2\.0 kB")
            writer.close()
            terminal.type("\x03")
            await terminal.expect(r"\x1b\[2A\x1b\[Jsmp: forwarding ended")
            assert await terminal.wait() == 0
