"""The owners of credentials: the sandbox's user, and those of temporary credentials."""

from __future__ import annotations

import dataclasses
import hmac
import re
from collections.abc import Callable

from session_manager_plugin.agent.api import Caller
from session_manager_plugin.agent.http_messages import HttpRequest
from session_manager_plugin.agent.signature import SignatureVerifier
from session_manager_plugin.agent.temporary_credentials import TemporaryCredentials

_ACCESS_KEY_ID = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/")


class Callers:
    """Finds callers by access key id. ``own`` verifies the user's signatures, ``user_arn`` returns the user's ARN."""

    def __init__(self, own: SignatureVerifier, user_arn: Callable[[], str]) -> None:
        self._own = own
        self._user_arn = user_arn
        self._temporary: list[TemporaryCredentials] = []

    def admit(self, credentials: TemporaryCredentials) -> None:
        """Accept requests made with ``credentials``, too."""
        self._temporary.append(credentials)

    def find(self, access_key_id: str) -> Caller | None:
        """Return the owner of an access key, or None."""
        if _same(access_key_id, self._own.access_key_id):
            return Caller(self._user_arn())
        credentials = self._find_temporary(access_key_id)
        return None if credentials is None else credentials.caller

    def signature_refusal(self, request: HttpRequest) -> str | None:
        """Return why the opening request of a websocket is refused, or None; see ``SignatureVerifier``."""
        given = _ACCESS_KEY_ID.match(request.headers.get("authorization", ""))
        credentials = None if given is None else self._find_temporary(given[1])
        if credentials is None:
            return self._own.refusal(request)
        verifier = dataclasses.replace(
            self._own,
            access_key_id=credentials.access_key_id,
            secret_access_key=credentials.secret_access_key,
            session_token=credentials.session_token,
        )
        return verifier.refusal(request)

    def _find_temporary(self, access_key_id: str) -> TemporaryCredentials | None:
        found = [each for each in self._temporary if _same(access_key_id, each.access_key_id)]
        return found[0] if found and found[0].expires_at > self._own.now() else None


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
