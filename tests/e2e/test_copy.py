"""`smp cp` against the sandbox: files of this machine, through real sessions."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import NamedTuple

import pytest

from session_manager_plugin.agent import Sandbox
from tests.e2e.conftest import BIN

SMP = str(BIN / "smp")
NOISE = random.Random(2).randbytes(3_000_000) + b"\xef\xbf\xbd" * 1000 + bytes(range(256))


class Run(NamedTuple):
    """What a command did."""

    status: int | None
    out: bytes
    err: str


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A directory that the target sees; its name is awkward."""
    directory = tmp_path / "over there's"
    directory.mkdir()
    return directory


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The directory that `smp` runs in."""
    directory = tmp_path / "here"
    directory.mkdir()
    return directory


async def _smp(
    sandbox: Sandbox, environment: dict[str, str], here: Path, *arguments: str | bytes, stdin: bytes = b""
) -> Run:
    endpoint = ("--endpoint-url", sandbox.endpoint_url)
    process = await asyncio.create_subprocess_exec(
        SMP, "cp", *endpoint, *arguments, cwd=here, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(stdin)
    return Run(process.returncode, out, err.decode())


async def test_a_file_there_and_back(sandbox: Sandbox, environment: dict[str, str], here: Path, there: Path) -> None:
    (here / "file").write_bytes(NOISE)
    run = await _smp(sandbox, environment, here, "file", f"local:{there}/", "--json")
    assert (run.status, run.err) == (0, "")
    copied, ended = map(json.loads, run.out.splitlines())
    assert copied["digest"] == hashlib.sha256(NOISE).hexdigest()
    assert (ended["files"], ended["bytes"]) == (1, len(NOISE))
    assert (there / "file").read_bytes() == NOISE
    run = await _smp(sandbox, environment, here, f"local:{there}/fil?", "back")
    assert run == (0, b"", "")
    assert (here / "back").read_bytes() == NOISE
    assert os.listdir(there) == ["file"]
    assert all(session.ended.is_set() for session in sandbox.sessions.values())


async def test_standard_input_and_output(
    sandbox: Sandbox, environment: dict[str, str], here: Path, there: Path
) -> None:
    target = b"local:" + os.fsencode(there) + b"/-rf \xff\n"
    assert await _smp(sandbox, environment, here, "-", target, stdin=NOISE) == (0, b"", "")
    assert await _smp(sandbox, environment, here, target, "-") == (0, NOISE, "")


async def test_what_is_not_there_and_what_cannot_be_done(
    sandbox: Sandbox, environment: dict[str, str], here: Path, there: Path
) -> None:
    run = await _smp(sandbox, environment, here, f"local:{there}/absent", ".")
    assert (run.status, run.out) == (255, b"")
    assert run.err == f"smp: {there}/absent: No such file or directory\n"
    (here / "file").touch()
    run = await _smp(sandbox, environment, here, "file", f"local:{there}/absent/")
    assert (run.status, run.err) == (255, f"smp: {there}/absent/: No such file or directory on the target\n")
    run = await _smp(sandbox, environment, here, "file", "copy")
    assert run.status == 2
    assert "one side of a copy is on a target, written TARGET:PATH" in run.err
