"""The life of one session (unopened, open, over), and the two results that callers wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import Enum

from session_manager_plugin.errors import LocalProtocolError, NotConnected, SessionEnded
from session_manager_plugin.protocol.events import SessionReady


class LifeState(Enum):
    """The states of a session, in order."""

    UNOPENED = "unopened"
    OPEN = "open"
    OVER = "over"


class LifeInput(Enum):
    """The inputs of the machine."""

    OPEN = "open"
    END = "end"


TRANSITIONS: Mapping[tuple[LifeState, LifeInput], LifeState] = {
    (LifeState.UNOPENED, LifeInput.OPEN): LifeState.OPEN,
    (LifeState.OPEN, LifeInput.END): LifeState.OVER,
}
"""A session is opened once. ``end`` has no effect in ``UNOPENED`` and ``OVER``."""


class Lifetime:
    """The state of one session, with the results that callers wait for.

    Any number of callers may wait in ``ready`` and ``ended``; cancelling one does not affect the others.
    """

    def __init__(self) -> None:
        self.state = LifeState.UNOPENED
        self._ready: asyncio.Future[SessionReady] | None = None
        self._ended: asyncio.Future[str] | None = None

    def open(self) -> None:
        """Note that the session is being opened. Call it in the event loop. Raises ``LocalProtocolError`` at the
        second call."""
        if (self.state, LifeInput.OPEN) not in TRANSITIONS:
            raise LocalProtocolError(f"a session is opened in state {self.state.name}")
        self.state = TRANSITIONS[self.state, LifeInput.OPEN]
        loop = asyncio.get_running_loop()
        self._ready, self._ended = loop.create_future(), loop.create_future()

    def begin(self, ready: SessionReady) -> None:
        """Note that the session has begun. Ignored if it has begun already, or has ended."""
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(ready)

    def end(self, outcome: str | Exception) -> None:
        """Note that the session has ended, with the far end's closing text or with an error. Only the first call
        counts."""
        if (self.state, LifeInput.END) not in TRANSITIONS:
            return
        self.state = TRANSITIONS[self.state, LifeInput.END]
        assert self._ready is not None
        assert self._ended is not None
        if isinstance(outcome, str):
            self._ended.set_result(outcome)
            outcome = SessionEnded("the session was closed before it began", output=outcome)
        else:
            self._ended.set_exception(outcome)
            self._ended.exception()  # marks the exception as retrieved, because no caller has to wait for it
        if not self._ready.done():
            self._ready.set_exception(outcome)
            self._ready.exception()

    async def ready(self) -> SessionReady:
        """Wait until the session has begun. Raises the error that ended it, or ``NotConnected`` before ``open``."""
        if self._ready is None:
            raise NotConnected("the data channel is not open")
        return await asyncio.shield(self._ready)

    async def ended(self) -> str:
        """Wait for the end and return the far end's text. Raises the error that ended the session, or ``NotConnected``
        before ``open``."""
        if self._ended is None:
            raise NotConnected("the data channel is not open")
        return await asyncio.shield(self._ended)
