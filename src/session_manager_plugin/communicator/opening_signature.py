"""The signature of one opening request, computed while the connection is being made."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from websockets.headers import build_host
from websockets.uri import parse_uri

from session_manager_plugin.communicator.aws_hosts import aws_service
from session_manager_plugin.errors import SessionManagerError
from session_manager_plugin.session.protocols import OpeningRequest, RequestSigner
from session_manager_plugin.utils.link_options import Bearer, NetworkOptions, Sign
from session_manager_plugin.utils.logging import get_logger

SIGN_TIMEOUT = 5.0
"""Seconds for finding credentials, at most half of the connect timeout; after that the request is sent unsigned."""
_PRESIGNED = frozenset(
    {
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-signedheaders",
        "x-amz-signature",
        "x-amz-security-token",
    }
)
"""Query parameters of a URL that contains its signature (protocol reference 13.1)."""
_LOGGER = get_logger(__name__)


class OpeningSignature:
    """Signs one request. Call ``start`` when connecting begins, ``headers`` once the connection is made, and ``stop``
    at the end in any case."""

    def __init__(self, signer: RequestSigner, url: str, timeout: float) -> None:
        self.sent = False
        """Whether ``headers`` has returned a signature."""
        self.obstacle = ""
        """Why there is no signature; empty if there is one."""
        self.signer = signer
        self._url = url
        self._timeout = timeout
        self._task: asyncio.Task[Mapping[str, str]] | None = None

    @classmethod
    def of(
        cls, url: str, network: NetworkOptions, signer: RequestSigner | None, connect_timeout: float
    ) -> OpeningSignature | None:
        """Return the signature for a valid websocket URL; None if its request is not to be signed."""
        if signer is None or not is_signed(url, network):
            return None
        return cls(signer, url, min(SIGN_TIMEOUT, connect_timeout / 2))

    def start(self) -> None:
        """Begin to sign, in a task that starts when the caller next waits. Does nothing after ``withdraw``."""
        if self.obstacle:
            return
        self._task = asyncio.ensure_future(self._sign())

    async def headers(self) -> Mapping[str, str]:
        """Wait for the headers to add to the request; returns no headers if signing fails or takes too long."""
        if self._task is None:
            return {}
        headers = await self._task
        self.sent = bool(headers)
        return headers

    def withdraw(self) -> None:
        """Leave the next request unsigned, because the signed one was refused."""
        self.sent, self.obstacle, self._task = False, "the signed one was refused", None

    def stop(self) -> None:
        """Cancel the signing. Idempotent."""
        if self._task is not None:
            self._task.cancel()

    async def _sign(self) -> Mapping[str, str]:
        try:
            async with asyncio.timeout(self._timeout):
                return await self.signer.sign(opening_request(self._url))
        except TimeoutError:
            self.obstacle = f"the credential provider did not answer within {self._timeout:g} s"
        except SessionManagerError as error:
            self.obstacle = str(error)
        _LOGGER.info("the request is not signed: %s", self.obstacle)
        return {}


def is_signed(url: str, network: NetworkOptions) -> bool:
    """Return whether the request for a valid websocket URL is to be signed."""
    if network.sign is Sign.NEVER or network.bearer is Bearer.ALWAYS:
        return False
    parts = urlsplit(url)
    if any(name.lower() in _PRESIGNED for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        _LOGGER.info("the request is not signed: the URL holds a signature")
        return False
    service = aws_service(parts.hostname or "")
    return network.sign is Sign.ALWAYS or (service is not None and service.is_message_gateway)


def opening_request(url: str) -> OpeningRequest:
    """Return the request that opens a valid websocket URL, as the websockets library sends it."""
    uri = parse_uri(url)
    service = aws_service(uri.host)
    return OpeningRequest(
        build_host(uri.host, uri.port, uri.secure), uri.resource_name, service.region if service is not None else None
    )
