"""OpenSSH, rsync and git through `smp ssh-config` and `smp ssh-proxy`, without the AWS CLI."""

from __future__ import annotations

import asyncio
import random
import re
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.services.instance_connect import InstanceConnect
from session_manager_plugin.agent.session import EndReason
from tests.e2e.conftest import BIN
from tests.support.completed import completed
from tests.support.programs import need
from tests.support.servers import SshServer, ssh_server
from tests.support.tcp_server import TcpServer
from tests.support.waiting import wait_until

WEB, WEB_2 = "i-0a1b2c3d4e5f60001", "i-0a1b2c3d4e5f60002"
SMP = str(BIN / "smp")
DEADLINE = 120.0
LINK_NOTICE = re.compile(r"^smp: (?:no answer, last contact|connection (?:lost|restored)) .*\n", re.MULTILINE)
MIB = 1024 * 1024
ENDED = {EndReason.EXITED, EndReason.TERMINATED}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[SshServer]:
    directory = tmp_path / "sshd"
    directory.mkdir(mode=0o700)
    async with ssh_server(directory) as running:
        yield running


async def silent(*argv: str, env: dict[str, str], stdin: bytes = b"", status: int = 0) -> bytes:
    """Return what a program prints on standard output; it has to end with `status`, with nothing on standard error but
    what a link that has to wait for a busy machine makes `smp` say."""
    ended = await completed(*argv, env=env, stdin=stdin, deadline=DEADLINE)
    said = LINK_NOTICE.sub("", ended.errors.decode(errors="replace"))
    assert (ended.status, said) == (status, ""), argv
    return ended.output


async def config_of(sandbox: Sandbox, environment: dict[str, str], server: SshServer, *arguments: str) -> str:
    """Run `smp ssh-config --write`; return the configuration of a user who has pasted the Include line.

    The host key is known by the target's id.
    """
    command = [SMP, "ssh-config", "--write", "-q", "--endpoint-url", sandbox.endpoint_url, *arguments]
    include = await silent(*command, env=environment)
    home = Path(environment["HOME"])
    known_hosts = home / "known_hosts"
    key = (server.key.parent / "host.pub").read_text().rsplit(" ", 1)[0]
    known_hosts.write_text(f"{WEB} {key}\n")
    config = home / "ssh-config"
    config.write_text(
        f"{include.decode()}\nHost *\n    Port {server.port}\n    User root\n    IdentityFile {server.key}\n"
        f"    UserKnownHostsFile {known_hosts}\n    BatchMode yes\n"
    )
    return str(config)


async def all_ended(sandbox: Sandbox) -> None:
    """Wait until no session is left; ssh does not wait for its ProxyCommand."""
    await wait_until(lambda: all(session.ended.is_set() for session in sandbox.sessions.values()))
    assert {session.end_reason for session in sandbox.sessions.values()} <= ENDED


async def test_programs_of_ssh(
    sandbox: Sandbox, environment: dict[str, str], server: SshServer, tmp_path: Path
) -> None:
    """By the target's name, and with nothing on standard error."""
    ssh, scp, sftp, rsync, git = (need(name) for name in ("ssh", "scp", "sftp", "rsync", "git"))
    config = await config_of(sandbox, environment, server, "web-1")
    assert await silent(ssh, "-F", config, "web-1", "echo $((40+2)); exit 7", env=environment, status=7) == b"42\n"
    data = random.Random(3).randbytes(MIB)
    assert await silent(ssh, "-F", config, WEB, "cat", env=environment, stdin=data) == data

    original, there, back = tmp_path / "original", tmp_path / "there", tmp_path / "back"
    original.write_bytes(data)
    await silent(scp, "-q", "-F", config, str(original), f"web-1:{there}", env=environment)
    assert there.read_bytes() == data
    await silent(sftp, "-q", "-F", config, "-b", "-", "web-1", env=environment, stdin=f"get {there} {back}\n".encode())
    assert back.read_bytes() == data
    back.unlink()
    await silent(rsync, "-e", f"{ssh} -F {config}", f"web-1:{there}", str(back), env=environment)
    assert back.read_bytes() == data

    repository, clone = tmp_path / "repository", tmp_path / "clone"
    identity = ["-c", "user.name=bob", "-c", "user.email=bob@example"]
    await silent(git, "init", "-q", "-b", "main", str(repository), env=environment)
    (repository / "file").write_bytes(data)
    await silent(git, "-C", str(repository), "add", "file", env=environment)
    await silent(git, "-C", str(repository), *identity, "commit", "-q", "-m", "one", env=environment)
    command = f"core.sshCommand={ssh} -F {config}"
    await silent(git, "-c", command, "clone", "-q", f"web-1:{repository}", str(clone), env=environment)
    assert (clone / "file").read_bytes() == data
    await all_ended(sandbox)


