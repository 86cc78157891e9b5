"""Signs the requests that open websockets (SigV4), by botocore, which is imported when there is something to sign."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any
from urllib.parse import parse_qsl

from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.session.protocols import OpeningRequest
from session_manager_plugin.utils.logging import get_logger, register_secret

SERVICE = "ssmmessages"
"""The service that a signature is for (protocol reference 13.1)."""
_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
_LOGGER = get_logger(__name__)


class OpeningSigner:
    """A ``RequestSigner`` for one session.

    The region is that of the host's name, else ``region``, AWS_REGION, AWS_DEFAULT_REGION or the profile's. Credentials
    are those of ``profile``, or else of botocore's usual places; nothing prompts. They are kept, and refreshed by
    botocore, until the gateway refuses a signature: then they are looked up anew. When the first request is refused
    and the websocket is opened without a signature, ``tell`` is called with a sentence about it; a later one, in a
    session, goes to the log only.
    """

    def __init__(
        self,
        *,
        region: str | None = None,
        profile: str | None = None,
        tell: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        self._region = region
        self._profile = profile
        self._tell = tell
        self._credentials: Any = None
        self._finding: Future[Any] | None = None
        self._signed = 0

    async def sign(self, request: OpeningRequest) -> Mapping[str, str]:
        """See ``RequestSigner``. When cancelled, the search for credentials goes on: the next call waits for it too."""
        if self._finding is None or self._finding.done():
            self._finding = _in_thread(lambda: self._make_signer(request.region))
        signer = await asyncio.wrap_future(self._finding)
        self._signed += 1
        return _signed_headers(request, signer)

    def refused(self) -> None:
        """See ``RequestSigner``."""
        self._credentials = None

    def opened_unsigned(self, sentence: str) -> None:
        """See ``RequestSigner``."""
        _LOGGER.warning("%s", sentence)
        if self._signed == 1:
            self._tell(sentence)

    # In a thread.

    def _make_signer(self, host_region: str | None) -> Any:
        """botocore's signer, with the credentials of this moment."""
        from botocore.auth import SigV4Auth

        from session_manager_plugin.aws.failures import aws_failure

        try:
            if self._credentials is None:
                self._credentials = self._find_credentials()
            if self._credentials is None:
                raise ConfigurationError("there are no AWS credentials")
            frozen = self._credentials.get_frozen_credentials()
            region = host_region or self._region or self._configured_region()
            if region is None:
                raise ConfigurationError("the region is not known; give --region, or set AWS_REGION")
        except Exception as error:
            raise aws_failure(
                error,
                "no credentials for a signature",
                permission="sts:AssumeRole for the profile's role",
                profile=self._profile,
            ) from error
        for secret in (frozen.secret_key, frozen.token):
            if secret:
                register_secret(secret)
        _LOGGER.info("signing for %s with credentials of the kind %s", region, self._credentials.method)
        return SigV4Auth(frozen, SERVICE, region)

    def _find_credentials(self) -> Any:
        if self._profile is None and os.environ.get("AWS_ACCESS_KEY_ID"):
            # The first place that botocore would look at. No session is needed for it, which takes longer to make.
            from botocore.credentials import EnvProvider

            return EnvProvider().load()
        return self._session().get_credentials()

    def _configured_region(self) -> str | None:
        for name in _REGION_VARIABLES:
            if region := os.environ.get(name):
                return region
        region = self._session().get_config_variable("region")
        return None if region is None else str(region)

    def _session(self) -> Any:
        from session_manager_plugin.aws.services import create_session

        session = create_session(self._profile)
        if self._region:
            session.set_config_variable("region", self._region)
        return session


def _signed_headers(request: OpeningRequest, signer: Any) -> dict[str, str]:
    """Authorization, X-Amz-Date and, for temporary credentials, X-Amz-Security-Token."""
    from botocore.awsrequest import AWSRequest

    path, _, query = request.resource.partition("?")
    # As decoded pairs: botocore then encodes them in the canonical way, whatever their spelling in the URL is.
    unsigned = AWSRequest(
        "GET",
        f"https://{request.host}{path}",
        headers={"Host": request.host},
        params=parse_qsl(query, keep_blank_values=True),
    )
    signer.add_auth(unsigned)
    return {name: value for name, value in unsigned.headers.items() if name != "Host"}


def _in_thread(work: Callable[[], Any]) -> Future[Any]:
    """Run ``work`` in a thread that the process does not wait for at its end: a credential provider may hang."""
    outcome: Future[Any] = Future()
    outcome.set_running_or_notify_cancel()  # so that cancelling what waits for it does not cancel it

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=copy_context().run, args=(run,), name="credentials", daemon=True).start()
    return outcome
