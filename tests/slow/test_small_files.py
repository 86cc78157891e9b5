"""A tree of 10,000 small files, copied by ``smp cp`` and by ``tar | ssh`` through the same sandbox, in turns."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import shutil
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from tests.support.programs import need
from tests.support.servers import SshServer, ssh_server

SMP = Path(sys.executable).parent / "smp"
DIRECTORIES, FILES = 100, 100
TURNS = 4
BOUND = 1.5
"""How much longer a copy may take than ``tar | ssh``. The best of several turns counts, since a busy machine only
slows a program down; on a quiet machine the first turn is enough."""
DEADLINE = 60.0
TARGET = "i-0a1b2c3d4e5f60001"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def top() -> Iterator[Path]:
    """A directory in memory, if there is such a file system: disks differ too much from one turn to the next."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory:
        yield Path(directory)


@pytest.fixture
async def server(top: Path) -> AsyncIterator[SshServer]:
    need("ssh")
    (top / "sshd").mkdir(mode=0o700)
    async with ssh_server(top / "sshd") as running:
        yield running


async def test_10000_small_files_take_as_long_as_tar_through_ssh(top: Path, server: SshServer) -> None:
    expected = _make_tree(top / "src")
    async with Sandbox() as sandbox:
        environment = os.environ | sandbox.environment
        endpoint = f"--endpoint-url {sandbox.endpoint_url}"
        proxy = f"{SMP} ssh-proxy %h %p {endpoint}"
        ssh = (
            f"ssh -F none -i {server.key} -p {server.port} -o BatchMode=yes -o StrictHostKeyChecking=no"
            f" -o UserKnownHostsFile={top}/known_hosts -o LogLevel=ERROR -o 'ProxyCommand={proxy}' root@{TARGET}"
        )
        cp = f"{SMP} cp -q -rp {endpoint}"
        ways = {
            "up": (f"{cp} src {TARGET}:{top}/there/", f"tar -cf - src | {ssh} tar -xpf - -C {top}/there"),
            "down": (f"{cp} {TARGET}:{top}/src there/", f"{ssh} tar -cf - -C {top} src | tar -xpf - -C there"),
        }
        for direction, commands in ways.items():
            best = [DEADLINE, DEADLINE]
            for _ in range(TURNS):
                for way, command in enumerate(commands):
                    (top / "there").mkdir()
                    best[way] = min(best[way], await _run(command, top, environment))
                    assert _contents(top / "there" / "src") == expected
                    shutil.rmtree(top / "there")
                if best[0] <= best[1] * BOUND:
                    break
            assert best[0] <= best[1] * BOUND, f"{direction}: {best[0]:.2f} s, tar | ssh {best[1]:.2f} s"


async def _run(command: str, directory: Path, environment: Mapping[str, str]) -> float:
    """Run a command line; return the seconds that it took."""
    began_at = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        "bash", "-o", "pipefail", "-c", command, cwd=directory, env=environment, stdin=DEVNULL
    )
    try:
        async with asyncio.timeout(DEADLINE):
            assert await process.wait() == 0, command
    finally:
        if process.returncode is None:
            process.kill()
    return time.monotonic() - began_at


def _make_tree(top: Path) -> dict[str, tuple[int, int, bytes]]:
    """Make the files, and return what ``_contents`` is to return for a copy."""
    dice = random.Random(1)
    for directory in range(DIRECTORIES):
        parent = top / f"directory {directory}"
        parent.mkdir(parents=True)
        for file in range(FILES):
            path = parent / f"file {file}"
            path.write_bytes(dice.randbytes(dice.randrange(2000)))
            path.chmod(dice.choice([0o600, 0o644, 0o755, 0o4711]))
            os.utime(path, (dice.randrange(1 << 31),) * 2)
        parent.chmod(dice.choice([0o700, 0o755, 0o2775]))
        os.utime(parent, (dice.randrange(1 << 31),) * 2)
    return _contents(top)


def _contents(top: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return the mode, the time and the digest of everything below a directory."""
    contents = {}
    for path in top.rglob("*"):
        found = path.stat()
        digest = hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b""
        contents[str(path.relative_to(top))] = (found.st_mode, int(found.st_mtime), digest)
    return contents