@pytest.fixture
def authorized_keys(server: SshServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The keys that sshd accepts: those of EC2 Instance Connect only, from the moment at which it answers.

    To be requested before the sandbox, which keeps the function that is replaced here.
    """
    path = server.key.parent / "authorized_keys"
    path.write_text("")
    send = InstanceConnect.send_ssh_public_key

    def send_and_accept(service: InstanceConnect, *arguments: Any) -> dict[str, Any]:
        answer = send(service, *arguments)
        path.write_text("".join(f"{key.key}\n" for key in service.keys))
        return answer

    monkeypatch.setattr(InstanceConnect, "send_ssh_public_key", send_and_accept)
    return path


async def test_a_new_key_for_each_connection(
    authorized_keys: Path, sandbox: Sandbox, environment: dict[str, str], server: SshServer
) -> None:
    """Two at the same time, and one that finds the file of a connection whose end was not clean."""
    ssh = need("ssh")
    config = await config_of(sandbox, environment, server, "web-1", "--push-key")
    directory = Path(environment["HOME"], ".local", "state", "smp", "ssh")
    await asyncio.to_thread(directory.mkdir, parents=True)
    (directory / f"{WEB}.root").write_text("left behind")
    commands = [silent(ssh, "-F", config, "web-1", f"echo {number}", env=environment) for number in range(2)]
    assert await asyncio.gather(*commands) == [b"0\n", b"1\n"]
    assert {(key.instance_id, key.user) for key in sandbox.public_keys} == {(WEB, "root")}
    assert len(sandbox.public_keys) == 2
    await all_ended(sandbox)
    await wait_until(lambda: not list(directory.iterdir()))


async def test_a_key_of_the_user(
    authorized_keys: Path, sandbox: Sandbox, environment: dict[str, str], server: SshServer
) -> None:
    config = await config_of(sandbox, environment, server, "web-1", "--push-key", f"{server.key}.pub")
    assert await silent(need("ssh"), "-F", config, "web-1", "echo hi", env=environment) == b"hi\n"
    assert (server.key.parent / "user.pub").read_text().strip() == sandbox.public_keys[0].key


Leave = Callable[[asyncio.subprocess.Process], None]


def hang_up(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGHUP)


def interrupt(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGINT)


def close_pipes(process: asyncio.subprocess.Process) -> None:
    """What is left of an ssh that was killed."""
    assert process.stdin is not None
    process.stdin.close()
    # Its read end of our pipe: asyncio has no public way to close it.
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("leave", "status"), [(hang_up, -signal.SIGHUP), (interrupt, -signal.SIGINT), (close_pipes, 0)]
)
async def test_every_way_out_is_silent_and_ends_the_session(
    sandbox: Sandbox, environment: dict[str, str], leave: Leave, status: int
) -> None:
    async with TcpServer(echoes=True) as server:
        process = await asyncio.create_subprocess_exec(
            *(SMP, "ssh-proxy", WEB_2, str(server.port), "--endpoint-url", sandbox.endpoint_url),
            stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with asyncio.timeout(DEADLINE):
                process.stdin.write(b"SSH-2.0-x\r\n")
                assert await process.stdout.readexactly(11) == b"SSH-2.0-x\r\n"
                leave(process)
                assert (await process.stderr.read(), await process.wait()) == (b"", status)
        finally:
            if process.returncode is None:
                process.kill()
    (session,) = sandbox.sessions.values()
    assert session.end_reason in ENDED


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
async def test_ssh_ends_while_the_session_is_started(
    sandbox: Sandbox, environment: dict[str, str], number: signal.Signals
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(SMP, "ssh-proxy", WEB, "--endpoint-url", sandbox.endpoint_url),
        stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment,
    )  # fmt: skip
    await wait_until(lambda: bool(sandbox.sessions) or process.returncode is not None)
    process.send_signal(number)
    async with asyncio.timeout(DEADLINE):
        output, errors = await process.communicate()
    assert (process.returncode, output) == (-number, b"")
    assert number is signal.SIGTERM or errors == b""
    assert all(session.ended.is_set() for session in sandbox.sessions.values())
