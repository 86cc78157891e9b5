"""`PayloadCipher` against bytes recorded from the official client and agent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager_plugin.errors import EncryptionError
from session_manager_plugin.protocol.crypto import DATA_KEY_SIZE, OVERHEAD, PayloadCipher
from tests.support.vectors import load_vectors

VECTORS = load_vectors("aesgcm.json")
DATA_KEY = bytes.fromhex(VECTORS["data_key_plaintext_hex"])


def cipher(*, agent: bool, nonce: bytes = bytes(12)) -> PayloadCipher:
    return PayloadCipher(DATA_KEY, agent=agent, random_bytes=lambda size: nonce[:size])


@pytest.mark.parametrize("record", VECTORS["encrypt"], ids=lambda r: f"{r['direction']} {len(r['plaintext_hex']) // 2}")
def test_seals_as_the_official_ends_do_and_opens_at_the_other_end(record: dict[str, Any]) -> None:
    agent = record["direction"] == "agent_to_client"
    plaintext, ciphertext = bytes.fromhex(record["plaintext_hex"]), bytes.fromhex(record["ciphertext_hex"])
    assert cipher(agent=agent, nonce=bytes.fromhex(record["nonce_hex"])).seal(plaintext) == ciphertext
    assert cipher(agent=not agent).open(ciphertext) == plaintext


@pytest.mark.parametrize("record", VECTORS["client_decrypt"], ids=lambda r: r["name"])
def test_opens_what_is_right_and_refuses_everything_else(record: dict[str, Any]) -> None:
    """Too short a ciphertext panics the official client; here it is refused like any other wrong one."""
    ciphertext = bytes.fromhex(record["ciphertext_hex"])
    if record["result"] == "ok":
        assert cipher(agent=False).open(ciphertext) == bytes.fromhex(record["plaintext_hex"])
    else:
        with pytest.raises(EncryptionError):
            cipher(agent=False).open(ciphertext)


@pytest.mark.parametrize("session", VECTORS["agent_sessions"])
def test_counts_nonces_as_the_agent_does(session: dict[str, Any]) -> None:
    messages = session["agent_messages_in_order"]
    sealing = cipher(agent=True, nonce=bytes.fromhex(messages[0]["nonce_hex"]))
    assert [sealing.seal(message["plaintext"].encode()).hex() for message in messages] == [
        message["ciphertext_hex"] for message in messages
    ]


@given(st.binary(max_size=2048), st.binary(min_size=12, max_size=12))
def test_what_is_sealed_opens_only_at_the_other_end(plaintext: bytes, nonce: bytes) -> None:
    client, agent = cipher(agent=False, nonce=nonce), cipher(agent=True, nonce=nonce)
    sealed = client.seal(plaintext)
    assert len(sealed) == len(plaintext) + OVERHEAD
    assert agent.open(bytearray(sealed)) == plaintext
    with pytest.raises(EncryptionError):
        client.open(sealed)


@pytest.mark.parametrize("size", [0, 32, DATA_KEY_SIZE - 1, DATA_KEY_SIZE + 1])
def test_refuses_a_data_key_of_the_wrong_size(size: int) -> None:
    with pytest.raises(EncryptionError, match=f"{size} bytes instead of 64"):
        PayloadCipher(bytes(size), agent=False, random_bytes=bytes)
