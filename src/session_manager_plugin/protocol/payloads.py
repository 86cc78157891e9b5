"""The JSON payloads as named tuples: ``to_json`` returns the official text, ``from_json`` parses it.

Named tuples rather than data classes, because they are imported at every start, and creating a data class takes 0.4 ms.

Keys are written in the official order and read case-insensitively, as by the official ends' Go decoder. Unknown keys
are ignored; a missing key has Go's zero value. A value of the wrong JSON type raises a ``RemoteProtocolError`` that
names the payload and the key.
Sources: ``src/message/*.go``, ``src/service/service.go`` (client), ``agent/session/contracts/model.go`` (agent).
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

from session_manager_plugin.errors import RemoteProtocolError
from session_manager_plugin.protocol.messages import parse_json_object

MAX_ACTIONS = 32
"""Most actions of one handshake; official agents request two. Limited because each answer is longer than its action."""
MAX_ACTION_TYPE_LENGTH = 128
_INT64 = range(-(1 << 63), 1 << 63)
_UINT32 = range(1 << 32)

SESSION_TYPE_ACTION = "SessionType"
KMS_ENCRYPTION_ACTION = "KMSEncryption"


def _dumps(value: object) -> str:
    """Return compact JSON as Go's encoder writes it: ``<``, ``>`` and ``&`` escaped, other text as UTF-8."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.translate(_GO_ESCAPES)


_GO_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def _string(fields: Mapping[str, Any], key: str, what: str) -> str:
    value = fields.get(key.lower())
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RemoteProtocolError(f"{what}: {key} is not a string")
    return value


def _integer(fields: Mapping[str, Any], key: str, what: str, allowed: range = _INT64) -> int:
    value = fields.get(key.lower())
    if value is None:
        return 0
    if type(value) is not int or value not in allowed:
        raise RemoteProtocolError(f"{what}: {key} is not an integer")
    return value


def _base64(fields: Mapping[str, Any], key: str, what: str) -> bytes:
    try:
        return b64decode(_string(fields, key, what), validate=True)
    except ValueError:
        raise RemoteProtocolError(f"{what}: {key} is not base64") from None


def _objects(fields: Mapping[str, Any], key: str, what: str) -> list[dict[str, Any]]:
    value = fields.get(key.lower())
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise RemoteProtocolError(f"{what}: {key} is not a list of objects")
    return [{name.lower(): item for name, item in entry.items()} for entry in value]


def _actions(fields: Mapping[str, Any], key: str, what: str) -> list[tuple[str, dict[str, Any]]]:
    """Return type and fields of each action. Refuses more actions, or longer names, than an official agent sends."""
    entries = _objects(fields, key, what)
    if len(entries) > MAX_ACTIONS:
        raise RemoteProtocolError(f"{what}: {len(entries)} actions are too many")
    actions = [(_string(entry, "ActionType", what), entry) for entry in entries]
    if any(len(action_type) > MAX_ACTION_TYPE_LENGTH for action_type, _ in actions):
        raise RemoteProtocolError(f"{what}: an ActionType is too long")
    return actions


def lower_keys(value: object) -> dict[str, Any]:
    """Return ``value`` with its keys in lower case if it is a JSON object, else an empty dict."""
    return {key.lower(): item for key, item in value.items()} if isinstance(value, dict) else {}


class OpenDataChannelInput(NamedTuple):
    """The first message on each websocket, a text message; the service takes the token from it."""

    request_id: str
    token: str
    client_id: str
    client_version: str

    def to_json(self) -> str:
        """Return the official text."""
        return _dumps(
            {
                "MessageSchemaVersion": "1.0",
                "RequestId": self.request_id,
                "TokenValue": self.token,
                "ClientId": self.client_id,
                "ClientVersion": self.client_version,
            }
        )

    @classmethod
    def from_json(cls, payload: bytes | bytearray | str) -> OpenDataChannelInput:
        """Parse the payload. A missing key is an empty string, the token's too. Raises ``RemoteProtocolError``."""
        what = "OpenDataChannelInput"
        fields = parse_json_object(payload, what)
        return cls(
            _string(fields, "RequestId", what),
            _string(fields, "TokenValue", what),
            _string(fields, "ClientId", what),
            _string(fields, "ClientVersion", what),
        )

    def __repr__(self) -> str:
        return f"OpenDataChannelInput(request_id={self.request_id!r}, client_id={self.client_id!r})"


