"""Targets, regions and profiles by the Tab key: from files of this machine, never from the network."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from session_manager_plugin.aws.managed_instances import ManagedInstance
from session_manager_plugin.aws.name_cache import NameCache
from session_manager_plugin.aws.settings import AwsSettings
from tests.test_cli.conftest import Smp

WEB, DB, OLD = "i-0a1b2c3d4e5f60001", "i-0a1b2c3d4e5f60002", "i-0a1b2c3d4e5f60003"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Sequence[str]]:
    """The processes that were started, of which none is; names are kept, and completion is asked for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    NameCache(AwsSettings(region="eu-west-1")).write(
        [
            ManagedInstance(WEB, "web-1", "Debian", "10.0.0.1", online=True),
            ManagedInstance(DB, "the $DB", "Debian", "10.0.0.2", online=True),
            ManagedInstance(OLD, "web-old"),
        ]
    )
    monkeypatch.setenv("_SMP_COMPLETE", "zsh")
    processes: list[Sequence[str]] = []

    def start(argv: Sequence[str], **_options: Any) -> None:
        processes.append(argv)

    monkeypatch.setattr(subprocess, "Popen", start)
    return processes


def suggested(smp: Smp, *words: str) -> list[str]:
    """The suggestions for the last of `words`."""
    return [line.split("\t", 1)[1] for line in smp(*words).out.decode().splitlines()]


@pytest.mark.parametrize(
    ("begun", "suggestions"),
    [
        ("", [f"{DB}\tthe $DB Debian", f"web-1\t{WEB} Debian"]),
        ("we", [f"web-1\t{WEB} Debian"]),
        ("i-0", [f"{WEB}\tweb-1 Debian", f"{DB}\tthe $DB Debian"]),
        ("10.0.0.1", [f"10.0.0.1\t{WEB} web-1"]),
        ("x", []),
    ],
)
def test_targets(smp: Smp, started: list[Sequence[str]], begun: str, suggestions: list[str]) -> None:
    assert suggested(smp, "start", "--region", "eu-west-1", begun) == suggestions
    assert not started


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("we",), [f"part\tweb-1:\t{WEB} Debian", "file\t"]),
        (("plain.txt", "-r", "we"), [f"part\tweb-1:\t{WEB} Debian", "file\t"]),
        (("./we",), ["file\t"]),
        (("./a:b",), ["file\t"]),
        (("web-1:/et",), []),
        (("tag:role=db:/et",), []),
    ],
)
def test_files_and_targets_to_copy(smp: Smp, words: tuple[str, ...], answer: list[str]) -> None:
    assert smp("cp", "--region=eu-west-1", *words).out.decode().splitlines() == answer


def test_names_that_are_old_are_suggested_and_renewed_once(
    smp: Smp, started: list[Sequence[str]], tmp_path: Path
) -> None:
    (file,) = tmp_path.rglob("*.json")
    os.utime(file, (0, time.time() - 301))
    for _ in range(2):
        assert suggested(smp, "start", "--region", "eu-west-1", "we") == [f"web-1\t{WEB} Debian"]
    (argv,) = started
    assert list(argv[-3:]) == ["ls", "-q", "--region=eu-west-1"]


def test_another_region_has_names_of_its_own(smp: Smp, started: list[Sequence[str]]) -> None:
    assert suggested(smp, "start", "--region", "us-east-1", "") == []
    assert len(started) == 1


@pytest.mark.usefixtures("started")
def test_regions(smp: Smp) -> None:
    assert "eu-west-1\tEurope (Ireland)" in suggested(smp, "start", "--region", "eu-w")


@pytest.mark.usefixtures("started")
def test_profiles(smp: Smp, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\n[profile work]\nregion = eu-west-1\n[sso-session x]\n")
    (tmp_path / ".aws" / "credentials").write_text("[keys]\naws_access_key_id = x\n")
    assert suggested(smp, "ls", "--profile", "") == ["default\t", "keys\t", "work\t"]
