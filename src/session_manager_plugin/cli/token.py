"""Reading a session's token from an option, a file or a variable. No message contains the token."""

from __future__ import annotations

import os

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.errors import UsageError
from session_manager_plugin.utils.logging import register_secret

TOKEN_LIMIT = 8192
"""The maximum size of a token in bytes. The service's tokens have about 300."""


def find_token(environment: Environment, value: str | None, file: str | None) -> str | None:
    """Return the token from ``--token``, ``--token-file`` or SMP_TOKEN, in this order; None if none of them is given.

    SMP_TOKEN is removed from the environment in any case. ``-`` as ``value`` is the first line of standard input; what
    follows it is left there for the session. Raises ``UsageError``, also for a file that cannot
    be read.
    """
    variable = environment.take("SMP_TOKEN")
    if value is not None and file is not None:
        raise UsageError("give --token or --token-file, not both")
    if value == "-":
        if environment.is_terminal(environment.stdin):
            return None
        text = _read_line(environment.stdin)
        if not text.strip():
            raise UsageError("--token -: standard input holds no token on its first line")
    elif value is not None:
        text = value
    elif file is not None:
        text = _read_file(file)
        if not text.strip():
            raise UsageError(f"the token file {file} is empty")
    elif variable:
        text = variable
    else:
        return None
    return check_token(text)


def check_token(text: str) -> str:
    """Return the token in ``text`` without blanks around it, and register it as a secret.

    Raises ``UsageError`` if it cannot be one: it goes into a header too.
    """
    token = text.strip()
    if not token:
        raise UsageError("the token is empty")
    if not token.isascii() or not token.isprintable() or " " in token or len(token) > TOKEN_LIMIT:
        raise UsageError(
            f"this is no token: it has more than {TOKEN_LIMIT} characters, or some that no token has (blanks, for one)"
        )
    register_secret(token)
    return token


def _read_line(fd: int) -> str:
    """Read up to the first newline, byte by byte: bytes read beyond it would be lost to the session."""
    line = bytearray()
    try:
        while len(line) <= TOKEN_LIMIT and (byte := os.read(fd, 1)) not in (b"", b"\n"):
            line += byte
    except OSError as error:
        raise UsageError(f"--token -: standard input cannot be read: {error.strerror}") from error
    return line.decode(errors="replace")


def _read_file(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.readline(TOKEN_LIMIT + 2).decode(errors="replace")
    except OSError as error:
        raise UsageError(f"the token file {path} cannot be read: {error.strerror}") from error
