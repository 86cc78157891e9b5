"""Real programs through real AWS CLIs and our plugin: OpenSSH, rsync, psql and a load of HTTP connections."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import re
import shlex
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.session import EndReason
from tests.e2e.conftest import BIN
from tests.support.completed import completed
from tests.support.ports import held_port
from tests.support.programs import need
from tests.support.servers import SshServer, listening, postgresql, ssh_server
from tests.support.stream_server import stream_server

MIB = 1024 * 1024
DEADLINE = 180.0


async def output_of(*argv: str, env: dict[str, str], stdin: bytes = b"", status: int = 0) -> bytes:
    """What a program prints; it has to end with `status`."""
    ended = await completed(*argv, env=env, stdin=stdin, deadline=DEADLINE)
    assert ended.status == status, ended.errors.decode(errors="replace")
    return ended.output


def child_of(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def proxy_command(aws: str, sandbox: Sandbox, port: int) -> str:
    parameters = f"portNumber={port}"
    argv = [aws, "ssm", "start-session", "--endpoint-url", sandbox.endpoint_url, "--target", "local"]
    return shlex.join([*argv, "--document-name", "AWS-StartSSHSession", "--parameters", parameters])


@contextlib.asynccontextmanager
async def forwarded(
    aws: str, sandbox: Sandbox, env: dict[str, str], port: int, *, host: str | None = None
) -> AsyncIterator[int]:
    """A port forwarding session of the AWS CLI to `port`; gives the local port. Ctrl-C ends it, normally."""
    parameters = {"portNumber": [str(port)], "localPortNumber": ["0"]}
    document = "AWS-StartPortForwardingSession"
    if host is not None:
        document, parameters["host"] = "AWS-StartPortForwardingSessionToRemoteHost", [host]
    argv = [aws, "ssm", "start-session", "--endpoint-url", sandbox.endpoint_url, "--target", "local"]
    process = await asyncio.create_subprocess_exec(
        *argv, "--document-name", document, "--parameters", json.dumps(parameters),
        stdin=DEVNULL, stdout=PIPE, env=env, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE):
            opened = await process.stdout.readuntil(b"Waiting for connections...\n")
        match = re.fullmatch(
            rb"\nStarting session with SessionId: (\S+)\nPort (\d+) opened for sessionId (\S+)\.\n"
            rb"Waiting for connections\.\.\.\n",
            opened,
        )
        assert match is not None, opened
        assert match[1] == match[3]
        yield int(match[2])
        os.kill(child_of(process.pid), signal.SIGINT)
        async with asyncio.timeout(DEADLINE):
            closing = await process.stdout.read()
        farewell = b"Terminate signal received, exiting.\n\n\nExiting session with sessionId: %b.\n\n" % match[1]
        assert closing.endswith(farewell)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[SshServer]:
    directory = tmp_path / "sshd"
    directory.mkdir(mode=0o700)
    async with ssh_server(directory) as running:
        yield running


async def test_ssh(aws: str, sandbox: Sandbox, environment: dict[str, str], server: SshServer) -> None:
    """A command and its status, binary input and output, and nothing but ssh's own bytes on the wire."""
    ssh = [need("ssh"), *server.options, "-o", f"ProxyCommand={proxy_command(aws, sandbox, server.port)}", "root@local"]
    assert await output_of(*ssh, "echo $((40+2)); exit 7", env=environment, status=7) == b"42\n"
    data = random.Random(3).randbytes(MIB)
    assert await output_of(*ssh, "cat", env=environment, stdin=data) == data
    assert {session.end_reason for session in sandbox.sessions.values()} <= {EndReason.EXITED, EndReason.TERMINATED}


@pytest.mark.timeout(400)  # half a gigabyte, on whatever machine this is
async def test_ssh_ends_silently(
    aws: str, sandbox: Sandbox, environment: dict[str, str], server: SshServer, tmp_path: Path
) -> None:
    """ssh, scp, rsync and git end their ProxyCommand by SIGHUP, or by closing its input; nobody has to hear of it."""
    environment["SMP_QUIET"] = "1"  # the texts of the official plugin, which go to standard error here
    options = [*server.options, "-o", f"ProxyCommand={proxy_command(aws, sandbox, server.port)}"]
    remote_shell = shlex.join([need("ssh"), *options])
    original, there, back = tmp_path / "original", tmp_path / "there", tmp_path / "back"
    original.write_bytes(b"x" * 1000)
    await output_of(need("git"), "init", "--bare", "-q", str(tmp_path / "empty.git"), env=environment)
    started = await sandbox.start_session("AWS-StartSSHSession", {"portNumber": [str(server.port)]})
    connect = shlex.join([str(BIN / "smp"), "connect", "--url", started.stream_url, "--token", started.token or ""])
    for command in (
        [need("ssh"), *options, "root@local", "true"],
        [need("ssh"), *server.options, "-o", f"ProxyCommand={connect}", "root@local", "true"],
        [need("scp"), "-q", *options, str(original), f"root@local:{there}"],
        [need("rsync"), "-e", remote_shell, f"root@local:{there}", str(back)],
        [need("git"), "-c", f"core.sshCommand={remote_shell}", "ls-remote", f"root@local:{tmp_path}/empty.git"],
    ):
        process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, env=environment
        )
        async with asyncio.timeout(DEADLINE):
            # To its end, which is that of the ProxyCommand too: it has the same standard error.
            _, errors = await process.communicate()
        assert (process.returncode, errors) == (0, b""), command


