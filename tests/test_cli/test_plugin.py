"""`session-manager-plugin`: argument forms, texts byte for byte, exit statuses. The model is the official plugin."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from session_manager_plugin import PLUGIN_VERSION
from session_manager_plugin.agent.session import EndReason
from session_manager_plugin.cli.drop_in import ExitPolicy, _Texts
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.exit_status import Exit, Signalled, exit_of, exit_of_outcome
from session_manager_plugin.cli.invocation import InvalidOperation, Invocation, exposes_token, parse
from session_manager_plugin.cli.plugin import HELP
from session_manager_plugin.errors import ConnectError, UsageError
from session_manager_plugin.protocol import readiness
from session_manager_plugin.protocol.events import SessionReady
from session_manager_plugin.session.outcome import Outcome
from session_manager_plugin.utils.link_options import CONNECT_TIMEOUT, KEEPALIVE, RECONNECT_TIMEOUT
from tests.support.certificates import Authority
from tests.support.fake_gateway import (
    channel_closed,
    close,
    close_after_a_message,
    handshake_request,
    refuse,
    say,
    say_and_close,
    served,
    stream,
)
from tests.support.pair import Peer as StreamPeer
from tests.support.raw_server import RawServer, Script
from tests.test_cli.conftest import Plugin, Run, SandboxThread, Started, run_captured

TOKEN = "a-token-that-must-stay-secret"
VARIABLE = "AWS_SSM_START_SESSION_RESPONSE"
SHELL = json.dumps({"Target": "i-1"})
SSH = json.dumps({"Target": "i-1", "DocumentName": "AWS-StartSSHSession", "Parameters": {"portNumber": ["22"]}})
CUSTOM = json.dumps({"Target": "i-1", "DocumentName": "Our-Shell"})


def response(url: str = "wss://h/v1/data-channel/alice-1", session_id: str = "alice-1", token: str = TOKEN) -> str:
    """What StartSession answered."""
    return json.dumps({"SessionId": session_id, "TokenValue": token, "StreamUrl": url, "ResponseMetadata": {}})


# The forms that run no session: in processes of their own, since these must start fast.

INSTALLED = b"\nThe Session Manager plugin was installed successfully. Use the AWS CLI to start a session.\n\n"


PROGRAM = [sys.executable, "-c", "from session_manager_plugin.cli.plugin import main; raise SystemExit(main())"]


def unknown_operation(text: bytes) -> bytes:
    """The answer to one or two arguments."""
    return b"\nUnknown operation %b. \nUse session-manager-plugin --version to check the version.\n\n" % text


def run_process(*arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """`session-manager-plugin` in a process of its own."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, **variables},
    )


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        ([], INSTALLED),
        (["--version"], f"{PLUGIN_VERSION}\n".encode()),
        (["foo"], unknown_operation(b"foo")),
        (["--version", "x"], unknown_operation(b"--version")),
        (["-h"], unknown_operation(b"-h")),
        (["a {} %s", "b"], unknown_operation(b"a {} %s")),
    ],
)
def test_short_forms(arguments: list[str], out: bytes) -> None:
    run = run_process(*arguments)
    assert (run.returncode, run.stdout, run.stderr) == (0, out, b"")


def test_help() -> None:
    run = run_process("--help")
    assert run.returncode == 0
    assert b"aws ssm start-session" in run.stdout
    assert run.stderr == b""


def test_nobody_reads_the_version() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as unread:
        run = subprocess.run([*PROGRAM, "--version"], stdout=unread, stderr=subprocess.PIPE, check=False)
    assert (run.returncode, run.stderr) == (0, b"")


@pytest.mark.parametrize("arguments", [[], ["--version"], ["--help"], ["unknown"]])
def test_short_forms_import_next_to_nothing(arguments: list[str]) -> None:
    program = (
        "import sys; before = set(sys.modules); from session_manager_plugin.cli.plugin import main; "
        f"main({arguments!r}); sys.stderr.write(' '.join(sorted(set(sys.modules) - before)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert run.stderr.split() == [
        "__future__",
        "session_manager_plugin",
        "session_manager_plugin.cli",
        "session_manager_plugin.cli.plugin",
    ]


