"""Everything that goes wrong with ``smp connect``: one sentence, the right status, no token, no traceback, no
hanging."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from session_manager_plugin.communicator.proxy import PROXY_SCHEMES
from session_manager_plugin.protocol import readiness
from tests.support.certificates import Authority
from tests.support.fake_gateway import (
    channel_closed,
    close,
    cut_after,
    handshake_request,
    no_http,
    refuse,
    say,
    served,
    silence,
    stream,
)
from tests.support.raw_server import RawServer, Script
from tests.test_cli.conftest import Run, Smp

TOKEN = "a-token-that-must-stay-secret"
URL = "ws://127.0.0.1:1/v1/data-channel/alice-1"


def assert_told(run: Run, status: int, sentence: str) -> None:
    """One line on stderr, nothing on stdout."""
    assert run.status == status, run.err
    assert run.out == b""
    assert run.err == f"smp: {sentence}\n"
    assert TOKEN not in run.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["nonsense"],
            "No such command 'nonsense'. If it is a target: smp start nonsense. (smp --help shows what there is)",
        ),
        (["conect"], "No such command 'conect'. Did you mean smp connect? (smp --help shows what there is)"),
        (
            ["sandbox", "--dorp"],
            "No such option '--dorp'. Did you mean --drop? (smp sandbox --help shows what there is)",
        ),
        (["sandbox", "--zzzzz"], "No such option '--zzzzz'. (smp sandbox --help shows what there is)"),
        (
            ["sandbox", "--agent-version", "x"],
            "Invalid value for '--agent-version': 'x' holds no number (smp sandbox --help shows what there is)",
        ),
        (["connect", "--token", TOKEN], "no stream URL: give --url"),
        (["connect", "--url", "", "--token", TOKEN], "no stream URL: give --url"),
        (["connect", "--url", URL], "no token: give --token-file, SMP_TOKEN or --token -"),
        (["connect", "--url", URL, "--token", ""], "the token is empty"),
        (["connect", "--url", URL, "--token", "-"], "--token -: standard input holds no token on its first line"),
        (["connect", "--url", URL, "--token", TOKEN, "--token-file", "x"], "give --token or --token-file, not both"),
        (
            ["connect", "--url", URL, "--token", f"{TOKEN}\r\nX-Evil: 1"],
            "this is no token: it has more than 8192 characters, or some that no token has (blanks, for one)",
        ),
        (
            ["connect", URL, TOKEN],
            "smp connect takes options only, no other arguments (smp connect --help shows what there is)",
        ),
        (
            ["connect", "--bearer", TOKEN],
            "Invalid value for '--bearer': choose from auto, always, never (smp connect --help shows what there is)",
        ),
        (
            ["connect", "--url", f"ftp://host/?token={TOKEN}", "--token", TOKEN],
            "'ftp://host/' is not a stream URL: it needs ws:// or wss://, a host and a legal port",
        ),
        (
            ["connect", "--url", f"wss://h:99999/v1/data-channel/x?token={TOKEN}", "--token", TOKEN],
            "'wss://h:99999/v1/data-channel/x' is not a stream URL: it needs ws:// or wss://, a host and a legal port",
        ),
        (
            ["connect", "--url", "host.example", "--token", TOKEN],
            "'host.example' names no session: give a complete stream URL or a session id (--session-id)",
        ),
        (
            ["connect", "--url", "ws://host.example/v1/data-channel/x", "--token", TOKEN],
            "refusing ws:// to host.example: the token would travel unencrypted; use wss://, or --insecure",
        ),
        (
            ["connect", "--url", URL, "--token", TOKEN, "--dial", "::1"],
            "--dial: '::1' is not HOST or HOST:PORT; an IPv6 address goes in brackets: [::1]:443",
        ),
        (
            ["connect", "--url", URL, "--token", TOKEN, "--proxy", "user:pass-word@host"],
            f"the proxy of --proxy cannot be used: its URL begins with none of {', '.join(PROXY_SCHEMES)}",
        ),
    ],
)
def test_an_argument_that_makes_no_sense_is_a_usage_error(smp: Smp, arguments: list[str], sentence: str) -> None:
    assert_told(smp(*arguments), 2, sentence)


def test_a_misspelt_option_does_not_give_its_value_away(smp: Smp) -> None:
    run = smp("connect", f"--tokn={TOKEN}")
    assert run.status == 2
    assert "--tokn" in run.err
    assert TOKEN not in run.err


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", "soon"])
def test_a_timeout_is_a_positive_number(smp: Smp, value: str) -> None:
    run = smp("connect", "--url", URL, "--token", TOKEN, "--connect-timeout", value)
    assert run.status == 2
    assert f"{value!r} is not a number of seconds above 0" in run.err


def test_a_variable_is_checked_as_its_option(smp: Smp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMP_KEEPALIVE", "often")
    run = smp("connect", "--url", URL, "--token", TOKEN)
    assert run.status == 2
    assert "SMP_KEEPALIVE" in run.err
    assert "'often' is not a number of seconds from 0 on" in run.err


def test_a_token_file_that_is_not_there(smp: Smp) -> None:
    run = smp("connect", "--url", URL, "--token-file", "/nonexistent/token")
    assert_told(run, 2, "the token file /nonexistent/token cannot be read: No such file or directory")


def test_an_empty_token_file(smp: Smp, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\n")
    run = smp("connect", "--url", URL, "--token-file", str(tmp_path / "token"))
    assert_told(run, 2, f"the token file {tmp_path / 'token'} is empty")


def test_a_log_file_that_cannot_be_opened(smp: Smp) -> None:
    run = smp("connect", "--log-file", "/nonexistent/log")
    assert_told(run, 2, "the log file /nonexistent/log cannot be opened: No such file or directory")


def test_a_ca_bundle_that_is_not_there(smp: Smp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nonexistent/ca")
    run = smp("connect", "--url", "wss://127.0.0.1:1/v1/data-channel/x", "--token", TOKEN)
    assert run.status == 255
    assert run.err.startswith("smp: session x did not begin: the CA bundle /nonexistent/ca cannot be read:")


def test_h1_nobody_listens(smp: Smp) -> None:
    """Reference defect H1: a websocket that cannot be opened is waited for, for ever and without a word."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        run = smp("connect", "--url", f"ws://{host}/v1/data-channel/x", "--token", TOKEN)
    assert_told(run, 255, f"{host} refused the connection: nothing listens there, or a firewall rejects it")


