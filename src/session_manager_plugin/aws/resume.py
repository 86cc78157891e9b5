"""A fresh token for a session whose link was lost, from ResumeSession by botocore, imported when it is needed."""

from __future__ import annotations

import asyncio
from typing import Any

from session_manager_plugin.errors import AccessDenied, ConfigurationError, ConnectError, SessionExpired
from session_manager_plugin.session.protocols import ResumedSession

CALL_TIMEOUT = 5.0
"""Seconds for connecting, and seconds for the answer; whoever calls tries again."""
_CREDENTIALS_EXPIRED = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "UnauthorizedSSOTokenError",
        "SSOTokenLoadError",
        "TokenRetrievalError",
    }
)
_LOGIN = "refresh them (aws sso login, or what you use); the session is resumed when they are valid again"


class SessionResumer:
    """A ``ResumeService`` for one session. What is None comes from botocore's usual places, the endpoint also from
    AWS_ENDPOINT_URL_SSM. Credentials are looked up anew for every call, and nothing prompts."""

    def __init__(
        self, session_id: str, *, region: str | None = None, profile: str | None = None, endpoint_url: str | None = None
    ) -> None:
        self._session_id = session_id
        self._region = region
        self._profile = profile
        self._endpoint_url = endpoint_url

    async def resume_session(self) -> ResumedSession:
        """See ``ResumeService``."""
        answer = await asyncio.to_thread(self._resume)
        # The official client takes an absent or empty token for the session's end (protocol reference 7).
        if not answer.get("TokenValue"):
            raise SessionExpired(f"session {self._session_id} timed out while the connection was away")
        return ResumedSession(answer["TokenValue"], answer.get("StreamUrl"))

    def _resume(self) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        try:
            return self._call()
        except ClientError as error:
            details = error.response.get("Error", {})
            code, message = str(details.get("Code", "")), str(details.get("Message", ""))
            if code == "DoesNotExistException":
                raise SessionExpired(f"session {self._session_id} does not exist any more: {message}") from error
            if code in _CREDENTIALS_EXPIRED:
                raise AccessDenied(f"the AWS credentials are expired or not valid ({code}): {_LOGIN}") from error
            if "AccessDenied" in code:
                raise AccessDenied(
                    f"AWS does not let these credentials resume the session ({code}: {message}); "
                    "they need the permission ssm:ResumeSession"
                ) from error
            raise ConnectError(f"ResumeSession failed: {code}: {message}", retryable=True) from error
        except HTTPClientError as error:
            raise ConnectError(f"the Systems Manager API cannot be reached: {error}", retryable=True) from error
        except BotoCoreError as error:
            if type(error).__name__ in _CREDENTIALS_EXPIRED:
                raise AccessDenied(f"the AWS credentials are expired ({error}): {_LOGIN}") from error
            raise ConfigurationError(f"ResumeSession could not be called: {error}") from error

    def _call(self) -> dict[str, Any]:
        from botocore.config import Config

        from session_manager_plugin.aws.services import create_client

        config = Config(connect_timeout=CALL_TIMEOUT, read_timeout=CALL_TIMEOUT, retries={"total_max_attempts": 1})
        client = create_client(
            "ssm", region=self._region, profile=self._profile, endpoint_url=self._endpoint_url, config=config
        )
        try:
            answer: dict[str, Any] = client.resume_session(SessionId=self._session_id)
        finally:
            client.close()
        return answer
