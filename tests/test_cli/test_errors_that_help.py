"""What people run into: each sentence says the cause and the next step."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore import exceptions as botocore
from websockets.datastructures import Headers
from websockets.exceptions import InvalidProxyStatus, InvalidStatus
from websockets.http11 import Response

from session_manager_plugin.aws.failures import aws_failure
from session_manager_plugin.aws.kms import KmsKeyService
from session_manager_plugin.cli.commands.connect import parse_dial, parse_proxy
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.render import ending_sentence, error_sentence
from session_manager_plugin.cli.session import Ending
from session_manager_plugin.cli.token import find_token
from session_manager_plugin.communicator import complete_stream_url
from session_manager_plugin.communicator.failures import connect_failure
from session_manager_plugin.communicator.tls import ssl_context
from session_manager_plugin.errors import ConnectionLost, SessionEnded
from session_manager_plugin.session.listener import listen_on_path, listen_on_port

HOST = "ssmmessages.eu-west-1.amazonaws.com:443"


@pytest.fixture(autouse=True)
def _no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_PROFILE", raising=False)


def aws(error: Exception, *, profile: str | None = None) -> Callable[[], str | None]:
    """The sentence for an exception of botocore; it depends on the environment."""
    return lambda: error_sentence(
        aws_failure(error, "StartSession failed", permission="ssm:StartSession", profile=profile)
    )


def refused(code: str, message: str = "no") -> Exception:
    """AWS's refusal of a call."""
    error: Exception = botocore.ClientError({"Error": {"Code": code, "Message": message}}, "StartSession")
    return error


def network(error: Exception, *, via: str = "", issuer: str = "") -> str | None:
    """The sentence for what opening a websocket raised."""
    return error_sentence(connect_failure(error, HOST, via=via, timeout=30.0, issuer=issuer))


def answer(status: int) -> Response:
    """An HTTP response."""
    return Response(status, "", Headers())


def certificate_error(code: int, message: str) -> ssl.SSLCertVerificationError:
    """As OpenSSL raises it."""
    error = ssl.SSLCertVerificationError(1, f"certificate verify failed: {message}")
    error.verify_code, error.verify_message = code, message
    return error


