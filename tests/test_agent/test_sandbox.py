"""Sessions in the sandbox: started through the service's API with botocore, used over a real websocket."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from session_manager_plugin.agent import Limits, Sandbox
from session_manager_plugin.agent import sandbox as sandbox_module
from session_manager_plugin.agent.session import EndReason
from session_manager_plugin.errors import ApiError
from session_manager_plugin.protocol.messages import PayloadType
from tests.support.raw_client import DEADLINE, RawClient
from tests.support.tcp_server import TcpServer
from tests.support.waiting import wait_until
from tests.test_agent.processes import is_alive

INTERACTIVE = "AWS-StartInteractiveCommand"
NON_INTERACTIVE = "AWS-StartNonInteractiveCommand"
SSH = "AWS-StartSSHSession"
FORWARDING = "AWS-StartPortForwardingSession"


class Ssm:
    """botocore's client of the sandbox, called in a thread: it blocks."""

    def __init__(self, sandbox: Sandbox, access_key_id: str | None = None) -> None:
        session = botocore.session.Session()
        session.set_credentials(access_key_id or sandbox.access_key_id, sandbox.secret_access_key)
        self.client = session.create_client(
            "ssm",
            region_name=sandbox.region,
            endpoint_url=sandbox.endpoint_url,
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )

    async def __call__(self, operation: str, **parameters: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await asyncio.to_thread(getattr(self.client, operation), **parameters)
        return answer


@pytest.fixture
async def ssm(sandbox: Sandbox) -> AsyncIterator[Ssm]:
    """A client with the sandbox's credentials."""
    caller = Ssm(sandbox)
    yield caller
    caller.client.close()


@pytest.fixture
async def client() -> AsyncIterator[RawClient]:
    """A client that is not connected yet."""
    async with RawClient() as raw:
        yield raw


async def command(sandbox: Sandbox, client: RawClient, text: str) -> str:
    """Start an interactive command and open it; returns the session's id."""
    started = await sandbox.start_session(INTERACTIVE, {"command": [text]})
    await client.open(started.stream_url, started.token)
    return started.session_id


# The API.


async def test_a_session_from_start_to_exit(sandbox: Sandbox, ssm: Ssm, client: RawClient) -> None:
    started = await ssm("start_session", Target="local")
    session = sandbox.session(started["SessionId"])
    assert started["StreamUrl"] == (
        f"ws://127.0.0.1:{sandbox.port}/v1/data-channel/{session.session_id}?role=publish_subscribe"
    )
    assert (session.target, session.document) == ("local", "SSM-SessionManagerRunShell")
    assert session.disconnected.is_set()

    await client.open(started["StreamUrl"], started["TokenValue"])
    await client.send_input(b"echo $((40+2))\n")
    await client.read_until(b"42\r\n")
    assert client.ready is not None
    assert client.ready.session_type is None
    assert session.connected.is_set()
    assert session.agent_state == "Connected"

    await client.send_input(b"exit 3\n")
    assert await client.until_closed() == ""
    assert client.close_code == 1000
    assert session.ended.is_set()
    assert (session.end_reason, session.output, session.agent_state) == (EndReason.EXITED, "", "Terminating")
    assert not session.terminated
    assert not session.connected.is_set()


@pytest.mark.parametrize(
    ("operation", "parameters", "code"),
    [
        ("start_session", {"Target": "i-0123456789"}, "TargetNotConnected"),
        ("start_session", {"Target": "local", "DocumentName": "No-Such-Document"}, "InvalidDocument"),
        ("start_session", {"Target": "local", "DocumentName": INTERACTIVE}, "InvalidParameters"),
        ("start_session", {"Target": "local", "Parameters": {"command": ["ls"]}}, "InvalidParameters"),
        (
            "start_session",
            {"Target": "local", "DocumentName": FORWARDING, "Parameters": {"portNumber": ["0"]}},
            "InvalidParameters",
        ),
        ("resume_session", {"SessionId": "user-0123"}, "DoesNotExistException"),
        ("terminate_session", {"SessionId": "user-0123"}, "DoesNotExistException"),
    ],
)
async def test_errors_are_the_services(ssm: Ssm, operation: str, parameters: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as caught:
        await ssm(operation, **parameters)
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


async def test_modelled_exceptions_are_raised(ssm: Ssm) -> None:
    with pytest.raises(ssm.client.exceptions.TargetNotConnected):
        await ssm("start_session", Target="elsewhere")


async def test_another_access_key_is_refused(sandbox: Sandbox) -> None:
    stranger = Ssm(sandbox, "AKIASTRANGER")
    with pytest.raises(ClientError, match="UnrecognizedClientException"):
        await stranger("start_session", Target="local")
    stranger.client.close()
    assert not sandbox.sessions


async def test_python_callers_get_the_same_errors(sandbox: Sandbox) -> None:
    with pytest.raises(ApiError) as caught:
        await sandbox.start_session(target="elsewhere")
    assert caught.value.code == "TargetNotConnected"


async def test_terminate_session(sandbox: Sandbox, ssm: Ssm, client: RawClient) -> None:
    session_id = await command(sandbox, client, "echo ready; sleep 1000")
    session = sandbox.session(session_id)
    await client.read_until(b"ready\r\n")
    assert (await ssm("terminate_session", SessionId=session_id))["SessionId"] == session_id
    assert await client.until_closed() == ""
    assert client.close_code == 1000
    assert session.terminated
    await session.wait_closed()
    assert not is_alive(session.program_pid)
    assert "TokenValue" not in await ssm("resume_session", SessionId=session_id)
    await ssm("terminate_session", SessionId=session_id)


async def test_a_session_may_be_terminated_before_anybody_came(sandbox: Sandbox, ssm: Ssm) -> None:
    started = await sandbox.start_session()
    await ssm("terminate_session", SessionId=started.session_id)
    session = sandbox.session(started.session_id)
    assert session.end_reason is EndReason.TERMINATED
    assert session.program_pid == 0


async def test_targets_by_name() -> None:
    async with Sandbox(targets=["i-0123456789abcdef0", "mi-1"]) as sandbox:
        assert sandbox.session((await sandbox.start_session()).session_id).target == "i-0123456789abcdef0"
        assert sandbox.session((await sandbox.start_session(target="mi-1")).session_id).target == "mi-1"
        ssm = Ssm(sandbox)
        with pytest.raises(ssm.client.exceptions.TargetNotConnected, match="local is not connected"):
            await ssm("start_session", Target="local")
        ssm.client.close()


async def test_a_remote_host_on_loopback_by_the_agents_version() -> None:
    document = "AWS-StartPortForwardingSessionToRemoteHost"
    async with Sandbox(agent_version="3.3.4851.0") as sandbox, RawClient() as client:
        started = await sandbox.start_session(document, {"host": ["127.1"], "portNumber": ["9"]})
        await client.open(started.stream_url, started.token)
        assert await client.until_closed() == "Forwarding to IP address 127.1 is forbidden."


# What the service ends.


async def test_the_service_ends_a_session_with_a_text(sandbox: Sandbox, client: RawClient) -> None:
    session_id = await command(sandbox, client, "echo ready; sleep 1000")
    await client.read_until(b"ready\r\n")
    sandbox.end_session(session_id, "Terminated by bob.")
    assert await client.until_closed() == "Terminated by bob."
    session = sandbox.session(session_id)
    assert (session.end_reason, session.output) == (EndReason.ENDED, "Terminated by bob.")
    sandbox.end_session(session_id, "again")
    assert sandbox.resume(session_id).token is None
    with pytest.raises(KeyError):
        sandbox.end_session("user-0", "")


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(end_after=0.1), "The session has reached its maximum duration of 0.1 s."),
        (Limits(end_after=0.1, text="That was it."), "That was it."),
        (Limits(idle_timeout=0.1), "The session was idle for 0.1 s."),
    ],
)
async def test_a_time_limit_ends_a_session(limits: Limits, text: str) -> None:
    async with Sandbox(limits=limits) as sandbox, RawClient() as client:
        session_id = await command(sandbox, client, "sleep 1000")
        assert await client.until_closed() == text
        assert sandbox.session(session_id).end_reason is EndReason.ENDED


