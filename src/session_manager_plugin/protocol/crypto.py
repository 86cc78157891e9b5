"""Encryption of payloads: AES-256-GCM, one key per direction, no additional data.

A ciphertext is ``nonce (12) ‖ ciphertext ‖ tag (16)``. The data key of KMS is 64 bytes: the first half encrypts the
agent's payloads, the second half the client's (official client ``src/encryption/encrypter.go``).
"""

from __future__ import annotations

from collections.abc import Callable

from session_manager_plugin.errors import EncryptionError

DATA_KEY_SIZE = 64
NONCE_SIZE = 12
TAG_SIZE = 16
OVERHEAD = NONCE_SIZE + TAG_SIZE
"""Bytes that encryption adds to a payload."""

_NONCES = 1 << (8 * NONCE_SIZE)


def encryption_context(session_id: str, target: str, challenge: str) -> dict[str, str]:
    """Return the encryption context of a session's data key, equal at both ends. Leaves out an empty ``challenge``."""
    context = {"aws:ssm:SessionId": session_id, "aws:ssm:TargetId": target}
    return {**context, "aws:ssm:RandomChallenge": challenge} if challenge else context


class PayloadCipher:
    """Seals and opens the payloads of one session, at the agent's end or the client's.

    The nonce is a little-endian counter with a random start, as in the agent. One cipher is used for the whole session,
    so that no nonce repeats under a key. A retransmission sends the same bytes again.
    """

    def __init__(self, data_key: bytes, *, agent: bool, random_bytes: Callable[[int], bytes]) -> None:
        """Raises ``EncryptionError`` if the data key is not 64 bytes."""
        # Imported here: most sessions are not encrypted, and the library is slow to import.
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if len(data_key) != DATA_KEY_SIZE:
            raise EncryptionError(f"the data key has {len(data_key)} bytes instead of {DATA_KEY_SIZE}")
        from_agent = AESGCM(data_key[:32])
        from_client = AESGCM(data_key[32:])
        self._sealing, self._opening = (from_agent, from_client) if agent else (from_client, from_agent)
        self._invalid_tag = InvalidTag
        self._next_nonce = int.from_bytes(random_bytes(NONCE_SIZE), "little")

    def seal(self, plaintext: bytes) -> bytes:
        """Return ``plaintext`` encrypted, with nonce and tag."""
        nonce = self._next_nonce.to_bytes(NONCE_SIZE, "little")
        self._next_nonce = (self._next_nonce + 1) % _NONCES
        return nonce + self._sealing.encrypt(nonce, plaintext, None)

    def open(self, ciphertext: bytes | bytearray) -> bytes:
        """Return ``ciphertext`` decrypted. Raises ``EncryptionError`` if it was not sealed with the far end's key."""
        if len(ciphertext) < OVERHEAD:
            raise EncryptionError(f"a ciphertext of {len(ciphertext)} bytes is too short")
        view = memoryview(ciphertext)
        try:
            return self._opening.decrypt(bytes(view[:NONCE_SIZE]), view[NONCE_SIZE:], None)
        except self._invalid_tag:
            raise EncryptionError("a payload could not be decrypted: the two ends do not use the same key") from None
