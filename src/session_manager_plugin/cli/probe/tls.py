"""The stage `tls`: the handshake and the certificate."""

from __future__ import annotations

import asyncio
import ssl
from datetime import datetime, timedelta

from session_manager_plugin.cli.probe.checks import Group, Running, Stage
from session_manager_plugin.communicator import opening
from session_manager_plugin.communicator.certificate import Certificate, look_at_certificate, now_utc
from session_manager_plugin.communicator.connect_errors import explain
from session_manager_plugin.communicator.opening import Link
from session_manager_plugin.communicator.route import Route
from session_manager_plugin.communicator.tls import ssl_context
from session_manager_plugin.errors import SessionManagerError

EXPIRY_WARNING = timedelta(days=14)


async def check_tls(
    group: Group,
    route: Route,
    link: Link,
    ca_bundle: str | None,
    timeout: float,
) -> bool:
    """Return whether the link may be used: TLS is established, or the URL is without TLS. `timeout` is in seconds."""
    if not route.is_secure:
        group.skip(route.place, "not encrypted: the URL says so", Stage.TLS)
        return True
    with group.check(Stage.TLS, route.host, "tls") as check:
        try:
            context = await asyncio.to_thread(ssl_context, ca_bundle)
        except SessionManagerError as error:
            check.failed(str(error), "check --ca-bundle and AWS_CA_BUNDLE")
            return False
        try:
            async with asyncio.timeout(timeout):
                await link.start_tls(context, route.host)
        except OSError as error:
            refused = isinstance(error, ssl.SSLCertVerificationError)
            check.failed(
                *explain(
                    error,
                    route.place,
                    via=route.via,
                    timeout=timeout,
                    stage=opening.Stage.TLS,
                    certificate=await look_at_certificate(route, timeout=timeout) if refused else None,
                )
            )
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
        check.warned(detail, "have the operator of the host renew its certificate")
    else:
        check.passed(detail)
