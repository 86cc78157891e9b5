"""The data key of an encrypted session, from KMS by botocore, which is imported when it is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from session_manager_plugin.aws.failures import aws_failure
from session_manager_plugin.errors import AccessDenied, ConfigurationError, EncryptionError, SessionManagerError
from session_manager_plugin.protocol.crypto import DATA_KEY_SIZE, encryption_context
from session_manager_plugin.session.protocols import DataKey

CALL_TIMEOUT = 10.0
"""Seconds for connecting, and seconds for the answer; the agent waits for its handshake 15."""


class KmsKeyService:
    """A ``KeyService`` for one session. ``region`` and ``profile`` are botocore's usual ones when they are None; the
    endpoint is AWS_ENDPOINT_URL_KMS or the region's."""

    def __init__(self, session_id: str, target: str, *, region: str | None = None, profile: str | None = None) -> None:
        self._session_id = session_id
        self._target = target
        self._region = region
        self._profile = profile

    async def generate_data_key(self, key_id: str, challenge: str) -> DataKey:
        """See ``KeyService``."""
        if not self._target:
            raise ConfigurationError(
                f"the session is to be encrypted with the key {key_id}, and its target is not known: give --target"
            )
        context = encryption_context(self._session_id, self._target, challenge)
        return await asyncio.to_thread(self._generate, key_id, context)

    def _generate(self, key_id: str, context: Mapping[str, str]) -> DataKey:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._call(key_id, context)
        except ClientError as error:
            failure = self._failure(error, key_id)
            if isinstance(failure, AccessDenied):
                raise failure from error
            raise EncryptionError(str(failure)) from error
        except BotoCoreError as error:
            raise self._failure(error, key_id) from error
        return DataKey(answer["Plaintext"], answer["CiphertextBlob"])

    def _failure(self, error: Exception, key_id: str) -> SessionManagerError:
        return aws_failure(
            error,
            f"KMS gives no data key of {key_id}",
            permission="kms:GenerateDataKey for that key",
            profile=self._profile,
        )

    def _call(self, key_id: str, context: Mapping[str, str]) -> dict[str, Any]:
        from botocore.config import Config

        from session_manager_plugin.aws.services import create_client

        config = Config(connect_timeout=CALL_TIMEOUT, read_timeout=CALL_TIMEOUT, retries={"total_max_attempts": 2})
        client = create_client("kms", region=self._region, profile=self._profile, config=config)
        try:
            answer: dict[str, Any] = client.generate_data_key(
                KeyId=key_id, NumberOfBytes=DATA_KEY_SIZE, EncryptionContext=dict(context)
            )
        finally:
            client.close()
        return answer