# TLS.


async def test_tls_with_a_certificate_of_its_own(client: RawClient, tmp_path: Path) -> None:
    async with Sandbox(tls=True) as sandbox:
        assert sandbox.endpoint_url == f"https://127.0.0.1:{sandbox.port}"
        bundle = sandbox.ca_bundle
        assert bundle is not None
        directory = Path(bundle).parent
        assert os.listdir(directory) == ["ca.pem"]  # no private key
        assert directory.stat().st_mode & 0o777 == 0o700
        assert sandbox.environment["AWS_CA_BUNDLE"] == bundle
        client.tls = ssl.create_default_context(cafile=bundle)
        client.tls.verify_flags |= ssl.VERIFY_X509_STRICT

        data = random.Random(9).randbytes(1024 * 1024)
        (tmp_path / "data").write_bytes(data)
        session_id = await command(sandbox, client, f"stty raw -echo; cat {tmp_path / 'data'}; head -c 3")
        await client.until_size(len(data))
        # Each way of ending a websocket, and back.
        for code in (None, 1006, 1001):
            await asyncio.wait_for(sandbox.session(session_id).connected.wait(), DEADLINE)
            assert sandbox.session(session_id).disconnect(code)
            await client.until(lambda: client.close_code is not None)
            await client.disconnect()
            resumed = sandbox.resume(session_id)
            assert resumed.stream_url.startswith("wss://127.0.0.1:")
            await client.open(resumed.stream_url, resumed.token)
        await client.send_input(b"end")
        assert await client.until_closed() == ""
        assert client.close_code == 1000
        assert client.output == data + b"end"
    assert not directory.exists()
    assert sandbox.ca_bundle is None