def test_a_name_that_does_not_exist(smp: Smp, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_arguments: object, **_options: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    run = smp("connect", "--url", "wss://nowhere.invalid/v1/data-channel/x", "--token", TOKEN)
    assert_told(
        run,
        255,
        "the name of nowhere.invalid:443 was not found: Name or service not known; check the URL, DNS and the VPN",
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--token-file", "{}"], "the token file Pr\\xc3\\xbcf cannot be read: No such file or directory"),
        (["--log-file", "{}/x"], "the log file Pr\\xc3\\xbcf/x cannot be opened: No such file or directory"),
        (["--record", "{}/x"], "cannot create the recording Pr\\xc3\\xbcf/x: No such file or directory"),
        (["--ca-bundle", "{}"], "the CA bundle Pr\\xc3\\xbcf cannot be read: No such file or directory"),
        (
            [],
            "session alice-1 did not begin: the CA bundle ab\\xc3\\xbc.pem cannot be read: No such file or directory",
        ),
    ],
)
def test_a_path_that_is_no_text_in_this_locale(tmp_path: Path, options: list[str], sentence: str) -> None:
    """In a process of its own: the encoding of paths is decided when Python starts."""
    config = tmp_path / "config"
    config.write_bytes("[profile gr\u00fcn]\nca_bundle = ab\u00fc.pem\n".encode())
    variables = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "AWS_PROFILE": "gr\u00fcn"}
    arguments = ["connect", "--url", URL.replace("ws:", "wss:"), *(option.format("Pr\u00fcf") for option in options)]
    if "--token-file" not in options:
        arguments += ["--token", TOKEN]
    done = subprocess.run(
        [sys.executable, "-m", "session_manager_plugin", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_CONFIG_FILE": str(config), **variables},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert_told(
        Run(done.returncode, done.stdout, done.stderr.decode()), 255 if "did not begin" in sentence else 2, sentence
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("locale", "written"),
    [("C", b"Pr\\xfcf"), ("POSIX", b"Pr\\xfcf"), ("C.UTF-8", "Pr\u00fcf".encode()), ("", b"Pr\\xfcf")],
)
def test_messages_are_written_in_the_encoding_of_the_locale(tmp_path: Path, locale: str, written: bytes) -> None:
    """Python writes UTF-8 in the C locale too, which not every terminal shows."""
    for way in (["connect", "--token-file", "Pr\u00fcf", "--url", URL], ["connect", "-v", "--log-file", "Pr\u00fcf/x"]):
        done = subprocess.run(
            [sys.executable, "-m", "session_manager_plugin", *way],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": locale},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert written in done.stderr
        assert done.returncode == 2


def connect_to(smp: Smp, script: Script, *options: str) -> Run:
    """``smp connect`` to a gateway that follows ``script``; ``HOST`` stands for its address in what was told."""
    with served(RawServer(script)) as gateway:
        run = smp("connect", "--url", gateway.url(), "--token", TOKEN, *options)
        return Run(run.status, run.out, run.err.replace(f"127.0.0.1:{gateway.port}", "HOST"))


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (refuse(403), "HOST refused the websocket with status 403 Forbidden: the token may be expired or used already"),
        (refuse(404), "HOST refused the websocket with status 404 Not Found: check the path of the URL"),
        (no_http, "HOST does not speak HTTP: it answered 'SSH-2.0-OpenSSH_9.2'"),
        (close(1008), "session session-1 did not begin: the service closed the connection with code 1008; the token"),
        (
            close(1011, f"no {TOKEN}"),
            "session session-1 did not begin: the service closed the connection with code 1011 (no ***)",
        ),
        (say(handshake_request("Telepathy")), "session session-1 did not begin: Unknown session type Telepathy"),
    ],
)
def test_a_gateway_that_does_not_want_us(smp: Smp, script: Script, sentence: str) -> None:
    run = connect_to(smp, script)
    assert run.status == 255
    assert run.err.startswith(f"smp: {sentence}")
    assert run.err.count("\n") == 1
    assert run.out == b""
    assert TOKEN not in run.err


