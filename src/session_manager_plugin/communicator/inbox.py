"""The inbox of a data channel: received payloads, the handlers they are passed to, and when reading has to pause."""

from __future__ import annotations

from collections.abc import Callable
from enum import Flag, auto

from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.session.protocols import InputHandler
from session_manager_plugin.utils.logging import get_logger

UNCLAIMED_SIZE = 1024 * 1024
"""Bytes kept while no handler of the remote's output is set, before reading from the network pauses."""
UNCLAIMED_OVERHEAD = 100
"""Bytes that each kept payload counts in addition, however short it is."""


class PauseReason(Flag):
    """Why reading from the network is paused; empty while it is not."""

    NONE = 0
    OWNER = auto()
    """``pause`` was called."""
    UNCLAIMED = auto()
    """More than ``UNCLAIMED_SIZE`` bytes are kept for a handler that is not set yet."""


class Inbox:
    """Passes each payload to the handler of its type.

    Until the handler of the remote's output is set, all payloads are kept: then every handler gets them in order. From
    then on those of a type without a handler are dropped. ``flow_changed`` is called with False when reading has to
    pause, with True when it goes on.
    """

    def __init__(self, flow_changed: Callable[[bool], None]) -> None:
        self.logger = get_logger(__name__)
        self._flow_changed = flow_changed
        self._pause = PauseReason.NONE
        self._output_handler: InputHandler | None = None
        self._handlers: dict[int, InputHandler] = {}
        self._unclaimed: list[tuple[int, bytes]] = []
        self._unclaimed_size = 0

    @property
    def pause_reason(self) -> PauseReason:
        """Why reading is paused."""
        return self._pause

    def set_handler(self, payload_type: int, handler: InputHandler) -> None:
        """Pass payloads of this type to ``handler``; with that of ``OUTPUT``, also everything that was kept."""
        self._handlers[payload_type] = handler
        if payload_type != PayloadType.OUTPUT:
            return
        self._output_handler = handler
        unclaimed, self._unclaimed, self._unclaimed_size = self._unclaimed, [], 0
        for kept_type, data in unclaimed:
            self.receive(kept_type, data)
        self._set_pause(self._pause & ~PauseReason.UNCLAIMED)

    def receive(self, payload_type: int, data: bytes) -> None:
        """Pass a payload to its handler, or keep it."""
        if self._output_handler is None:
            self._keep(payload_type, data)
            return
        handler = self._output_handler if payload_type == PayloadType.OUTPUT else self._handlers.get(payload_type)
        if handler is not None:
            handler(data)
        else:
            self.logger.info("%d bytes of payload type %d have no handler", len(data), payload_type)

    def _keep(self, payload_type: int, data: bytes) -> None:
        self._unclaimed.append((payload_type, data))
        self._unclaimed_size += len(data) + UNCLAIMED_OVERHEAD
        if self._unclaimed_size > UNCLAIMED_SIZE:
            self._set_pause(self._pause | PauseReason.UNCLAIMED)

    def pause(self) -> None:
        """Pause reading."""
        self._set_pause(self._pause | PauseReason.OWNER)

    def resume(self) -> None:
        """Go on reading, unless too much is kept for a handler that is not set yet."""
        self._set_pause(self._pause & ~PauseReason.OWNER)

    def _set_pause(self, reason: PauseReason) -> None:
        before, self._pause = self._pause, reason
        if bool(before) is not bool(reason):
            self._flow_changed(not reason)