def raised(call: Callable[[], object]) -> str | None:
    """The sentence for what `call` raises."""
    try:
        call()
    except Exception as error:
        return error_sentence(error)
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("sentence", "cause", "next_step"),
    [
        # Credentials and permissions.
        pytest.param(
            aws(refused("TargetNotConnected", "i-0 is not connected.")),
            "i-0 is not connected;",
            "check the target's id and the region; .* SSM agent .* role .* smp probe",
            id="target not connected",
        ),
        pytest.param(
            aws(botocore.NoCredentialsError()), "there are no AWS credentials", "set AWS_PROFILE", id="no credentials"
        ),
        pytest.param(
            aws(botocore.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY")),
            "Partial credentials .* AWS_SECRET_ACCESS_KEY",
            "set the missing one",
            id="half a credential",
        ),
        pytest.param(
            aws(botocore.SSOTokenLoadError(error_msg="x"), profile="dev"),
            "the SSO login has expired",
            "run aws sso login --profile dev$",
            id="SSO never logged in",
        ),
        pytest.param(
            aws(botocore.UnauthorizedSSOTokenError()), "the SSO login has expired", "aws sso login$", id="SSO expired"
        ),
        pytest.param(
            aws(refused("ExpiredTokenException", "The security token included in the request is expired"), profile="p"),
            "The security token .* is expired",
            "aws sso login --profile p, or get new ones",
            id="credentials expired",
        ),
        pytest.param(
            aws(botocore.ProfileNotFound(profile="dvv")), "profile \\(dvv\\)", "list-profiles", id="no such profile"
        ),
        pytest.param(aws(botocore.NoRegionError()), "the region is not known", "give --region", id="no region"),
        pytest.param(
            aws(refused("UnrecognizedClientException")),
            "does not know these credentials",
            "access key",
            id="unknown key",
        ),
        pytest.param(
            aws(refused("InvalidSignatureException", "Signature expired")), "Signature expired", "clock", id="clock"
        ),
        pytest.param(
            aws(refused("AccessDeniedException", "User: arn:aws:sts::1:x is not authorized")),
            "User: arn:aws:sts::1:x is not authorized",
            "need the permission ssm:StartSession",
            id="StartSession denied",
        ),
        pytest.param(aws(refused("ThrottlingException")), "busy", "try again", id="throttled"),
        # KMS.
        pytest.param(
            error_sentence(KmsKeyService("s", "t")._failure(refused("AccessDeniedException"), "key-1")),
            "KMS gives no data key of key-1",
            "need the permission kms:GenerateDataKey for that key",
            id="KMS denied",
        ),
        pytest.param(
            error_sentence(KmsKeyService("s", "t")._failure(refused("DisabledException"), "key-1")),
            "KMS gives no data key of key-1",
            "have the key enabled",
            id="KMS key disabled",
        ),
        pytest.param(
            raised(lambda: asyncio.run(KmsKeyService("s", "").generate_data_key("key-1", ""))),
            "to be encrypted with the key key-1, and its target is not known",
            "give --target",
            id="KMS without a target",
        ),
        # The network.
        pytest.param(
            aws(botocore.EndpointConnectionError(endpoint_url="https://ssm.x")),
            "https://ssm.x",
            "check the network, the proxy",
            id="API not reached",
        ),
        pytest.param(
            aws(botocore.ProxyConnectionError(proxy_url="http://p:1")),
            "http://p:1",
            "check HTTPS_PROXY",
            id="API's proxy",
        ),
        pytest.param(
            network(InvalidProxyStatus(answer(407)), via="the proxy p:3128"),
            "the proxy p:3128 refused the connection to .* with status 407",
            "put user and password into the proxy's URL",
            id="proxy wants a password",
        ),
        pytest.param(
            network(InvalidProxyStatus(answer(403)), via="the proxy p:3128"),
            "the proxy p:3128 refused the connection to .* with status 403",
            "have the host allowed by whoever runs the proxy",
            id="proxy forbids",
        ),
        pytest.param(
            network(InvalidProxyStatus(answer(502)), via="the proxy p:3128"),
            "502",
            "cannot reach it",
            id="proxy cannot",
        ),
        pytest.param(
            network(ConnectionRefusedError(errno.ECONNREFUSED, "x"), via="the proxy p:3128"),
            "the proxy p:3128 refused the connection",
            "nothing listens there, or a firewall",
            id="no proxy there",
        ),
        pytest.param(
            network(certificate_error(20, "unable to get local issuer certificate"), issuer="Corp Root (Corp)"),
            "is not trusted: .* \\(it was issued by Corp Root \\(Corp\\)\\)",
            "give its CA with --ca-bundle or AWS_CA_BUNDLE",
            id="unknown CA",
        ),
        pytest.param(
            network(certificate_error(62, "Hostname mismatch, certificate is not valid for 'x'.")),
            "not valid for 'x'",
            "check the host of the URL",
            id="wrong host name",
        ),
        pytest.param(
            network(certificate_error(10, "certificate has expired")),
            "has expired",
            "check this machine's clock",
            id="old",
        ),
        pytest.param(
            raised(lambda: ssl_context("/nonexistent.pem")),
            "the CA bundle /nonexistent.pem cannot be read",
            "",
            id="CA file",
        ),
        pytest.param(
            network(socket.gaierror(socket.EAI_NONAME, "Name or service not known")),
            "the name of .* was not found",
            "check the URL, DNS and the VPN",
            id="DNS",
        ),
        pytest.param(
            network(ConnectionRefusedError(errno.ECONNREFUSED, "x")), "refused the connection", "firewall", id="refused"
        ),
        pytest.param(
            network(TimeoutError()), "did not answer within 30 seconds", "check the network, the proxy", id="timeout"
        ),
        pytest.param(
            network(InvalidStatus(answer(403))), "status 403 Forbidden", "start a new session", id="token refused"
        ),
        pytest.param(
            network(InvalidStatus(answer(302))), "redirects are not followed", "use the final URL", id="redirect"
        ),
        pytest.param(network(ImportError()), "extra package", "install .*\\[socks\\]", id="SOCKS"),
        # This machine.
        pytest.param(
            raised(lambda: complete_stream_url("host.example", None, "t")),
            "names no session",
            "give a complete",
            id="URL",
        ),
        pytest.param(raised(lambda: parse_dial("::1")), "is not HOST", "goes in brackets: \\[::1\\]:443", id="dial"),
        pytest.param(raised(lambda: parse_proxy("p:3128")), "takes a URL", "one of the kinds http", id="proxy URL"),
        pytest.param(
            raised(lambda: find_token(Environment(variables={}), None, "/nonexistent")),
            "the token file /nonexistent cannot be read",
            "No such file",
            id="token file",
        ),
        pytest.param(
            raised(lambda: listen_on_path(f"/tmp/{'x' * 200}")),
            "too long for a unix socket: 205 bytes",
            "Linux takes 107, macOS 103",
            id="socket path",
        ),
        # The session.
        pytest.param(
            ending_sentence(Ending("s-1", error=ConnectionLost("closed with code 1008", close_code=1008))),
            "session s-1 did not begin: closed with code 1008",
            "the token may be wrong, expired or used already",
            id="closed at once",
        ),
        pytest.param(
            ending_sentence(Ending("s-1", error=SessionEnded("x", output="Idle time-out."), began=True)),
            "session s-1 was closed by the far end: Idle time-out.",
            "",
            id="closed by the service",
        ),
    ],
)
def test_a_sentence_says_the_cause_and_the_next_step(
    sentence: str | Callable[[], str | None] | None, cause: str, next_step: str
) -> None:
    sentence = sentence() if callable(sentence) else sentence
    assert sentence is not None
    assert re.search(f"{cause}.*{next_step}", sentence), sentence
    assert len(sentence) < 500
    assert sentence.isprintable()


def test_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        sentence = raised(lambda: listen_on_port(port))
    assert sentence is not None
    assert re.search(f"127.0.0.1:{port}.*in use.*(another|choose)", sentence), sentence


def test_a_path_that_is_no_socket(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert raised(lambda: listen_on_path(str(tmp_path / "file"))) == (
        f"{tmp_path / 'file'} exists and is not a socket; choose another path"
    )


@pytest.mark.parametrize(
    ("system", "variables", "terminal", "mintty"),
    [
        ("nt", {"MSYSTEM": "MINGW64"}, False, True),
        ("nt", {"MSYSTEM": "MINGW64"}, True, False),
        ("nt", {}, False, False),
        ("posix", {"MSYSTEM": "MINGW64"}, False, False),
    ],
)
def test_a_window_of_git_bash(system: str, variables: dict[str, str], terminal: bool, mintty: bool) -> None:
    environment = Environment(variables=variables, is_terminal=lambda _fd: terminal, system=system)
    assert environment.is_mintty is mintty