def test_the_text_of_the_far_end_is_shown_without_what_a_terminal_would_obey(smp: Smp) -> None:
    text = "\n----------ERROR-------\nUnable to \x1b]0;evil\x07start command: \x07no \x1b[31mshell\n"
    run = connect_to(smp, say(channel_closed(text)))
    assert_told(run, 255, "session session-1 was closed by the far end: Unable to start command: no shell")


def test_a_redirect_is_not_followed(smp: Smp) -> None:
    with served(RawServer(silence)) as elsewhere:
        run = connect_to(smp, refuse(302, f"Location: {elsewhere.url()}"))
        assert elsewhere.connections == 0
    assert_told(
        run,
        255,
        "HOST refused the websocket with status 302 Found: redirects are not followed, because the first message "
        "carries the token; use the final URL",
    )


def test_a_gateway_that_never_answers(smp: Smp) -> None:
    run = connect_to(smp, silence, "--connect-timeout", "1")
    assert_told(
        run,
        255,
        "HOST did not answer the request for a websocket within 1 seconds; "
        "something on the way, a proxy for one, may not let websockets through: ask whoever runs it",
    )


def test_a_certificate_of_nobody_we_trust(smp: Smp, tmp_path: Path) -> None:
    tls = Authority(tmp_path).server_context("localhost")
    with served(RawServer(silence, tls=tls)) as gateway:
        host = f"localhost:{gateway.port}"
        run = smp("connect", "--url", f"wss://{host}/v1/data-channel/x", "--token", TOKEN)
    assert run.status == 255
    assert run.err.startswith(f"smp: the certificate of {host} is not trusted: ")
    assert run.err.count("\n") == 1


def test_a_far_end_that_sends_nothing(smp: Smp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "READY_DELAY", 0.05)
    monkeypatch.setattr(readiness, "HANDSHAKE_TIMEOUT", 0.1)
    run = connect_to(smp, say())
    assert run.status == 255
    assert run.err.startswith("smp: session session-1 ")
    assert "the far end sent nothing" in run.err
    assert run.err.count("\n") == 1


def test_a_handshake_that_is_not_completed(smp: Smp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "READY_DELAY", 3600.0)

    def limit() -> None:  # the limit until the handshake begins stays the long one
        monkeypatch.setattr(readiness, "HANDSHAKE_TIMEOUT", 0.1)

    run = connect_to(smp, say(handshake_request("Standard_Stream"), opened=limit))
    assert run.status == 255
    assert run.err.startswith("smp: session session-1 ")
    assert "the agent began a handshake and did not complete it" in run.err
    assert run.err.count("\n") == 1


def test_garbage_from_the_far_end(smp: Smp) -> None:
    run = connect_to(smp, say(*(b"\x00\xff garbage %d" % number for number in range(200))))
    assert run.status == 255
    assert run.err.startswith(
        "smp: session session-1 did not begin: the far end sent 100 messages in a row that are not"
    )
    assert run.err.count("\n") == 1


def test_a_connection_that_breaks(smp: Smp) -> None:
    run = connect_to(smp, cut_after(stream(b"hello")[0]), "--stdin-eof", "ignore", "--reconnect-timeout", "0")
    assert run.status == 255
    assert run.out == b"hello"
    assert run.err.startswith("smp: session session-1 was lost: ")
    assert run.err.count("\n") == 1


def test_a_long_text_is_cut(smp: Smp) -> None:
    run = connect_to(smp, say(channel_closed("no " * 5000)))
    assert run.status == 255
    assert len(run.err) < 700
    assert run.err.endswith("...\n")


def test_a_traceback_is_for_those_who_ask_for_everything(smp: Smp) -> None:
    run = connect_to(smp, close(1008), "-vv")
    assert run.status == 255
    assert "Traceback (most recent call last)" in run.err
    assert TOKEN not in run.err
    assert "Traceback" not in connect_to(smp, close(1008), "-v").err


async def fail(*_arguments: object) -> None:
    """A fault of our own."""
    raise ZeroDivisionError("by\x1b[31m nothing")


def test_a_fault_of_our_own_is_told_in_one_sentence(smp: Smp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("session_manager_plugin.session.shell.ShellHandler._type", fail)
    run = connect_to(smp, say(*stream(b"hello")))
    assert run.status == 255
    assert run.err == "smp: internal error: ZeroDivisionError: by nothing (-vv shows where)\n"
