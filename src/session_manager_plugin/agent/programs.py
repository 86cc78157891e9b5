"""Choosing a session's program by its type, its document's properties and the versions of both ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from session_manager_plugin.agent.command import (
    OUTDATED_CLIENT_MESSAGE,
    SEPARATE_STREAMS_FROM,
    CommandOutputSeparate,
    CommandOutputTogether,
)
from session_manager_plugin.agent.destination import Destination
from session_manager_plugin.agent.documents import LOCAL_PORT_FORWARDING, SessionType
from session_manager_plugin.agent.port_basic import BasicPort
from session_manager_plugin.agent.port_mux import MuxPort
from session_manager_plugin.agent.program import ProgramError, SessionProgram
from session_manager_plugin.agent.quirks import Quirk
from session_manager_plugin.agent.shell import Shell
from session_manager_plugin.protocol.versions import (
    agent_compare,
    agent_supports_mux,
    agent_supports_terminate_flag,
    agent_wants_keepalive,
    client_is_outdated,
    client_supports_mux,
    client_wants_keepalive,
)


class ProgramMaker:
    """Creates the program of one session. ``version`` and ``quirks`` are those of the agent, ``shell`` is the command
    line for a plain shell."""

    def __init__(
        self,
        session_type: SessionType,
        properties: Mapping[str, str],
        version: str,
        shell: Sequence[str],
        quirks: frozenset[Quirk] = frozenset(),
    ) -> None:
        self._session_type = session_type
        self._properties = properties
        self._version = version
        self._shell = shell
        self._quirks = quirks

    @property
    def handshake_properties(self) -> dict[str, str] | None:
        """The properties in the handshake: for a port all of them, in Go's order of keys; otherwise None."""
        return dict(sorted(self._properties.items())) if self._session_type is SessionType.PORT else None

    def customer_message(self, client_version: str) -> str:
        """Return the message that the client shows before the session begins."""
        return OUTDATED_CLIENT_MESSAGE if self._separates and client_is_outdated(client_version) else ""

    @property
    def _separates(self) -> bool:
        wanted = self._properties.get("separateOutputStream", "").lower() == "true"
        return wanted and agent_compare(self._version, SEPARATE_STREAMS_FROM) >= 0

    def make(
        self, client_version: str, *, on_output: Callable[[], None], on_input_taken: Callable[[], None]
    ) -> SessionProgram:
        """Create the program without starting it. ``client_version`` is from the handshake; empty without one.

        Raises ``ProgramError`` for invalid properties.
        """
        commands = self._properties.get("commands", "")
        match self._session_type:
            case SessionType.STANDARD_STREAM:
                return Shell(self._shell, on_output=on_output, on_input_taken=on_input_taken)
            case SessionType.PORT:
                return self._make_port(client_version, on_output, on_input_taken)
            case _ if not commands.strip():
                raise ProgramError(f"Commands cannot be empty for session type {self._session_type}")
            case SessionType.INTERACTIVE_COMMANDS:
                return Shell(["sh", "-c", commands], on_output=on_output, on_input_taken=on_input_taken)
            case SessionType.NON_INTERACTIVE_COMMANDS if self._separates:
                return CommandOutputSeparate(
                    commands,
                    output_prefix=self._properties.get("stdOutSeparatorPrefix", ""),
                    error_prefix=self._properties.get("stdErrSeparatorPrefix", ""),
                    quirks=self._quirks,
                    on_output=on_output,
                    on_input_taken=on_input_taken,
                )
            case SessionType.NON_INTERACTIVE_COMMANDS:
                return CommandOutputTogether(
                    commands, quirks=self._quirks, on_output=on_output, on_input_taken=on_input_taken
                )

    def _make_port(
        self, client_version: str, on_output: Callable[[], None], on_input_taken: Callable[[], None]
    ) -> SessionProgram:
        properties = self._properties
        if not properties.get("portNumber"):
            shown = " ".join(f"{key}:{properties[key]}" for key in sorted(properties))
            raise ProgramError(f"Port number is empty in session properties. map[{shown}]")
        destination = Destination(properties, self._version)
        forwards = properties.get("type") == LOCAL_PORT_FORWARDING
        if forwards and agent_supports_mux(self._version) and client_supports_mux(client_version):
            keepalive = client_wants_keepalive(client_version) or agent_wants_keepalive(self._version)
            return MuxPort(destination, keepalive=keepalive, on_output=on_output, on_input_taken=on_input_taken)
        return BasicPort(
            destination,
            reconnects=forwards,
            knows_terminate=agent_supports_terminate_flag(self._version),
            dies_when_refused=Quirk.REFUSED_PORT_DIES in self._quirks,
            on_output=on_output,
            on_input_taken=on_input_taken,
        )
