"""What AWS does for one session after it was started: its data key, new tokens, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.session.protocols import DataKey, KeyService, ResumedSession, ResumeService

if TYPE_CHECKING:
    from session_manager_plugin.aws.systems_manager import SystemsManager


class SessionServices(KeyService, ResumeService):
    """The services of one session. What calls AWS is imported for the first call: few sessions need any, and the
    imports take a tenth of the time until a session's first prompt."""

    def __init__(self, settings: AwsSettings, session_id: str, target: str) -> None:
        """``target`` is needed for the data key only; it may be empty."""
        self._settings = settings
        self._session_id = session_id
        self._target = target

    async def generate_data_key(self, key_id: str, challenge: str) -> DataKey:
        """See ``KeyService``."""
        from session_manager_plugin.aws.kms import KmsKeyService

        service = KmsKeyService(self._settings, self._session_id, self._target)
        return await service.generate_data_key(key_id, challenge)

    async def resume_session(self) -> ResumedSession:
        """See ``ResumeService``."""
        resumed = await self._systems_manager().resume_session(self._session_id)
        return ResumedSession(resumed.token, resumed.stream_url or None)

    async def terminate(self) -> None:
        """Terminate the session. An error is logged, not raised."""
        await self._systems_manager().try_to_terminate(self._session_id)

    def _systems_manager(self) -> SystemsManager:
        from session_manager_plugin.aws.systems_manager import SystemsManager

        return SystemsManager(self._settings)
