"""What people run into: each sentence says the cause and the next step."""

from __future__ import annotations

import asyncio
import errno
import json
import re
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore import exceptions as botocore
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from session_manager_plugin.aws.aws_errors import aws_failure
from session_manager_plugin.aws.kms import KmsKeyService, kms_error
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.cli.aws_options import check_proxy
from session_manager_plugin.cli.commands.connect import parse_dial
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.render import ending_sentence, error_sentence
from session_manager_plugin.cli.session import Ending
from session_manager_plugin.cli.token import find_token
from session_manager_plugin.communicator import complete_stream_url
from session_manager_plugin.communicator.certificate import Certificate
from session_manager_plugin.communicator.connect_errors import connect_failure
from session_manager_plugin.communicator.http_answer import Answer, NotHTTP
from session_manager_plugin.communicator.opening import Stage, TunnelRefused
from session_manager_plugin.communicator.tls import ssl_context
from session_manager_plugin.errors import ConnectionLost
from session_manager_plugin.session.listener import listen_on_path, listen_on_port
from session_manager_plugin.session.outcome import Outcome, outcome_of
from session_manager_plugin.utils.setting_names import PLUGIN_SETTINGS, SMP_SETTINGS, SettingNames

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


def network(
    error: Exception,
    *,
    via: str = "",
    stage: Stage = Stage.TCP,
    certificate: Certificate | None = None,
    has_credentials: bool = False,
    names: SettingNames = SMP_SETTINGS,
) -> str | None:
    """The sentence for what opening a websocket raised."""
    failure = connect_failure(
        error,
        HOST,
        via=via,
        timeout=30.0,
        stage=stage,
        certificate=certificate,
        has_credentials=has_credentials,
        names=names,
    )
    return error_sentence(failure)


def answer(status: int, **headers: str) -> Response:
    """An HTTP response; of a header's name `_` stands for `-`."""
    return Response(status, "", Headers({name.replace("_", "-"): value for name, value in headers.items()}))


def refusal(status: int, **headers: str) -> TunnelRefused:
    """A proxy's answer to CONNECT; of a header's name `_` stands for `-`."""
    return TunnelRefused(Answer(status, "", {name.replace("_", "-"): value for name, value in headers.items()}))


PROXY = "the proxy p:3128"
FOUND = Certificate(
    "Corp Root (Corp)", ("portal.corp", "*.corp"), datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
)


def certificate_error(code: int, message: str) -> ssl.SSLCertVerificationError:
    """As OpenSSL raises it."""
    error = ssl.SSLCertVerificationError(1, f"certificate verify failed: {message}")
    error.verify_code, error.verify_message = code, message
    return error


