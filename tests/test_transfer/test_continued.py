"""Downloads over links that lose messages and are cut, with a target in memory: what arrives is exact, and every byte
that arrived counts."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from session_manager_plugin.errors import CopyFailed
from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE
from session_manager_plugin.session.protocols import InputHandler
from session_manager_plugin.transfer import sessions as transfer_sessions
from session_manager_plugin.transfer.download import download
from session_manager_plugin.transfer.report import CopyOptions, CopyReport
from session_manager_plugin.transfer.scripts import MIN_PARTED_SIZE
from session_manager_plugin.transfer.sessions import MAX_GAP, OutputReader
from tests.support.waiting import DEADLINE
from tests.test_transfer.lossy_sessions import Link, LossyChannel, LossySessions

OVERHEAD = 3 * MAX_PAYLOAD_SIZE
"""Bytes of control lines, of an unfinished line and of compression in one session, at most."""


async def _download(sessions: LossySessions, to: Path, *, streams: int = 1) -> CopyReport:
    report = CopyReport()
    async with asyncio.timeout(DEADLINE):
        await download(sessions, [*sessions.files], bytes(to), CopyOptions(streams=streams), report)
    return report


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(0, 30_000), min_size=1, max_size=3),
    loss=st.sampled_from([0.0, 0.01, 0.05, 0.2]),
    cut_after=st.sampled_from([3, 10, 10**9]),
    seed=st.integers(0, 1000),
    gzipped=st.booleans(),
)
def test_any_loss_and_any_cuts_result_in_the_same_files(
    tmp_path: Path, sizes: list[int], loss: float, cut_after: int, seed: int, gzipped: bool
) -> None:
    files = {b"%d" % number: random.Random(number).randbytes(size) for number, size in enumerate(sizes)}
    sessions = LossySessions(files, Link(loss, cut_after), seed, gzipped)
    report = asyncio.run(_download(sessions, tmp_path))
    assert not report.problems
    assert {name: (tmp_path / name.decode()).read_bytes() for name in files} == files
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


async def test_sessions_that_bring_less_than_a_block_each(tmp_path: Path) -> None:
    files = {b"file": random.Random(1).randbytes(200_000)}
    sessions = LossySessions(files, Link(cut_after=20))
    await _download(sessions, tmp_path)
    assert (tmp_path / "file").read_bytes() == files[b"file"]
    sent = sum(channel.sent for channel in sessions.channels)
    assert sent < 200_000 * 4 / 3 * 77 / 76 + len(sessions.channels) * OVERHEAD


@pytest.mark.parametrize("loss", [0.0, 0.01])
async def test_parts_over_links_that_are_cut(tmp_path: Path, loss: float) -> None:
    files = {b"small": b"small", b"large": random.Random(2).randbytes(MIN_PARTED_SIZE + 12_345)}
    sessions = LossySessions(files, Link(loss, cut_after=3000))
    await _download(sessions, tmp_path, streams=3)
    assert {name: (tmp_path / name.decode()).read_bytes() for name in files} == files


async def test_standard_output_gets_every_byte_once(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    files = {b"file": random.Random(3).randbytes(100_000)}
    async with asyncio.timeout(DEADLINE):
        sessions = LossySessions(files, Link(0.05, cut_after=15))
        await download(sessions, [b"file"], b"-", CopyOptions(), CopyReport())
    assert capfdbinary.readouterr().out == files[b"file"]
    assert len(sessions.channels) > 3


async def test_a_link_over_which_nothing_arrives_is_given_up_with_a_sentence(tmp_path: Path) -> None:
    sessions = LossySessions({b"file": bytes(5000)}, Link(loss=1.0, cut_after=2))
    with pytest.raises(CopyFailed, match=r"^file: nothing arrived in 5 sessions in a row \(.*; check the connection"):
        await _download(sessions, tmp_path)
    assert len(sessions.channels) == 5
    assert not os.listdir(tmp_path)


class _StoppedChannel(LossyChannel):
    """A session whose agent has stopped the output, with a gap of so many messages."""

    def __init__(self, gap: int) -> None:
        super().__init__(b"", Link(), random.Random(0))
        self.gap = gap
        self.deliver: InputHandler = lambda _data: None

    @property
    def output_gap(self) -> int:
        return self.gap

    def set_input_handler(self, handler: InputHandler) -> None:
        self.deliver = handler

    def set_output_stopped_handler(self, handler: Callable[[], None]) -> None:
        handler()


async def test_output_behind_a_small_gap_is_waited_for() -> None:
    channel = _StoppedChannel(gap=2)
    reader = OutputReader(channel)
    reading = asyncio.ensure_future(reader.read())
    asyncio.get_running_loop().call_soon(channel.deliver, b"held")
    async with asyncio.timeout(DEADLINE):
        assert await reading == b"held"
        channel.gap = 0
        assert await reader.read() == b""
    assert reader.is_incomplete
    await reader.close()


@pytest.mark.parametrize("gap", [1, MAX_GAP + 1], ids=["that does not shrink", "that is wide"])
async def test_a_gap_is_left(monkeypatch: pytest.MonkeyPatch, gap: int) -> None:
    monkeypatch.setattr(transfer_sessions, "GAP_TIMEOUT", 0.001 if gap <= MAX_GAP else DEADLINE)
    reader = OutputReader(_StoppedChannel(gap))
    async with asyncio.timeout(DEADLINE / 2):
        assert await reader.read() == b""
    await reader.close()
