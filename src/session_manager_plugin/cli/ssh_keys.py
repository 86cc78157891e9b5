"""Keys for ssh logins, whose public half is sent with EC2 Instance Connect.

A ProxyCommand cannot pass a key to ssh, whose configuration names a file. So the private half of a key that is created
for one connection is stored in a file with a fixed name for user and target, as long as the key is accepted. Concurrent
connections replace each other's file. That is harmless: each ssh reads the file when it logs in, and every key is sent
before it is written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from session_manager_plugin.aws.instance_connect import KEY_LIFETIME, check_login, send_public_key
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.threads import in_thread
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.errors import ConfigurationError, UsageError
from session_manager_plugin.utils.private_files import locked_directory, replace_file

_SIZE_LIMIT = 4096
"""Characters of a public key that the API accepts."""
_PREFIXES = ("ssh-", "ecdsa-", "sk-")
"""The beginnings of public keys in OpenSSH's format."""
_RSA_BITS = 2048


@dataclass(frozen=True)
class KeyPair:
    """A new key pair; ``private`` is in PEM form, ``public`` in OpenSSH's."""

    private: bytes = field(repr=False)
    public: str


def read_public_key(path: str) -> str:
    """Return the public key in the file ``path``. Raises ``UsageError``, in particular for a private key."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            key = file.read(_SIZE_LIMIT + 1).strip()
    except OSError as error:
        raise UsageError(f"the public key {path} cannot be read: {error.strerror or error}") from error
    if not key.startswith(_PREFIXES) or "\n" in key or len(key) > _SIZE_LIMIT:
        raise UsageError(f"{path} is no public key in OpenSSH's format (as ssh-keygen writes in a file .pub)")
    return key


def make_key_pair() -> KeyPair:
    """Make a key pair. Takes some 50 ms.

    The key is an RSA key in the old PEM form, whose public half ssh reads only when it logs in; so ssh does not offer
    the public half of a key that has been replaced.
    """
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = rsa.generate_private_key(65537, _RSA_BITS)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return KeyPair(private, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def key_path(environment: Environment, target: str, user: str) -> Path:
    """Return the name of the file for a new key of ``user`` at ``target``, an id. ``user`` may be ssh's ``%r``.

    Raises ``ConfigurationError`` without a home.
    """
    directory = environment.state_directory
    if directory is None:
        raise ConfigurationError("there is no place for a private key: set HOME or XDG_STATE_HOME")
    return directory / "ssh" / f"{target}.{user}"


@contextlib.asynccontextmanager
async def accepted_key(
    environment: Environment, settings: AwsSettings, target: str, user: str, public_key: str | None
) -> AsyncIterator[asyncio.Task[None]]:
    """Have ``target``, an id, accept ``public_key``, or without one a new key, for ``user``.

    Yields the task that does so: ssh can log in when it is done. The file of a new key is removed at the end, and when
    the key is not accepted any more. Raises ``UsageError`` and ``ConfigurationError``; the task raises the exceptions
    of ``aws_failure`` too.
    """
    check_login(target, user)
    file = None if public_key is not None else KeyFile(key_path(environment, target, user))

    async def push() -> None:
        if file is None:
            await _send(settings, target, user, public_key or "")
            return
        pair = await asyncio.wrap_future(in_thread(make_key_pair))
        await _send(settings, target, user, pair.public)
        file.write(pair.private)
        asyncio.get_running_loop().call_later(KEY_LIFETIME, file.remove)

    pushing = asyncio.ensure_future(push())
    try:
        yield pushing
    finally:
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)
        if file is not None:
            file.remove()


async def _send(settings: AwsSettings, target: str, user: str, key: str) -> None:
    await asyncio.wrap_future(in_thread(lambda: send_public_key(settings, target, user, key)))


class KeyFile:
    """A private key in a file that only the user can read (mode 0600), in a directory that only the user can enter."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._private = b""

    def write(self, private: bytes) -> None:
        """Write the key, in place of one that is there. Raises ``ConfigurationError``."""
        try:
            with locked_directory(self._path.parent):
                replace_file(self._path, private)
        except OSError as error:
            raise ConfigurationError(
                f"the private key {self._path} cannot be written: {error.strerror or error}"
            ) from error
        self._private = private

    def remove(self) -> None:
        """Remove the key, unless another connection has replaced it. Idempotent."""
        if self._private:
            with contextlib.suppress(OSError), locked_directory(self._path.parent):
                if self._path.read_bytes() == self._private:
                    self._path.unlink()
        self._private = b""
