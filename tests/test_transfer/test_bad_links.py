"""Copies through a sandbox over a link that loses, damages and cuts at the same time: real sockets, small files."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from session_manager_plugin import AwsSettings, copy
from session_manager_plugin.agent import Faults, Sandbox
from session_manager_plugin.agent.faults import MessageFaults
from tests.support.sandbox_credentials import use_credentials
from tests.support.waiting import DEADLINE

DATA = random.Random(6).randbytes(90_000) + b"\xef\xbf\xbd" * 100 + bytes(range(256))


@pytest.mark.parametrize("direction", ["down", "up"])
async def test_a_link_that_loses_damages_and_cuts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direction: str
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "there"))
    source, arrived = ("there", "here") if direction == "down" else ("here", "there")
    (tmp_path / source / "data").write_bytes(DATA)
    bad = MessageFaults(drop=0.03, corrupt=0.01, duplicate=0.01)
    async with Sandbox(faults=Faults(to_client=bad, to_agent=bad, cut_every=50_000)) as sandbox:
        use_credentials(sandbox, monkeypatch)
        names = ("local:data", "copy") if direction == "down" else ("data", "local:copy")
        async with asyncio.timeout(DEADLINE):
            await copy(*names, aws=AwsSettings(endpoint_url=sandbox.endpoint_url))
    assert (tmp_path / arrived / "copy").read_bytes() == DATA
    assert os.listdir(tmp_path / arrived) == ["copy"]