class RequestedAction(NamedTuple):
    """One action of a handshake request; ``parameters`` as received."""

    action_type: str
    parameters: object = None


class HandshakeRequest(NamedTuple):
    """Payload type 5, agent to client."""

    agent_version: str
    actions: tuple[RequestedAction, ...] = ()

    def to_json(self) -> str:
        """Return the official text."""
        return _dumps(
            {
                "AgentVersion": self.agent_version,
                "RequestedClientActions": [
                    {"ActionType": action.action_type, "ActionParameters": action.parameters} for action in self.actions
                ],
            }
        )

    @classmethod
    def from_json(cls, payload: bytes | bytearray | str) -> HandshakeRequest:
        """Parse the payload. Raises ``RemoteProtocolError``."""
        what = "HandshakeRequest"
        fields = parse_json_object(payload, what)
        return cls(
            _string(fields, "AgentVersion", what),
            tuple(
                RequestedAction(action_type, entry.get("actionparameters"))
                for action_type, entry in _actions(fields, "RequestedClientActions", what)
            ),
        )


class ActionStatus(IntEnum):
    """The result of a requested action."""

    SUCCESS = 1
    FAILED = 2
    UNSUPPORTED = 3


class ProcessedAction(NamedTuple):
    """The answer to one requested action. ``error`` is empty for a success."""

    action_type: str
    status: int
    result: object = None
    error: str = ""


class HandshakeResponse(NamedTuple):
    """Payload type 6, client to agent."""

    client_version: str
    actions: tuple[ProcessedAction, ...] = ()
    errors: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the official text; an empty list of errors is written as ``null``."""
        return _dumps(
            {
                "ClientVersion": self.client_version,
                "ProcessedClientActions": [
                    {
                        "ActionType": action.action_type,
                        "ActionStatus": int(action.status),
                        "ActionResult": action.result,
                        "Error": action.error,
                    }
                    for action in self.actions
                ],
                "Errors": list(self.errors) or None,
            }
        )

    @classmethod
    def from_json(cls, payload: bytes | bytearray | str) -> HandshakeResponse:
        """Parse the payload. Raises ``RemoteProtocolError``."""
        what = "HandshakeResponse"
        fields = parse_json_object(payload, what)
        errors = fields.get("errors") or []
        if not isinstance(errors, list) or not all(isinstance(error, str) for error in errors):
            raise RemoteProtocolError(f"{what}: Errors is not a list of strings")
        return cls(
            _string(fields, "ClientVersion", what),
            tuple(
                ProcessedAction(
                    action_type,
                    _integer(entry, "ActionStatus", what),
                    entry.get("actionresult"),
                    _string(entry, "Error", what),
                )
                for action_type, entry in _actions(fields, "ProcessedClientActions", what)
            ),
            tuple(errors),
        )


class KmsResult(NamedTuple):
    """The result of a successful KMS action: the data key, encrypted by KMS.

    ``challenge_acknowledged``: the agent's challenge is part of the key's encryption context.
    """

    cipher_text_key: bytes
    challenge_acknowledged: bool = False

    def to_value(self) -> dict[str, object]:
        """Return the JSON value of ``ActionResult``."""
        value: dict[str, object] = {
            "KMSCipherTextKey": b64encode(self.cipher_text_key).decode(),
            "KMSCipherTextHash": None,
        }
        if self.challenge_acknowledged:
            value["ChallengeAcknowledgement"] = True
        return value

    @classmethod
    def from_value(cls, value: object) -> KmsResult:
        """Parse such a value. Raises ``RemoteProtocolError``."""
        fields = lower_keys(value)
        key = _base64(fields, "KMSCipherTextKey", "KMSEncryption")
        return cls(key, fields.get("challengeacknowledgement") is True)


class EncryptionChallenge(NamedTuple):
    """Payload types 8 and 9: bytes sealed with the sender's key."""

    challenge: bytes

    def to_json(self) -> str:
        """Return the official text."""
        return _dumps({"Challenge": b64encode(self.challenge).decode()})

    @classmethod
    def from_json(cls, payload: bytes | bytearray | str) -> EncryptionChallenge:
        """Parse the payload. Raises ``RemoteProtocolError``."""
        what = "EncryptionChallenge"
        return cls(_base64(parse_json_object(payload, what), "Challenge", what))


