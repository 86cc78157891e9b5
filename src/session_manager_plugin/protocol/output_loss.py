"""The output of the far end that is known to be missing."""

from __future__ import annotations

from session_manager_plugin.protocol.events import MissingOutput
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.protocol.reliable import StreamReceiver

_STOPS_AT_A_LOST_LINK = "NonInteractiveCommands"
"""The session type whose output ends for good when the client's websocket is lost (protocol reference 13.3, N5)."""


class OutputLoss:
    """Detects missing output: gaps in the stream of ``receiver``, and a websocket lost while a command ran."""

    def __init__(self, receiver: StreamReceiver) -> None:
        self._receiver = receiver
        self._exit_code_received = False
        self._stopped = False
        self._reported = False

    @property
    def missing(self) -> MissingOutput | None:
        """The output known to be missing now, or None."""
        receiver = self._receiver
        if not receiver.held and not self._stopped:
            return None
        size = receiver.missing * receiver.held_size // receiver.held if receiver.held else 0
        return MissingOutput(receiver.missing, size, receiver.held_size, self._stopped)

    def report_stop(self) -> bool:
        """Return whether the agent has stopped sending a command's output; True in one call only."""
        due = self._stopped and not self._reported
        self._reported = self._reported or due
        return due

    def exit_code_received(self) -> None:
        """Note that the exit code of a command was delivered. It follows all of the command's output."""
        self._exit_code_received = True

    def websocket_lost(self, session_type: str | None) -> None:
        """Note that the websocket was lost during the session."""
        if session_type == _STOPS_AT_A_LOST_LINK:
            # An agent that has sent the exit code has sent all output, and retransmits the messages that were lost.
            complete = self._exit_code_received or self._receiver.holds(PayloadType.EXIT_CODE)
            self._stopped = self._stopped or not complete
