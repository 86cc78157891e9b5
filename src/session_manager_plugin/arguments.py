"""Checks of the library's arguments. Each raises ``WrongType`` or ``UsageError``, which name the argument and what is
expected.

Without them a wrong value fails far from the call, with an exception of whatever uses it first.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.errors import UsageError, WrongType
from session_manager_plugin.utils.link_options import Bearer, LinkOptions, Sign

MAX_PORT = 65535


def check_text(name: str, value: Any, *, optional: bool = True) -> None:
    """Check a text. ``optional``: it may be empty.

    It may contain undecoded bytes (PEP 383), as an argument of a command does. What cannot use them refuses them.
    """
    if not isinstance(value, str):
        raise WrongType(f"{name} must be a str, not {_kind(value)}")
    if not value and not optional:
        raise UsageError(f"{name} is empty")
    try:
        value.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise UsageError(f"{name} is not text: {value!r}") from None


def check_whole_number(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Check a whole number between ``least`` and ``most``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongType(f"{name} must be an int, not {_kind(value)}")
    if value < least or (most is not None and value > most):
        raise UsageError(f"{name} must be {least} {f'to {most}' if most is not None else 'or more'}, not {value}")


def check_seconds(name: str, value: Any, *, zero: bool) -> None:
    """Check a number of seconds; ``zero``: 0 is allowed."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise WrongType(f"{name} must be a number of seconds, not {_kind(value)}")
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise UsageError(f"{name} must be a number of seconds {'from 0 on' if zero else 'above 0'}, not {value}")


def check_bytes(name: str, value: Any) -> None:
    """Check a bytes-like object."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise WrongType(f"{name} must be bytes, not {_kind(value)}")


def check_member(name: str, value: Any, kind: type[Enum]) -> None:
    """Check a member of an enumeration."""
    if not isinstance(value, kind):
        choices = ", ".join(f"{kind.__name__}.{member.name}" for member in kind)
        raise WrongType(f"{name} must be one of {choices}, not {_kind(value)}")


def checked_targets(value: Any) -> list[str]:
    """Return the texts of an iterable, which must not itself be a text."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise WrongType(f"targets must be a list of str, not {_kind(value)}")
    targets = list(value)
    for target in targets:
        check_text("a target", target)
    return targets


def check_path(name: str, value: Any) -> None:
    """Check the name of a file: a text, or a path object whose name is a text."""
    text = value.__fspath__() if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise WrongType(f"{name} must be a str or a path, not {_kind(text)}")
    check_text(name, text)
    if "\0" in text:
        raise UsageError(f"{name} contains a NUL byte, which a file name cannot")


def checked_paths(name: str, value: Any) -> list[str | os.PathLike[str]]:
    """Return a list of names of files, for one or several."""
    if isinstance(value, bytes | bytearray) or not isinstance(value, str | os.PathLike | Iterable):
        raise WrongType(f"{name} must be a str, a path or a list of them, not {_kind(value)}")
    paths = [value] if isinstance(value, str | os.PathLike) else list(value)
    for path in paths:
        check_path(f"a path of {name}", path)
    return paths


def check_parameters(value: Any) -> None:
    """Check the parameters of a document."""
    if not isinstance(value, Mapping):
        raise WrongType(f"parameters must be a mapping of str to lists of str, not {_kind(value)}")
    for name, texts in value.items():
        check_text("the name of a parameter", name, optional=False)
        if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
            raise WrongType(f"parameter {name} must be a list of str, not {_kind(texts)}")
        for text in texts:
            check_text(f"parameter {name}", text)


def check_run(timeout: Any, reason: Any, aws: Any, link: Any) -> None:
    """Check the options of ``run`` and ``run_many``."""
    if timeout is not None:
        check_seconds("timeout", timeout, zero=True)
    check_text("reason", reason)
    check_settings(aws, link)


def check_settings(aws: Any, link: Any) -> None:
    """Check an ``AwsSettings``, a ``LinkOptions`` and their values; either may be None."""
    if aws is not None:
        if not isinstance(aws, AwsSettings):
            raise WrongType(f"aws must be an AwsSettings, not {_kind(aws)}")
        _check_optional_texts("AwsSettings", aws, ("region", "profile", "endpoint_url", "ca_bundle", "proxy"))
    if link is None:
        return
    if not isinstance(link, LinkOptions):
        raise WrongType(f"link must be a LinkOptions, not {_kind(link)}")
    _check_optional_texts("LinkOptions", link, ("ca_bundle", "proxy"))
    check_member("LinkOptions.bearer", link.bearer, Bearer)
    check_member("LinkOptions.sign", link.sign, Sign)
    check_seconds("LinkOptions.keepalive", link.keepalive, zero=True)
    check_seconds("LinkOptions.connect_timeout", link.connect_timeout, zero=False)
    check_seconds("LinkOptions.reconnect_timeout", link.reconnect_timeout, zero=True)
    if link.dial is not None:
        try:
            host, port = link.dial
        except (TypeError, ValueError):
            raise UsageError("LinkOptions.dial must be a host, and a port or None") from None
        check_text("LinkOptions.dial", host, optional=False)
        if port is not None:
            check_whole_number("the port of LinkOptions.dial", port, 1, MAX_PORT)


def _check_optional_texts(owner: str, settings: object, names: Iterable[str]) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None:
            check_text(f"{owner}.{name}", value)


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__
