"""Copies through the sandbox, on bad links and with the official agent's defects."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from session_manager_plugin import AwsSettings, copy
from session_manager_plugin.agent import Faults, Sandbox
from session_manager_plugin.agent.busybox import busybox_path
from session_manager_plugin.agent.faults import MessageFaults
from session_manager_plugin.agent.inventory import load_inventory
from session_manager_plugin.agent.quirks import Quirk
from session_manager_plugin.transfer.report import CopyReport, Progress
from tests.support.programs import need
from tests.support.relay import Relay
from tests.support.sandbox_credentials import use_credentials
from tests.test_transfer.shells import tools_directory

SMALL = random.Random(4).randbytes(500_000) + b"\xef\xbf\xbd" * 1000 + bytes(range(256)) + bytes(500_000)
LARGE = random.Random(5).randbytes(8 * 1024 * 1024)
MAX_SENT_AGAIN = 4 * 1024 * 1024
"""Bytes of a file that may be sent again after each cut."""
TURNS = 3
LIMIT = 100.0
"""Seconds for a copy on a bad link."""
OpenSandbox = Callable[..., AbstractAsyncContextManager[Sandbox]]


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home directory on the target."""
    directory = tmp_path / "there"
    directory.mkdir()
    monkeypatch.setenv("HOME", str(directory))
    return directory


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local directory."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def open_sandbox(monkeypatch: pytest.MonkeyPatch) -> OpenSandbox:
    """Return what opens a sandbox and sets the variables with its credentials."""

    @asynccontextmanager
    async def opened(**settings: Any) -> AsyncIterator[Sandbox]:
        async with Sandbox(**settings) as sandbox:
            use_credentials(sandbox, monkeypatch)
            yield sandbox

    return opened


async def _copy(sandbox: Sandbox, source: str | Path, destination: str | Path, **options: Any) -> CopyReport:
    async with asyncio.timeout(LIMIT):
        return await copy(source, destination, aws=AwsSettings(endpoint_url=sandbox.endpoint_url), **options)


async def _there_and_back(sandbox: Sandbox, here: Path, there: Path, data: bytes) -> None:
    (here / "data").write_bytes(data)
    await _copy(sandbox, Path("data"), "local:")
    assert (there / "data").read_bytes() == data
    await _copy(sandbox, "local:data", Path("back"))
    assert (here / "back").read_bytes() == data
    assert sorted(os.listdir(here)) == ["back", "data"]
    assert os.listdir(there) == ["data"]


@pytest.mark.parametrize("quirks", [[], list(Quirk)], ids=["no defects", "all defects"])
@pytest.mark.parametrize("loss", [0.01, 0.05])
async def test_a_link_that_loses_messages(
    open_sandbox: OpenSandbox, here: Path, there: Path, loss: float, quirks: list[Quirk]
) -> None:
    faults = _both_ways(drop=loss)
    async with open_sandbox(faults=faults, quirks=quirks, pace="real") as sandbox:
        await _there_and_back(sandbox, here, there, SMALL)


@pytest.mark.parametrize("quirks", [[], list(Quirk)], ids=["no defects", "all defects"])
@pytest.mark.parametrize(("drop", "corrupt"), [(0.05, 0.0), (0.0, 0.02)], ids=["loss", "damage"])
async def test_a_link_that_loses_messages_and_is_cut(
    open_sandbox: OpenSandbox, here: Path, there: Path, drop: float, corrupt: float, quirks: list[Quirk]
) -> None:
    bad = MessageFaults(drop=drop, corrupt=corrupt)
    faults = Faults(to_client=bad, to_agent=bad, cut_every=300_000)
    async with open_sandbox(faults=faults, quirks=quirks) as sandbox:
        await _there_and_back(sandbox, here, there, SMALL)
        tree = here / "tree"
        tree.mkdir()
        for number in range(300):
            (tree / str(number)).write_bytes(SMALL[number * 1000 : number * 1001])
        await _copy(sandbox, "tree", "local:", recursive=True)
        await _copy(sandbox, "local:tree", "tree again", recursive=True)
    copied = {path.name: path.read_bytes() for path in (here / "tree again").iterdir()}
    assert copied == {path.name: path.read_bytes() for path in tree.iterdir()}


