"""The data key of an encrypted session, from the key service that the caller supplied."""

from __future__ import annotations

from session_manager_plugin.errors import ConfigurationError, EncryptionError, SessionManagerError
from session_manager_plugin.session.protocols import DataKey, KeyService
from session_manager_plugin.utils.logging import get_logger

_LOGGER = get_logger(__name__)


async def fetch_data_key(service: KeyService | None, key_id: str, challenge: str) -> DataKey:
    """Return a data key made with ``key_id``.

    Raises ``ConfigurationError`` when there is no service, and ``SessionManagerError`` for whatever it raises.
    """
    if service is None:
        raise ConfigurationError(
            f"the session is to be encrypted with the key {key_id}, and it is not known for which target and "
            "with whose credentials: give --target and, where needed, --region and --profile"
        )
    _LOGGER.info("handshake: the agent asks for encryption; asking for a data key of %s", key_id)
    try:
        key = await service.generate_data_key(key_id, challenge)
    except SessionManagerError:
        raise
    except Exception as error:  # an exception of a foreign service
        _LOGGER.exception("the key service failed")
        raise EncryptionError(f"the key service failed: {type(error).__name__}: {error}") from error
    _LOGGER.info("the key service returned a data key")
    return key