async def test_a_port_that_is_taken_leaves_no_certificate_behind(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError, match=str(sandbox.port)):
        async with Sandbox(port=sandbox.port, tls=True):
            pass
    assert os.listdir(tmp_path) == []


# The shell.


@pytest.mark.parametrize("forced", [False, True])
async def test_with_and_without_a_handshake(forced: bool) -> None:
    async with Sandbox(handshake=forced, agent_version="3.1.2.3") as sandbox, RawClient() as client:
        started = await sandbox.start_session()
        await client.open(started.stream_url, started.token)
        await client.send_input(b"echo $((40+2))\n")
        await client.read_until(b"42\r\n")
        assert client.ready is not None
        expected = ("Standard_Stream", "3.1.2.3") if forced else (None, "")
        assert (client.ready.session_type, client.ready.peer_version) == expected


async def test_a_resize_is_seen(sandbox: Sandbox, client: RawClient) -> None:
    started = await sandbox.start_session()
    await client.open(started.stream_url, started.token)
    await client.resize(101, 33)
    await client.send_input(b"stty size\n")
    await client.read_until(b"33 101\r\n")


async def test_ctrl_c_interrupts_and_ctrl_d_ends(sandbox: Sandbox, client: RawClient) -> None:
    started = await sandbox.start_session()
    await client.open(started.stream_url, started.token)
    await client.send_input(b"(trap 'exit 5' INT; echo go$((1+1)); while :; do sleep 1; done)\n")
    await client.read_until(b"go2\r\n")
    await client.send_input(b"\x03")
    await client.send_input(b"echo still$((1+1))\n")
    await client.read_until(b"still2\r\n")
    await client.send_input(b"\x04")
    assert await client.until_closed() == ""


async def test_a_given_shell_is_used() -> None:
    async with Sandbox(shell="sh -c 'echo \"given: $0\"; cat' shell") as sandbox, RawClient() as client:
        started = await sandbox.start_session()
        await client.open(started.stream_url, started.token)
        await client.read_until(b"given: shell\r\n")


async def test_a_shell_that_cannot_start_ends_the_session_with_the_agents_text() -> None:
    async with Sandbox(shell="/no/such/shell") as sandbox, RawClient() as client:
        started = await sandbox.start_session()
        await client.open(started.stream_url, started.token)
        text = "\n----------ERROR-------\nUnable to start command: /no/such/shell: No such file or directory"
        assert await client.until_closed() == text
        assert sandbox.session(started.session_id).end_reason is EndReason.FAILED
        assert sandbox.session(started.session_id).output == text


def test_a_shell_with_wrong_quoting_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="quotation"):
        Sandbox(shell="sh -c 'x")


async def test_a_command_that_prints_nothing_is_usable(sandbox: Sandbox, client: RawClient) -> None:
    # The client assumes after two seconds that no handshake will come.
    await command(sandbox, client, "cat")
    await client.send_input(b"hello\n")
    await client.read_until(b"hello\r\nhello\r\n")
    await client.send_input(b"\x04")
    assert await client.until_closed() == ""


