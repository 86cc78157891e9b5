"""A key service like KMS with one key, which encrypts the sandbox's sessions and never leaves the process.

A data key's ciphertext is ``nonce (12) ‖ ciphertext ‖ tag (16)`` under that key, with the encryption context as
additional data, so that it can be decrypted only with the same context, as with KMS.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from typing import Any

from session_manager_plugin.agent.api import Caller, Operation
from session_manager_plugin.errors import ApiError
from session_manager_plugin.protocol.crypto import NONCE_SIZE
from session_manager_plugin.session.protocols import DataKey

MAX_DATA_KEY_SIZE = 1024


class LocalKeyService:
    """A key service with one key. With ``denied`` every GenerateDataKey is refused, as by KMS without the
    permission."""

    def __init__(self, *, region: str, denied: bool = False) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.key_id = f"arn:aws:kms:{region}:111122223333:key/{secrets.token_hex(16)}"
        self.denied = denied
        self._aead = AESGCM(secrets.token_bytes(32))

    def generate_data_key(self, key_id: str, size: int, context: Mapping[str, str]) -> DataKey:
        """Return a new data key of ``size`` bytes. Raises ``ApiError``."""
        self._check(key_id)
        if self.denied:
            raise ApiError("AccessDeniedException", f"not authorized to perform: kms:GenerateDataKey on {key_id}")
        if not 1 <= size <= MAX_DATA_KEY_SIZE:
            raise ApiError("ValidationException", f"NumberOfBytes must be 1 to {MAX_DATA_KEY_SIZE}")
        plaintext, nonce = secrets.token_bytes(size), secrets.token_bytes(NONCE_SIZE)
        return DataKey(plaintext, nonce + self._aead.encrypt(nonce, plaintext, _context(context)))

    def decrypt(self, cipher_text: bytes, context: Mapping[str, str], key_id: str = "") -> bytes:
        """Return the data key in plaintext. Raises ``ApiError`` if the key or the context is a different one."""
        from cryptography.exceptions import InvalidTag

        if key_id:
            self._check(key_id)
        try:
            nonce, sealed = cipher_text[:NONCE_SIZE], cipher_text[NONCE_SIZE:]
            return self._aead.decrypt(nonce, sealed, _context(context))
        except (InvalidTag, ValueError):
            raise ApiError("InvalidCiphertextException", "wrong ciphertext, key or encryption context") from None

    # The calls of KMS's JSON API.

    @property
    def operations(self) -> dict[str, Operation]:
        """The operations by their IAM actions."""
        return {
            "kms:GenerateDataKey": self.answer_generate_data_key,
            "kms:Decrypt": self.answer_decrypt,
        }

    def answer_generate_data_key(self, request: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """GenerateDataKey. Raises ``ApiError``."""
        size = request.get("NumberOfBytes")
        data_key = self.generate_data_key(_key_id(request), size if isinstance(size, int) else 0, _map(request))
        return {
            "KeyId": self.key_id,
            "Plaintext": base64.b64encode(data_key.plaintext).decode(),
            "CiphertextBlob": base64.b64encode(data_key.cipher_text).decode(),
        }

    def answer_decrypt(self, request: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """Decrypt. Raises ``ApiError``."""
        try:
            cipher_text = base64.b64decode(str(request.get("CiphertextBlob", "")), validate=True)
        except ValueError:
            raise ApiError("ValidationException", "CiphertextBlob must be base64") from None
        plaintext = self.decrypt(cipher_text, _map(request), _key_id(request))
        return {"KeyId": self.key_id, "Plaintext": base64.b64encode(plaintext).decode()}

    def _check(self, key_id: str) -> None:
        if key_id != self.key_id:
            raise ApiError("NotFoundException", f"Key {key_id} does not exist")


def _context(context: Mapping[str, str]) -> bytes:
    return json.dumps(dict(context), sort_keys=True).encode()


def _key_id(request: dict[str, Any]) -> str:
    return str(request.get("KeyId", ""))


def _map(request: dict[str, Any]) -> dict[str, str]:
    context = request.get("EncryptionContext") or {}
    if not isinstance(context, dict) or not all(isinstance(value, str) for value in context.values()):
        raise ApiError("ValidationException", "EncryptionContext must be a map of strings")
    return context
