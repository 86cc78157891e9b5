"""docs/screens: what commands show, compared with what they show here; SMP_TEST_WRITE_SCREENS=1 writes the files.

Times, paths, ports and ids differ from run to run: they are replaced by the same ones each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from session_manager_plugin.cli.probe import channel
from session_manager_plugin.protocol.events import SessionReady
from session_manager_plugin.session.link_health import LinkHealth, LinkState, LinkStatus
from session_manager_plugin.terminal.escapes import Escape
from session_manager_plugin.terminal.status_line import StatusLine
from tests.test_cli.conftest import SandboxThread, Smp
from tests.test_cli.probing import Prober
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
    LinkHealth(LinkState.SILENT, True, 7.2, latency=0.0234),
    LinkHealth(LinkState.RECONNECTING, True, 23.9, "attempt 5 in 3 s", "no route to host"),
    CALM._replace(restored_after=31.0),
]


def test_the_bar() -> None:
    line = StatusLine(hint="exit or Ctrl-D leaves", escape="~.", color=False, unicode=True)
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
        "latency": 0.0234,
        "encrypted": True,
        "retransmissions": 2,
        "reconnects": 1,
    }
    assert_documented("details", said(commands, Escape.DETAILS))


# The probe.


def same_each_time(text: str, prober: Prober) -> str:
    """The output of a probe with what differs from run to run replaced."""
    text = text.replace(str(prober.home.parent), "/home/alice").replace(str(Path(PYTHON).parent), "/opt/smp/bin")
    text = re.sub(r"(?m)^(\w+ +\w+) +\d+(\.\d+)? ms  ", lambda head: f"{head[1]:<20}    12 ms  ", text)
    text = re.sub(r"= \d+\.\d+(/\d+\.\d+){3} ms", "= 22.8/23.4/24.1/0.5 ms", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8080", text)
    text = re.sub(r"\buser-[0-9a-f]{17}\b", SESSION, text)
    text = re.sub(r"within \d+ s", "within 1 s", text)
    return re.sub(r"AKIA…\w{4}", "AKIA…MPLE", text)


def test_a_probe_that_passes(smp: Smp, prober: Prober, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PING_INTERVAL", 0.001)
    run = smp("probe", "local", "--endpoint-url", sandbox.endpoint_url, "--count", "5")
    assert run.status == 0, run.out.decode()
    assert_documented("probe-passing", same_each_time(run.out.decode(), prober))


def test_a_probe_offline(smp: Smp, prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "unused")
    hosts = [f"{service}.eu-west-1.amazonaws.com" for service in ("ssm", "ssmmessages", "kms", "sts", "ec2messages")]
    unreachable = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    prober.resolve(dict.fromkeys(hosts, unreachable))
    run = smp("probe", "--region", "eu-west-1")
    assert run.status == 1
    assert_documented("probe-offline", same_each_time(run.out.decode(), prober))


def test_a_probe_without_a_region(smp: Smp, prober: Prober) -> None:
    run = smp("probe")
    assert run.status == 1
    assert_documented("probe-no-region", same_each_time(run.out.decode(), prober))


def test_a_probe_with_an_expired_login(prober: Prober) -> None:
    """In a process of its own: botocore looks for the home directory when it is imported."""
    (prober.home / "config").write_text(
        "[profile team]\nregion = eu-west-1\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = dev\n"
        "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.awsapps.test/start\n"
    )
    cache = prober.home / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    token = {"accessToken": "an-expired-access-token", "expiresAt": "2020-01-01T00:00:00Z"}
    (cache / f"{hashlib.sha1(b'corp').hexdigest()}.json").write_text(json.dumps(token))
    arguments = ["probe", "i-0123456789abcdef0", "--endpoint-url", "http://127.0.0.1:1", "--profile", "team"]
    done = subprocess.run(
        [PYTHON, "-m", "session_manager_plugin", *arguments], stdout=subprocess.PIPE, timeout=60, check=False
    )
    assert done.returncode == 1
    assert_documented("probe-expired-login", same_each_time(done.stdout.decode(), prober))
