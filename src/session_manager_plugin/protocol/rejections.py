"""Counting unusable messages: too many in a row show that the far end does not speak the protocol."""

from __future__ import annotations

from session_manager_plugin.errors import RemoteProtocolError

MAX_REJECTED = 100
"""Unusable messages in a row that end the session."""


class Rejections:
    """Counts the messages rejected since the last usable one."""

    def __init__(self) -> None:
        self.first = ""
        """Why the first counted message was rejected; empty if none is counted."""
        self.count = 0
        """Messages rejected since the last usable one."""

    def add(self, reason: str) -> RemoteProtocolError | None:
        """Count a rejected message. Returns the error that ends the session at ``MAX_REJECTED``, otherwise None."""
        self.count += 1
        self.first = self.first or reason
        if self.count != MAX_REJECTED:
            return None
        return RemoteProtocolError(
            f"the far end sent {MAX_REJECTED} messages in a row that are not of the Session Manager protocol; "
            f"the first of them: {self.first}"
        )

    def clear(self) -> None:
        """Start counting again after a usable message."""
        self.count, self.first = 0, ""
