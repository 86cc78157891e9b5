"""The positional arguments of ``session-manager-plugin``, as the AWS CLI passes them for a session.

::

    1 response    of StartSession, as JSON; or the name of a variable with it (AWS_SSM_START_SESSION_RESPONSE…)
    2 region
    3 operation   StartSession
    4 profile     empty for the default one
    5 parameters  the request of StartSession, as JSON
    6 endpoint    URL of the Systems Manager API

Older callers omit the last one, two or three; further arguments are ignored. ``aws ecs execute-command`` passes the
keys of the response in lower camel case, and the endpoint of ECS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.errors import UsageError
from session_manager_plugin.session import document_names

_HALF_PAIR = re.compile("[\ud800-\udfff]")
"""Lone surrogates, which cannot be encoded. Go's decoder replaces them, too."""
VARIABLE_PREFIX = "AWS_SSM_START_SESSION_RESPONSE"
OPERATION = "StartSession"
_KNOWN_DOCUMENTS = frozenset(
    {document_names.SHELL, document_names.SSH, document_names.COMMAND, document_names.INTERACTIVE_COMMAND}
)


class InvalidOperation(UsageError):
    """The operation is not ``StartSession``."""


@dataclass(frozen=True)
class Invocation:
    """The parsed arguments."""

    session_id: str
    stream_url: str = field(repr=False)
    token: str = field(repr=False)
    region: str | None
    profile: str | None
    endpoint_url: str | None
    """None for the region's default endpoint."""
    document: str | None
    """The name of the session's document; None if the arguments do not contain it."""
    target: str = ""
    """The target, part of the encryption context of an encrypted session."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """The document's parameters, normally lists of strings."""
    can_encrypt: bool = True
    """Whether the caller supports encryption: the oldest callers pass no profile."""

    @property
    def is_stdio(self) -> bool | None:
        """Whether standard output belongs to another program's protocol; None if that depends on the session type."""
        if self.document is None:
            return None
        if self.document in _KNOWN_DOCUMENTS or document_names.forwards_port(self.document):
            return self.document == document_names.SSH
        return None

    @property
    def forwards_port(self) -> bool:
        """Whether the document is known to forward a port."""
        return document_names.forwards_port(self.document or "")

    @property
    def needs_handshake(self) -> bool:
        """Whether the document is known to begin with a handshake (sessions for ports and commands do)."""
        return document_names.needs_handshake(self.document or "")


def take_response(argument: str, environment: Environment) -> str | None:
    """Return the text of the response, from argument 1 or from the variable that it names, which is removed.

    Returns None if there is no such variable.
    """
    return environment.take(argument) if argument.startswith(VARIABLE_PREFIX) else argument


def exposes_token(argument: str) -> bool:
    """Return whether argument 1 contains a token, which a caller that prints its arguments would expose."""
    if argument.startswith(VARIABLE_PREFIX):
        return False
    try:
        return bool(_fields(argument).get("tokenvalue"))
    except UsageError:
        return "tokenvalue" in argument.casefold()


def parse(arguments: Sequence[str], response: str | None) -> Invocation:
    """Parse three to six arguments and the text of the response.

    Raises ``InvalidOperation``, and ``UsageError`` where the official plugin panics (reference defect U9): for a
    response that is not a JSON object or lacks a key, and for parameters without ``Target``. As there, errors are
    checked in the order parameters, operation, response.
    """
    region, operation = arguments[1], arguments[2]
    profile, parameters, endpoint_url = (*arguments[3:6], "", "", "")[:3]
    request = _request(parameters) if len(arguments) > 4 else {}
    document = _document(request) if request else None
    if operation != OPERATION:
        raise InvalidOperation("Invalid Operation")
    if response is None:
        raise UsageError(f"the variable {arguments[0]}, which should hold the response of {OPERATION}, is not set")
    fields = _fields(response)
    session_id, stream_url, token = (_text(fields, key) for key in ("SessionId", "StreamUrl", "TokenValue"))
    is_ecs = "sessionId" in _keys(response)
    return Invocation(
        session_id,
        stream_url,
        token,
        region=region or None,
        profile=profile or None,
        endpoint_url=None if is_ecs else endpoint_url or None,
        document=document,
        target=request.get("Target", ""),
        parameters=_parameters(request),
        can_encrypt=len(arguments) > 3,
    )


def _request(parameters: str) -> dict[str, Any]:
    """Return the request of StartSession in argument 5. Raises ``UsageError``."""
    try:
        request = json.loads(parameters)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise UsageError("the session's parameters (argument 5) are not a JSON object")
    if not isinstance(request.get("Target"), str):
        raise UsageError("the session's parameters (argument 5) name no Target")
    return request


def _document(request: dict[str, Any]) -> str:
    document = request.get("DocumentName")
    return document if isinstance(document, str) and document else document_names.SHELL


def _parameters(request: dict[str, Any]) -> dict[str, Any]:
    parameters = request.get("Parameters")
    return parameters if isinstance(parameters, dict) else {}


def _pairs(response: str) -> list[tuple[str, Any]]:
    """Return keys and values of a JSON object, in order. Raises ``UsageError``."""
    try:
        pairs = json.loads(response, object_pairs_hook=_Object)
    except (ValueError, RecursionError):
        pairs = None
    if not isinstance(pairs, _Object):
        raise UsageError(f"the response of {OPERATION} (argument 1) is not a JSON object")
    return pairs


class _Object(list[tuple[str, Any]]):
    """A JSON object with all its keys, including those that differ only in case."""


def _keys(response: str) -> set[str]:
    return {key for key, _ in _pairs(response)}


def _fields(response: str) -> dict[str, Any]:
    """Return the response with keys in lower case, since the official plugin's decoder (Go) ignores case."""
    return {key.casefold(): value for key, value in _pairs(response)}


def _text(fields: dict[str, Any], key: str) -> str:
    value = fields.get(key.casefold())
    if not isinstance(value, str) or not value:
        raise UsageError(f"the response of {OPERATION} (argument 1) has no {key}")
    return _HALF_PAIR.sub("\ufffd", value)