class HandshakeComplete(NamedTuple):
    """Payload type 7, agent to client; ``time_to_complete`` in nanoseconds."""

    time_to_complete: int = 0
    customer_message: str = ""

    def to_json(self) -> str:
        """Return the official text."""
        return _dumps({"HandshakeTimeToComplete": self.time_to_complete, "CustomerMessage": self.customer_message})

    @classmethod
    def from_json(cls, payload: bytes | bytearray | str) -> HandshakeComplete:
        """Parse the payload. Raises ``RemoteProtocolError``."""
        what = "HandshakeComplete"
        fields = parse_json_object(payload, what)
        return cls(_integer(fields, "HandshakeTimeToComplete", what), _string(fields, "CustomerMessage", what))


class Size(NamedTuple):
    """Payload type 3, client to agent: the terminal's columns × rows."""

    columns: int
    rows: int

    def to_json(self) -> str:
        """Return the official text."""
        return f'{{"cols":{self.columns},"rows":{self.rows}}}'

    @classmethod
    def from_json(cls, payload: bytes | bytearray | str) -> Size:
        """Parse the payload. Raises ``RemoteProtocolError``."""
        fields = parse_json_object(payload, "Size")
        return cls(_integer(fields, "cols", "Size", _UINT32), _integer(fields, "rows", "Size", _UINT32))


class ChannelClosed(NamedTuple):
    """The payload of a ``channel_closed`` message: ``output`` is the reason, empty for a normal end."""

    session_id: str = ""
    output: str = ""
    message_id: str = ""
    destination_id: str = ""
    created_date: str = ""

    def to_json(self) -> str:
        """Return the text that the service sends."""
        return _dumps(
            {
                "MessageType": "channel_closed",
                "MessageId": self.message_id,
                "DestinationId": self.destination_id,
                "SessionId": self.session_id,
                "SchemaVersion": 1,
                "CreatedDate": self.created_date,
                "Output": self.output,
            }
        )

    @classmethod
    def from_json(cls, payload: bytes | bytearray | str) -> ChannelClosed:
        """Parse the payload. Raises ``RemoteProtocolError``."""
        what = "channel_closed"
        fields = parse_json_object(payload, what)
        return cls(
            _string(fields, "SessionId", what),
            _string(fields, "Output", what),
            _string(fields, "MessageId", what),
            _string(fields, "DestinationId", what),
            _string(fields, "CreatedDate", what),
        )


class AgentSessionState(NamedTuple):
    """The payload of ``agent_session_state``, agent to gateway; ``state`` is ``Connected`` or ``Terminating``."""

    session_id: str
    state: str

    def to_json(self) -> str:
        """Return the official text."""
        return _dumps({"SchemaVersion": 1, "SessionState": self.state, "SessionId": self.session_id})

    @classmethod
    def from_json(cls, payload: bytes | bytearray | str) -> AgentSessionState:
        """Parse the payload. Raises ``RemoteProtocolError``."""
        what = "agent_session_state"
        fields = parse_json_object(payload, what)
        return cls(_string(fields, "SessionId", what), _string(fields, "SessionState", what))
