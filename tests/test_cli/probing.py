"""What the tests of `smp probe` have in common: a machine on which nothing is found by chance, and names."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from session_manager_plugin import PLUGIN_VERSION
from tests.support.probe_report import ProbeReport

TOKEN = "a-token-that-must-stay-secret"

Names = Mapping[str, Sequence[str] | socket.gaierror]
"""Addresses of names; or what goes wrong."""


def executable(path: Path, script: str) -> Path:
    """A program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


class Finished(Protocol):
    """A command that was run."""

    @property
    def status(self) -> int: ...
    @property
    def out(self) -> bytes: ...
    @property
    def err(self) -> str: ...


class Smp(Protocol):
    """Calls `smp`."""

    def __call__(self, *arguments: str, stdin: bytes | int = b"") -> Finished: ...


class Prober:
    """Calls `smp probe --json`."""

    def __init__(self, smp: Smp, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._smp = smp
        self._monkeypatch = monkeypatch
        self.bin = directory / "bin"
        self.home = directory / "home"
        self.home.mkdir()
        self.output = b""

    def __call__(self, *arguments: str, stdin: bytes = b"") -> ProbeReport:
        run = self._smp("probe", *arguments, "--json", stdin=stdin)
        assert run.err == ""
        self.output = run.out
        report = ProbeReport(run.out)
        assert run.status == (0 if report.json["ok"] else 1)
        assert TOKEN.encode() not in run.out
        return report

    def resolve(self, names: Names) -> None:
        """From here on these names, and only these, are known."""
        self._monkeypatch.setattr(socket, "getaddrinfo", _resolver(names))


def _resolver(names: Names) -> Callable[..., Any]:
    real = socket.getaddrinfo

    def getaddrinfo(
        host: str, port: int, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[tuple[Any, ...]]:
        known = names.get(host)
        if isinstance(known, socket.gaierror):
            raise known
        found: list[tuple[Any, ...]] = []
        for address in [host] if known is None else known:
            if (":" in address) == (family == socket.AF_INET6) or not family:
                found += real(address, port, family, type, proto, flags | socket.AI_NUMERICHOST)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    return getaddrinfo


def prepare(smp: Smp, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Prober:
    """A machine with a plugin, an AWS CLI, and no settings of AWS."""
    made = Prober(smp, directory, monkeypatch)
    ours = executable(directory / "venv" / "session-manager-plugin", f"echo {PLUGIN_VERSION}")
    made.bin.mkdir()
    (made.bin / "session-manager-plugin").symlink_to(ours)
    executable(made.bin / "aws", "echo aws-cli/2.30.1 Python/3.13.7 Linux/6.1 exe/x86_64")
    monkeypatch.setattr(sys, "executable", str(ours.with_name("python")))
    for name, value in {
        "PATH": f"{made.bin}:/usr/bin:/bin",
        "HOME": str(made.home),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(made.home / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(made.home / "credentials"),
    }.items():
        monkeypatch.setenv(name, value)
    return made
