"""Real servers on loopback for sessions to reach: an sshd and a PostgreSQL of the tests' own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import held_port
from tests.support.programs import need
from tests.support.waiting import DEADLINE


async def listening(port: int) -> None:
    """Wait until somebody listens on a port of 127.0.0.1."""
    async with asyncio.timeout(DEADLINE):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def _running(argv_on: Callable[[int], list[str]], end: signal.Signals) -> AsyncIterator[int]:
    """Run a server on a port of its own, and yield the port."""
    with held_port() as port:
        process = await asyncio.create_subprocess_exec(*argv_on(port), stderr=subprocess.DEVNULL)
        ended, ready = asyncio.ensure_future(process.wait()), asyncio.ensure_future(listening(port))
        try:
            await asyncio.wait({ended, ready}, return_when=asyncio.FIRST_COMPLETED)
            assert not ended.done(), f"{argv_on(port)[0]} ended with status {process.returncode}"
            await ready
            yield port
        finally:
            ready.cancel()
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(end)
            await ended


@dataclass(frozen=True)
class SshServer:
    """A running sshd, and what a client needs to log in."""

    port: int
    key: Path

    @property
    def options(self) -> list[str]:
        """Options of ssh, scp and sftp."""
        settings = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "BatchMode=yes",
            "IdentitiesOnly=yes",
        ]
        return ["-F", "none", "-i", str(self.key), *(part for setting in settings for part in ("-o", setting))]


@contextlib.asynccontextmanager
async def ssh_server(directory: Path, *, passphrase: str = "", passwords: bool = False) -> AsyncIterator[SshServer]:
    """An sshd of our own, with keys of its own, for the user who runs the test.

    ``passphrase`` is that of the user's key. With ``passwords`` the server asks for a password, too.
    """
    sshd, keygen = need("sshd", "/usr/sbin"), need("ssh-keygen")
    for name, its_passphrase in (("host", ""), ("user", passphrase)):
        await _run(keygen, "-q", "-t", "ed25519", "-N", its_passphrase, "-f", str(directory / name))
    keys = directory / "authorized_keys"
    keys.write_bytes((directory / "user.pub").read_bytes())
    config = directory / "sshd_config"
    config.write_text(
        f"HostKey {directory / 'host'}\nAuthorizedKeysFile {keys}\nStrictModes no\n"
        f"PasswordAuthentication {'yes' if passwords else 'no'}\nUsePAM no\nPidFile none\n"
        "Subsystem sftp internal-sftp\nMaxStartups 100\n"
    )
    with contextlib.suppress(PermissionError):
        os.makedirs("/run/sshd", exist_ok=True)  # where sshd started by root wants to be locked into

    def argv_on(port: int) -> list[str]:
        return [sshd, "-D", "-e", "-f", str(config), "-o", f"ListenAddress=127.0.0.1:{port}"]

    async with _running(argv_on, signal.SIGTERM) as port:
        yield SshServer(port, directory / "user")


@contextlib.asynccontextmanager
async def postgresql() -> AsyncIterator[int]:
    """A PostgreSQL of our own that lets everybody in; gives its port.

    As root it runs as another user, who cannot enter the directories of pytest and of the test.
    """
    places = _postgresql_places()
    initdb, server = need("initdb", *places), need("postgres", *places)
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="smp-postgresql-", dir="/tmp") as data:
        if as_user:
            shutil.chown(data, "postgres", "postgres")
        await _run(*as_user, initdb, "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8")
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={data}", "-c", "fsync=off"]

        def argv_on(port: int) -> list[str]:
            return [*as_user, server, "-D", data, "-p", str(port), *settings]

        async with _running(argv_on, signal.SIGINT) as port:  # a fast shutdown
            yield port


def _postgresql_places() -> list[str]:
    """Where Debian keeps the programs of its servers."""
    return sorted(str(path) for path in Path("/usr/lib/postgresql").glob("*/bin"))


async def _run(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode(errors="replace")
