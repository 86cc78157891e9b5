"""A fresh token for a session whose link was lost, from ResumeSession by botocore, imported when it is needed."""

from __future__ import annotations

import asyncio
from typing import Any

from session_manager_plugin.errors import SessionExpired
from session_manager_plugin.session.protocols import ResumedSession

CALL_TIMEOUT = 5.0
"""Seconds for connecting, and seconds for the answer; whoever calls tries again."""


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
        from session_manager_plugin.aws.failures import aws_failure

        try:
            return self._call()
        except Exception as error:
            if _error_code(error) == "DoesNotExistException":
                raise SessionExpired(f"session {self._session_id} does not exist any more") from error
            raise aws_failure(
                error, "ResumeSession failed", permission="ssm:ResumeSession", profile=self._profile
            ) from error

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


def _error_code(error: Exception) -> str:
    """The service's name for the reason, where it is the service that refused."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
