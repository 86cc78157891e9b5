"""`smp probe` with a session: somebody's, by its URL and token, or one that it starts on a target itself."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.session import EndReason
from session_manager_plugin.aws.systems_manager import SystemsManager
from session_manager_plugin.cli.probe import channel
from session_manager_plugin.errors import AccessDenied
from tests.support.fake_gateway import (
    channel_closed,
    close,
    cut_after,
    handshake_request,
    no_http,
    refuse,
    say,
    say_with_the_answer,
    served,
    silence,
    stream,
)
from tests.support.raw_server import CLOSE, PING, PONG, TEXT, Peer, RawServer, Script, frame, http_answer, read_request
from tests.support.waiting import DEADLINE, wait_until
from tests.test_cli.conftest import SandboxThread, Smp
from tests.test_cli.probing import TOKEN, Prober, executable


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings follow each other quickly."""
    monkeypatch.setattr(channel, "PING_INTERVAL", 0.001)


def of_url(url: str, *options: str) -> tuple[str, ...]:
    """The arguments for a gateway of the tests."""
    return ("--url", url, "--token", TOKEN, *options)


# A stream URL.


def test_a_session_from_its_url_and_token(prober: Prober, sandbox: SandboxThread) -> None:
    started = sandbox.start()
    report = prober("--url", started.url, "--token", started.token, "--count", "3")
    assert report.verdicts() == {
        "dns": ["pass"],
        "tcp": ["pass"],
        "proxy": ["pass"],
        "tls": ["skipped"],
        "websocket": ["pass"],
        "channel": ["pass", "pass", "skipped", "pass"],
        "latency": ["pass"],
    }
    assert report.one("websocket").detail == "101 Switching Protocols"
    assert report.one("channel", "token").detail == "accepted"
    assert report.one("channel", "session type").detail.startswith("Standard_Stream")
    assert report.one("local", "clock").detail == "as the service's, within 2 s"
    latency = report.json["latency"]
    assert (latency["count"], latency["lost"]) == (3, 0)
    assert latency["min_ms"] > 0
    assert report.one("latency").detail.startswith("3 sent, 3 received, 0% loss, rtt min/avg/max/mdev = ")
    assert started.token.encode() not in prober.output


def test_the_handshake_of_an_agent(prober: Prober) -> None:
    loop = asyncio.new_event_loop()
    with served(Sandbox(handshake=True, agent_version="3.3.40.0"), loop) as running:
        started = SandboxThread(running, loop).start("cat")
        report = prober("--url", started.url, "--token", started.token, "--count", "1")
    assert report.one("channel", "handshake").detail == "complete"
    assert report.one("channel", "agent").detail == "version 3.3.40.0"
    assert report.one("channel", "session type").detail == "InteractiveCommands"


