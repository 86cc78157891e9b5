"""User and password in the URL of a proxy, split off without a URL parser: if they are not percent-encoded, they may
hold characters that end the authority of a URL, and a parser takes their beginning for host and port."""

from __future__ import annotations

import os
import re
import sys
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from session_manager_plugin.utils.logging import PROCESS, register_secret

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_ENDS_AUTHORITY = re.compile("[/?#]")
_WITH_SYSTEM_PROXIES = ("darwin", "win32")
_SHORTEST_PAIR = 4
"""Characters of a user and the beginning of a password with the colon between; ordinary words hold no colon."""


class ProxyURL(NamedTuple):
    """The parts of the URL of a proxy, as written."""

    scheme: str
    """Empty if there is none."""
    user_info: str | None
    """``USER:PASSWORD``: everything before the last ``@``; None if there is no ``@``."""
    place: str


def split_proxy_url(url: str) -> ProxyURL:
    """Split a URL. Accepts any text."""
    match = _SCHEME.match(url)
    user_info, at, place = url[match.end() if match else 0 :].rpartition("@")
    return ProxyURL(match[1] if match else "", user_info if at else None, place)


def decode_user_info(user_info: str) -> tuple[str, str]:
    """Return user and password, percent-decoded. Raises ``ValueError``, whose text repeats nothing of them."""
    if _ENDS_AUTHORITY.search(user_info):
        raise ValueError("its user or password holds / ? or #; percent-encode them as %2F %3F %23")
    user, _, password = user_info.partition(":")
    try:
        return unquote_to_bytes(user).decode(), unquote_to_bytes(password).decode()
    except UnicodeError:
        raise ValueError("its user or password is not UTF-8; percent-encode the bytes of the UTF-8 form") from None


def register_password(url: str) -> None:
    """Register the password as a secret, and the parts of it that a parser may take for host and port."""
    user_info = split_proxy_url(url).user_info
    if user_info is None:
        return
    password = user_info.partition(":")[2]
    register_secret(password, owner=PROCESS)
    for piece in re.split("[/?#@]", password):
        register_secret(piece, owner=PROCESS)
    authority = _ENDS_AUTHORITY.split(user_info)[0]
    if authority.partition(":")[2]:
        register_secret(authority, owner=PROCESS, shortest=_SHORTEST_PAIR)


def proxies_set() -> dict[str, str]:
    """Return the proxies of the environment, on macOS and Windows also of the system, by scheme (``no``: exceptions).

    The same as ``getproxies`` of ``urllib.request``, which is imported only if there may be any: the import takes some
    milliseconds.
    """
    if sys.platform not in _WITH_SYSTEM_PROXIES and not any(name.lower().endswith("_proxy") for name in os.environ):
        return {}
    from urllib.request import getproxies

    return getproxies()


def register_environments_passwords() -> None:
    """Call ``register_password`` for every proxy of the environment or the system, before a library uses them."""
    for url in proxies_set().values():
        register_password(url)


def environments_fault() -> str | None:
    """Return a sentence if the user or the password of a proxy of the environment breaks its URL, else None."""
    for scheme, url in proxies_set().items():
        user_info = split_proxy_url(url).user_info
        if user_info is not None:
            try:
                decode_user_info(user_info)
            except ValueError as error:
                return f"the proxy of {proxy_source(scheme)} cannot be used: {error}"
    return None


def proxy_source(scheme: str) -> str:
    """Return the variable that holds the proxy for ``scheme``, or ``the system's settings``."""
    variables = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")
    return next((variable for variable in variables if os.environ.get(variable)), "the system's settings")
