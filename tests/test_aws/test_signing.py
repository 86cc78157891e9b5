"""Signatures of opening requests, by the real botocore; the sandbox verifies them."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.http_messages import HttpRequest, RequestReader
from session_manager_plugin.agent.signature import SignatureVerifier
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.signing import SERVICE, OpeningSigner
from session_manager_plugin.communicator import (
    LinkOptions,
    NetworkOptions,
    Sign,
    WebSocketChannel,
    create_websocket_config,
)
from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.library import connect
from session_manager_plugin.session.protocols import OpeningRequest
from tests.support.sandbox_credentials import use_credentials
from tests.support.waiting import DEADLINE, wait_until

HOST = "ssmmessages.eu-west-1.amazonaws.com"
RESOURCE = "/v1/data-channel/alice@example.com-0a1b?role=publish_subscribe&cell-number=AA+b/c==&empty=&x=%C3%A9%20~"
REQUEST = OpeningRequest(HOST, RESOURCE, "eu-west-1")
KEY, SECRET = "AKIAEXAMPLEEXAMPLE00", "secret-secret-secret-secret-secret-secre"


pytestmark = pytest.mark.usefixtures("clean_environment")


def configure(tmp_path: Path, text: str) -> None:
    """Write botocore's config file."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(text)


def use_key(monkeypatch: pytest.MonkeyPatch, token: str = "") -> None:
    """Put credentials into the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    if token:
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)


def as_sent(request: OpeningRequest, headers: Mapping[str, str]) -> HttpRequest:
    """The request with these headers, as the far end reads it."""
    reader = RequestReader()
    lines = [f"GET {request.resource} HTTP/1.1", f"Host: {request.host}", *map(": ".join, headers.items())]
    reader.feed("\r\n".join([*lines, "", ""]).encode())
    read = reader.next_request()
    assert read is not None
    return read


def refusal(
    request: OpeningRequest, headers: Mapping[str, str], *, token: str = "", region: str = "eu-west-1"
) -> str | None:
    """Why the signature is refused that ``headers`` hold."""
    verifier = SignatureVerifier(KEY, SECRET, token, region, SERVICE, required=True)
    return verifier.refusal(as_sent(request, headers))


def region_of(headers: Mapping[str, str]) -> str:
    scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/ssmmessages/aws4_request", headers["Authorization"])
    assert scope is not None
    return scope[1]


@pytest.mark.parametrize("token", ["", "a session token"])
async def test_credentials_in_the_environment(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    use_key(monkeypatch, token)
    headers = await OpeningSigner(AwsSettings()).sign(REQUEST)
    assert refusal(REQUEST, headers, token=token) is None
    assert set(headers) == {"Authorization", "X-Amz-Date"} | ({"X-Amz-Security-Token"} if token else set())


async def test_a_port_and_an_empty_path(monkeypatch: pytest.MonkeyPatch) -> None:
    use_key(monkeypatch)
    request = OpeningRequest("[::1]:8443", "/", None)
    assert refusal(request, await OpeningSigner(AwsSettings(region="eu-west-1")).sign(request)) is None


async def test_the_credentials_of_a_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The profile was asked for: it wins over the environment, as with the AWS CLI."""
    configure(tmp_path, f"[profile p]\naws_access_key_id={KEY}\naws_secret_access_key={SECRET}\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAANOTHER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    assert refusal(REQUEST, await OpeningSigner(AwsSettings(profile="p")).sign(REQUEST)) is None


async def test_the_region(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of the host's name, then of the options, of the environment, of the profile."""
    configure(tmp_path, "[default]\nregion = profile-region-1\n")
    use_key(monkeypatch)
    elsewhere = REQUEST._replace(region=None)
    assert region_of(await OpeningSigner(AwsSettings()).sign(elsewhere)) == "profile-region-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "default-region-1")
    assert region_of(await OpeningSigner(AwsSettings()).sign(elsewhere)) == "default-region-1"
    monkeypatch.setenv("AWS_REGION", "environment-region-1")
    assert region_of(await OpeningSigner(AwsSettings()).sign(elsewhere)) == "environment-region-1"
    assert region_of(await OpeningSigner(AwsSettings(region="option-region-1")).sign(elsewhere)) == "option-region-1"
    assert region_of(await OpeningSigner(AwsSettings(region="option-region-1")).sign(REQUEST)) == "eu-west-1"


async def test_what_cannot_be_signed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there are no AWS credentials"):
        await OpeningSigner(AwsSettings()).sign(REQUEST)
    with pytest.raises(ConfigurationError, match="nowhere"):
        await OpeningSigner(AwsSettings(profile="nowhere")).sign(REQUEST)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    with pytest.raises(ConfigurationError, match="AWS_SECRET_ACCESS_KEY"):
        await OpeningSigner(AwsSettings()).sign(REQUEST)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with pytest.raises(ConfigurationError, match="the region is not known; give --region, or set AWS_REGION"):
        await OpeningSigner(AwsSettings()).sign(REQUEST._replace(region=None))


async def test_nothing_prompts(tmp_path: Path) -> None:
    configure(
        tmp_path,
        "[profile role]\nrole_arn=arn:aws:iam::111122223333:role/r\nsource_profile=s\n"
        "mfa_serial=arn:aws:iam::111122223333:mfa/m\nregion=us-east-1\n"
        f"[profile s]\naws_access_key_id={KEY}\naws_secret_access_key={SECRET}\n",
    )
    with pytest.raises(ConfigurationError, match="needs an MFA code of arn:aws:iam::111122223333:mfa/m; run smp ls "):
        await OpeningSigner(AwsSettings(profile="role")).sign(REQUEST)


async def test_credentials_are_kept_until_they_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use_key(monkeypatch)
    signer = OpeningSigner(AwsSettings())
    await signer.sign(REQUEST)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAANEWKEY")
    assert refusal(REQUEST, await signer.sign(REQUEST)) is None
    signer.refused()
    assert "Credential=AKIAANEWKEY/" in (await signer.sign(REQUEST))["Authorization"]


async def test_a_person_is_told_at_the_first_opening_only(monkeypatch: pytest.MonkeyPatch) -> None:
    use_key(monkeypatch)
    told: list[str] = []
    signer = OpeningSigner(AwsSettings(), tell=told.append)
    for sentence in ("at the beginning", "in a session, on a screen that belongs to a program"):
        await signer.sign(REQUEST)
        signer.refused()
        signer.opened_unsigned(sentence)
    assert told == ["at the beginning"]


async def test_a_search_goes_on_when_nobody_waits_and_is_waited_for_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A provider that takes long, or hangs, is asked once, and not again for each attempt to reconnect."""
    fifo, asked = tmp_path / "fifo", tmp_path / "asked"
    os.mkfifo(fifo)
    configure(tmp_path, f"[profile slow]\ncredential_process = sh -c 'echo >> {asked}; cat {fifo}'\n")
    signer = OpeningSigner(AwsSettings(profile="slow"))
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await signer.sign(REQUEST)
    again = asyncio.ensure_future(signer.sign(REQUEST))
    answer = f'{{"Version": 1, "AccessKeyId": "{KEY}", "SecretAccessKey": "{SECRET}"}}'
    await asyncio.to_thread(fifo.write_text, answer)
    assert refusal(REQUEST, await asyncio.wait_for(again, DEADLINE)) is None
    assert asked.read_text() == "\n"


@pytest.mark.slow
def test_a_provider_that_hangs_does_not_keep_the_process_alive(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    configure(tmp_path, f"[default]\ncredential_process = sh -c 'cat {fifo}'\n")
    program = f"""
import asyncio
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.signing import OpeningSigner
from session_manager_plugin.library import connect
from session_manager_plugin.session.protocols import OpeningRequest
from tests.support.sandbox_credentials import use_credentials

async def main():
    try:
        async with asyncio.timeout(0.5):
            await OpeningSigner(AwsSettings()).sign(OpeningRequest({HOST!r}, "/", "eu-west-1"))
    except TimeoutError:
        print("unsigned", flush=True)

asyncio.run(main())
"""
    try:
        run = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=DEADLINE, check=True)
    finally:
        os.close(os.open(fifo, os.O_RDWR))  # lets the process go that was asked for credentials
    assert run.stdout == b"unsigned\n"


# With the sandbox.


@asynccontextmanager
async def connected(sandbox: Sandbox) -> AsyncIterator[WebSocketChannel]:
    """A channel that was opened with a signature if that was possible."""
    started = await sandbox.start_session()
    config = create_websocket_config(
        started.stream_url,
        started.token or "",
        ping_interval=0,
        retry_attempts=1,
        network=NetworkOptions(sign=Sign.ALWAYS),
        signer=OpeningSigner(AwsSettings(region=sandbox.region)),
    )
    channel = WebSocketChannel(config)
    await channel.connect()
    try:
        yield channel
    finally:
        await channel.close()


async def test_a_sandbox_that_requires_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox(require_signature=True) as sandbox:
        async with connected(sandbox) as unsigned:
            assert "Missing Authentication Token" in str(unsigned.last_error)
            assert "no AWS credentials" in str(unsigned.last_error)
        use_credentials(sandbox, monkeypatch)
        async with connected(sandbox) as signed:
            assert signed.is_connected
        monkeypatch.setenv("AWS_SESSION_TOKEN", "of yesterday")
        async with connected(sandbox) as expired:
            assert not expired.is_connected
            assert "security token included in the request is invalid): the AWS credentials are" in str(
                expired.last_error
            )
            assert "Without a signature" in str(expired.last_error)


async def test_every_reconnect_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox(require_signature=True) as sandbox:
        use_credentials(sandbox, monkeypatch)
        started = await sandbox.start_session()
        session = connect(
            started.stream_url,
            started.token or "",
            link=LinkOptions(sign=Sign.ALWAYS),
            aws=AwsSettings(endpoint_url=sandbox.endpoint_url),
        )
        async with session:
            sandbox.session(started.session_id).disconnect()
            await wait_until(lambda: session.reconnects == 1)
            await session.write(b"exit\r")
            assert (await session.wait()).is_normal