def test_a_signed_opening(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.new_event_loop()
    with served(Sandbox(require_signature=True), loop) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        report = prober("--url", SandboxThread(running, loop).start().url)
        assert report.one("websocket").detail == "101 Switching Protocols, signed"
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        report = prober("--url", SandboxThread(running, loop).start().url)
    check = report.one("websocket")
    assert check.verdict == "fail"
    assert "(Missing Authentication Token)" in check.detail
    assert "was not signed (there are no AWS credentials), and this host requires that" in check.advice


def test_a_signature_that_is_refused_is_followed_by_an_unsigned_request(
    prober: Prober, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWRONG")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    started = sandbox.start()
    report = prober("--url", started.url, "--token", started.token, "--sign", "always", "--region", "us-east-1")
    assert report.verdicts()["websocket"] == ["warn", "pass"]
    signed, unsigned = (check for check in report.json["checks"] if check["stage"] == "websocket")
    assert "(The security token included in the request is invalid)" in signed["detail"]
    assert "ssmmessages:OpenDataChannel; an unsigned request follows" in signed["advice"]
    assert unsigned["detail"] == "101 Switching Protocols, not signed: the signed one was refused"


def test_an_encrypted_session(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.new_event_loop()
    with served(Sandbox(kms=True), loop) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        sessions = SandboxThread(running, loop)
        started = sessions.start()
        report = prober("--url", started.url, "--token", started.token, "--target", "local", "--count", "1")
        assert report.one("channel", "encryption").verdict == "pass"
        assert report.one("channel", "handshake").verdict == "pass"
        assert report.one("latency").verdict == "pass"

        started = sessions.start()
        report = prober("--url", started.url, "--token", started.token)
        assert report.one("channel", "encryption").verdict == "fail"
        assert "give --target" in report.one("channel", "encryption").detail
        assert report.one("channel", "handshake").verdict == "fail"
        assert report.one("latency").verdict == "skipped"


def test_the_log_tells_each_check_and_no_token(prober: Prober, sandbox: SandboxThread) -> None:
    started = sandbox.start()
    log = prober.home / "log"
    prober("--url", started.url, "--token", started.token, "--log-file", str(log))
    text = log.read_text()
    assert "websocket pass: " in text
    assert "latency pass: pings: 5 sent" in text
    assert started.token not in text


def test_a_verbose_probe_prints_each_check_once(
    smp: Smp, prober: Prober, sandbox: SandboxThread, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log on standard error does not repeat it; with ``--json`` it shows the progress."""
    url = ("--url", sandbox.start().url)
    run = smp("probe", *url, "-v")
    assert "pass     websocket" in run.out.decode()
    assert " pass: " not in run.err + capsys.readouterr().err
    run = smp("probe", *url, "-v", "--json")
    assert "websocket pass: " in run.err + capsys.readouterr().err


def test_without_a_token_the_session_is_not_begun(prober: Prober, sandbox: SandboxThread) -> None:
    started = sandbox.start()
    report = prober("--url", started.url)
    assert report.verdicts()["websocket"] == ["pass"]
    assert report.verdicts()["channel"] == ["skipped"]
    assert report.json["latency"] is None
    again = prober("--url", started.url, "--token", started.token, "--count", "0")
    assert again.one("channel", "token").verdict == "pass"
    assert again.one("latency").verdict == "skipped"
    assert again.json["latency"] is None


def test_a_token_that_was_used_already(prober: Prober, sandbox: SandboxThread) -> None:
    started = sandbox.start()
    arguments = ("--url", started.url, "--token-file", str(prober.home / "token"))
    (prober.home / "token").write_text(started.token)
    assert prober(*arguments).json["ok"]
    report = prober(*arguments)
    assert report.verdicts()["websocket"] == ["pass"]
    token = report.one("channel", "token")
    assert token.verdict == "fail"
    assert "with code 1008" in token.detail
    assert "used already" in token.advice
    assert report.one("latency").verdict == "skipped"
    assert report.json["latency"] is None


def test_the_token_from_the_environment_or_a_pipe(
    prober: Prober, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = sandbox.start()
    assert prober("--url", started.url, "--token", "-", stdin=f"{started.token}\n".encode()).json["ok"]
    started = sandbox.start()
    monkeypatch.setenv("SMP_TOKEN", started.token)
    assert prober("--url", started.url).one("channel", "token").verdict == "pass"
    assert "SMP_TOKEN" not in os.environ


@pytest.mark.parametrize(
    ("script", "detail", "advice"),
    [
        (refuse(403), "status 403 Forbidden", "start a new session"),
        (refuse(401), "status 401 Unauthorized", "start a new session"),
        (refuse(200), "status 200 OK", "check the URL"),
        (refuse(404), "status 404 Not Found", "the path of the URL"),
        (refuse(302, "Location: https://elsewhere.test/"), "status 302 Found", "redirects are not followed"),
        (refuse(503), "status 503 Service Unavailable", "try again"),
        (refuse(400), "status 400 Bad Request", "check the URL"),
        (no_http, "does not speak HTTP", "check the host, the port and the scheme"),
        (silence, "did not answer the request for a websocket within 1 sec", "may not let websockets through"),
    ],
)
def test_no_websocket(prober: Prober, script: Script, detail: str, advice: str) -> None:
    with served(RawServer(script)) as gateway:
        report = prober(*of_url(gateway.url(), "--connect-timeout", "1" if script is silence else "10"))
    websocket = report.one("websocket")
    assert websocket.verdict == "fail"
    assert detail in websocket.detail
    assert advice in websocket.advice
    assert report.verdicts()["tcp"] == ["pass"]
    assert report.verdicts()["channel"] == report.verdicts()["latency"] == ["skipped"]


def test_a_gateway_that_cuts_the_connection(prober: Prober) -> None:
    async def script(peer: Peer) -> None:
        await read_request(peer.reader)
        peer.cut()

    with served(RawServer(script)) as gateway:
        websocket = prober(*of_url(gateway.url())).one("websocket")
    assert websocket.verdict == "fail"
    assert websocket.advice


def test_a_switch_to_something_else(prober: Prober) -> None:
    async def script(peer: Peer) -> None:
        await read_request(peer.reader)
        peer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
        await peer.until_gone()

    with served(RawServer(script)) as gateway:
        websocket = prober(*of_url(gateway.url())).one("websocket")
    assert websocket.verdict == "fail"
    assert "chat" in websocket.detail


async def hang_up(peer: Peer) -> None:
    """Takes the token and closes the connection."""
    await peer.accept()
    await peer.receive_frame()
    peer.end()


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        (close(1008, "bad \x1b[31mtoken"), "the service closed the connection with code 1008 (bad token)"),
        (hang_up, "without a reason"),
        (say(channel_closed("the \x1b]0;session\x07 is over")), ""),
    ],
)
def test_the_gateway_hangs_up_on_the_token(prober: Prober, script: Script, detail: str) -> None:
    with served(RawServer(script)) as gateway:
        report = prober(*of_url(gateway.url()))
    assert not report.json["ok"]
    assert b"\x1b" not in prober.output
    assert b"u001b" not in prober.output
    failed = [check for check in report.of("channel") if check.verdict == "fail"]
    assert len(failed) == 1
    assert detail in failed[0].detail
    assert failed[0].advice


def test_a_session_that_ends_between_two_pings(prober: Prober) -> None:
    (output,) = stream(b"$ ")
    with served(RawServer(cut_after(output))) as gateway:
        report = prober(*of_url(gateway.url(), "--count", "100"))
    assert report.one("channel", "token").verdict == "pass"
    latency = report.one("latency")
    assert latency.verdict == "fail"
    assert "then the session ended" in latency.detail
    assert report.json["latency"]["lost"] >= 1


def test_a_session_type_that_nobody_knows(prober: Prober) -> None:
    with served(RawServer(say(handshake_request("Telepathy")))) as gateway:
        report = prober(*of_url(gateway.url()))
    handshake = report.one("channel", "handshake")
    assert handshake.verdict == "fail"
    assert "Telepathy" in handshake.detail


def test_what_comes_together_with_the_answer(prober: Prober) -> None:
    (output,) = stream(b"$ ")
    with served(RawServer(say_with_the_answer(output))) as gateway:
        report = prober(*of_url(gateway.url(), "--count", "0"))
    assert report.one("channel", "token").detail == "accepted"
    assert report.one("channel", "handshake").verdict == "pass"


def answering_pings(*answered: bool) -> Script:
    """Takes the token, shows a prompt, and answers the pings that it should."""

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.receive_frame()
        (output,) = stream(b"$ ")
        peer.write(frame(2, output))
        wanted = iter(answered)
        opcode = TEXT
        while opcode != CLOSE:
            opcode, payload = await peer.receive_frame()
            if opcode == PING and next(wanted):
                peer.write(frame(PONG, payload))
        peer.write(frame(CLOSE, payload))
        peer.end()

    return script


def test_a_lost_ping_is_a_warning(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PING_TIMEOUT", 1.0)
    with served(RawServer(answering_pings(True, False, True, True))) as gateway:
        report = prober(*of_url(gateway.url(), "--count", "4"))
    assert report.json["ok"]
    latency = report.one("latency")
    assert latency.verdict == "warn"
    assert latency.detail.startswith("4 sent, 3 received, 25% loss, rtt")
    assert (report.json["latency"]["count"], report.json["latency"]["lost"]) == (4, 1)


def test_a_gateway_that_answers_no_pings(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PING_TIMEOUT", 0.2)
    with served(RawServer(answering_pings(False))) as gateway:
        report = prober(*of_url(gateway.url(), "--count", "4"))
    assert report.json["ok"]
    assert report.one("latency").verdict == "warn"
    assert report.one("latency").detail == "1 sent, 0 received, 100% loss"
    assert report.json["latency"]["avg_ms"] is None


def test_a_clock_that_is_off_by_an_hour(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, verdict, detail in [
        (3600, "fail", "1:00:0"),
        (-3600, "fail", "ahead of the service's"),
        (120, "warn", "behind the service's"),
        (20, "pass", "behind the service's"),
        (0, "pass", "within 2 s"),
    ]:

        async def script(peer: Peer, seconds: int = seconds) -> None:
            await refuse(403, f"Date: {formatdate(time.time() + seconds, usegmt=True)}")(peer)

        with served(RawServer(script)) as gateway:
            clock = prober(*of_url(gateway.url())).one("local", "clock")
        assert clock.verdict == verdict, seconds
        assert detail in clock.detail
    with served(RawServer(refuse(403, "Date: yesterday"))) as gateway:
        assert prober(*of_url(gateway.url())).one("local", "clock").verdict == "skipped"


# A target.


def test_a_target_is_connected_to_and_left_again(prober: Prober, sandbox: SandboxThread) -> None:
    report = prober("local", "--endpoint-url", sandbox.endpoint_url, "--count", "2")
    assert report.json["ok"]
    assert report.one("local", "region").detail == "us-east-1, from AWS_REGION"
    assert report.one("local", "credentials").detail.endswith("from environment variables")
    assert report.one("local", "clock").verdict == "pass"
    assert report.verdicts()["dns"] == ["pass", "pass"]
    assert report.verdicts()["websocket"] == ["pass"]
    assert report.json["latency"]["lost"] == 0
    session_id = report.one("channel", "StartSession").detail.split()[1]
    assert report.of("channel")[-1].detail == f"session {session_id} is over"
    assert report.one("channel", "ResumeSession").detail == "allowed: a lost connection can be restored"
    assert sandbox.end_of(session_id) is EndReason.TERMINATED


def test_a_target_that_is_not_connected(prober: Prober, sandbox: SandboxThread) -> None:
    report = prober("i-0123456789abcdef0", "--endpoint-url", sandbox.endpoint_url)
    started = report.one("channel", "StartSession")
    assert started.verdict == "fail"
    assert started.detail == "there is no instance i-0123456789abcdef0 here"
    assert started.advice == "check the id, --region and --profile"
    assert report.verdicts()["websocket"] == report.verdicts()["latency"] == ["skipped"]


@pytest.mark.parametrize(("target", "check"), [("i-0a1b2c3d4e5f60003", "StartSession"), ("batch-1", "target")])
def test_a_target_that_is_offline(prober: Prober, sandbox: SandboxThread, target: str, check: str) -> None:
    """Given by its id or by its name."""
    found = prober(target, "--endpoint-url", sandbox.endpoint_url).one("channel", check)
    assert re.search(r"i-0a1b2c3d4e5f60003\)? is offline since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", found.detail)
    assert found.advice == "check that it runs and that its SSM agent has a network"


def test_no_permission_to_resume(prober: Prober, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resume(_systems_manager: object, _session_id: str) -> None:
        raise AccessDenied("ResumeSession failed: alice needs ssm:ResumeSession; have an administrator allow it")

    monkeypatch.setattr(SystemsManager, "resume_session", resume)
    report = prober("local", "--endpoint-url", sandbox.endpoint_url, "--count", "0")
    found = report.one("channel", "ResumeSession")
    assert found.verdict == "warn"
    assert found.detail == "alice needs ssm:ResumeSession"
    assert found.advice == "a session whose connection is lost may not come back: have an administrator allow it"
    assert report.one("channel", "TerminateSession").verdict == "pass"


def test_a_target_by_its_name(prober: Prober, sandbox: SandboxThread) -> None:
    report = prober("web-1", "--endpoint-url", sandbox.endpoint_url, "--count", "0")
    assert report.one("channel", "target").detail == "web-1 is i-0a1b2c3d4e5f60001"
    assert report.one("channel", "StartSession").detail.endswith(" on i-0a1b2c3d4e5f60001")


@pytest.mark.parametrize(
    ("target", "detail", "advice"),
    [
        ("nobody", "no target matches nobody", "smp ls --all"),
        ("tag:env=prod", "2 online targets match tag:env=prod; give an id: i-0a1b2c3d4e5f60001 web-1", "by its id"),
    ],
)
def test_a_name_that_leads_to_no_target(
    prober: Prober, sandbox: SandboxThread, target: str, detail: str, advice: str
) -> None:
    report = prober(target, "--endpoint-url", sandbox.endpoint_url)
    found = report.one("channel", "target")
    assert found.verdict == "fail"
    assert found.detail.startswith(detail)
    assert advice in (found.advice or "")
    assert not report.of("channel", "StartSession")


def test_credentials_that_the_service_does_not_know(
    prober: Prober, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAAAAAAAAAAAAAAAA")
    started = prober("i-0123456789abcdef0", "--endpoint-url", sandbox.endpoint_url).one("channel", "StartSession")
    assert "UnrecognizedClientException" in started.detail
    assert "does not know these credentials" in started.advice


def test_the_session_is_terminated_when_its_gateway_fails(
    prober: Prober, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(RawServer(refuse(403))) as gateway:
        report = prober("local", "--endpoint-url", sandbox.endpoint_url, "--dial", f"127.0.0.1:{gateway.port}")
    assert report.one("websocket").verdict == "fail"
    assert report.one("channel", "TerminateSession").verdict == "pass"
    session_id = report.one("channel", "StartSession").detail.split()[1]
    assert sandbox.end_of(session_id) is EndReason.TERMINATED


def test_a_session_that_cannot_be_terminated(
    prober: Prober, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def terminate(_systems_manager: object, _session_id: str) -> None:
        raise OSError("no way")

    monkeypatch.setattr(SystemsManager, "terminate_session", terminate)
    report = prober("local", "--endpoint-url", sandbox.endpoint_url, "--count", "0")
    ended = report.one("channel", "TerminateSession")
    assert ended.verdict == "warn"
    assert "aws ssm terminate-session --session-id" in ended.advice


@pytest.mark.slow
def test_the_api_answers_late_or_not_at_all(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAAAAAAAAAAAAAAAA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")

    async def hang_up(peer: Peer) -> None:
        peer.end()

    with served(RawServer(hang_up)) as api:
        report = prober("i-0123456789abcdef0", "--endpoint-url", f"http://127.0.0.1:{api.port}")
    assert report.one("local", "clock").verdict == "skipped"
    assert report.one("channel", "StartSession").verdict == "fail"


@pytest.mark.slow
async def test_interrupted_by_ctrl_c_it_terminates_the_session_it_started(tmp_path: Path) -> None:
    async with Sandbox() as sandbox:
        arguments = ["local", "--endpoint-url", sandbox.endpoint_url, "--count", "100000"]
        process = await _start(arguments, tmp_path, sandbox.environment)
        assert process.stdout is not None
        line = b""
        while b"session type" not in line:  # from here on it pings
            line = await asyncio.wait_for(process.stdout.readline(), DEADLINE)
            assert line, "the probe ended"
        process.send_signal(signal.SIGINT)
        output, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
        assert process.returncode == -signal.SIGINT  # which a shell tells as 130
        (session,) = sandbox.sessions.values()
        await asyncio.wait_for(session.ended.wait(), DEADLINE)
        assert session.end_reason is EndReason.TERMINATED
    assert b"TerminateSession: session " in output
    assert b" passed" in output


@pytest.mark.slow
async def test_interrupted_while_the_aws_cli_does_not_answer(tmp_path: Path) -> None:
    """The AWS CLI is killed, and not waited for. A Ctrl-C does not reach it: it would look as if it failed."""
    script = f"ps -o pgid= -p $$ > {tmp_path}/group; echo $$ > {tmp_path}/pid; exec sleep 600"
    aws = executable(tmp_path / "bin" / "aws", script)
    variables = {"PATH": f"{aws.parent}:/usr/bin:/bin", "AWS_EC2_METADATA_DISABLED": "true"}
    process = await _start(["--url", "ws://127.0.0.1:1/v1/data-channel/x"], tmp_path, variables)
    assert process.stdout is not None
    line = b""
    while b"session-manager-plugin" not in line:  # all but the AWS CLI is done
        line = await asyncio.wait_for(process.stdout.readline(), DEADLINE)
        assert line, "the probe ended"
    pid = tmp_path / "pid"
    await wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"))
    process.send_signal(signal.SIGINT)
    await asyncio.wait_for(process.communicate(), DEADLINE)
    assert process.returncode == -signal.SIGINT
    ps = await asyncio.create_subprocess_exec(
        *("ps", "-o", "stat=", "-p", pid.read_text().strip()), stdout=asyncio.subprocess.PIPE
    )
    state, _ = await asyncio.wait_for(ps.communicate(), DEADLINE)
    assert state.strip()[:1] in (b"", b"Z")
    assert (tmp_path / "group").read_text().strip() == pid.read_text().strip()


@pytest.mark.slow
@pytest.mark.parametrize(("target", "check"), [("i-0123456789abcdef0", "StartSession"), ("web-1", "target")])
async def test_an_api_that_does_not_answer(tmp_path: Path, target: str, check: str) -> None:
    """The call has the deadline of a stage, rather than botocore's, which are minutes with the repetitions. A process
    of its own, because botocore's thread goes on until that ends."""

    async def api(peer: Peer) -> None:
        request = await read_request(peer.reader)
        if not request.values("X-Amz-Target"):  # asked for the time
            peer.write(http_answer(HTTPStatus.OK))
            peer.end()
            return
        await silence(peer)

    variables = {
        "AWS_ACCESS_KEY_ID": "AKIAAAAAAAAAAAAAAAAA",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "us-east-1",
    }
    async with RawServer(api) as server:
        endpoint = f"http://127.0.0.1:{server.port}"
        arguments = [target, "--endpoint-url", endpoint, "--connect-timeout", "1"]
        process = await _start(arguments, tmp_path, variables)
        output, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert process.returncode == 1
    assert f"{check}: ssm at 127.0.0.1:{server.port} did not answer within 1 s" in output.decode()
    assert "answers no call" in output.decode()


@pytest.mark.slow
async def test_interrupted_while_starting_the_session(tmp_path: Path) -> None:
    """The answer to StartSession comes after the signal; the session it tells of is terminated all the same."""
    terminated: list[str] = []
    asked = asyncio.Event()

    async def api(peer: Peer) -> None:
        request = await read_request(peer.reader)
        (target,) = request.values("X-Amz-Target") or [""]
        if not target:
            peer.write(http_answer(HTTPStatus.OK))
            peer.end()
            return
        body = await peer.reader.readexactly(int(request.values("Content-Length")[0]))
        answer: dict[str, Any] = {}
        if target == "AmazonSSM.StartSession":
            asked.set()
            await signalled.wait()
            answer = {"SessionId": "s-1", "StreamUrl": "ws://127.0.0.1:1/v1/data-channel/s-1", "TokenValue": TOKEN}
        else:
            terminated.append(json.loads(body)["SessionId"])
        peer.write(
            http_answer(HTTPStatus.OK, "Content-Type: application/x-amz-json-1.1", body=json.dumps(answer).encode())
        )
        peer.end()

    signalled = asyncio.Event()
    async with RawServer(api) as server:
        variables = {
            "AWS_ACCESS_KEY_ID": "AKIAAAAAAAAAAAAAAAAA",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_REGION": "us-east-1",
        }
        process = await _start(
            ["i-0123456789abcdef0", "--endpoint-url", f"http://127.0.0.1:{server.port}"], tmp_path, variables
        )
        await asyncio.wait_for(asked.wait(), DEADLINE)
        process.send_signal(signal.SIGINT)
        signalled.set()
        await asyncio.wait_for(process.communicate(), DEADLINE)
        assert process.returncode == -signal.SIGINT
    assert terminated == ["s-1"]


async def _start(arguments: list[str], directory: Path, variables: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "session_manager_plugin", "probe", *arguments),
        env={"PATH": "/usr/bin:/bin", "HOME": str(directory), **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


# Usage.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["local", "--url", "ws://127.0.0.1:1/v1/data-channel/x"], "give a TARGET or --url, not both"),
        (["--token", TOKEN], "belong to --url"),
        (["--token-file", "token"], "belong to --url"),
        (["--target", "local"], "belong to --url"),
        (["--url", "wss://gateway.test"], "names no session"),
        (["--url", "wss://a b"], "is not a stream URL"),
        (["--url", f"ws://gateway.test/v1/data-channel/x?token={TOKEN}", "--token", TOKEN], "refusing ws://"),
        (["--count", "-1"], "--count"),
        (["--count", "x"], "--count"),
        (["--proxy", "proxy:3128"], "the proxy of --proxy cannot be used"),
        (["--dial", "a b"], "--dial"),
        (["--connect-timeout", "0"], "--connect-timeout"),
        (["one", "two"], "probe"),
    ],
)
def test_usage_errors(smp: Smp, arguments: list[str], said: str) -> None:
    run = smp("probe", *arguments)
    assert run.status == 2
    assert said in run.err
    assert TOKEN not in run.err
    assert run.out == b""


def test_help_has_an_example(smp: Smp) -> None:
    run = smp("probe", "--help")
    assert run.status == 0
