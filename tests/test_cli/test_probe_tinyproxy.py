"""`smp probe` through a real HTTP proxy, tinyproxy, as people run it: open, with a password, with a filter."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from socket import create_connection, socket

import pytest

from tests.support.certificates import Authority
from tests.support.fake_gateway import served
from tests.support.ports import held_port
from tests.support.programs import need
from tests.support.raw_server import Peer, RawServer
from tests.support.waiting import DEADLINE
from tests.test_cli.probing import Prober, Smp

HOST = "gateway.test"
ANY = "0.0.0.0"
"""This machine, by an address that is not loopback's, which is never proxied."""


async def accept(peer: Peer) -> None:
    """A gateway that says nothing."""
    await peer.accept()
    await peer.until_gone()


@contextlib.contextmanager
def tinyproxy(directory: Path, *settings: str) -> Iterator[int]:
    """A tinyproxy with these settings; gives its port."""
    program = need("tinyproxy", "/usr/sbin", "/usr/bin")
    config, log = directory / "tinyproxy.conf", directory / "log"
    with held_port() as port:
        lines = [f"Port {port}", "Listen 127.0.0.1", "Timeout 60", "MaxClients 20", f'LogFile "{log}"']
        config.write_text("\n".join([*lines, *settings, ""]))
        process = subprocess.Popen(
            [program, "-d", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            assert _is_listening(port, process), log.read_text() if log.exists() else "tinyproxy does not start"
            yield port
        finally:
            process.terminate()
            process.wait(DEADLINE)


def _is_listening(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until it takes connections; False when it has ended instead."""
    ends_at = time.monotonic() + DEADLINE
    while process.poll() is None and time.monotonic() < ends_at:
        with contextlib.suppress(OSError), create_connection(("127.0.0.1", port), DEADLINE):
            return True
        time.sleep(0.01)
    return False


def arguments(gateway: int, proxy: int, *, scheme: str = "ws", user: str = "") -> tuple[str, ...]:
    """Probe a gateway of this machine through a proxy."""
    url = f"{scheme}://{HOST}/v1/data-channel/session-1"
    return ("--url", url, "--dial", f"{ANY}:{gateway}", "--proxy", f"http://{user}127.0.0.1:{proxy}")


def test_an_open_proxy(prober: Prober, tmp_path: Path) -> None:
    with tinyproxy(tmp_path) as proxy, served(RawServer(accept)) as gateway:
        report = prober(*arguments(gateway.port, proxy))
    assert report.one("proxy").verdict == "pass"
    assert report.one("websocket").verdict == "pass"
    assert report.json["ok"]


def test_tls_with_a_private_ca_through_a_proxy(prober: Prober, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = authority.server_context(HOST)
    with tinyproxy(tmp_path) as proxy, served(RawServer(accept, tls=tls)) as gateway:
        unknown = prober(*arguments(gateway.port, proxy, scheme="wss"))
        known = prober(*arguments(gateway.port, proxy, scheme="wss"), "--ca-bundle", str(authority.bundle))
    assert unknown.one("tls").verdict == "fail"
    assert "issued by Test authority" in unknown.one("tls").detail
    assert known.json["ok"]


def test_a_proxy_with_a_password(prober: Prober, tmp_path: Path) -> None:
    with tinyproxy(tmp_path, "BasicAuth user pass-word") as proxy, served(RawServer(accept)) as gateway:
        without = prober(*arguments(gateway.port, proxy)).one("proxy")
        wrong = prober(*arguments(gateway.port, proxy, user="user:wrong-word@")).one("proxy")
        right = prober(*arguments(gateway.port, proxy, user="user:pass-word@"))
    assert without.verdict == wrong.verdict == "fail"
    assert "status 407" in without.detail
    assert "USER:PASSWORD@HOST" in without.advice
    assert "does not accept the user and password" in wrong.advice
    assert right.json["ok"]
    assert b"pass-word" not in prober.output


def test_a_proxy_that_forbids_the_host(prober: Prober, tmp_path: Path) -> None:
    (tmp_path / "filter").write_text("allowed.test\n")
    settings = (f'Filter "{tmp_path}/filter"', "FilterDefaultDeny Yes")
    with tinyproxy(tmp_path, *settings) as proxy, served(RawServer(accept)) as gateway:
        found = prober(*arguments(gateway.port, proxy)).one("proxy")
    assert found.verdict == "fail"
    assert "status 403" in found.detail
    assert "have the host allowed" in found.advice


def test_a_proxy_that_cannot_get_there(prober: Prober, tmp_path: Path) -> None:
    with tinyproxy(tmp_path) as proxy, socket() as closed:
        closed.bind(("127.0.0.1", 0))
        found = prober(*arguments(closed.getsockname()[1], proxy)).one("proxy")
    assert found.verdict == "fail"
    assert "status 50" in found.detail
    assert "the proxy cannot reach" in found.advice


@pytest.mark.parametrize(
    ("is_running", "failure"),
    [(True, "proxy +[0-9.]+ ms  http://127.0.0.1:[0-9]+: .*status 403"), (False, "tcp +[0-9.]+ ms  IPv4 127.0.0.1:")],
)
def test_a_proxy_that_no_endpoint_is_reached_through_is_told_once(
    prober: Prober, smp: Smp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_running: bool, failure: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "unused-unused-unused")
    (tmp_path / "filter").write_text("allowed.test\n")
    settings = (f'Filter "{tmp_path}/filter"', "FilterDefaultDeny Yes")
    with contextlib.ExitStack() as running:
        proxy = running.enter_context(tinyproxy(tmp_path, *settings) if is_running else held_port())
        shown = smp("probe", "--region", "eu-west-1", "--proxy", f"http://127.0.0.1:{proxy}").out.decode()
    lines = shown.splitlines()
    hosts = ", ".join(f"{service}.eu-west-1.amazonaws.com" for service in ("ssm", "ssmmessages", "kms", "sts"))
    assert hosts in lines, shown
    failed, advice = lines[lines.index(hosts) + 1 :][:2]
    assert re.match(f"  fail     {failure}", failed), shown
    assert advice.lstrip().startswith("-> "), shown
    assert "proxy" in advice
    assert sum("fail  " in line for line in lines) == 1
