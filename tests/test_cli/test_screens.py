"""docs/screens: what commands show, compared with what they show here; SMP_TEST_WRITE_SCREENS=1 writes the files.

Times, paths, ports and ids differ from run to run: they are replaced by the same ones each time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.main import main
from session_manager_plugin.cli.probe import channel
from session_manager_plugin.communicator.probe_channel import ProbeChannel
from session_manager_plugin.protocol.events import SessionReady
from session_manager_plugin.session.link_health import LinkHealth, LinkState, LinkStatus
from session_manager_plugin.terminal.escapes import Escape
from session_manager_plugin.terminal.status_line import StatusLine
from tests.test_cli.conftest import SandboxThread, Smp
from tests.test_cli.probing import Prober, prepare
from tests.test_cli.test_escape_commands import Commands

SCREENS = Path(__file__).parents[2] / "docs" / "screens"
PYTHON = sys.executable
SESSION = "alice-0123456789abcdef0"
SGR = re.compile(r"\x1b\[[\d;]*m")


def assert_documented(name: str, text: str) -> None:
    """Compare with docs/screens/NAME.txt, or write it."""
    path = SCREENS / f"{name}.txt"
    if os.environ.get("SMP_TEST_WRITE_SCREENS"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


# The bar.

LATENCIES = (0.023, 0.024, 0.023, 0.027, 0.023)
CALM = LinkHealth(LinkState.CONNECTED, latency=0.0234)
BARS = [
    CALM,
    CALM._replace(retransmitting=3),
    LinkHealth(LinkState.SILENT, True, 7.2),
    LinkHealth(LinkState.RECONNECTING, True, 23.9, "attempt 5 in 3 s", "no route to host"),
    CALM._replace(restored_after=31.0),
]


def test_the_bar() -> None:
    line = StatusLine(hint="exit or Ctrl-D leaves", escape="~", color=False, unicode=True)
    rows = [line.render(LinkStatus(health, SESSION, LATENCIES), 80).decode() for health in BARS]
    assert_documented("bar", "".join(f"{SGR.sub('', row).rstrip()}\n" for row in rows))


# Escapes.


def said(commands: Commands, escape: Escape) -> str:
    return "".join(f"{line}\n" for line in commands.said(escape))


def test_the_list_of_escapes() -> None:
    assert_documented("escapes", said(Commands(), Escape.HELP))


def test_details_of_the_connection() -> None:
    commands = Commands()
    commands.now = 754.0
    commands.session.session_id = SESSION
    commands.session.began = SessionReady("Standard_Stream", {}, "3.3.1142.0")
    commands.session.info = {
        "link": "connected",
        "url": f"wss://ssmmessages.eu-west-1.amazonaws.com/v1/data-channel/{SESSION}?role=publish_subscribe",
        "tls": "TLSv1.3, TLS_AES_128_GCM_SHA256",
        "bytes_received": 1_482_313,
        "bytes_sent": 34_907,
        "latency": 0.0234,
        "encrypted": True,
        "encryption_key": "alias/sessions",
        "retransmissions": 2,
        "reconnects": 1,
    }
    assert_documented("details", said(commands, Escape.DETAILS))


# The probe.


@pytest.fixture
def machine(smp: Smp, monkeypatch: pytest.MonkeyPatch) -> Iterator[Prober]:
    """A machine with paths that are as long each time, so that lines are broken at the same places."""
    with tempfile.TemporaryDirectory(prefix="smp-", dir="/tmp") as directory:
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
        yield prepare(smp, Path(directory), monkeypatch)


def shown(machine: Prober, run: Callable[[int], int]) -> tuple[int, str]:
    """The status of `run`, which writes to a terminal of 80 columns, and what the terminal shows at the end, with what
    differs from run to run replaced."""
    controlling, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 100, 80, 0, 0))
    output = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # EIO: the terminal is closed
            while data := os.read(controlling, 65536):
                output.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        status = run(terminal)
    finally:
        os.close(terminal)
        reader.join()
        os.close(controlling)
    text = output.decode().replace("\r\n", "\n").rpartition("\x1b[J")[2]  # the last drawing
    text = re.sub(r"\x1b\[[\d;?]*[a-z]", "", text)
    text = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    text = text.replace(str(machine.home.parent), "/home/alice/stuff")
    text = re.sub(r"(?m)^(\S  .*?)( +[\d.]+ ms)(?=  )", lambda row: f"{row[1]}{'12 ms':>{len(row[2])}}", text)
    text = re.sub(r"127\.0\.0\.1:\d{4,5}", "127.0.0.1:34567", text)
    text = re.sub(r"\buser-[0-9a-f]{17}\b", "user-0123456789abcdef0", text)
    return status, re.sub(r"AKIA…\w{4}", "AKIA…MPLE", text)


def probed(machine: Prober, *arguments: str) -> tuple[int, str]:
    """`smp probe`, in this process."""
    return shown(machine, lambda terminal: main(["probe", *arguments], Environment(stdout=terminal)))


def test_a_probe_that_passes(machine: Prober, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((0.0228, 0.0241, 0.0234, 0.0236, 0.0231))

    async def ping(_channel: ProbeChannel, _timeout: float) -> float:
        return next(times)

    monkeypatch.setattr(channel, "PING_INTERVAL", 0.001)
    monkeypatch.setattr(ProbeChannel, "ping", ping)
    status, text = probed(machine, "local", "--endpoint-url", sandbox.endpoint_url)
    assert status == 0, text
    assert_documented("probe-passing", text)


def test_a_probe_offline(machine: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "unused")
    hosts = [f"{service}.eu-west-1.amazonaws.com" for service in ("ssm", "ssmmessages", "kms", "sts")]
    unreachable = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    machine.resolve(dict.fromkeys(hosts, unreachable))
    status, text = probed(machine, "--region", "eu-west-1")
    assert status == 1
    assert_documented("probe-offline", text)


def test_a_probe_of_a_target_that_is_offline(machine: Prober, sandbox: SandboxThread) -> None:
    status, text = probed(machine, "batch-1", "--endpoint-url", sandbox.endpoint_url)
    assert status == 1
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "2026-11-27 18:30:00 UTC", text)
    assert_documented("probe-target-offline", text)


def test_a_probe_without_a_region(machine: Prober) -> None:
    status, text = probed(machine)
    assert status == 1
    assert_documented("probe-no-region", text)


def test_a_probe_with_an_expired_login(
    machine: Prober, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own: botocore looks for the home directory when it is imported."""
    for name in sandbox.variables:
        monkeypatch.delenv(name)
    plugin = machine.bin / "session-manager-plugin"
    plugin.unlink()
    plugin.symlink_to(Path(PYTHON).parent / "session-manager-plugin")
    (machine.home / "config").write_text(
        "[profile team]\nregion = eu-west-1\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = dev\n"
        "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.awsapps.test/start\n"
    )
    cache = machine.home / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    token = {"accessToken": "an-expired-access-token", "expiresAt": "2020-01-01T00:00:00Z"}
    (cache / f"{hashlib.sha1(b'corp').hexdigest()}.json").write_text(json.dumps(token))
    arguments = ["probe", "web-1", "--endpoint-url", sandbox.endpoint_url, "--profile", "team"]

    def run(terminal: int) -> int:
        command = [PYTHON, "-m", "session_manager_plugin", *arguments]
        return subprocess.run(command, stdout=terminal, timeout=60, check=False).returncode

    status, text = shown(machine, run)
    assert status == 1
    assert_documented("probe-expired-login", text)
