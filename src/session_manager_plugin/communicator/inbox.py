"""The inbox of a data channel: passes received payloads to handlers, and pauses reading while it keeps too many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.session.protocols import InputHandler
from session_manager_plugin.utils.logging import get_logger

UNCLAIMED_SIZE = 1024 * 1024
"""Bytes kept while no handler of the remote's output is set. Above that, reading from the network pauses."""
UNCLAIMED_OVERHEAD = 100
"""Bytes counted for each kept payload in addition to its length."""


class Reading(Enum):
    """Whether data is read from the network; if not, why."""

    ON = "on"
    PAUSED = "paused"
    """``pause`` was called."""
    FULL = "full"
    """More than ``UNCLAIMED_SIZE`` bytes are kept for a handler that is not set yet."""
    PAUSED_AND_FULL = "paused and full"


class ReadingInput(Enum):
    """The inputs of the machine."""

    PAUSE = "pause"
    RESUME = "resume"
    FILLED = "filled"
    CLAIMED = "claimed"
    """The handler was set, and received everything that was kept."""


TRANSITIONS: Mapping[tuple[Reading, ReadingInput], Reading] = {
    (Reading.ON, ReadingInput.PAUSE): Reading.PAUSED,
    (Reading.ON, ReadingInput.FILLED): Reading.FULL,
    (Reading.PAUSED, ReadingInput.RESUME): Reading.ON,
    (Reading.PAUSED, ReadingInput.FILLED): Reading.PAUSED_AND_FULL,
    (Reading.FULL, ReadingInput.PAUSE): Reading.PAUSED_AND_FULL,
    (Reading.FULL, ReadingInput.CLAIMED): Reading.ON,
    (Reading.PAUSED_AND_FULL, ReadingInput.RESUME): Reading.FULL,
    (Reading.PAUSED_AND_FULL, ReadingInput.CLAIMED): Reading.PAUSED,
}
"""An input without a row has no effect: ``pause`` and ``resume`` are idempotent."""


class Inbox:
    """Passes each payload to the handler of its type.

    Until the handler of the remote's output is set, all payloads are kept, so that all handlers receive them in order.
    After that, payloads of a type without a handler are dropped. Calls ``flow_changed(False)`` when reading has to
    pause, ``flow_changed(True)`` when it continues.
    """

    def __init__(self, flow_changed: Callable[[bool], None]) -> None:
        self.logger = get_logger(__name__)
        self._flow_changed = flow_changed
        self.reading = Reading.ON
        self._output_handler: InputHandler | None = None
        self._handlers: dict[int, InputHandler] = {}
        self._unclaimed: list[tuple[int, bytes]] = []
        self._unclaimed_size = 0

    def set_handler(self, payload_type: int, handler: InputHandler) -> None:
        """Pass payloads of this type to ``handler``. Setting a handler for ``OUTPUT`` delivers all kept payloads."""
        self._handlers[payload_type] = handler
        if payload_type != PayloadType.OUTPUT:
            return
        self._output_handler = handler
        unclaimed, self._unclaimed, self._unclaimed_size = self._unclaimed, [], 0
        for kept_type, data in unclaimed:
            self.receive(kept_type, data)
        self._apply(ReadingInput.CLAIMED)

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
            self._apply(ReadingInput.FILLED)

    def pause(self) -> None:
        """Pause reading until ``resume``."""
        self._apply(ReadingInput.PAUSE)

    def resume(self) -> None:
        """Continue reading, unless too much is kept for a handler that is not set yet."""
        self._apply(ReadingInput.RESUME)

    def _apply(self, step: ReadingInput) -> None:
        before = self.reading
        self.reading = TRANSITIONS.get((before, step), before)
        if (before is Reading.ON) is not (self.reading is Reading.ON):
            self._flow_changed(self.reading is Reading.ON)
