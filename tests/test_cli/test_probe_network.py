"""`smp probe` on networks that are broken: names, each address family, proxies, certificates."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.connect_proxy import ConnectProxy
from tests.support.fake_gateway import served, silence
from tests.support.raw_server import Peer, RawServer, Script, http_answer, read_request
from tests.test_cli.probing import TOKEN, Prober, Smp

HOST = "gateway.test"
PATH = "/v1/data-channel/session-1?role=publish_subscribe"


async def accept(peer: Peer) -> None:
    """A gateway that says nothing."""
    await peer.accept()
    await peer.until_gone()


def url_of(port: int, scheme: str = "ws", host: str = HOST) -> tuple[str, ...]:
    """Probe a gateway there, without a token."""
    return ("--url", f"{scheme}://{host}:{port}{PATH}")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A CA that nobody knows."""
    return Authority(tmp_path)


# Names.


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "the name was not found"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "Temporary failure"),
    ],
)
def test_a_name_that_does_not_resolve(prober: Prober, error: socket.gaierror, detail: str) -> None:
    prober.resolve({HOST: error})
    report = prober(*url_of(443, "wss"))
    assert report.one("dns", HOST).verdict == "fail"
    assert detail in report.one("dns").detail
    assert "DNS" in report.one("dns").advice
    skipped = ("tcp", "proxy", "tls", "websocket", "channel", "latency")
    assert report.verdicts() == {"dns": ["fail"], **{stage: ["skipped"] for stage in skipped}}


def test_a_name_that_the_real_resolver_does_not_know(prober: Prober) -> None:
    report = prober("--url", f"wss://nobody.invalid{PATH}")  # RFC 6761: no resolver ever knows it
    assert report.one("dns").verdict == "fail"


