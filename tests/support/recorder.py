"""What a ``WebSocketChannel`` tells its handlers."""

from __future__ import annotations

from session_manager_plugin.communicator import ConnectionState, WebSocketChannel, WebSocketMessage
from tests.support.waiting import Happenings


class Recorder(Happenings):
    """Keeps all that ``channel`` tells; takes no messages before ``take_messages``."""

    def __init__(self, channel: WebSocketChannel) -> None:
        super().__init__()
        self.messages: list[WebSocketMessage] = []
        self.errors: list[Exception] = []
        self.states: list[ConnectionState] = []
        self._channel = channel
        channel.set_error_handler(self._error)
        channel.set_connection_handler(self._state)

    def take_messages(self) -> None:
        """Be the message handler."""
        self._channel.set_message_handler(self._message)

    @property
    def data(self) -> list[str | bytes]:
        """What the messages hold."""
        return [message.data for message in self.messages]

    def _message(self, message: WebSocketMessage) -> None:
        self.messages.append(message)
        self.happened()

    def _error(self, error: Exception) -> None:
        self.errors.append(error)
        self.happened()

    def _state(self, state: ConnectionState) -> None:
        self.states.append(state)
        self.happened()