async def test_a_link_with_100_ms_of_delay(open_sandbox: OpenSandbox, here: Path, there: Path) -> None:
    faults = _both_ways(delay=1.0, delay_time=0.1)
    async with open_sandbox(faults=faults, pace="real", quirks=Quirk) as sandbox:
        await _there_and_back(sandbox, here, there, SMALL)


@pytest.mark.parametrize("faults", [Faults(cut_every=4_000_000), Faults(cut_after=3_000_000, refuse_resume=1)])
async def test_a_link_that_is_cut(open_sandbox: OpenSandbox, here: Path, there: Path, faults: Faults) -> None:
    async with open_sandbox(faults=faults, pace="real", quirks=Quirk) as sandbox:
        await _there_and_back(sandbox, here, there, LARGE)


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_after_a_cut_at_most_4_mib_are_sent_again(
    open_sandbox: OpenSandbox, here: Path, there: Path, direction: str
) -> None:
    source, arrived = (here, there / "copy") if direction == "up" else (there, here / "copy")
    (source / "data").write_bytes(LARGE * 2)
    names = ("data", "local:copy") if direction == "up" else ("local:data", "copy")
    async with open_sandbox(pace="real", quirks=Quirk) as sandbox, Relay(sandbox.port) as relay:
        sandbox.stream_port = relay.port  # stream URLs lead through the relay

        async def relayed(*cuts: int) -> int:
            """Copy the file, and cut the link after so many bytes of it; return the bytes that passed the relay."""
            left = list(cuts)

            def cut(progress: Progress) -> None:
                if left and progress.done >= left[0]:
                    left.pop(0)
                    relay.reset()

            before = relay.counts.to_target if direction == "up" else relay.counts.to_client
            await _copy(sandbox, *names, report=CopyReport(on_progress=cut))
            assert not left
            assert hashlib.sha256(arrived.read_bytes()).digest() == hashlib.sha256(LARGE * 2).digest()
            return (relay.counts.to_target if direction == "up" else relay.counts.to_client) - before

        without_a_cut = await relayed()
        for _ in range(TURNS):  # a busy machine adds retransmissions of its own
            sent_again = (await relayed(5_000_000, 11_000_000) - without_a_cut) / without_a_cut * len(LARGE * 2)
            if sent_again <= 2 * MAX_SENT_AGAIN:
                break
        assert sent_again <= 2 * MAX_SENT_AGAIN


@pytest.mark.parametrize("shell", ["busybox", "bash"])
async def test_a_target_with_another_shell(
    open_sandbox: OpenSandbox, here: Path, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    need(shell)
    with ExitStack() as stack:
        path = stack.enter_context(busybox_path()) if shell == "busybox" else str(tools_directory(tmp_path, shell))
        monkeypatch.setenv("PATH", path)
        async with open_sandbox(pace="real", quirks=Quirk) as sandbox:
            await _there_and_back(sandbox, here, there, SMALL)
            (here / "tree" / "sub").mkdir(parents=True)
            (here / "tree" / "sub" / "data").write_bytes(SMALL)
            await _copy(sandbox, "tree", "local:", recursive=True)
            await _copy(sandbox, "local:tree", "tree again", recursive=True)
    assert (here / "tree again" / "sub" / "data").read_bytes() == SMALL


async def test_where_commands_are_denied(open_sandbox: OpenSandbox, here: Path, there: Path, tmp_path: Path) -> None:
    (tmp_path / "account.toml").write_text('[permissions]\ndenied_documents = ["AWS-StartNonInteractive*"]\n')
    notices: list[str] = []
    async with open_sandbox(inventory=load_inventory(str(tmp_path / "account.toml")), quirks=Quirk) as sandbox:
        (there / "data").write_bytes(SMALL)
        await _copy(sandbox, "local:data", "back", report=CopyReport(on_notice=notices.append))
    assert (here / "back").read_bytes() == SMALL
    assert len(notices) == 1


def _both_ways(**faults: float) -> Faults:
    return Faults(to_client=MessageFaults(**faults), to_agent=MessageFaults(**faults))
