"""What is known to be missing of the far end's output."""

from __future__ import annotations

from session_manager_plugin.protocol.events import MissingOutput
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.protocol.reliable import StreamReceiver

_STOPS_AT_A_LOST_LINK = "NonInteractiveCommands"
"""The session type whose output ends for good when the client's websocket is lost (protocol reference 13.3, N5)."""


class OutputLoss:
    """Follows what shows that output is missing: gaps in the stream of ``receiver``, and a command's lost websocket."""

    def __init__(self, receiver: StreamReceiver) -> None:
        self._receiver = receiver
        self._exit_code_received = False
        self._stopped = False
        self._reported = False

    @property
    def missing(self) -> MissingOutput | None:
        """What is missing at this moment; None when nothing is known to be."""
        receiver = self._receiver
        if not receiver.held and not self._stopped:
            return None
        size = receiver.missing * receiver.held_size // receiver.held if receiver.held else 0
        return MissingOutput(receiver.missing, size, receiver.held_size, self._stopped)

    def report_stop(self) -> bool:
        """Whether the agent has stopped sending a command's output, and this was not asked before."""
        due = self._stopped and not self._reported
        self._reported = self._reported or due
        return due

    def exit_code_received(self) -> None:
        """The exit code of a command was delivered; it follows all of the output."""
        self._exit_code_received = True

    def websocket_lost(self, session_type: str | None) -> None:
        """The websocket was lost while the session went on."""
        if session_type == _STOPS_AT_A_LOST_LINK:
            # Once the agent has sent the exit code, it has sent all output, and sends again what was lost of it.
            complete = self._exit_code_received or self._receiver.holds(PayloadType.EXIT_CODE)
            self._stopped = self._stopped or not complete
