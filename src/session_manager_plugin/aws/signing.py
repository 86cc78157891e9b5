"""Signing the requests that open websockets (SigV4) with botocore, which is imported for the first signature."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.threads import in_thread
from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.session.protocols import OpeningRequest
from session_manager_plugin.utils.logging import get_logger, register_secret

SERVICE = "ssmmessages"
"""The service in the scope of a signature (protocol reference 13.1)."""
_LOGGER = get_logger(__name__)


class OpeningSigner:
    """A ``RequestSigner`` for one session.

    The region is that of the host's name, by default that of ``settings``. The credentials are kept, and refreshed by
    botocore, until the gateway refuses a signature; then they are looked up again. If the first signature is refused
    and the websocket opens without one, ``tell`` is called with a sentence about that; later in the session the
    sentence is only logged.
    """

    def __init__(self, settings: AwsSettings, *, tell: Callable[[str], None] = lambda _sentence: None) -> None:
        self._settings = settings
        self._tell = tell
        self._finding: Future[Any] | None = None
        self._signed = 0

    async def sign(self, request: OpeningRequest) -> Mapping[str, str]:
        """See ``RequestSigner``. After a cancellation the lookup of credentials continues; the next call waits for
        it."""
        if self._finding is None or self._finding.done():
            self._finding = in_thread(partial(self._make_signer, request.region))
        signer = await asyncio.wrap_future(self._finding)
        self._signed += 1
        return _signed_headers(request, signer)

    def refused(self) -> None:
        """See ``RequestSigner``."""
        self._settings.credentials.forget()

    def opened_unsigned(self, sentence: str) -> None:
        """See ``RequestSigner``."""
        _LOGGER.warning("%s", sentence)
        if self._signed == 1:
            self._tell(sentence)

    def _make_signer(self, host_region: str | None) -> Any:
        """Return botocore's signer with the current credentials. Runs in a thread."""
        from botocore.auth import SigV4Auth

        from session_manager_plugin.aws.aws_errors import aws_failure
        from session_manager_plugin.aws.botocore_session import find_credentials, freeze
        from session_manager_plugin.aws.region import find_region

        try:
            credentials = find_credentials(self._settings)
            if credentials is None:
                raise ConfigurationError("there are no AWS credentials")
            frozen = freeze(self._settings, credentials)
            found = find_region(self._settings) if host_region is None else None
            region = host_region or (found and found.name)
            if not region:
                raise ConfigurationError("the region is not known; give --region, or set AWS_REGION")
        except Exception as error:
            raise aws_failure(
                error,
                "signing failed",
                permission="sts:AssumeRole for the profile's role",
                profile=self._settings.profile,
            ) from error
        for secret in (frozen.secret_key, frozen.token):
            if secret:
                register_secret(secret, owner=self)
        _LOGGER.info("signing for %s with credentials of the kind %s", region, credentials.method)
        return SigV4Auth(frozen, SERVICE, region)


def _signed_headers(request: OpeningRequest, signer: Any) -> dict[str, str]:
    """Return Authorization, X-Amz-Date and, for temporary credentials, X-Amz-Security-Token."""
    from botocore.awsrequest import AWSRequest

    path, _, query = request.resource.partition("?")
    # Decoded pairs, which botocore encodes in the canonical way, regardless of the spelling in the URL.
    unsigned = AWSRequest(
        "GET",
        f"https://{request.host}{path}",
        headers={"Host": request.host},
        params=parse_qsl(query, keep_blank_values=True),
    )
    signer.add_auth(unsigned)
    return {name: value for name, value in unsigned.headers.items() if name != "Host"}