@pytest.mark.timeout(600)
async def test_copies_through_ssh(
    aws: str, sandbox: Sandbox, environment: dict[str, str], server: SshServer, tmp_path: Path
) -> None:
    """scp and rsync, 100 MiB each way, and sftp."""
    scp, rsync, sftp = need("scp"), need("rsync"), need("sftp")
    proxy = f"ProxyCommand={proxy_command(aws, sandbox, server.port)}"
    original = tmp_path / "original"
    original.write_bytes(random.Random(4).randbytes(100 * MIB))
    there, back = tmp_path / "there", tmp_path / "back"
    options = [*server.options, "-o", proxy]
    await output_of(scp, *options, str(original), f"root@local:{there}", env=environment)
    assert sha256(there) == sha256(original)
    await output_of(scp, *options, f"root@local:{there}", str(back), env=environment)
    assert sha256(back) == sha256(original)

    remote_shell = shlex.join([need("ssh"), *options])
    for target in (there, back):
        target.unlink()
    await output_of(rsync, "-e", remote_shell, str(original), f"root@local:{there}", env=environment)
    assert sha256(there) == sha256(original)
    await output_of(rsync, "-e", remote_shell, f"root@local:{there}", str(back), env=environment)
    assert sha256(back) == sha256(original)

    fetched = tmp_path / "fetched"
    await output_of(
        sftp, "-q", *options, "-b", "-", "root@local", env=environment, stdin=f"get {there} {fetched}\n".encode()
    )
    assert sha256(fetched) == sha256(original)


async def test_forwards_of_ssh_itself(
    aws: str, sandbox: Sandbox, environment: dict[str, str], server: SshServer
) -> None:
    """`ssh -L` and `ssh -D` inside the one stream."""
    ssh, curl = need("ssh"), need("curl")
    with held_port() as local, held_port() as socks:
        async with stream_server(answer) as web_port:
            forwards = ["-N", "-o", "ExitOnForwardFailure=yes", "-L", f"{local}:127.0.0.1:{web_port}", "-D", str(socks)]
            proxy = f"ProxyCommand={proxy_command(aws, sandbox, server.port)}"
            process = await asyncio.create_subprocess_exec(
                ssh, *server.options, "-o", proxy, *forwards, "root@local", stdin=DEVNULL, env=environment
            )
            try:
                for port in (local, socks):
                    await listening(port)
                fetch = [curl, "-sS", "--fail"]
                direct = await output_of(*fetch, f"http://127.0.0.1:{local}/", env=environment)
                through_socks = await output_of(
                    *fetch, "--socks5", f"127.0.0.1:{socks}", f"http://127.0.0.1:{web_port}/", env=environment
                )
                assert direct == through_socks == b"x" * 1000
            finally:
                process.terminate()
                await process.wait()


async def test_postgresql(aws: str, sandbox: Sandbox, environment: dict[str, str]) -> None:
    """psql through a forwarded port, with a COPY of some 50 MB in and out."""
    psql = need("psql")
    async with postgresql() as port, forwarded(aws, sandbox, environment, port) as local:
        connection = [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(local), "-U", "postgres"]
        dice = random.Random(5)
        rows = b"".join(b"%d\t%s\n" % (number, dice.randbytes(512).hex().encode()) for number in range(50_000))
        await output_of(*connection, "-c", "CREATE TABLE t (number int, text text)", env=environment)
        await output_of(*connection, "-c", "COPY t FROM STDIN", env=environment, stdin=rows)
        copied = await output_of(*connection, "-c", "COPY (SELECT * FROM t ORDER BY number) TO STDOUT", env=environment)
        assert hashlib.sha256(copied).hexdigest() == hashlib.sha256(rows).hexdigest()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A web server that knows one page."""
    page = b"x" * 1000
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(page), page))
            await writer.drain()
    writer.close()


async def test_64_connections_at_once(aws: str, sandbox: Sandbox, environment: dict[str, str]) -> None:
    wrk = need("wrk")
    async with (
        stream_server(answer) as port,
        forwarded(aws, sandbox, environment, port, host="127.0.0.1") as local,
    ):
        report = (await output_of(wrk, "-t1", "-c64", "-d2s", f"http://127.0.0.1:{local}/", env=environment)).decode()
    assert "Socket errors" not in report, report
    assert "Non-2xx" not in report, report
    requests = re.search(r"(\d+) requests in", report)
    assert requests is not None
    assert int(requests[1]) > 64


async def test_a_port_that_is_taken(aws: str, sandbox: Sandbox, environment: dict[str, str]) -> None:
    """It fails at once, and the session that the AWS CLI has started is terminated."""
    async with stream_server(answer) as taken:
        argv = [aws, "ssm", "start-session", "--endpoint-url", sandbox.endpoint_url, "--target", "local"]
        parameters = f"portNumber=80,localPortNumber={taken}"
        process = await asyncio.create_subprocess_exec(
            *argv, "--document-name", "AWS-StartPortForwardingSession", "--parameters", parameters,
            stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment,
        )  # fmt: skip
        async with asyncio.timeout(DEADLINE):
            _, errors = await process.communicate()
    assert str(taken) in errors.decode()
    (session,) = sandbox.sessions.values()
    assert session.end_reason is EndReason.TERMINATED
