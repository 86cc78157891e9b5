"""Pages of long lists, and the tokens for the next page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TypeVar

from session_manager_plugin.errors import ApiError

T = TypeVar("T")


def page(
    items: Sequence[T],
    token: object,
    wanted: object,
    *,
    least: int,
    most: int,
    invalid_size: str = "ValidationException",
    invalid_token: str = "InvalidNextToken",
) -> tuple[Sequence[T], str | None]:
    """Return the page that begins at ``token``, and the token of the next page, None after the last.

    ``wanted`` is the requested number of items, ``least`` to ``most``; None means ``most``. Raises ``ApiError`` with
    the codes ``invalid_size`` and ``invalid_token``.
    """
    size = most if wanted is None else _integer(wanted)
    if size is None or not least <= size <= most:
        raise ApiError(invalid_size, f"the size of a page must be between {least} and {most}")
    start = 0 if not token else _position(token)
    if start is None or start > len(items):
        raise ApiError(invalid_token, "The specified token is not valid.")
    end = start + size
    return items[start:end], _token(end) if end < len(items) else None


def _integer(value: object) -> int | None:
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else None


def _token(position: int) -> str:
    return base64.urlsafe_b64encode(f"page {position}".encode()).decode()


def _position(token: object) -> int | None:
    try:
        word, _, position = base64.urlsafe_b64decode(str(token)).decode().partition(" ")
    except ValueError:
        return None
    return _integer(position) if word == "page" else None