def test_a_resolver_that_does_not_answer(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_arguments: object, **_options: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    report = prober(*url_of(443), "--connect-timeout", "0.05")
    assert report.one("dns").detail == "no answer within 0.05 s"
    assert report.one("dns").advice.startswith("this machine seems to be offline")


def test_one_family_that_the_resolver_fails_for_is_a_warning(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, family: int = 0, *rest: int, **options: int) -> object:
        if host == HOST and family == socket.AF_INET6:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real("127.0.0.1" if host == HOST else host, port, family, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with served(RawServer(accept)) as gateway:
        report = prober(*url_of(gateway.port))
    assert report.one("dns").verdict == "warn"
    assert report.one("dns").detail == "IPv4 127.0.0.1; IPv6: Temporary failure in name resolution"
    assert report.json["ok"]


# Each family apart.


@pytest.mark.parametrize(("host", "works", "broken"), [("127.0.0.1", "IPv4", "IPv6"), ("::1", "IPv6", "IPv4")])
def test_one_family_that_is_refused_is_a_warning(prober: Prober, host: str, works: str, broken: str) -> None:
    prober.resolve({HOST: ["127.0.0.1", "::1"]})
    with served(RawServer(accept, host=host)) as gateway:
        report = prober(*url_of(gateway.port))
    assert report.one("dns").detail == "IPv4 127.0.0.1; IPv6 ::1"
    assert report.one("tcp", works).verdict == "pass"
    failed = report.one("tcp", broken)
    assert failed.verdict == "warn"
    assert "Connection refused" in failed.detail
    assert failed.advice.startswith("the other family works")
    assert report.one("websocket").verdict == "pass"
    assert report.json["ok"]


@pytest.mark.parametrize(("address", "family"), [("127.0.0.1", "IPv4"), ("::1", "IPv6")])
def test_a_closed_port(prober: Prober, address: str, family: str) -> None:
    prober.resolve({HOST: [address]})
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as closed:
        closed.bind((address, 0))  # and does not listen
        report = prober(*url_of(closed.getsockname()[1]))
    tcp = report.one("tcp")
    assert (tcp.name.split()[0], tcp.verdict) == (family, "fail")
    assert "Connection refused" in tcp.detail
    assert "nothing listens at" in tcp.advice
    assert report.verdicts()["websocket"] == ["skipped"]


def test_both_families_closed(prober: Prober) -> None:
    prober.resolve({HOST: ["127.0.0.1", "::1"]})
    with socket.socket() as closed, socket.socket(socket.AF_INET6) as closed6:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        closed6.bind(("::1", port))
        report = prober(*url_of(port))
    assert report.verdicts()["tcp"] == ["fail", "fail"]


@contextlib.contextmanager
def deaf(address: str) -> Iterator[int]:
    """A port where connections are neither accepted nor refused: its queue is full."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.ExitStack() as held:
        listening = held.enter_context(socket.socket(family))
        listening.bind((address, 0))
        listening.listen(0)
        for _ in range(3):
            waiting = held.enter_context(socket.socket(family))
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_packets_that_are_dropped(prober: Prober, address: str) -> None:
    prober.resolve({HOST: [address]})
    with deaf(address) as port:
        report = prober(*url_of(port), "--connect-timeout", "0.2")
    tcp = report.one("tcp")
    assert tcp.verdict == "fail"
    assert tcp.detail == f"{address}: no answer within 0.2 s"
    assert "firewall" in tcp.advice
    assert "HTTPS_PROXY" in tcp.advice


def test_no_route(prober: Prober) -> None:
    prober.resolve({HOST: ["255.255.255.255"]})  # a broadcast address, to which there is no TCP
    tcp = prober(*url_of(443)).one("tcp")
    assert tcp.verdict == "fail"
    assert tcp.advice


def test_one_of_two_addresses_fails(prober: Prober) -> None:
    prober.resolve({HOST: ["127.0.0.1", "127.0.0.2"]})
    with served(RawServer(accept)) as gateway:
        report = prober(*url_of(gateway.port))
    tcp = report.one("tcp")
    assert tcp.verdict == "warn"
    assert tcp.detail == "connected to 127.0.0.1, but not to 127.0.0.2: Connection refused"


# Proxies.


def test_through_a_proxy_with_a_password(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(RawServer(accept)) as gateway, served(ConnectProxy({f"{HOST}:80": gateway.port})) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.proxy_url("user:pass-word"))
        report = prober(*url_of(80))
        assert proxy.requests[0].values("Proxy-Authorization") == ["Basic dXNlcjpwYXNzLXdvcmQ="]
    assert report.one("dns").name == "127.0.0.1 (the proxy)"
    found = report.one("proxy")
    assert found.name == f"http://127.0.0.1:{proxy.port}"
    assert found.detail == f"connected to {HOST}:80 by {found.name} (HTTPS_PROXY)"
    assert report.one("websocket").verdict == "pass"
    assert b"pass-word" not in prober.output


def test_tls_through_a_proxy(prober: Prober, authority: Authority) -> None:
    tls = authority.server_context(HOST)
    with (
        served(RawServer(accept, tls=tls)) as gateway,
        served(ConnectProxy({f"{HOST}:443": gateway.port})) as proxy,
    ):
        options = ("--proxy", proxy.proxy_url(), "--ca-bundle", str(authority.bundle))
        report = prober("--url", f"wss://{HOST}{PATH}", *options)
        assert report.json["ok"]
        assert "(--proxy)" in report.one("proxy").detail

        # The certificate that is refused is looked at through the proxy too.
        report = prober("--url", f"wss://{HOST}{PATH}", "--proxy", proxy.proxy_url())
        assert "issued by Test authority" in report.one("tls").detail


def test_the_dialled_host_is_what_the_proxy_is_asked_for(prober: Prober) -> None:
    with served(RawServer(accept)) as gateway, served(ConnectProxy({"10.0.0.5:8443": gateway.port})) as proxy:
        report = prober(*url_of(80), "--proxy", proxy.proxy_url(), "--dial", "10.0.0.5:8443")
    assert report.one("websocket").verdict == "pass"


@pytest.mark.parametrize(
    ("status", "detail", "advice"),
    [
        (403, "status 403 Forbidden", "have the host allowed"),
        (407, "status 407 Proxy Authentication Required", "USER:PASSWORD@HOST"),
        (502, "status 502 Bad Gateway", "the proxy cannot reach it"),
        (418, "status 418", "what this status means"),
    ],
)
def test_a_proxy_that_refuses(prober: Prober, status: int, detail: str, advice: str) -> None:
    with served(ConnectProxy({}, refuse_with=status)) as proxy:
        report = prober(*url_of(80), "--proxy", proxy.proxy_url())
    found = report.one("proxy")
    assert found.verdict == "fail"
    assert detail in found.detail
    assert advice in found.advice
    assert report.verdicts()["tcp"] == ["pass"]
    assert report.verdicts()["tls"] == report.verdicts()["websocket"] == ["skipped"]


def test_a_proxy_that_does_not_take_the_password(prober: Prober) -> None:
    with served(ConnectProxy({}, refuse_with=407)) as proxy:
        report = prober(*url_of(80), "--proxy", proxy.proxy_url("user:wrong"))
    assert "does not accept the user and password" in report.one("proxy").advice
    assert b"wrong" not in prober.output


def test_a_proxy_that_wants_what_we_cannot_do(prober: Prober) -> None:
    async def script(peer: Peer) -> None:
        await read_request(peer.reader)
        peer.write(http_answer(407, "Proxy-Authenticate: Negotiate", "Proxy-Authenticate: NTLM"))
        peer.end()

    with served(RawServer(script)) as proxy:
        report = prober(*url_of(80), "--proxy", f"http://127.0.0.1:{proxy.port}")
    assert report.one("proxy").advice.startswith("the proxy wants Negotiate or NTLM, which smp cannot do")


async def hang_up(peer: Peer) -> None:
    """Answers nothing."""
    await read_request(peer.reader)
    peer.end()


async def answer_like_ssh(peer: Peer) -> None:
    """Reads something, and does not understand it."""
    await peer.reader.read(1)
    peer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await peer.until_gone()


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        (silence, "did not answer the request to connect to gateway.test:80 within 1 seconds"),
        (hang_up, "closed the connection without an answer"),
        (answer_like_ssh, "does not speak HTTP: it answered 'SSH-2.0"),
    ],
)
def test_what_is_no_proxy(prober: Prober, script: Script, detail: str) -> None:
    with served(RawServer(script)) as proxy:
        patience = "1" if script is silence else "10"
        report = prober(*url_of(80), "--proxy", f"http://127.0.0.1:{proxy.port}", "--connect-timeout", patience)
    assert detail in report.one("proxy").detail
    assert report.one("proxy").verdict == "fail"


def test_a_proxy_spoken_to_by_tls_with_an_unknown_ca(prober: Prober, authority: Authority) -> None:
    with served(RawServer(silence, tls=authority.server_context("127.0.0.1"))) as proxy:
        report = prober(*url_of(80), "--proxy", f"https://127.0.0.1:{proxy.port}")
    assert report.one("proxy").verdict == "fail"
    assert "the certificate of the proxy 127.0.0.1" in report.one("proxy").detail


@pytest.mark.slow
def test_no_proxy_for_excepted_hosts_and_loopback(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", ".test")
    prober.resolve({HOST: ["127.0.0.1"]})
    with served(RawServer(accept)) as gateway:
        assert prober(*url_of(gateway.port)).one("proxy").detail.endswith("NO_PROXY excepts gateway.test")
        loopback = prober(*url_of(gateway.port, host="127.0.0.1"))
        monkeypatch.delenv("HTTPS_PROXY")
        unset = prober(*url_of(gateway.port))
    assert loopback.one("proxy").detail.endswith("loopback is never proxied")
    assert unset.one("proxy").detail.endswith("no proxy is set")


@pytest.mark.parametrize("character", ["/", "?", "#", "%ff%fe"])
def test_no_part_of_a_proxys_password_is_shown(
    prober: Prober, smp: Smp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, character: str
) -> None:
    """The text before the last @ is user and password, whatever a parser makes of it."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://bob:Secret1{character}Word2@127.0.0.1:3128")
    log = tmp_path / "log"
    found = prober(*url_of(80), "--log-file", str(log)).one("proxy")
    connected = smp("connect", "-vv", "--log-file", str(log), "--insecure", "--token", TOKEN, *url_of(80))
    given = smp("connect", "--proxy", f"http://bob:Secret1{character}Word2@h", "--token", TOKEN, *url_of(80))

    reason = "is not UTF-8" if "%" in character else "holds / ? or #; percent-encode them as %2F %3F %23"
    assert reason in f"{found.detail}; {found.advice}"
    assert f"the proxy of HTTPS_PROXY cannot be used: its user or password {reason}" in connected.err
    assert f"the proxy of --proxy cannot be used: its user or password {reason}" in given.err
    for shown in (prober.output.decode(), connected.err, given.err, log.read_text()):
        assert "Secret1" not in shown
        assert "Word2" not in shown


@pytest.mark.parametrize("proxy", ["ftp://proxy:21", "http://user@proxy", "http://proxy:99999"])
def test_a_proxy_variable_that_makes_no_sense(prober: Prober, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    report = prober(*url_of(80))
    assert report.one("proxy").verdict == "fail"
    assert "HTTPS_PROXY" in report.one("proxy").detail
    assert report.verdicts()["dns"] == report.verdicts()["websocket"] == ["skipped"]


def test_socks_without_the_extra_package(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect_socks_proxy(*_arguments: object) -> None:
        raise ImportError("connecting through a SOCKS proxy requires python-socks")

    monkeypatch.setattr("websockets.asyncio.client.connect_socks_proxy", connect_socks_proxy)
    with served(RawServer(silence)) as proxy:
        report = prober(*url_of(80), "--proxy", f"socks5h://127.0.0.1:{proxy.port}")
    assert "python-session-manager-plugin[socks]" in report.one("proxy").detail


# Certificates.


def test_a_private_ca(prober: Prober, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(RawServer(accept, tls=authority.server_context(HOST))) as gateway:
        arguments = ("--url", f"wss://{HOST}{PATH}", "--dial", f"127.0.0.1:{gateway.port}")
        unknown = prober(*arguments)
        given = prober(*arguments, "--ca-bundle", str(authority.bundle))
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.bundle))
        from_variable = prober(*arguments)
    tls = unknown.one("tls")
    assert tls.verdict == "fail"
    assert "it was issued by Test authority" in tls.detail
    assert "--ca-bundle" in tls.advice
    assert unknown.verdicts()["websocket"] == ["skipped"]
    assert given.one("dns").name == f"127.0.0.1 (for {HOST})"
    tls = given.one("tls")
    assert tls.verdict == "warn"  # it is for 10 days
    assert tls.detail.startswith("TLSv1.3, issued by Test authority, expires ")
    assert tls.detail.endswith(f"(in 9 days), name checked: {HOST}")
    assert "renew" in tls.advice
    assert given.one("websocket").verdict == from_variable.one("websocket").verdict == "pass"


def test_an_expired_certificate(prober: Prober, authority: Authority) -> None:
    with served(RawServer(accept, tls=authority.server_context(HOST, expired=True))) as gateway:
        options = ("--dial", f"127.0.0.1:{gateway.port}", "--ca-bundle", str(authority.bundle))
        tls = prober("--url", f"wss://{HOST}{PATH}", *options).one("tls")
    assert tls.verdict == "fail"
    assert "certificate has expired (it was issued by Test authority and expired " in tls.detail
    assert "clock" in tls.advice


def test_a_certificate_for_another_name(prober: Prober, authority: Authority) -> None:
    with served(RawServer(accept, tls=authority.server_context("other.test"))) as gateway:
        options = ("--dial", f"127.0.0.1:{gateway.port}", "--ca-bundle", str(authority.bundle))
        tls = prober("--url", f"wss://{HOST}{PATH}", *options).one("tls")
    assert tls.verdict == "fail"
    assert tls.detail == f"the certificate of {HOST}:443 is for other.test, not for it (issued by Test authority)"
    assert "--dial" in tls.advice


async def greet_like_ssh(peer: Peer) -> None:
    """Speaks first: before the handshake has begun."""
    peer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await peer.until_gone()


@pytest.mark.parametrize("script", [answer_like_ssh, greet_like_ssh])
def test_a_port_that_does_not_speak_tls(prober: Prober, script: Script) -> None:
    with served(RawServer(script)) as gateway:
        report = prober(*url_of(gateway.port, "wss", "127.0.0.1"))
    assert report.one("tls").verdict == "fail"
    assert "is this a TLS port?" in report.one("tls").advice


async def cut(peer: Peer) -> None:
    """Resets the connection when it sees the first bytes, as firewalls that filter by name do."""
    await peer.reader.read(1)
    peer.cut()


@pytest.mark.parametrize(
    ("script", "detail"),
    [(silence, "did not answer the TLS handshake within 1"), (cut, "was cut during the TLS handshake")],
)
def test_tls_that_goes_nowhere(prober: Prober, script: Script, detail: str) -> None:
    with served(RawServer(script)) as gateway:
        patience = "1" if script is silence else "10"
        tls = prober(*url_of(gateway.port, "wss", "127.0.0.1"), "--connect-timeout", patience).one("tls")
    assert tls.verdict == "fail"
    assert detail in tls.detail
    assert "firewall" in tls.advice


def test_a_bundle_that_cannot_be_read(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(RawServer(silence)) as gateway:
        monkeypatch.setenv("AWS_CA_BUNDLE", "/nonexistent")
        tls = prober(*url_of(gateway.port, "wss", "127.0.0.1")).one("tls")
    assert tls.verdict == "fail"
    assert "/nonexistent" in tls.detail


# The endpoints of a region.


IDENTITY = b"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::111122223333:user/alice</Arn><UserId>AIDA</UserId><Account>111122223333</Account>
</GetCallerIdentityResult></GetCallerIdentityResponse>"""
UNKNOWN_KEY = b"""<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>InvalidClientTokenId</Code><Message>The security token included in the request is invalid.</Message></Error>
</ErrorResponse>"""
NO_TARGETS = b'{"InstanceInformationList": []}'
NOT_ALLOWED = (
    b'{"__type": "AccessDeniedException", "Message": "User: arn:aws:iam::111122223333:user/alice is not authorized to '
    b"perform: ssm:DescribeInstanceInformation on resource: arn:aws:ssm:eu-west-1:111122223333:* because no "
    b'identity-based policy allows the ssm:DescribeInstanceInformation action"}'
)


def answer_with_date(offset: float = 0.0, *, refuses: bool = False) -> Script:
    """Endpoints of AWS: the time, GetCallerIdentity, and DescribeInstanceInformation."""

    async def script(peer: Peer) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            request = await read_request(peer.reader)
            status, body = 200, b""
            if request.line == "POST / HTTP/1.1":
                await peer.reader.readexactly(int(request.values("Content-Length")[0]))
                status = 400 if refuses else 200
                if request.values("X-Amz-Target"):
                    body = NOT_ALLOWED if refuses else NO_TARGETS
                else:
                    body = UNKNOWN_KEY if refuses else IDENTITY
            else:
                assert request.line == "GET /ping HTTP/1.1"
            peer.write(http_answer(status, f"Date: {formatdate(time.time() + offset, usegmt=True)}", body=body))
            peer.end()

    return script


ENDPOINTS = ("ssm", "ssmmessages", "kms", "sts")


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some, that nobody looks at."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAAAAAAAAAAAAAAAAA",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("credentials")
def test_the_endpoints_of_a_region(prober: Prober, authority: Authority) -> None:
    hosts = [f"{service}.eu-west-1.amazonaws.com" for service in ENDPOINTS]
    with contextlib.ExitStack() as servers:
        routes = {
            f"{host}:443": servers.enter_context(
                served(RawServer(answer_with_date(), tls=authority.server_context(host)))
            ).port
            for host in hosts
        }
        proxy = servers.enter_context(served(ConnectProxy(routes)))
        report = prober("--proxy", proxy.proxy_url(), "--ca-bundle", str(authority.bundle))
    assert report.json["ok"]
    assert [check.name for check in report.of("tls")] == hosts
    assert report.one("local", "clock").verdict == "pass"
    assert report.verdicts()["websocket"] == report.verdicts()["channel"] == ["skipped"]
    assert "--url" in report.one("websocket").detail
    assert report.one("local", "identity").detail == "arn:aws:iam::111122223333:user/alice"
    assert report.one("local", "DescribeInstanceInformation").verdict == "pass"


@pytest.mark.usefixtures("credentials")
def test_credentials_that_aws_refuses(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(RawServer(answer_with_date(refuses=True))) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        report = prober()
    identity, listing = report.one("local", "identity"), report.one("local", "DescribeInstanceInformation")
    assert (identity.verdict, listing.verdict) == ("fail", "warn")
    assert "InvalidClientTokenId" in identity.detail
    assert "does not know these credentials" in identity.advice
    assert "user/alice needs ssm:DescribeInstanceInformation" in listing.detail
    assert listing.advice == "smp ls and targets by name need it, ids do not: have an administrator allow it"


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    ("failure", "hint"),
    [
        (socket.EAI_AGAIN, "this machine seems to be offline: no DNS server answers; check its network"),
        (socket.EAI_NONAME, "this machine seems to be offline, or there is no region eu-west-1; check its network"),
    ],
)
def test_offline_is_told_once(prober: Prober, smp: Smp, failure: int, hint: str) -> None:
    hosts = [f"{service}.eu-west-1.amazonaws.com" for service in ENDPOINTS]
    prober.resolve(dict.fromkeys(hosts, socket.gaierror(failure, "there is no answer")))
    report = prober()
    assert [check.verdict for check in report.of("dns")] == ["fail"] * 4
    assert all(check.advice.startswith(hint) for check in report.of("dns"))
    shown = smp("probe").out.decode()
    assert shown.count("seems to be offline") == 1
    assert f"{', '.join(hosts)}\n  fail     dns" in shown
    assert "skipped  " not in shown
    everything = smp("probe", "-v").out.decode()
    assert everything.count("fail     dns") == 4
    assert "skipped  " in everything


@pytest.mark.usefixtures("credentials")
def test_endpoints_from_variables_and_a_clock_that_is_wrong(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as servers:
        ports = {}
        for service in ENDPOINTS:
            server = servers.enter_context(served(RawServer(answer_with_date(-3600))))
            ports[service] = server.port
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service.upper()}", f"http://127.0.0.1:{server.port}")
        report = prober()
        assert [check.name for check in report.of("tcp")] == [f"IPv4 127.0.0.1:{ports[name]}" for name in ENDPOINTS]
    clock = report.one("local", "clock")
    assert clock.verdict == "fail"
    assert "1:00:0" in clock.detail
    assert "ahead" in clock.detail
    assert "NTP" in clock.advice


@pytest.mark.usefixtures("credentials")
def test_one_endpoint_that_is_missing(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(RawServer(answer_with_date())) as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", f"http://127.0.0.1:{closed.getsockname()[1]}")
        report = prober()
    assert report.verdicts()["tcp"] == ["pass", "pass", "fail", "pass"]


def test_nothing_of_the_token_in_any_form(prober: Prober) -> None:
    with served(RawServer(accept)) as gateway:
        url = f"ws://127.0.0.1:{gateway.port}{PATH}&token={TOKEN}"
        prober("--url", url)
    assert TOKEN.encode() not in prober.output
