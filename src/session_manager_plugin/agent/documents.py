"""The session documents the sandbox knows: which session type each starts, and which parameters it takes.

Names, session types and parameters are those of the documents that AWS owns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class SessionType(StrEnum):
    """What the agent runs for a document, by the name it has in the handshake."""

    STANDARD_STREAM = "Standard_Stream"
    INTERACTIVE_COMMANDS = "InteractiveCommands"


class InvalidParametersError(ValueError):
    """The parameters do not fit the document; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Document:
    """One session document. Every parameter it has must be given, as a list of one non-empty string."""

    name: str
    session_type: SessionType
    parameters: frozenset[str] = frozenset()
    commands: str = ""
    """The document's ``commands`` property, where ``{{ name }}`` stands for a parameter; empty: a plain shell."""

    def resolve_commands(self, values: Mapping[str, Sequence[str]]) -> str:
        """``commands`` with the parameters put in. Raises ``InvalidParametersError``."""
        if unknown := sorted(values.keys() - self.parameters):
            raise InvalidParametersError(f"document {self.name} has no parameter {', '.join(unknown)}")
        if missing := sorted(self.parameters - values.keys()):
            raise InvalidParametersError(f"document {self.name} needs the parameter {', '.join(missing)}")
        commands = self.commands
        for name, value in values.items():
            if len(value) != 1 or not value[0]:
                raise InvalidParametersError(f"parameter {name} takes one value that is not empty")
            commands = commands.replace(f"{{{{ {name} }}}}", value[0])
        return commands


DEFAULT_DOCUMENT = "SSM-SessionManagerRunShell"
"""What StartSession runs when it names no document."""

DOCUMENTS = {
    document.name: document
    for document in (
        Document(DEFAULT_DOCUMENT, SessionType.STANDARD_STREAM),
        Document(
            "AWS-StartInteractiveCommand",
            SessionType.INTERACTIVE_COMMANDS,
            frozenset({"command"}),
            "{{ command }}",
        ),
    )
}