# Arguments.

INVOCATION: dict[str, Any] = {
    "session_id": "alice-1",
    "stream_url": "wss://h/v1/data-channel/alice-1",
    "token": TOKEN,
    "region": "eu-west-1",
    "profile": None,
    "endpoint_url": None,
    "document": None,
    "target": "i-1",
}


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ([], {"can_encrypt": False, "target": ""}),
        (["work"], {"profile": "work", "target": ""}),
        (["work", SHELL], {"profile": "work", "document": "SSM-SessionManagerRunShell"}),
        (["", SSH], {"document": "AWS-StartSSHSession", "parameters": {"portNumber": ["22"]}}),
        (["", '{"Target": "t", "DocumentName": null}'], {"document": "SSM-SessionManagerRunShell", "target": "t"}),
        (["", SHELL, ""], {"document": "SSM-SessionManagerRunShell"}),
        (["", CUSTOM, "https://ssm.example"], {"document": "Our-Shell", "endpoint_url": "https://ssm.example"}),
        (
            ["", SHELL, "https://e", "more", "and more"],
            {"document": "SSM-SessionManagerRunShell", "endpoint_url": "https://e"},
        ),
    ],
)
def test_argument_forms(rest: list[str], expected: dict[str, Any]) -> None:
    invocation = parse(["response", "eu-west-1", "StartSession", *rest], response())
    assert invocation == Invocation(**{**INVOCATION, **expected})
    assert TOKEN not in repr(invocation)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [('{"localPortNumber": ["5432"]}', {"localPortNumber": ["5432"]}), ("null", {}), ('["80"]', {})],
)
def test_the_parameters_of_the_document(parameters: str, expected: dict[str, Any]) -> None:
    documents = {"AWS-StartPortForwardingSessionToRemoteHost": True, "AWS-StartSSHSession": False}
    for document, forwards_port in documents.items():
        request = f'{{"Target": "i-1", "DocumentName": "{document}", "Parameters": {parameters}}}'
        invocation = parse(["response", "eu-west-1", "StartSession", "", request], response())
        assert (invocation.parameters, invocation.forwards_port) == (expected, forwards_port)


@pytest.mark.parametrize(
    "text",
    [
        '{"sessionid": "alice-1", "STREAMURL": "wss://h/v1/data-channel/alice-1", "tokenVALUE": "%s"}',
        '{"SessionId": "x", "sessionId": "alice-1", "StreamUrl": "wss://h", "TokenValue": "%s"}',
    ],
)
def test_keys_are_found_in_any_case_and_the_last_one_counts(text: str) -> None:
    invocation = parse(["response", "eu-west-1", "StartSession"], text % TOKEN)
    assert (invocation.session_id, invocation.token) == ("alice-1", TOKEN)


