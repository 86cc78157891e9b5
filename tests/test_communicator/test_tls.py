"""TLS is always verified, against the right name, with the right authorities."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest

from session_manager_plugin.communicator import NetworkOptions, WebSocketChannel, create_websocket_config, tls
from session_manager_plugin.errors import ConfigurationError, ConnectError
from tests.support.certificates import Authority
from tests.support.raw_server import Peer, RawServer
from tests.support.recorder import Recorder


async def serve(peer: Peer) -> None:
    """Open every websocket."""
    await peer.accept()
    await peer.until_gone()


async def outcome(context: ssl.SSLContext, *, bundle: Path | None, name: str = "gateway.test") -> Exception | None:
    """Connect to a server with this context under ``name``; gives what prevented it."""
    async with RawServer(serve, tls=context) as server:
        network = NetworkOptions(dial=("127.0.0.1", server.port), ca_bundle=str(bundle) if bundle else None)
        config = create_websocket_config(f"wss://{name}/", "t", ping_interval=0, retry_attempts=3, network=network)
        channel = WebSocketChannel(config)
        recorder = Recorder(channel)
        connected = await channel.connect()
        channel.abort()
    assert connected == (channel.last_error is None)
    assert len(recorder.errors) <= 1  # what cannot be trusted now cannot be trusted in a second either
    return channel.last_error


async def test_a_private_authority_is_accepted_when_given(authority: Authority) -> None:
    assert await outcome(authority.server_context("gateway.test"), bundle=authority.bundle) is None


async def test_a_bundle_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))

    assert await outcome(authority.server_context("gateway.test"), bundle=None) is None


async def test_an_unknown_authority(authority: Authority) -> None:
    error = await outcome(authority.server_context("gateway.test"), bundle=None)

    assert isinstance(error, ConnectError)
    assert str(error) == (
        "the certificate of gateway.test:443 is not trusted: unable to get local issuer certificate "
        "(it was issued by Test authority); if a proxy inspects TLS here, give its CA with --ca-bundle or AWS_CA_BUNDLE"
    )
    assert not error.retryable


async def test_a_certificate_for_another_name(authority: Authority) -> None:
    error = await outcome(authority.server_context("gateway.test"), bundle=authority.bundle, name="other.test")

    assert isinstance(error, ConnectError)
    assert str(error) == (
        "the certificate of other.test:443 is for gateway.test, not for it (issued by Test authority); "
        "check the host of the URL, and what it resolves to, or use --dial to connect by another address"
    )


async def test_an_expired_certificate(authority: Authority) -> None:
    error = await outcome(authority.server_context("gateway.test", expired=True), bundle=authority.bundle)

    assert isinstance(error, ConnectError)
    assert re.fullmatch(
        r"the certificate of gateway\.test:443 is not trusted: certificate has expired \(it was issued by "
        r"Test authority and expired [-0-9]+ [:0-9]+ UTC\); check this machine's clock, or have whoever "
        r"runs the host renew it",
        str(error),
    )


@pytest.mark.parametrize("content", [None, b"", b"this is no certificate"])
async def test_a_bundle_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)
    config = create_websocket_config("wss://gateway.test/", "t", network=NetworkOptions(ca_bundle=str(bundle)))
    channel = WebSocketChannel(config)

    assert await channel.connect() is False

    assert isinstance(channel.last_error, ConfigurationError)
    reason = "read: No such file or directory" if content is None else "used: it has no certificate in PEM form"
    assert str(channel.last_error).startswith(f"the CA bundle {bundle} cannot be {reason}")


def test_everything_is_verified(authority: Authority) -> None:
    for context in (tls.ssl_context(None), tls.ssl_context(str(authority.bundle))):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_only_the_given_bundle_is_trusted(authority: Authority) -> None:
    [certificate] = tls.ssl_context(str(authority.bundle)).get_ca_certs()

    assert certificate["subject"] == ((("commonName", "Test authority"),),)


def test_an_empty_platform_store_is_replaced_by_botocores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty = tmp_path / "none"
    monkeypatch.setenv("SSL_CERT_FILE", str(empty))
    monkeypatch.setenv("SSL_CERT_DIR", str(empty))

    assert ssl.create_default_context().get_ca_certs() == []
    assert len(tls.ssl_context(None).get_ca_certs()) > 50


def test_a_directory_of_certificates_is_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: Authority
) -> None:
    (tmp_path / "0a1b2c3d.0").write_bytes(authority.bundle.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))

    assert tls.ssl_context(None).get_ca_certs() == []  # OpenSSL looks there when it needs one
