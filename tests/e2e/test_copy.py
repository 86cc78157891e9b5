"""`smp cp` against the sandbox: files of this machine, through real sessions."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import re
import signal
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from session_manager_plugin.agent import Sandbox
from tests.e2e.conftest import BIN
from tests.support.relay import Relay
from tests.support.waiting import wait_until

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


async def test_every_end_of_a_file_is_an_event_with_its_name(
    sandbox: Sandbox, environment: dict[str, str], here: Path, there: Path
) -> None:
    (there / "file").write_bytes(NOISE)
    (there / "nothing").symlink_to("absent")

    async def events(*words: str) -> list[tuple[Any, ...]]:
        run = await _smp(sandbox, environment, here, "--json", *words)
        *files, ended = map(json.loads, run.out.splitlines())
        assert (ended["event"], ended["status"]) == ("ended", run.status)
        return [(each["event"], each["name"], each.get("error", ""), each["status"]) for each in files]

    source, full = f"{there}/file", "No space left on device"
    assert await events(f"local:{source}", ".") == [("copied", source, "", 0)]
    assert await events(f"local:{source}", "/dev/full") == [("failed", source, f"/dev/full: {full}", 255)]
    assert await events("file", "local:/dev/full") == [("failed", "file", f"/dev/full: {full}", 255)]
    assert await events(f"local:{there}/nothing", f"local:{source}", ".") == [
        ("failed", f"{there}/nothing", "is a link to nothing", 255),
        ("copied", source, "", 0),
    ]
    assert await events(f"local:{source}", "absent/") == [("failed", source, "absent/: No such file or directory", 255)]
    ((*failed, error, status),) = await events("file", "unknown:")
    assert (failed, status) == (["failed", "file"], 255)
    assert "unknown" in error


async def test_several_streams(sandbox: Sandbox, environment: dict[str, str], here: Path, there: Path) -> None:
    (here / "file").write_bytes(NOISE * 4)
    run = await _smp(sandbox, environment, here, "file", f"local:{there}/", "--streams", "3")
    assert run == (0, b"", "")
    run = await _smp(sandbox, environment, here, f"local:{there}/file", "back", "--streams", "3")
    assert run == (0, b"", "")
    assert (here / "back").read_bytes() == NOISE * 4
    assert len(sandbox.sessions) == 6


async def test_standard_input_and_output(
    sandbox: Sandbox, environment: dict[str, str], here: Path, there: Path
) -> None:
    target = b"local:" + os.fsencode(there) + b"/-rf \xff\n"
    assert await _smp(sandbox, environment, here, "-", target, stdin=NOISE) == (0, b"", "")
    assert await _smp(sandbox, environment, here, target, "-") == (0, NOISE, "")


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize(
    "copied", [-1, 0, 1, 2_000_000], ids=["before the session", "at its start", "begun", "in the middle"]
)
async def test_a_client_that_is_killed_leaves_no_file_of_that_name_and_no_process(
    sandbox: Sandbox, environment: dict[str, str], here: Path, there: Path, direction: str, copied: int
) -> None:
    (source, destination), name = ((here, there) if direction == "up" else (there, here)), "name"
    (source / name).touch()
    os.truncate(source / name, 1 << 34)  # sparse: reading it is quick, and too much to be finished
    words = (name, f"local:{there}/") if direction == "up" else (f"local:{there}/{name}", ".")
    process = await asyncio.create_subprocess_exec(
        SMP, "cp", "--endpoint-url", sandbox.endpoint_url, *words, cwd=here, stdout=PIPE, stderr=PIPE, env=environment
    )
    if copied >= 0:
        await wait_until(lambda: _partial_size(destination) >= copied if copied else sandbox.sessions)
    process.kill()
    await process.communicate()
    assert not (destination / name).exists()
    for session_id in list(sandbox.sessions):
        sandbox.end_session(session_id, "Terminated by the idle timeout.")
        await sandbox.session(session_id).wait_closed()
    await wait_until(lambda: not _processes_with("/".join(there.parts[-3:-1])))
    if direction == "up":
        await wait_until(lambda: not os.listdir(there))
    assert not (destination / name).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_signal_ends_a_copy_with_one_sentence_and_leaves_nothing(
    sandbox: Sandbox, environment: dict[str, str], here: Path, there: Path, direction: str, number: signal.Signals
) -> None:
    (source, destination), name = ((here, there) if direction == "up" else (there, here)), "name"
    (source / name).touch()
    os.truncate(source / name, 1 << 34)
    words = (name, f"local:{there}/") if direction == "up" else (f"local:{there}/{name}", ".")
    process = await asyncio.create_subprocess_exec(
        SMP, "cp", "--endpoint-url", sandbox.endpoint_url, *words, cwd=here, stdout=PIPE, stderr=PIPE, env=environment
    )
    await wait_until(lambda: _partial_size(destination) >= 0)
    process.send_signal(number)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert (process.returncode, out) == (-number, b"")
    assert re.fullmatch(rf"smp: the copy(, which had not begun,)? was ended by {number.name}\n", err.decode())
    await wait_until(lambda: not os.listdir(destination))
    assert not (destination / name).exists()


async def test_a_second_signal_says_what_may_remain(
    sandbox: Sandbox, environment: dict[str, str], here: Path, there: Path
) -> None:
    """The service does not answer the requests to terminate the sessions."""
    (here / "name").touch()
    os.truncate(here / "name", 1 << 34)
    async with Relay(sandbox.port) as relay:
        endpoint = ("--endpoint-url", f"http://127.0.0.1:{relay.port}")
        process = await asyncio.create_subprocess_exec(
            *(SMP, "cp", *endpoint, "--streams", "3", "name", f"local:{there}/"),
            cwd=here,
            stdout=PIPE,
            stderr=PIPE,
            env=environment,
        )
        await wait_until(lambda: _partial_size(there) > 1 << 33)  # all three parts are being written
        await relay.swallow()
        process.send_signal(signal.SIGINT)
        await wait_until(lambda: sum(connection.swallows for connection in relay.connections) == 3)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    assert (process.returncode, out) == (-signal.SIGTERM, b"")
    (partial,) = os.listdir(there)
    said = re.fullmatch(
        rf"smp: the copy was ended before the clean-up was complete; may remain: {there}/{partial} on the target, "
        r"sessions (.*) \(smp kill \1\)\n",
        err.decode(),
    )
    assert said is not None
    assert sorted(said[1].split(" ")) == sorted(sandbox.sessions)


def _partial_size(directory: Path) -> int:
    return max((path.stat().st_size for path in directory.glob(".*smp-*")), default=-1)


def _processes_with(word: str) -> list[str]:
    """Return the processes with a word in their command line, which the scripts of a copy hold."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if word.encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
    return found


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