def test_the_endpoint_of_ecs_is_not_the_one_of_systems_manager() -> None:
    url = "wss://h/v1/data-channel/ecs-1"
    text = json.dumps({"sessionId": "ecs-1", "streamUrl": url, "tokenValue": TOKEN})
    target = json.dumps({"Target": "ecs:cluster_task_runtime"})
    invocation = parse([text, "eu-west-1", "StartSession", "", target, "https://ecs.eu-west-1.amazonaws.com"], text)
    assert invocation.endpoint_url is None
    assert invocation.is_stdio is False


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "the variable response, which should hold the response of StartSession, is not set"),
        ("", "the response of StartSession (argument 1) is not a JSON object"),
        ("[]", "the response of StartSession (argument 1) is not a JSON object"),
        ("[" * 100_000, "the response of StartSession (argument 1) is not a JSON object"),
        (response()[:-5], "the response of StartSession (argument 1) is not a JSON object"),
        ("{}", "the response of StartSession (argument 1) has no SessionId"),
        ('{"SessionId": null}', "the response of StartSession (argument 1) has no SessionId"),
        ('{"SessionId": "a", "StreamUrl": 7}', "the response of StartSession (argument 1) has no StreamUrl"),
        ('{"SessionId": "a", "StreamUrl": "u"}', "the response of StartSession (argument 1) has no TokenValue"),
    ],
)
def test_a_response_that_lacks_something(text: str | None, sentence: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(["response", "r", "StartSession", "", SHELL, ""], text)
    assert str(raised.value) == sentence


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ("", "the session's parameters (argument 5) are not a JSON object"),
        ("nonsense", "the session's parameters (argument 5) are not a JSON object"),
        ("[1]", "the session's parameters (argument 5) are not a JSON object"),
        ("{}", "the session's parameters (argument 5) name no Target"),
        ('{"Target": 1}', "the session's parameters (argument 5) name no Target"),
        ('{"target": "i-1"}', "the session's parameters (argument 5) name no Target"),
    ],
)
def test_parameters_that_lack_something(parameters: str, sentence: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(["response", "r", "StartSession", "", parameters], response())
    assert str(raised.value) == sentence


@pytest.mark.parametrize("operation", ["", "startsession", "StartSession ", "ResumeSession"])
def test_there_is_one_operation(operation: str) -> None:
    with pytest.raises(InvalidOperation):
        parse(["not json", "r", operation], "not json")


@pytest.mark.parametrize(
    ("document", "stdio", "handshake"),
    [
        (None, None, False),
        ("Our-Shell", None, False),
        ("SSM-SessionManagerRunShell", False, False),
        ("AWS-StartInteractiveCommand", False, False),
        ("AWS-StartNonInteractiveCommand", False, True),
        ("AWS-StartPortForwardingSession", False, True),
        ("AWS-StartPortForwardingSessionToRemoteHost", False, True),
        ("AWS-StartSSHSession", True, True),
    ],
)
def test_what_a_document_tells(document: str | None, stdio: bool | None, handshake: bool) -> None:
    invocation = Invocation(**{**INVOCATION, "document": document})
    assert invocation.is_stdio is stdio
    assert invocation.needs_handshake is handshake


@pytest.mark.parametrize(
    ("argument", "exposed"),
    [
        (VARIABLE, False),
        (f"{VARIABLE}_2", False),
        (response(), True),
        ('{"tokenvalue": "t"}', True),
        (response()[:-5], True),
        ("{}", False),
        ("nonsense", False),
    ],
)
def test_whether_a_token_stands_in_the_arguments(argument: str, exposed: bool) -> None:
    assert exposes_token(argument) is exposed


# Exit statuses.


@pytest.mark.parametrize(
    ("end", "usual", "exposed", "always", "never"),
    [
        (exit_of_outcome(Outcome()), 0, 0, 0, 0),
        (exit_of_outcome(Outcome(3)), 0, 0, 3, 0),
        (exit_of_outcome(Outcome(3, text="no log")), 0, 0, 3, 0),
        (exit_of_outcome(Outcome(3, incomplete="some")), 255, 0, 255, 0),
        (exit_of_outcome(Outcome(text="idle")), 255, 0, 255, 0),
        (exit_of(ConnectError("no")), 255, 0, 255, 0),
        (exit_of(UsageError("what?")), 255, 0, 2, 0),
        (exit_of(ZeroDivisionError()), 255, 0, 255, 0),
    ],
)
def test_exit_status(end: Exit, usual: int, exposed: int, always: int, never: int) -> None:
    assert ExitPolicy("", token_exposed=False).leave(end) == usual
    assert ExitPolicy("sometimes", token_exposed=False).leave(end) == usual
    assert ExitPolicy("", token_exposed=True).leave(end) == exposed
    assert ExitPolicy("always", token_exposed=True).leave(end) == always
    assert ExitPolicy("never", token_exposed=False).leave(end) == never


@pytest.mark.parametrize(
    ("setting", "exposed", "status"), [("", False, 255), ("", True, 255), ("always", True, 255), ("never", False, 0)]
)
def test_the_exit_status_for_an_invalid_operation(setting: str, exposed: bool, status: int) -> None:
    assert ExitPolicy(setting, token_exposed=exposed).refuse() == status


@pytest.mark.parametrize(
    ("setting", "exposed", "hidden"),
    [("", False, False), ("", True, True), ("always", True, False), ("never", False, True)],
)
def test_a_signal_is_hidden_where_it_would_expose_the_token(setting: str, exposed: bool, hidden: bool) -> None:
    policy = ExitPolicy(setting, token_exposed=exposed)
    assert policy.hides_failures is hidden
    if hidden:
        assert policy.leave(exit_of(Signalled(15))) == 0


# Sessions.


def start(plugin: Plugin, monkeypatch: pytest.MonkeyPatch, started: Started, parameters: str = SHELL) -> Run:
    """Start a session as the AWS CLI does."""
    monkeypatch.setenv(VARIABLE, response(started.url, started.session_id, started.token))
    run = plugin(VARIABLE, "us-east-1", "StartSession", "", parameters, os.environ.get("TEST_ENDPOINT", ""))
    assert VARIABLE not in os.environ
    assert started.token not in run.err
    assert started.token.encode() not in run.out
    return run


def starting(session_id: str) -> bytes:
    """The first text."""
    return b"\nStarting session with SessionId: %b\n" % session_id.encode()


def exiting(session_id: str) -> bytes:
    """The last text of a normal end."""
    return b"\n\nExiting session with sessionId: %b.\n\n" % session_id.encode()


def test_a_session_from_beginning_to_end(
    plugin: Plugin, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = sandbox.start("printf hello")
    run = start(plugin, monkeypatch, started)
    assert run == Run(0, starting(started.session_id) + b"hello" + exiting(started.session_id), "")


@pytest.mark.parametrize("name", [VARIABLE, f"{VARIABLE}_of_mine"])
def test_the_argument_names_the_variable(
    plugin: Plugin, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    started = sandbox.start("printf hello")
    monkeypatch.setenv(name, response(started.url, started.session_id, started.token))
    run = plugin(name, "us-east-1", "StartSession")
    assert run == Run(0, starting(started.session_id) + b"hello" + exiting(started.session_id), "")
    assert name not in os.environ


def test_a_session_that_never_tells_its_type_leaves_the_output_alone(plugin: Plugin, sandbox: SandboxThread) -> None:
    """With three arguments the document is unknown, and this session is over before it has begun."""
    started = sandbox.start("true")
    run = plugin(response(started.url, started.session_id, started.token), "us-east-1", "StartSession")
    assert run == Run(0, b"", exiting(started.session_id).decode())


def test_a_variable_that_is_not_set(plugin: Plugin) -> None:
    run = plugin(VARIABLE, "us-east-1", "StartSession", "", SHELL, "")
    assert run.status == 255
    assert run.out == b""
    assert run.err == (
        f"session-manager-plugin: the variable {VARIABLE}, which should hold the response of StartSession, is not set\n"
    )


def test_another_operation(plugin: Plugin) -> None:
    assert plugin("{}", "us-east-1", "StopSession") == Run(255, b"", "Invalid Operation\n")
    assert plugin("{}", "us-east-1", "startsession", "", SHELL, "") == Run(255, b"", "Invalid Operation\n")


def test_a_missing_key_is_told_without_a_panic(plugin: Plugin) -> None:
    run = plugin('{"SessionId": "alice-1"}', "us-east-1", "StartSession", "", SHELL, "")
    told = "session-manager-plugin: the response of StartSession (argument 1) has no StreamUrl\n"
    assert run == Run(255, b"", told)


def test_a_missing_target_is_told_without_a_panic(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, response())
    run = plugin(VARIABLE, "us-east-1", "StartSession", "", "{}", "")
    told = "session-manager-plugin: the session's parameters (argument 5) name no Target\n"
    assert run == Run(255, b"", told)


@pytest.fixture
def gateway_session(monkeypatch: pytest.MonkeyPatch, plugin: Plugin) -> Any:
    """Runs a session with a gateway that follows a script."""

    def run(script: Script, parameters: str = SHELL) -> Run:
        with served(RawServer(script)) as gateway:
            done = start(plugin, monkeypatch, Started("alice-1", gateway.url(), TOKEN), parameters)
            return Run(done.status, done.out, done.err.replace(f"127.0.0.1:{gateway.port}", "HOST"))

    return run


@pytest.mark.parametrize(
    ("script", "status", "out"),
    [
        (say(*stream(b"a\n", b"b\n"), channel_closed()), 0, b"a\nb\n" + exiting("alice-1")),
        (say(channel_closed()), 0, exiting("alice-1")),
        (
            say(channel_closed("Idle for \x1b[1m20 minutes.\n")),
            255,
            b"\n\nSessionId: alice-1 : Idle for 20 minutes.\n\n\n",
        ),
    ],
)
def test_the_ends_that_the_far_end_makes(gateway_session: Any, script: Script, status: int, out: bytes) -> None:
    """Reference defect U1: the status is 0 whatever the far end says."""
    assert gateway_session(script) == Run(status, starting("alice-1") + out, "")


def stream_with_a_gap() -> list[bytes]:
    """The remote program's output, of which messages 1 to 3 are missing."""
    agent = StreamPeer()
    return [agent.stream(b"begin\n"), agent.stream(b"x" * 900, number=4), agent.stream(b"end\n", number=5)]


@pytest.mark.parametrize("setting", ["", "always"])
def test_output_that_is_incomplete_is_a_failure(
    gateway_session: Any, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """The official texts stay as they are; what is behind the gap is left out."""
    monkeypatch.setenv("SMP_EXIT_STATUS", setting)
    run = gateway_session(say_and_close(*stream_with_a_gap(), channel_closed()))
    assert (run.status, run.out) == (255, starting("alice-1") + b"begin\n" + exiting("alice-1"))
    assert run.err == (
        "session-manager-plugin: session alice-1 ended, but the output is incomplete: at least 3 messages (about 1356 "
        "bytes) did not arrive, and 904 bytes received after that point were left out\n"
    )


def test_output_that_is_incomplete_at_an_end_with_a_reason(gateway_session: Any) -> None:
    run = gateway_session(say_and_close(*stream_with_a_gap(), channel_closed("Idle.")))
    assert (run.status, run.out) == (
        255,
        starting("alice-1") + b"begin\n\n\nSessionId: alice-1 : Idle.\n\n",
    )
    assert run.err.startswith(
        "session-manager-plugin: the output is incomplete: at least 3 messages (about 1356 bytes)"
    )


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (refuse(403), "HOST refused the websocket with status 403 Forbidden: "),
        (
            close(1008),
            "session alice-1 did not begin: the service closed the connection with code 1008 (and there is no new",
        ),
        (say(handshake_request("Telepathy")), "session alice-1 did not begin: Unknown session type Telepathy"),
    ],
)
def test_the_ends_that_are_failures(gateway_session: Any, script: Script, sentence: str) -> None:
    run = gateway_session(script)
    assert (run.status, run.out) == (255, starting("alice-1"))
    assert run.err.startswith(f"session-manager-plugin: {sentence}")
    assert run.err.count("\n") == 1


def test_the_aws_cli_gets_no_reason_to_print_a_token(plugin: Plugin) -> None:
    with served(RawServer(refuse(403))) as gateway:
        run = plugin(response(gateway.url()), "us-east-1", "StartSession", "", SHELL, "")
    assert (run.status, run.out) == (0, starting("alice-1"))
    assert "403" in run.err
    assert TOKEN not in run.err


@pytest.mark.parametrize("setting", ["always", "never"])
def test_the_exit_status_can_be_chosen(gateway_session: Any, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv("SMP_EXIT_STATUS", setting)
    run = gateway_session(say(channel_closed("Idle.")))
    assert run.status == (255 if setting == "always" else 0)


def test_d11_the_texts_keep_off_the_output_of_ssh(gateway_session: Any) -> None:
    """Reference defect D11: the banner is written into a byte-transparent session.

    It would be back if ``cli/drop_in.py``: ``_Texts.say`` wrote to standard output ``if self._is_stdio is not
    None``.
    """
    run = gateway_session(say(handshake_request("Teleport")), SSH)
    assert run.out == b""
    assert run.err.startswith("\nStarting session with SessionId: alice-1\n")
    run = gateway_session(say(channel_closed("Not today.")), SSH)
    assert (run.out, run.err) == (
        b"",
        "\nStarting session with SessionId: alice-1\n\n\nSessionId: alice-1 : Not today.\n\n",
    )


def test_an_unknown_document_tells_by_its_session_type(gateway_session: Any) -> None:
    run = gateway_session(say(*stream(b"hello\n"), channel_closed()), CUSTOM)
    assert run == Run(0, starting("alice-1") + b"hello\n" + exiting("alice-1"), "")


@pytest.mark.parametrize(
    ("ready", "out", "err"),
    [
        (SessionReady("Standard_Stream"), starting("alice-1"), ""),
        (SessionReady(None, customer_message="Be nice."), starting("alice-1") + b"Be nice.\n", ""),
        (SessionReady("Port", {"portNumber": "22"}), b"", starting("alice-1").decode()),
        (SessionReady("Port", {"portNumber": "80", "type": "LocalPortForwarding"}), starting("alice-1"), ""),
    ],
)
def test_the_first_text_of_an_unknown_document(ready: SessionReady, out: bytes, err: str) -> None:
    def begin(environment: Environment) -> int:
        texts = _Texts(environment, Invocation(**{**INVOCATION, "document": "Our-Shell"}))
        texts.start()
        texts.begin(ready)
        return 0

    assert run_captured(begin, "session-manager-plugin", b"") == Run(0, out, err)


def test_quiet(gateway_session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMP_QUIET", "1")
    assert gateway_session(say(*stream(b"hello\n"), channel_closed())) == Run(0, b"hello\n", "")
    run = gateway_session(say(channel_closed("Idle.")))
    assert run == Run(255, b"", "session-manager-plugin: session alice-1 was closed by the far end: Idle.\n")


def test_a_document_that_needs_a_handshake_does_not_go_without(
    gateway_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference defect H8: an agent that stays silent is waited for without end."""
    monkeypatch.setattr(readiness, "READY_DELAY", 0.05)
    monkeypatch.setattr(readiness, "HANDSHAKE_TIMEOUT", 0.2)
    parameters = json.dumps({"Target": "i-1", "DocumentName": "AWS-StartNonInteractiveCommand"})
    run = gateway_session(say(), parameters)
    assert run.status == 255
    assert run.err.startswith("session-manager-plugin: session alice-1 did not begin: the far end sent nothing within")


def test_a_session_that_nothing_was_heard_of_did_not_begin(
    gateway_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not "was lost": after some silence a session counts as a shell that has begun, but nothing shows that it has."""
    monkeypatch.setattr(readiness, "READY_DELAY", 0.05)
    monkeypatch.setenv("SMP_RECONNECT_TIMEOUT", "0")
    run = gateway_session(close_after_a_message(1008))
    assert run.status == 255
    assert run.err.startswith("session-manager-plugin: session alice-1 did not begin: the service closed")


def test_a_failure_of_ours_terminates_the_session(
    plugin: Plugin, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference defect U6: a session that is left goes on until it is idle for too long."""
    monkeypatch.setenv("TEST_ENDPOINT", sandbox.endpoint_url)
    started = sandbox.start()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{unused.getsockname()[1]}/v1/data-channel/{started.session_id}"
        run = start(plugin, monkeypatch, started._replace(url=url))
    assert run.status == 255
    assert sandbox.end_of(started.session_id) is EndReason.TERMINATED


def test_ecs_exec_terminates_at_systems_manager(
    plugin: Plugin, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint among the arguments is that of ECS."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", sandbox.endpoint_url)
    started = sandbox.start()
    with served(RawServer(refuse(403))) as gateway:
        text = json.dumps({"sessionId": started.session_id, "streamUrl": gateway.url(), "tokenValue": started.token})
        target = json.dumps({"Target": "ecs:cluster_task_runtime"})
        run = plugin(text, "us-east-1", "StartSession", "", target, "http://127.0.0.1:1")
    assert (run.status, run.out) == (0, starting(started.session_id))
    assert sandbox.end_of(started.session_id) is EndReason.TERMINATED


def test_a_session_that_cannot_be_terminated_is_left_alone(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("SMP_LOG_FILE", str(tmp_path / "log"))
    with served(RawServer(refuse(503))) as gateway:
        run = start(plugin, monkeypatch, Started("alice-1", gateway.url(), TOKEN))
    assert run.status == 255
    assert run.err.count("\n") == 1
    log = (tmp_path / "log").read_text()
    assert "session alice-1 could not be terminated: TerminateSession failed: there are no AWS" in log


def test_ws_is_for_this_machine_only(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    started = Started("alice-1", "ws://gateway.example/v1/data-channel/alice-1", TOKEN)
    run = start(plugin, monkeypatch, started)
    assert (run.status, run.out) == (255, b"")
    assert run.err.startswith("session-manager-plugin: refusing ws:// to gateway.example: the token would travel")


@pytest.mark.parametrize("name", ["SMP_CONNECT_TIMEOUT", "SMP_KEEPALIVE"])
def test_a_variable_that_is_no_number(plugin: Plugin, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "soon")
    run = start(plugin, monkeypatch, Started("alice-1", "wss://h/v1/data-channel/alice-1", TOKEN))
    assert (run.status, run.out) == (255, b"")
    assert run.err.startswith(f"session-manager-plugin: {name}: 'soon' is not a number of seconds")


def test_a_log_file_that_cannot_be_opened(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMP_LOG_FILE", "/nonexistent/log")
    run = start(plugin, monkeypatch, Started("alice-1", "wss://h/v1/data-channel/alice-1", TOKEN))
    told = "session-manager-plugin: the log file /nonexistent/log cannot be opened: No such file or directory\n"
    assert run == Run(255, b"", told)


def test_the_ca_bundle_of_the_profile(plugin: Plugin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("[profile corp]\nca_bundle = /nonexistent/corp.pem\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    run = plugin(response("wss://127.0.0.1:1/v1/data-channel/alice-1"), "eu-west-1", "StartSession", "corp", SHELL)

    assert "the CA bundle /nonexistent/corp.pem cannot be read: No such file or directory" in run.err


def test_advice_names_what_the_plugin_has(plugin: Plugin, tmp_path: Path) -> None:
    """It has no options."""
    with served(RawServer(refuse(200), tls=Authority(tmp_path).server_context("localhost"))) as gateway:
        url = f"wss://127.0.0.1:{gateway.port}/v1/data-channel/alice-1"
        run = plugin(response(url), "eu-west-1", "StartSession", "", SHELL)

    assert (
        "(it was issued by Test authority); if a proxy inspects TLS here, give its CA with AWS_CA_BUNDLE\n" in run.err
    )
    assert "--" not in run.err


def test_the_help_shows_the_defaults() -> None:
    timeouts = {"CONNECT_TIMEOUT": CONNECT_TIMEOUT, "KEEPALIVE": KEEPALIVE, "RECONNECT_TIMEOUT": RECONNECT_TIMEOUT}
    for name, default in timeouts.items():
        (line,) = [line for line in HELP.splitlines() if line.startswith(f"  SMP_{name} ")]
        assert f"({default:g})" in line
