"""A command for targets, and the ways in which Session Manager can run it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from session_manager_plugin.errors import AgentTooOld, DocumentDenied, UsageError, WrongType
from session_manager_plugin.session.document_names import COMMAND, INTERACTIVE_COMMAND, SEPARATE_OUTPUTS
from session_manager_plugin.session.marked_command import MAX_SIZE
from session_manager_plugin.session.outcome import Outcome, without_status
from session_manager_plugin.session.runner import DEFAULT_SESSION_TYPE, HANDLERS, INTERACTIVE, Handlers

if TYPE_CHECKING:
    from session_manager_plugin.protocol.events import SessionReady
    from session_manager_plugin.session.handler_options import HandlerOptions
    from session_manager_plugin.session.protocols import SessionHandler, Streams, TerminalSize


_BACKGROUND = re.compile(r"(?<![&><|\\])&(?=[\s;)'\"]|$)")
"""An ``&`` that ends a command, unlike those of ``&&``, ``2>&1`` and of a URL."""


class Via(Enum):
    """How a command reaches a target."""

    AUTO = "auto"
    """``DOCUMENT``, and ``SHELL`` where that is denied or the agent is too old for it."""
    DOCUMENT = "document"
    """The document AWS-StartNonInteractiveCommand: separate outputs, an exit status, no input."""
    SHELL = "shell"
    """A shell session in which the command is typed: both outputs are one stream. The command may have input."""
    TERMINAL = "terminal"
    """The document AWS-StartInteractiveCommand: the command has a terminal. It reports no exit status; see
    ``RemoteCommand.in_terminal``."""


@dataclass(frozen=True)
class RemoteCommand:
    """A command in the two forms in which it is sent. Raises ``UsageError`` if it cannot be sent."""

    words: str
    """For the agent, which splits it into words as a shell does, but runs no shell."""
    line: str
    """For ``sh``."""

    def __post_init__(self) -> None:
        if not self.words:
            raise UsageError("the command is empty")
        if "\0" in self.line:
            raise UsageError("the command contains a NUL character")
        try:
            os.fsencode(self.line)
        except UnicodeEncodeError:
            raise UsageError("the command contains a character that has no encoding (a lone surrogate)") from None

    @property
    def has_background(self) -> bool:
        """Whether the command probably starts a program in the background, by ``&`` of a shell."""
        return _BACKGROUND.search(self.line) is not None

    def session_request(self, via: Via) -> tuple[str, dict[str, list[str]]]:
        """Return the document, empty for a shell, and its parameters.

        Raises ``UsageError`` if the command is not UTF-8, or too long for a shell.
        """
        if via is Via.SHELL:
            if len(os.fsencode(self.line)) > MAX_SIZE:
                raise UsageError(
                    f"the command is longer than the {MAX_SIZE:,} bytes that a shell takes; send it as standard input: "
                    "--via shell -- sh <FILE"
                )
            return "", {}
        try:
            self.words.encode()
        except UnicodeEncodeError:
            raise UsageError("the command contains bytes that are not UTF-8; --via shell can send them") from None
        if via is Via.TERMINAL:
            return INTERACTIVE_COMMAND, {"command": [self.words]}
        return COMMAND, {"command": [self.words], SEPARATE_OUTPUTS: ["true"]}

    def in_terminal(self, size: TerminalSize) -> tuple[tuple[str, dict[str, list[str]]], Handlers]:
        """Return the document with its parameters, and the handlers, for a command that runs in a terminal of ``size``
        from its start on, and whose exit status is found out by ``sh`` on the target."""
        from session_manager_plugin.session.marked_terminal import TerminalCommand, TerminalCommandHandler

        self.session_request(Via.TERMINAL)
        command = TerminalCommand(self.words, size)

        def marked(streams: Streams, _ready: SessionReady, options: HandlerOptions) -> SessionHandler:
            return TerminalCommandHandler(streams, command, options)

        request = INTERACTIVE_COMMAND, {"command": [command.line]}
        return request, {INTERACTIVE: marked, DEFAULT_SESSION_TYPE: marked}

    def handlers(self, via: Via, *, has_input: bool) -> Handlers:
        """Return the session handlers that run the command. ``has_input``: it reads the input of the streams."""
        if via is not Via.SHELL:
            return HANDLERS

        def marked(streams: Streams, _ready: SessionReady, options: HandlerOptions) -> SessionHandler:
            from session_manager_plugin.session.marked_handler import MarkedCommandHandler

            return MarkedCommandHandler(streams, os.fsencode(self.line), options.notices, has_input=has_input)

        return {DEFAULT_SESSION_TYPE: marked}


def command_of(arguments: str | Sequence[str], *, shell: bool = False) -> RemoteCommand:
    """Return the command of ``arguments``. A list of words is executed without a shell; with ``shell`` the words are
    joined with spaces and run by ``sh -c``, as a string always is.

    Raises ``UsageError`` if the command cannot be sent, and ``WrongType`` if an argument is not a string.
    """
    if isinstance(arguments, str):
        arguments, shell = [arguments], True
    if not _are_words(arguments):
        raise WrongType("a command is a string for sh -c, or a sequence of strings, its words")
    if shell:
        line = " ".join(arguments)
        return RemoteCommand(shlex.join(["sh", "-c", line]) if line.strip() else "", line)
    if arguments and not arguments[0]:
        raise UsageError("the command is empty")
    words = shlex.join(arguments)
    return RemoteCommand(words, f"exec {words}")  # exec: a word such as if or A=b is a program's name too


def _are_words(value: object) -> bool:
    return isinstance(value, Sequence) and all(isinstance(each, str) for each in value)


async def attempt_ways(
    via: Via, attempt: Callable[[Via], Awaitable[Outcome]], fell_back: Callable[[str], None]
) -> Outcome:
    """Return the outcome of ``attempt``, which runs the command in one way.

    ``Via.AUTO`` attempts ``Via.DOCUMENT``. If nothing has run because the document is denied or the agent is too old,
    ``fell_back`` is called with a sentence, and ``Via.SHELL`` is attempted.
    """
    outcome = await attempt(Via.DOCUMENT if via is Via.AUTO else via)
    if via is Via.AUTO and isinstance(outcome.error, DocumentDenied | AgentTooOld):
        reason = "the document is denied" if isinstance(outcome.error, DocumentDenied) else "the agent is too old"
        fell_back(f"the command runs in a shell session, where standard error is part of the output: {reason}")
        outcome = await attempt(Via.SHELL)
    if via is not Via.TERMINAL and outcome.status is None and outcome.is_normal:
        return without_status(outcome)
    return outcome
