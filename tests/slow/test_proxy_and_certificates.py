"""The proxy and the CA bundle of the settings reach every request to AWS, those of credential providers included."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.session import EndReason
from session_manager_plugin.aws.kms import KmsKeyService
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.systems_manager import SystemsManager
from session_manager_plugin.errors import ConnectError, SessionManagerError
from session_manager_plugin.protocol.crypto import DATA_KEY_SIZE
from tests.support.certificates import Authority
from tests.support.connect_proxy import ConnectProxy
from tests.support.raw_server import Peer, RawServer, Script

NAME = "aws.test"
PLACE = f"{NAME}:443"
URL = f"https://{NAME}"


class Aws(NamedTuple):
    """A sandbox that is reached by HTTPS, under a name that only the proxy knows."""

    sandbox: Sandbox
    proxy: ConnectProxy
    bundle: str

    @property
    def settings(self) -> AwsSettings:
        return AwsSettings(self.sandbox.region, None, URL, self.bundle, self.proxy.proxy_url())

    def asked(self) -> list[str]:
        """The targets of the CONNECT requests."""
        return [request.line.split(" ")[1] for request in self.proxy.requests]


def forwarder(port: int) -> Script:
    """Connects each peer to ``port``."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def forward(peer: Peer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            with contextlib.suppress(ConnectionError):
                await asyncio.gather(copy(peer.reader, writer), copy(reader, peer.writer))
        finally:
            writer.transport.abort()

    return forward


@pytest.fixture
async def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Aws]:
    for name in [name for name in os.environ if name.startswith("AWS_") or name.upper().endswith("_PROXY")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    authority = Authority(tmp_path)
    async with (
        Sandbox(kms=True) as sandbox,
        RawServer(forwarder(sandbox.port), tls=authority.server_context(NAME)) as front,
        ConnectProxy({PLACE: front.port}) as proxy,
    ):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", sandbox.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", sandbox.secret_access_key)
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", URL)
        yield Aws(sandbox, proxy, str(authority.bundle))


async def test_starting_resuming_and_terminating(aws: Aws) -> None:
    systems_manager = SystemsManager(aws.settings)
    started = await systems_manager.start_session("local")
    resumed = await systems_manager.resume_session(started.session_id)
    assert resumed.token != started.token
    await systems_manager.terminate_session(started.session_id)
    assert aws.sandbox.session(started.session_id).end_reason is EndReason.TERMINATED
    assert aws.asked() == [PLACE] * 3
    assert started.token not in repr(started)


async def test_starting_with_a_document(aws: Aws) -> None:
    parameters = {"portNumber": ["80"], "localPortNumber": ["0"]}
    started = await SystemsManager(aws.settings).start_session(
        "local", "AWS-StartPortForwardingSession", parameters, "because of a test"
    )
    assert aws.sandbox.session(started.session_id).document == "AWS-StartPortForwardingSession"


async def test_a_data_key(aws: Aws) -> None:
    assert aws.sandbox.key_service is not None
    key_id = aws.sandbox.key_service.key_id
    key = await KmsKeyService(aws.settings, "session-1", "local").generate_data_key(key_id, "")
    assert len(key.plaintext) == DATA_KEY_SIZE
    assert aws.asked() == [PLACE]


async def test_a_role_is_assumed_through_the_proxy(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = f"aws_access_key_id = {aws.sandbox.access_key_id}\naws_secret_access_key = x\n"
    (tmp_path / "config").write_text(
        f"[profile base]\n{keys}[profile role]\nsource_profile = base\nrole_arn = arn:aws:iam::123456789012:role/x\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", URL)
    settings = AwsSettings(aws.sandbox.region, "role", URL, aws.bundle, aws.proxy.proxy_url())
    started = await SystemsManager(settings).start_session("local")
    assert aws.sandbox.session(started.session_id).target == "local"
    assert aws.asked() == [PLACE] * 2  # AssumeRole and StartSession


async def test_without_the_bundle_the_certificate_is_refused(aws: Aws) -> None:
    settings = AwsSettings(aws.sandbox.region, None, URL, None, aws.proxy.proxy_url())
    with pytest.raises(ConnectError, match="certificate verify failed"):
        await SystemsManager(settings).start_session("local")


async def test_ssl_cert_file_is_trusted_as_by_the_websocket(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", aws.bundle)
    settings = AwsSettings(aws.sandbox.region, None, URL, None, aws.proxy.proxy_url())
    await SystemsManager(settings).start_session("local")
    assert aws.asked() == [PLACE]


@pytest.mark.parametrize("content", [None, b""])
async def test_an_ssl_cert_file_without_certificates_is_ignored(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    """OpenSSL ignores it too."""
    file = tmp_path / "none.pem"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    settings = AwsSettings(aws.sandbox.region, None, URL, None, aws.proxy.proxy_url())
    with pytest.raises(ConnectError, match="certificate verify failed"):
        await SystemsManager(settings).start_session("local")


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY", None])
async def test_a_socks_proxy_is_named_when_a_call_fails(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    proxy = "socks5h://127.0.0.1:1"
    if variable is not None:
        monkeypatch.setenv(variable, proxy)
    settings = AwsSettings(aws.sandbox.region, None, "https://aws.invalid", None, None if variable else proxy)
    with pytest.raises(SessionManagerError) as raised:
        await SystemsManager(settings).start_session("local")
    sentence = f"calls to AWS cannot use the SOCKS proxy of {variable or '--proxy'}: set HTTPS_PROXY to an HTTP proxy"
    assert str(raised.value).endswith(f"; {sentence}")


async def test_beside_a_socks_proxy_the_http_proxy_is_used(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", aws.proxy.proxy_url())
    settings = AwsSettings(aws.sandbox.region, None, URL, aws.bundle, "socks5h://127.0.0.1:1")
    await SystemsManager(settings).start_session("local")
    assert aws.asked() == [PLACE]


async def test_loopback_is_not_proxied(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", aws.proxy.proxy_url())
    for given in (aws.proxy.proxy_url(), None):
        settings = AwsSettings(aws.sandbox.region, None, aws.sandbox.endpoint_url, None, given)
        await SystemsManager(settings).start_session("local")
    assert aws.asked() == []


async def test_a_proxy_for_everything_is_used_as_by_the_websocket(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", aws.proxy.proxy_url())
    await SystemsManager(AwsSettings(aws.sandbox.region, None, URL, aws.bundle)).start_session("local")
    assert aws.asked() == [PLACE]


async def test_a_proxys_password_is_not_shown(aws: Aws) -> None:
    aws.proxy.refuse_with = 407
    settings = AwsSettings(aws.sandbox.region, None, URL, aws.bundle, aws.proxy.proxy_url("bob:s3cret-word"))
    assert "s3cret" not in repr(settings)
    with pytest.raises(ConnectError) as raised:
        await SystemsManager(settings).start_session("local")
    assert "s3cret" not in str(raised.value)