async def test_1_mib_of_input_arrives_exactly(sandbox: Sandbox, client: RawClient) -> None:
    data = random.Random(4).randbytes(1024 * 1024)
    await command(sandbox, client, f"stty raw -echo; echo ready; head -c {len(data)} | sha256sum")
    await client.read_until(b"ready\n")
    await client.send_input(data)
    await client.read_until(f"{hashlib.sha256(data).hexdigest()}  -\n".encode())


def test_it_runs_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed; it is optional")

    async def echo(data: bytes) -> bytes:
        async with Sandbox() as sandbox, RawClient() as client:
            await command(sandbox, client, f"stty raw -echo; echo ready; head -c {len(data)}")
            await client.read_until(b"ready\n")
            sending = asyncio.create_task(client.send_input(data))
            echoed = await client.read_exactly(len(data))
            await sending
            assert await client.until_closed() == ""
            return echoed

    data = random.Random(7).randbytes(1024 * 1024)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(echo(data)) == data


@pytest.mark.slow
async def test_4_mib_through_a_program_that_echoes_all_its_input(sandbox: Sandbox, client: RawClient) -> None:
    data = random.Random(5).randbytes(4 * 1024 * 1024)
    await command(sandbox, client, f"stty raw -echo; echo ready; head -c {len(data)}")
    await client.read_until(b"ready\n")
    sending = asyncio.create_task(client.send_input(data))
    assert await client.read_exactly(len(data)) == data
    await sending


# Other session types.


async def test_a_command_with_separate_outputs_through_the_api(ssm: Ssm, sandbox: Sandbox, client: RawClient) -> None:
    started = await ssm(
        "start_session",
        Target="local",
        DocumentName=NON_INTERACTIVE,
        Parameters={"command": ["sh -c 'echo out; echo err >&2; exit 3'"], "separateOutputStream": ["true"]},
    )
    await client.open(started["StreamUrl"], started["TokenValue"])
    assert await client.until_closed() == ""
    assert (client.output, client.error_output) == (bytearray(b"out\n"), bytearray(b"err\n"))
    assert client.exit_code == "EXIT_CODE: 3"
    assert sandbox.session(started["SessionId"]).end_reason is EndReason.EXITED


async def test_a_command_that_cannot_be_started_is_a_failed_session(sandbox: Sandbox, client: RawClient) -> None:
    started = await sandbox.start_session(NON_INTERACTIVE, {"command": ["/no/such/program"]})
    await client.open(started.stream_url, started.token)
    assert await client.until_closed() == ""
    assert client.error_output.startswith(b"Error occurred starting the command: ")
    assert sandbox.session(started.session_id).end_reason is EndReason.FAILED


async def test_an_ssh_session_through_the_api(ssm: Ssm, client: RawClient) -> None:
    async with TcpServer(greeting=b"SSH-2.0-test\r\n") as server:
        started = await ssm(
            "start_session", Target="local", DocumentName=SSH, Parameters={"portNumber": [str(server.port)]}
        )
        await client.open(started["StreamUrl"], started["TokenValue"])
        assert await client.read_until(b"\n") == b"SSH-2.0-test\r\n"
        await client.send_input(b"SSH-2.0-client\r\n")
        await server.peers[0].until_received(b"SSH-2.0-client\r\n")
        server.peers[0].transport.write_eof()
        assert await client.until_closed() == ""


async def test_a_port_session_that_is_told_to_make_no_handshake_is_basic() -> None:
    async with (
        TcpServer(greeting=b"hello") as server,
        Sandbox(handshake=False) as sandbox,
        RawClient() as client,
    ):
        started = await sandbox.start_session(FORWARDING, {"portNumber": [str(server.port)]})
        await client.open(started.stream_url, started.token)
        await client.read_until(b"hello")
        assert client.ready is not None
        assert client.ready.session_type is None


async def test_closing_the_sandbox_ends_commands_and_connections(client: RawClient) -> None:
    async with TcpServer() as server, RawClient() as other:
        async with Sandbox() as sandbox:
            command_session = await sandbox.start_session(NON_INTERACTIVE, {"command": ["sleep 1000"]})
            await client.open(command_session.stream_url, command_session.token)
            port_session = await sandbox.start_session(SSH, {"portNumber": [str(server.port)]})
            await other.open(port_session.stream_url, port_session.token)
            peer = await server.accepted(0)
            session = sandbox.session(command_session.session_id)
            await client.until(lambda: client.ready is not None)
            assert is_alive(session.program_pid)
            assert sandbox.session(port_session.session_id).program_pid == 0
        assert not is_alive(session.program_pid)
        await wait_until(lambda: peer.at_end or peer.gone)
        assert await client.until_closed() == await other.until_closed() == "The sandbox was closed."


