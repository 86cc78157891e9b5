"""Parsing the values of ``--parameters``, the parameters of a session's document."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from session_manager_plugin.errors import UsageError

_FILE = "file://"
_SEPARATOR = re.compile(r",(?=\w+=)")
_FORMS = "--parameters takes KEY=VALUE, a JSON object, or file://PATH of one"


def parse_parameters(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return the parameters by name, each a list of strings as for StartSession.

    Each text is ``KEY=VALUE[,KEY=VALUE…]``, a JSON object, or ``file://PATH`` of a file with a JSON object. Raises
    ``UsageError``, for an unreadable file too.
    """
    parameters: dict[str, list[str]] = {}
    for text in texts:
        parameters.update(_parse(text))
    return parameters


def _parse(text: str) -> dict[str, list[str]]:
    if text.startswith(_FILE):
        path = text.removeprefix(_FILE)
        try:
            with open(path, encoding="utf-8") as file:
                return _parse_json(file.read())
        except (OSError, UnicodeError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            raise UsageError(f"the parameters file {path} cannot be read: {reason}") from error
    if text.lstrip().startswith("{"):
        return _parse_json(text)
    parameters = {}
    for pair in _SEPARATOR.split(text):
        name, separator, value = pair.partition("=")
        if not name or not separator:
            raise UsageError(_FORMS)
        parameters[name] = _values(name, _decoded(value))
    return parameters


def _parse_json(text: str) -> dict[str, list[str]]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise UsageError(_FORMS)
    return {name: _values(name, value) for name, value in fields.items()}


def _decoded(text: str) -> object:
    """Return the JSON list or string in ``text``; ``text`` itself if it is neither."""
    if text[:1] in ("[", '"'):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    return text


def _values(name: str, value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str | int | float) for each in values):
        raise UsageError(f"--parameters: {name} is not a string or a list of strings")
    return [each if isinstance(each, str) else json.dumps(each) for each in values]
