"""Getting the data key of an encrypted session from the caller's key service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from session_manager_plugin.errors import ConfigurationError, EncryptionError, SessionManagerError
from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.session.protocols import DataKey, KeyService
from session_manager_plugin.utils.logging import get_logger

_LOGGER = get_logger(__name__)


class DataKeyFetch:
    """Answers an endpoint's ``DataKeyRequired`` with a key of ``service``, then calls ``answered``.

    If the service fails, the session ends and the agent receives the reason.
    """

    def __init__(
        self,
        service: KeyService | None,
        endpoint: SessionEndpoint,
        clock: Callable[[], float],
        answered: Callable[[], None],
    ) -> None:
        self._service = service
        self._endpoint = endpoint
        self._clock = clock
        self._answered = answered
        self._task: asyncio.Task[None] | None = None
        self.key_id = ""
        """The KMS key of the session: its ARN, id or alias; empty before ``start``."""

    def start(self, key_id: str, challenge: str) -> None:
        """Begin to fetch the key. Called once: an endpoint requires one key."""
        self.key_id = key_id
        self._task = asyncio.get_running_loop().create_task(self._fetch(key_id, challenge))

    def stop(self) -> None:
        """Stop fetching the key."""
        if self._task is not None:
            self._task.cancel()

    async def _fetch(self, key_id: str, challenge: str) -> None:
        try:
            key = await fetch_data_key(self._service, key_id, challenge)
        except SessionManagerError as error:
            self._endpoint.refuse_data_key(error, self._clock())
        else:
            self._endpoint.provide_data_key(key.plaintext, self._clock(), cipher_text=key.cipher_text)
        self._answered()


async def fetch_data_key(service: KeyService | None, key_id: str, challenge: str) -> DataKey:
    """Return a data key made with ``key_id``.

    Raises ``ConfigurationError`` without a service, and ``SessionManagerError`` if the service fails.
    """
    if service is None:
        raise ConfigurationError(
            f"the session is encrypted with the key {key_id}, which needs the session's target and AWS credentials: "
            "give --target and, where needed, --region and --profile"
        )
    _LOGGER.info("handshake: the agent requests encryption; requesting a data key of %s", key_id)
    try:
        key = await service.generate_data_key(key_id, challenge)
    except SessionManagerError:
        raise
    except Exception as error:  # the caller's service may raise anything
        _LOGGER.exception("the key service failed")
        raise EncryptionError(f"the key service failed: {type(error).__name__}: {error}") from error
    _LOGGER.info("the key service returned a data key")
    return key