# Coming back.


@pytest.mark.slow
async def test_nothing_is_lost_over_a_lost_connection(
    sandbox: Sandbox, ssm: Ssm, client: RawClient, tmp_path: Path
) -> None:
    data = random.Random(6).randbytes(6 * 1024 * 1024)
    file = tmp_path / "data"
    file.write_bytes(data)
    session_id = await command(sandbox, client, f"stty raw -echo; cat {file}")
    session = sandbox.session(session_id)
    for size in (1024 * 1024, 3 * 1024 * 1024):
        await client.until_size(size)
        await client.disconnect()
        await asyncio.wait_for(session.disconnected.wait(), DEADLINE)
        resumed = await ssm("resume_session", SessionId=session_id)
        await client.open(resumed["StreamUrl"], resumed["TokenValue"])
    assert await client.until_closed() == ""
    assert client.output == data


async def test_what_was_typed_while_the_connection_was_lost_arrives(sandbox: Sandbox, client: RawClient) -> None:
    session_id = await command(sandbox, client, 'echo ready; read x; echo "<$x>"')
    await client.read_until(b"ready\r\n")
    await client.disconnect()
    await client.send(PayloadType.OUTPUT, b"hello\n")
    resumed = sandbox.resume(session_id)
    await client.open(resumed.stream_url, resumed.token)
    await client.read_until(b"<hello>\r\n")


async def test_the_end_waits_for_a_client_that_is_away(sandbox: Sandbox, client: RawClient, tmp_path: Path) -> None:
    marker = tmp_path / "done"
    session_id = await command(sandbox, client, f"echo ready; read x; touch {marker}; echo bye")
    session = sandbox.session(session_id)
    await client.read_until(b"ready\r\n")
    await client.send_input(b"\n")
    await client.disconnect()
    await asyncio.wait_for(session.disconnected.wait(), DEADLINE)
    resumed = sandbox.resume(session_id)
    assert not session.ended.is_set()
    await client.open(resumed.stream_url, resumed.token)
    assert await client.until_closed() == ""
    assert client.output.endswith(b"bye\r\n")


# The end of everything.


async def test_closing_ends_every_session_and_every_process(client: RawClient) -> None:
    async with Sandbox() as sandbox:
        session_id = await command(sandbox, client, "trap '' HUP; echo ready; while :; do sleep 1; done")
        await sandbox.start_session()
        await client.read_until(b"ready\r\n")
        session = sandbox.session(session_id)
        assert is_alive(session.program_pid)
    assert await client.until_closed() == "The sandbox was closed."
    assert session.end_reason is EndReason.CLOSED
    assert not is_alive(session.program_pid)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", sandbox.port)


async def test_sessions_that_are_over_are_forgotten_in_the_end(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_module, "MAX_ENDED_SESSIONS", 2)
    ids = []
    for _ in range(5):
        ids.append((await sandbox.start_session()).session_id)
        sandbox.terminate(ids[-1])
    assert list(sandbox.sessions) == ids[2:]


async def test_two_sandboxes_do_not_share_anything() -> None:
    async with Sandbox() as first, Sandbox() as second:
        started = await first.start_session()
        assert first.port != second.port
        assert first.access_key_id != second.access_key_id
        with pytest.raises(KeyError):
            second.session(started.session_id)


async def test_a_port_that_is_taken_is_an_error(sandbox: Sandbox) -> None:
    with pytest.raises(OSError, match=str(sandbox.port)):
        async with Sandbox(port=sandbox.port):
            pass


async def test_no_token_reaches_the_log(sandbox: Sandbox, client: RawClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "session_manager_plugin")
    started = await sandbox.start_session()
    await client.open(started.stream_url, started.token)
    await client.send_input(b"exit\n")
    await client.until_closed()
    assert started.session_id in caplog.text
    assert started.token is not None
    assert started.token not in caplog.text
    assert sandbox.access_key_id not in caplog.text
