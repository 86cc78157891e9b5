"""Getting a new token for a session whose connection was lost."""

from __future__ import annotations

from session_manager_plugin.aws.systems_manager import SystemsManager
from session_manager_plugin.session.protocols import ResumedSession


class SessionResumer:
    """A ``ResumeService`` for one session."""

    def __init__(self, systems_manager: SystemsManager, session_id: str) -> None:
        self._systems_manager = systems_manager
        self._session_id = session_id

    async def resume_session(self) -> ResumedSession:
        """See ``ResumeService``."""
        resumed = await self._systems_manager.resume_session(self._session_id)
        return ResumedSession(resumed.token, resumed.stream_url or None)
