"""The session documents of the sandbox: the session type, the parameters and the resulting properties of each.

Names, session types, parameters, patterns and defaults are those of the documents that AWS owns. Only the parameters
of AWS-StartPortForwardingSessionToSocket are not public; they are named after the properties that the client reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

LOCAL_PORT_FORWARDING = "LocalPortForwarding"
"""The property ``type`` of port sessions with a local listener. Other values are for ssh's ProxyCommand."""

_PORT = "[1-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
_PLACEHOLDER = re.compile(r"{{ (\w+) }}")


class SessionType(StrEnum):
    """A session type, by its name in the handshake."""

    STANDARD_STREAM = "Standard_Stream"
    INTERACTIVE_COMMANDS = "InteractiveCommands"
    NON_INTERACTIVE_COMMANDS = "NonInteractiveCommands"
    PORT = "Port"

    @property
    def requires_handshake(self) -> bool:
        """Whether the official agent makes a handshake for this type even without encryption."""
        return self in (SessionType.NON_INTERACTIVE_COMMANDS, SessionType.PORT)


class InvalidParametersError(ValueError):
    """Parameters do not match the document. The text names the parameter and the reason."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a document: its pattern, and its default (None: the parameter is required)."""

    pattern: str = "(?s).*"
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """One session document. In ``properties``, ``{{ name }}`` stands for a parameter."""

    name: str
    session_type: SessionType
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)

    def resolve(self, values: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Return ``properties`` with the parameters inserted. Raises ``InvalidParametersError``."""
        if unknown := sorted(values.keys() - self.parameters.keys()):
            raise InvalidParametersError(f"document {self.name} has no parameter {', '.join(unknown)}")
        resolved = {name: self._resolve(name, values.get(name)) for name in self.parameters}
        return {
            key: _PLACEHOLDER.sub(lambda match: resolved[match[1]], template)
            for key, template in self.properties.items()
        }

    def _resolve(self, name: str, given: Sequence[str] | None) -> str:
        parameter = self.parameters[name]
        if given is None:
            if parameter.default is None:
                raise InvalidParametersError(f"document {self.name} needs the parameter {name}")
            return parameter.default
        if len(given) != 1:
            raise InvalidParametersError(f"parameter {name} takes one value")
        if not re.fullmatch(parameter.pattern, given[0]):
            raise InvalidParametersError(
                f'Parameter "{name}" has value "{given[0]}" not matching "^({parameter.pattern})$".'
            )
        return given[0]


DEFAULT_DOCUMENT = "SSM-SessionManagerRunShell"
"""The document of a StartSession that names none."""
ECS_EXEC_DOCUMENT = "AmazonECS-ExecuteInteractiveCommand"
"""The document of ECS's ExecuteCommand."""

_LOCAL_PORT_NUMBER = Parameter(f"0|{_PORT}", "0")
_FORWARDING = {
    "portNumber": "{{ portNumber }}",
    "localPortNumber": "{{ localPortNumber }}",
    "type": LOCAL_PORT_FORWARDING,
}

DOCUMENTS = {
    document.name: document
    for document in (
        Document(DEFAULT_DOCUMENT, SessionType.STANDARD_STREAM),
        Document(
            "AWS-StartInteractiveCommand",
            SessionType.INTERACTIVE_COMMANDS,
            {"command": Parameter()},
            {"commands": "{{ command }}"},
        ),
        Document(
            ECS_EXEC_DOCUMENT,
            SessionType.INTERACTIVE_COMMANDS,
            {"command": Parameter()},
            {"commands": "{{ command }}"},
        ),
        Document(
            "AWS-StartNonInteractiveCommand",
            SessionType.NON_INTERACTIVE_COMMANDS,
            {
                "command": Parameter(),
                "separateOutputStream": Parameter("true|false|True|False", "false"),
                # No pattern: the agent checks the prefixes itself, with texts of its own.
                "stdoutSeparatorPrefix": Parameter(default=""),
                "stderrSeparatorPrefix": Parameter(default=""),
            },
            {
                "commands": "{{ command }}",
                "separateOutputStream": "{{ separateOutputStream }}",
                "stdOutSeparatorPrefix": "{{ stdoutSeparatorPrefix }}",
                "stdErrSeparatorPrefix": "{{ stderrSeparatorPrefix }}",
            },
        ),
        Document(
            "AWS-StartSSHSession",
            SessionType.PORT,
            {"portNumber": Parameter(_PORT, "22")},
            {"portNumber": "{{ portNumber }}"},
        ),
        Document(
            "AWS-StartPortForwardingSession",
            SessionType.PORT,
            {"portNumber": Parameter(_PORT, "80"), "localPortNumber": _LOCAL_PORT_NUMBER},
            _FORWARDING,
        ),
        Document(
            "AWS-StartPortForwardingSessionToRemoteHost",
            SessionType.PORT,
            {
                "host": Parameter(r"""[^,$^&\(\)!;'"<>\`{}\[\]\|#=]{3,}""", "localhost"),
                "portNumber": Parameter(_PORT, "80"),
                "localPortNumber": _LOCAL_PORT_NUMBER,
            },
            {**_FORWARDING, "host": "{{ host }}"},
        ),
        Document(
            "AWS-StartPortForwardingSessionToSocket",
            SessionType.PORT,
            {"portNumber": Parameter(_PORT, "80"), "localUnixSocket": Parameter("(?s).+")},
            {
                "portNumber": "{{ portNumber }}",
                "localUnixSocket": "{{ localUnixSocket }}",
                "localConnectionType": "unix",
                "type": LOCAL_PORT_FORWARDING,
            },
        ),
    )
}
