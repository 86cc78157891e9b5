"""The stage `tls`: whose certificate it is and, when it is refused, why and who issued it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from datetime import datetime

from session_manager_plugin.cli.probe.certificate import EXPIRY_WARNING, Certificate, now_utc
from session_manager_plugin.cli.probe.checks import Group, Running, Stage
from session_manager_plugin.cli.probe.sentences import os_text, split, ssl_text
from session_manager_plugin.communicator.probe_link import (
    Addresses,
    Link,
    Route,
    connect_all,
    connect_through_socks,
    trusted,
    trusting_anything,
)
from session_manager_plugin.errors import SessionManagerError

# OpenSSL's verification errors (X509_V_ERR_...).
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_NAME = (62, 64)
_UNKNOWN_ISSUER = (2, 18, 19, 20, 21)


async def check_tls(
    group: Group,
    route: Route,
    link: Link,
    ca_bundle: str | None,
    address: tuple[socket.AddressFamily, tuple[object, ...]],
    timeout: float,
) -> bool:
    """Whether the link may be used: TLS is there, or the URL wants none.

    `address` is where the link leads, for another look at a certificate that was refused. `timeout` is in seconds.
    """
    if not route.is_secure:
        group.skip(route.place, "not encrypted: the URL says so", Stage.TLS)
        return True
    with group.check(Stage.TLS, route.host) as check:
        try:
            context = await asyncio.to_thread(trusted, ca_bundle)
        except SessionManagerError as error:
            check.failed(str(error), "check --ca-bundle and AWS_CA_BUNDLE")
            return False
        try:
            async with asyncio.timeout(timeout):
                await link.start_tls(context, route.host)
        except ssl.SSLCertVerificationError as error:
            seen = await _look_at_certificate(route, address, timeout)
            check.failed(*_certificate_failure(route, error, seen, now_utc()))
            return False
        except (OSError, SessionManagerError) as error:
            check.failed(*_tls_failure(route, error, timeout))
            return False
        _say_tls(check, route, link, now_utc())
        return True


def _say_tls(check: Running, route: Route, link: Link, now: datetime) -> None:
    version = link.tls.version() or "TLS"
    der = link.tls.getpeercert(binary_form=True)
    try:
        seen = Certificate.parse(der or b"")
    except ValueError:
        check.passed(f"{version}, name checked: {route.host}")
        return
    detail = f"{version}, issued by {seen.issuer}, {seen.expiry(now)}, name checked: {route.host}"
    if seen.not_after - now < EXPIRY_WARNING:
        check.warned(detail, "tell whoever runs the host to renew its certificate")
    else:
        check.passed(detail)


async def _look_at_certificate(
    route: Route, address: tuple[socket.AddressFamily, tuple[object, ...]], timeout: float
) -> Certificate | None:
    """The certificate that was refused, from a second connection that trusts anything and sends nothing."""
    family, peer = address
    link: Link | None = None
    try:
        async with asyncio.timeout(timeout):
            if route.proxy is not None and route.proxy.startswith("socks"):
                link = await Link.over(await connect_through_socks(route))
            else:
                (attempt,) = await connect_all(Addresses(family, (peer,)), timeout)
                if attempt.connected is None:
                    return None
                link = await Link.over(attempt.connected)
                if route.proxy is not None:
                    await link.tunnel(route)
            await link.start_tls(trusting_anything(), route.host)
        return Certificate.parse(link.tls.getpeercert(binary_form=True) or b"")
    except (OSError, SessionManagerError, ValueError):
        return None
    finally:
        if link is not None:
            await link.close()


def _certificate_failure(
    route: Route, error: ssl.SSLCertVerificationError, seen: Certificate | None, now: datetime
) -> tuple[str, str]:
    detail = f"the certificate is not trusted: {error.verify_message.rstrip('.')}"
    issuer = seen.issuer if seen is not None else ""
    if issuer:
        detail = f"{detail}; it was issued by {issuer}"
    code = error.verify_code
    if code == _EXPIRED:
        when = f", it {seen.expiry(now)}" if seen is not None else ""
        return f"{detail}{when}", "check this machine's clock; if it is right, whoever runs the host has to renew it"
    if code == _NOT_YET_VALID:
        when = f", it begins {seen.not_before:%Y-%m-%d %H:%M} UTC" if seen is not None else ""
        return f"{detail}{when}", "check this machine's clock"
    if code in _WRONG_NAME:
        names = f", for {', '.join(seen.names[:5])}" if seen is not None and seen.names else ""
        return f"{detail}{names}", (
            f"check the host of the URL and what {route.host} resolves to; to connect by another address use --dial"
        )
    if code in _UNKNOWN_ISSUER:
        who = f"{issuer}'s CA certificate" if issuer else "its CA certificate"
        return detail, (
            f"if that is who runs the host, or inspects TLS here, give {who} with --ca-bundle or AWS_CA_BUNDLE"
        )
    return detail, "tell whoever runs the host"


def _tls_failure(route: Route, error: Exception, timeout: float) -> tuple[str, str]:
    if isinstance(error, TimeoutError):
        return (
            f"no answer within {timeout:g} s",
            f"something between here and {route.place} swallows TLS: a firewall that filters by name, or a small MTU",
        )
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {ssl_text(error)}", "check the port and the scheme: is this a TLS port?"
    if isinstance(error, OSError):
        return (
            f"the connection was cut during the TLS handshake: {os_text(error)}",
            f"a firewall that filters by name may forbid {route.host}: have it allowed",
        )
    return split(error, "check the host of the URL")