def tls_error(reason: str) -> ssl.SSLError:
    """As OpenSSL raises it."""
    error = ssl.SSLError(1, reason)
    error.reason = reason
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
            "check the target's id and the region; .* SSM agent .* role .* run smp probe to check this machine",
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
            "aws sso login --profile p, or renew them where they come from",
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
        pytest.param(aws(refused("ThrottlingException")), "too many requests", "try again", id="throttled"),
        pytest.param(
            aws(json.JSONDecodeError("Expecting value", "", 0)),
            "StartSession failed: a credential process or a cache file of the AWS CLI holds no JSON",
            "aws sts get-caller-identity",
            id="no JSON",
        ),
        pytest.param(
            aws(botocore.SSLError(endpoint_url="https://ssm.x", error="[SSL: ODD] odd thing (_ssl.c:4154)")),
            "SSL validation failed for https://ssm.x odd thing;",
            "set AWS_CA_BUNDLE to the file of its CA",
            id="API's certificate",
        ),
        # KMS.
        pytest.param(
            error_sentence(kms_error(refused("AccessDeniedException"), "key-1", None)),
            "KMS did not generate a data key with key-1",
            "need the permission kms:GenerateDataKey for that key",
            id="KMS denied",
        ),
        pytest.param(
            error_sentence(kms_error(refused("DisabledException"), "key-1", None)),
            "KMS did not generate a data key with key-1",
            "have the key enabled",
            id="KMS key disabled",
        ),
        pytest.param(
            raised(lambda: asyncio.run(KmsKeyService(AwsSettings(), "s", "").generate_data_key("key-1", ""))),
            "is encrypted with the key key-1, and its target is not known",
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
            network(refusal(407), via=PROXY),
            "the proxy p:3128 refused the connection to .* with status 407",
            "put user and password into the proxy's URL",
            id="proxy wants a password",
        ),
        pytest.param(
            network(refusal(407, proxy_authenticate='Basic realm="x"'), via=PROXY, has_credentials=True),
            "status 407",
            "does not accept the user and password in its URL",
            id="proxy wants another password",
        ),
        pytest.param(
            network(refusal(407, proxy_authenticate="Negotiate, NTLM"), via=PROXY, has_credentials=True),
            "wants Negotiate or NTLM, which smp cannot do",
            "px, cntlm.* --proxy or HTTPS_PROXY$",
            id="proxy wants NTLM",
        ),
        pytest.param(
            network(refusal(407, proxy_authenticate="NTLM"), via=PROXY, names=PLUGIN_SETTINGS),
            "which this plugin cannot do",
            "name it with HTTPS_PROXY$",
            id="proxy wants NTLM of the plugin",
        ),
        pytest.param(
            network(refusal(403), via=PROXY),
            "the proxy p:3128 refused the connection to .* with status 403",
            "have the host allowed by whoever runs the proxy",
            id="proxy forbids",
        ),
        pytest.param(network(refusal(502), via=PROXY), "502", "cannot reach it", id="proxy cannot"),
        pytest.param(
            network(refusal(302), via=PROXY), "302 Found, a redirect", "log in with a browser", id="proxy redirects"
        ),
        pytest.param(
            network(refusal(511), via=PROXY), "511 Network Auth", "log in with a browser", id="proxy is a portal"
        ),
        pytest.param(
            network(NotHTTP(b"220 mail.example ESMTP"), via=PROXY, stage=Stage.PROXY),
            "the proxy p:3128 does not speak HTTP: it answered '220 mail.example ESMTP'",
            "scheme \\(http or https\\)",
            id="no proxy",
        ),
        pytest.param(
            network(ConnectionResetError(errno.ECONNRESET, "x"), via=PROXY, stage=Stage.PROXY),
            "the proxy p:3128 cut the connection",
            "ask whoever runs the proxy",
            id="proxy cuts",
        ),
        pytest.param(
            network(InvalidStatus(answer(511))), "status 511", "log in with a browser", id="portal answers 511"
        ),
        pytest.param(
            network(InvalidStatus(answer(302, location="http://login.hotel.example/"))),
            "status 302 Found, a redirect to login.hotel.example: redirects are not followed",
            "log in with a browser",
            id="portal redirects",
        ),
        pytest.param(
            network(InvalidStatus(answer(200, content_type="text/html"))),
            "status 200 OK and a web page",
            "log in with a browser",
            id="portal answers a page",
        ),
        pytest.param(
            network(NotHTTP(b"<html><h1>Blocked"), stage=Stage.WEBSOCKET),
            "answered with a web page",
            "log in with a browser",
            id="page without HTTP",
        ),
        pytest.param(
            network(NotHTTP(b""), stage=Stage.WEBSOCKET),
            "closed the connection without an answer",
            "check the host, the port and the scheme",
            id="closed",
        ),
        pytest.param(
            network(tls_error("WRONG_VERSION_NUMBER"), stage=Stage.TLS),
            "does not speak TLS on this port: it answered in plain text",
            "is this a TLS port.* log in with a browser",
            id="plain text for TLS",
        ),
        pytest.param(
            network(ssl.SSLError(1, "[SSL: ODD] odd thing (_ssl.c:4154)"), stage=Stage.TLS),
            f"TLS with {HOST} failed: odd thing;",
            "check the port",
            id="TLS without a reason",
        ),
        pytest.param(
            network(ConnectionResetError(), stage=Stage.TLS),
            "was cut during the TLS handshake",
            "a firewall that filters by name",
            id="TLS cut",
        ),
        pytest.param(
            network(TimeoutError(), stage=Stage.NAME),
            f"DNS did not answer within 30 seconds when asked for {HOST}",
            "check the DNS server",
            id="DNS silent",
        ),
        pytest.param(
            network(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")),
            "DNS does not answer for .*: Temporary failure",
            "check the DNS server",
            id="DNS down",
        ),
        pytest.param(
            network(ConnectionRefusedError(errno.ECONNREFUSED, "x"), via="the proxy p:3128"),
            "the proxy p:3128 refused the connection",
            "nothing listens there, or a firewall",
            id="no proxy there",
        ),
        pytest.param(
            network(certificate_error(20, "unable to get local issuer certificate"), certificate=FOUND),
            "is not trusted: .* \\(it was issued by Corp Root \\(Corp\\)\\)",
            "give its CA with --ca-bundle or AWS_CA_BUNDLE",
            id="unknown CA",
        ),
        pytest.param(
            network(certificate_error(20, "unable to get local issuer certificate"), names=PLUGIN_SETTINGS),
            "is not trusted: unable to get local issuer certificate",
            "give its CA with AWS_CA_BUNDLE$",
            id="unknown CA for the plugin",
        ),
        pytest.param(
            network(certificate_error(62, "Hostname mismatch, certificate is not valid for 'x'.")),
            "not valid for 'x'",
            "check the host of the URL",
            id="wrong host name",
        ),
        pytest.param(
            network(certificate_error(62, "Hostname mismatch"), certificate=FOUND),
            "is for portal.corp, \\*.corp, not for it \\(issued by Corp Root \\(Corp\\)\\)",
            "check the host of the URL",
            id="the names it holds",
        ),
        pytest.param(
            network(certificate_error(10, "certificate has expired")),
            "has expired",
            "check this machine's clock",
            id="old",
        ),
        pytest.param(
            raised(lambda: ssl_context("/nonexistent.pem")),
            "the CA bundle /nonexistent.pem cannot be read: No such file or directory$",
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
        pytest.param(
            raised(lambda: check_proxy("p:3128")), "proxy of --proxy", "begins with none of http", id="proxy URL"
        ),
        pytest.param(
            raised(lambda: find_token(Environment(variables={}), None, "/nonexistent")),
            "the token file /nonexistent cannot be read",
            "No such file",
            id="token file",
        ),
        pytest.param(
            raised(lambda: listen_on_path(f"/tmp/{'x' * 200}")),
            "too long for a unix socket: 205 bytes",
            "Linux allows 107, macOS 103",
            id="socket path",
        ),
        # The session.
        pytest.param(
            ending_sentence(Ending("s-1", outcome_of(ConnectionLost("closed with code 1008", close_code=1008)))),
            "session s-1 did not begin: closed with code 1008",
            "the token may be wrong, expired or used already",
            id="closed at once",
        ),
        pytest.param(
            ending_sentence(Ending("s-1", Outcome(text="Idle time-out.", by_far_end=True), began=True)),
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
