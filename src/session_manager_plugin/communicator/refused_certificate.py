"""Who issued a certificate that was not trusted: only with this name does one know whose CA certificate is missing."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})
"""OpenSSL's verification errors that mean that no trusted certificate leads to this one (X509_V_ERR in x509_vfy.h)."""
_TIMEOUT = 5.0
"""Seconds for looking; the failure is told anyway."""


async def issuer_of(url: str, host: str, *, proxy: str | None, logger: Any) -> str:
    """The issuer of the certificate that the server at `url` shows for `host`, as "Name (Organization)", or "".

    From a second connection, by the same way, that trusts anything and ends before a byte is sent over it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    seen: list[bytes] = []

    class Look(ClientConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            tls = transport.get_extra_info("ssl_object")
            if tls is not None:
                seen.append(tls.getpeercert(binary_form=True) or b"")
            cast(asyncio.Transport, transport).abort()

    with contextlib.suppress(OSError, EOFError, WebSocketException):  # it cannot end well: it is cut
        await connect(
            url,
            ssl=context,
            server_hostname=host,
            proxy=proxy,
            open_timeout=_TIMEOUT,
            create_connection=Look,
            logger=logger,
        )
    return _issuer(seen[0]) if seen else ""


def issuer_name(certificate: Certificate) -> str:
    """`Common Name (Organization)` of who issued it, or whatever the name has."""
    from cryptography.x509 import NameOID

    issuer = certificate.issuer
    common, organization = (
        [value if isinstance(value := part.value, str) else value.decode(errors="replace") for part in parts]
        for parts in (
            issuer.get_attributes_for_oid(NameOID.COMMON_NAME),
            issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME),
        )
    )
    if common and organization:
        return f"{common[0]} ({organization[0]})"
    return (common or organization or [issuer.rfc4514_string() or "nobody"])[0]


def _issuer(der: bytes) -> str:
    from cryptography import x509

    try:
        return issuer_name(x509.load_der_x509_certificate(der))
    except ValueError:
        return ""
