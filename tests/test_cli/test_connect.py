"""`smp connect` that works: where the token comes from, what goes to which stream, how it ends."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.session import EndReason
from session_manager_plugin.cli import main
from session_manager_plugin.cli.aws_options import check_proxy
from session_manager_plugin.cli.commands.connect import parse_dial
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.errors import UsageError
from tests.support.fake_gateway import channel_closed, say_with_the_answer, served, stream
from tests.support.raw_server import Peer, RawServer
from tests.support.waiting import DEADLINE
from tests.test_cli.conftest import Run, SandboxThread, Smp, ended, run_captured

TOKEN = "a-token-that-must-stay-secret"

accept_and_close = say_with_the_answer(channel_closed())


def test_a_pipe_gets_the_whole_output_and_nothing_else(smp: Smp, sandbox: SandboxThread) -> None:
    started = sandbox.start("stty -echo; cat; seq 20000")
    run = smp("connect", "--url", started.url, "--token", started.token, stdin=b"some input\n")
    assert run == Run(
        0, b"some input\r\n" + b"".join(b"%d\r\n" % number for number in range(1, 20001)), ended(started.session_id)
    )


def test_input_before_the_shell_is_there_and_its_end(smp: Smp, sandbox: SandboxThread) -> None:
    started = sandbox.start()
    run = smp("connect", "--url", started.url, "--token", started.token, stdin=b"echo $((40+2)); exit\n")
    assert run.status == 0
    assert b"\n42\r\n" in run.out
    assert run.err == ended(started.session_id)
    assert sandbox.end_of(started.session_id) is EndReason.EXITED


def test_a_command_that_says_nothing_ends_normally(smp: Smp, sandbox: SandboxThread) -> None:
    started = sandbox.start("true")
    assert smp("connect", "--url", started.url, "--token", started.token) == Run(0, b"", ended(started.session_id))


@pytest.mark.parametrize("text", ["{}", "{}\n", "  {}\r\n"])
def test_the_token_from_a_file(smp: Smp, sandbox: SandboxThread, tmp_path: Path, text: str) -> None:
    started = sandbox.start("true")
    (tmp_path / "token").write_text(text.format(started.token))
    assert smp("connect", "--url", started.url, "--token-file", str(tmp_path / "token")).status == 0


def test_the_token_from_the_environment_is_removed_there(
    smp: Smp, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = sandbox.start("true")
    monkeypatch.setenv("SMP_TOKEN", started.token)
    assert smp("connect", "--url", started.url).status == 0
    assert "SMP_TOKEN" not in os.environ


def test_the_token_from_the_first_line_leaves_the_rest_to_the_session(smp: Smp, sandbox: SandboxThread) -> None:
    started = sandbox.start("stty raw -echo; printf ready; head -c 6")
    run = smp("connect", "--url", started.url, "--token", "-", stdin=f"{started.token}\nrest\n\n".encode())
    assert run == Run(0, b"readyrest\n\n", ended(started.session_id))


def test_the_token_from_a_pipe_is_read_no_further(smp: Smp, sandbox: SandboxThread) -> None:
    started = sandbox.start("stty raw -echo; printf ready; head -c 4")
    reading, writing = os.pipe()
    os.write(writing, f"{started.token}\nrest".encode())
    os.close(writing)
    try:
        assert smp("connect", "--url", started.url, "--token", "-", stdin=reading) == Run(
            0, b"readyrest", ended(started.session_id)
        )
    finally:
        os.close(reading)


def test_a_first_line_without_end_is_not_read_for_ever(smp: Smp) -> None:
    url = "ws://127.0.0.1:1/v1/data-channel/x"
    run = smp("connect", "--url", url, "--token", "-", stdin=b"x" * 100_000)
    assert run.status == 2
    assert "this is no token" in run.err


def test_the_token_is_shown_in_no_log(smp: Smp, sandbox: SandboxThread, tmp_path: Path) -> None:
    started = sandbox.start("true")
    log = tmp_path / "log"
    url = f"{started.url}&token={started.token}"
    run = smp("connect", "--url", url, "--token", started.token, "-vv", "--log-file", str(log), "--log-format", "json")
    assert run.status == 0
    assert "connecting to" in log.read_text()
    assert started.token not in log.read_text() + run.err
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("options", "sent"), [([], True), (["--bearer", "always"], True), (["--bearer", "never"], False)]
)
def test_the_bearer_header(smp: Smp, options: list[str], sent: bool) -> None:
    seen: list[list[str]] = []

    async def script(peer: Peer) -> None:
        await accept_and_close(peer)
        seen.append(peer.request.values("Authorization"))

    with served(RawServer(script)) as gateway:
        assert smp("connect", "--url", gateway.url(), "--token", TOKEN, *options).status == 0
    assert seen == [[f"Bearer {TOKEN}"] if sent else []]


def test_another_address_can_be_dialled(smp: Smp) -> None:
    hosts: list[list[str]] = []

    async def script(peer: Peer) -> None:
        await accept_and_close(peer)
        hosts.append(peer.request.values("Host"))

    with served(RawServer(script)) as gateway:
        url = "ws://localhost:9/v1/data-channel/alice-1"
        assert smp("connect", "--url", url, "--token", TOKEN, "--dial", f"127.0.0.1:{gateway.port}").status == 0
    assert hosts == [["localhost:9"]]


def test_a_bare_endpoint_with_a_session_id(smp: Smp) -> None:
    lines: list[str] = []

    async def script(peer: Peer) -> None:
        await accept_and_close(peer)
        lines.append(peer.request.line)

    with served(RawServer(script)) as gateway:
        url = f"http://127.0.0.1:{gateway.port}"
        assert smp("connect", "--url", url, "--session-id", "alice-1", "--token", TOKEN).status == 0
    (line,) = lines
    assert line.startswith("GET /v1/data-channel/alice-1?role=publish_subscribe&sessionId=alice-1&token=")


def test_two_thousand_messages_right_behind_the_answer(smp: Smp) -> None:
    payloads = [b"%05d %s\n" % (number, b"x" * 500) for number in range(2000)]
    with served(RawServer(say_with_the_answer(*stream(*payloads), channel_closed()))) as gateway:
        run = smp("connect", "--url", gateway.url(), "--token", TOKEN)
    assert run.status == 0
    assert hashlib.sha256(run.out).digest() == hashlib.sha256(b"".join(payloads)).digest()


def test_nobody_reads_the_output(sandbox: SandboxThread) -> None:
    started = sandbox.start("yes")
    reading, writing = os.pipe()
    os.close(reading)

    def connect(environment: Environment) -> int:
        environment.stdout = writing
        return main.main(["connect", "--url", started.url, "--token", started.token], environment)

    try:
        run = run_captured(connect, "smp", b"")
    finally:
        os.close(writing)
    assert (run.status, run.err) == (128 + 13, "")


def test_standard_output_is_closed(sandbox: SandboxThread) -> None:
    started = sandbox.start("true")

    def connect(environment: Environment) -> int:
        environment.stdout = -1
        return main.main(["connect", "--url", started.url, "--token", started.token], environment)

    run = run_captured(connect, "smp", b"")
    assert run.status == 255
    assert run.err.endswith(" did not begin: standard output cannot be written to: Bad file descriptor\n")


def test_an_input_that_cannot_be_read_has_ended(smp: Smp, sandbox: SandboxThread) -> None:
    """nohup(1) opens /dev/null for writing only, so that a program that reads gets an error."""
    started = sandbox.start("sh -c 'cat; echo done'")
    unreadable = os.open(os.devnull, os.O_WRONLY)
    try:
        run = smp("connect", "--url", started.url, "--token", started.token, stdin=unreadable)
    finally:
        os.close(unreadable)
    assert (run.status, run.err) == (0, ended(started.session_id))
    assert run.out.endswith(b"done\r\n")


@pytest.mark.parametrize("command", ["session", "help", "--help", "--version", "completion"])
def test_an_error_names_the_stream(sandbox: SandboxThread, command: str) -> None:
    arguments = [command, "bash"] if command == "completion" else [command]
    if command == "session":
        started = sandbox.start("echo hello")
        arguments = ["connect", "--url", started.url, "--token", started.token]
    with open("/dev/full", "wb") as full:
        run = subprocess.run(
            [sys.executable, "-m", "session_manager_plugin", *arguments],
            stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, check=False, timeout=DEADLINE,
        )  # fmt: skip
    assert (run.returncode, run.stderr) == (255, b"smp: standard output: No space left on device\n")


def test_the_end_of_the_input_can_end_the_session_for_good(smp: Smp, sandbox: SandboxThread) -> None:
    started = sandbox.start("cat")
    run = smp(
        *("connect", "--url", started.url, "--token", started.token, "--stdin-eof", "close"),
        *("--endpoint-url", sandbox.endpoint_url, "--region", "us-east-1"),
        stdin=b"hello\n",
    )
    assert run.status == 0
    assert run.err == f"smp: session {started.session_id} was ended with the input\n"
    assert sandbox.end_of(started.session_id) is EndReason.TERMINATED


@pytest.mark.parametrize("variable", ["", "AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL"])
def test_region_and_endpoint_can_come_from_the_environment(
    smp: Smp, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """The region from AWS_REGION alone, which botocore does not read."""
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    started = sandbox.start("cat")
    arguments = ["connect", "--url", started.url, "--token", started.token, "--stdin-eof", "close"]
    if variable:
        monkeypatch.setenv(variable, sandbox.endpoint_url)
    else:
        arguments += ["--endpoint-url", sandbox.endpoint_url]
    assert smp(*arguments, stdin=b"hello\n").status == 0
    assert sandbox.end_of(started.session_id) is EndReason.TERMINATED


def test_the_ca_bundle_is_also_for_the_api(smp: Smp, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.new_event_loop()
    with served(Sandbox(tls=True), loop) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_CA_BUNDLE")
        sandbox = SandboxThread(running, loop)
        started = sandbox.start("cat")
        run = smp(
            *("connect", "--url", started.url, "--token", started.token, "--stdin-eof", "close"),
            *("--endpoint-url", sandbox.endpoint_url, "--ca-bundle", running.ca_bundle or ""),
            stdin=b"hello\n",
        )
        assert (run.status, run.err) == (0, f"smp: session {started.session_id} was ended with the input\n")
        assert sandbox.end_of(started.session_id) is EndReason.TERMINATED


def test_a_session_that_its_far_end_closed_is_not_terminated(
    smp: Smp, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def terminate(*_arguments: object, **_options: object) -> None:
        raise AssertionError("TerminateSession")

    monkeypatch.setattr("session_manager_plugin.aws.systems_manager.SystemsManager.terminate_session", terminate)
    started = sandbox.start("true")
    run = smp("connect", "--url", started.url, "--token", started.token, "--endpoint-url", sandbox.endpoint_url)
    assert run == Run(0, b"", ended(started.session_id))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("host", ("host", None)),
        ("host.example:8443", ("host.example", 8443)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("[::1]", ("::1", None)),
        ("[fe80::1%eth0]:443", ("fe80::1%eth0", 443)),
    ],
)
def test_parse_dial(text: str | None, expected: tuple[str, int | None] | None) -> None:
    assert parse_dial(text) == expected


@pytest.mark.parametrize(
    "text", ["", ":443", "::1", "host:", "host:0", "host:65536", "host:port", "a b", "wss://host", "[x"]
)
def test_parse_dial_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="--dial"):
        parse_dial(text)


@pytest.mark.parametrize("text", ["http://proxy:3128", "https://user:pw@proxy", "socks5://[::1]:1080"])
def test_check_proxy(text: str) -> None:
    assert check_proxy(text) == text


@pytest.mark.parametrize(
    "text", ["", "proxy", "proxy:3128", "ftp://proxy", "http://", "http://proxy:70000", "http://[x"]
)
def test_check_proxy_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="the proxy of --proxy cannot be used"):
        check_proxy(text)
