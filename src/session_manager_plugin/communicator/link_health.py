"""The state of a session's link, derived from its websocket, its stream and its reconnection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from session_manager_plugin.communicator.config import ConnectionState, WebSocketConfig
from session_manager_plugin.communicator.keepalive import SILENCE_DELAY
from session_manager_plugin.communicator.reconnection import TELLING_DELAY, Reconnection
from session_manager_plugin.communicator.websocket_channel import WebSocketChannel
from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.session.link_health import LinkHealth, LinkState

DOUBT_DELAY = 1.0
"""Seconds without an acknowledgement after which a ping is sent, to distinguish a silent link from a silent target."""
DELAYED_AFTER = 4.0
"""Seconds without an acknowledgement after which the input counts as delayed, if the target still sends. Two
seconds are common behind much output on a slow link; the rest is time to see whether the target still sends."""
LOOK_INTERVAL = 0.5
"""Seconds between two checks of a stream without acknowledgements."""
RESTORED_SHOWN = 5.0
"""Seconds for which a restored connection is shown as such."""
QUIET_DELAY = 20.0
"""Seconds without received bytes after which the last contact is shown, even without trouble. (Pings: every 15 s.)"""
_IDLE_MIN, _IDLE_PROOF = 3.0, 20.0
"""Seconds without traffic before a close. From the first value on, a repeated close suggests an idle limit; from the
second value on, a single close does."""


class LinkMonitor:
    """Watches the link of one session. Calls ``changed`` when its state changes, and when trouble begins or ends.

    Trouble begins at ``_since``, the time of its first sign (``_judge``). All states until the link works again count
    from there, so that the seconds shown never decrease. Every received byte counts as contact. Silence does not count
    while this side does not read.
    """

    def __init__(
        self,
        websocket: WebSocketChannel,
        endpoint: SessionEndpoint,
        reconnection: Reconnection,
        config: WebSocketConfig,
        changed: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.heard_at: float | None = None
        """When the last message of the far end arrived; None before the first."""
        self._websocket = websocket
        self._endpoint = endpoint
        self._reconnection = reconnection
        self._config = config
        self._changed = changed
        self._clock = clock
        self._away_since: float | None = None
        self._state = LinkState.CONNECTING
        self._since: float | None = None
        self._restored_at = float("-inf")
        self._restored_after = 0.0
        self._idle_closes: list[float] = []
        self._advice = ""
        self._over = False
        self._timer: asyncio.TimerHandle | None = None

    def health(self) -> LinkHealth:
        """Return the current state of the link."""
        now = self._clock()
        state, began_at = self._judge(now)
        if began_at is None:
            return self._well(state, now)
        since = began_at if self._since is None else min(began_at, self._since)
        if state is not LinkState.RECONNECTING:
            return LinkHealth(state, True, now - since, retransmitting=self._endpoint.retransmitting)
        return LinkHealth(
            state,
            now >= since + TELLING_DELAY,
            now - since,
            self._reconnection.next_attempt(now),
            self._reconnection.reason,
            retransmitting=self._endpoint.retransmitting,
        )

    def _well(self, state: LinkState, now: float) -> LinkHealth:
        restored = state is LinkState.CONNECTED and now < self._restored_at + RESTORED_SHOWN
        silent_for = now - self._websocket.last_contact_at
        quiet = state is LinkState.CONNECTED and silent_for >= QUIET_DELAY and not self._websocket.reading_paused
        return LinkHealth(
            state,
            restored_after=self._restored_after if restored else None,
            advice=self._advice if restored else "",
            latency=None if quiet else self._websocket.latency,
            retransmitting=self._endpoint.retransmitting,
            silent_for=silent_for if quiet else None,
        )

    def _judge(self, now: float) -> tuple[LinkState, float | None]:
        """Return the state and, if it is trouble, the time of its first sign."""
        websocket, reconnection = self._websocket, self._reconnection
        if websocket.connection_state is ConnectionState.CLOSING:
            return LinkState.CLOSING, None
        if self._over:
            return LinkState.CLOSED, None
        if reconnection.began_at is not None:
            return LinkState.RECONNECTING, reconnection.began_at
        if not websocket.is_connected:
            return LinkState.CONNECTING, None
        if self._away_since is not None:
            away = now >= self._away_since + SILENCE_DELAY
            return (LinkState.AWAY, self._away_since) if away else (LinkState.CONNECTED, None)
        if websocket.silent_since is not None:
            return LinkState.SILENT, websocket.last_contact_at
        stalled_since = self._endpoint.stalled_since
        if stalled_since is None or websocket.reading_paused or now < stalled_since + SILENCE_DELAY:
            return LinkState.CONNECTED, None
        unanswered_since = max(stalled_since, self.heard_at or 0.0)
        if now < unanswered_since + SILENCE_DELAY:
            delayed = now >= stalled_since + DELAYED_AFTER
            return (LinkState.DELAYED, stalled_since) if delayed else (LinkState.CONNECTED, None)
        if websocket.last_contact_at <= unanswered_since:
            return LinkState.SILENT, websocket.last_contact_at
        return LinkState.UNANSWERED, unanswered_since

    # Events of the link.

    def message_received(self, now: float) -> None:
        """Note received messages. Call this before their data is written, so that a notice is removed first."""
        self.heard_at = now
        if self._since is not None:
            self.look()

    def pause_changed(self, paused: bool) -> None:
        """Note the service's report that the target is away (``paused``) or back."""
        self._away_since = self._clock() if paused else None
        self._look_later(SILENCE_DELAY) if paused else self.look()

    def lost(self, now: float) -> None:
        """Note that the websocket is lost and reconnecting has begun."""
        self._note_idle_close(now - self._websocket.last_contact_at)
        self.look(changed=True)

    def over(self) -> None:
        """Note the end of the session."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()

    def look(self, *, changed: bool = False) -> None:
        """Determine the state again. Calls the callback if the state differs, and in any case with ``changed=True``."""
        now = self._clock()
        state, began_at = self._judge(now)
        troubled_before = self._since is not None
        if began_at is not None and (state is not LinkState.RECONNECTING or now >= began_at + TELLING_DELAY):
            if self._since is None:
                self._websocket.check_link()
            self._since = began_at if self._since is None else min(self._since, began_at)
        elif began_at is None and self._since is not None:
            if state is LinkState.CONNECTED:
                self._restored_at, self._restored_after = now, now - self._since
            self._since = None
            self._look_later(RESTORED_SHOWN, changed=True)
        if began_at is not None:
            self._look_later(1.0 if self._since is not None else max(0.0, began_at + TELLING_DELAY - now))
        stalled_since = self._endpoint.stalled_since
        if stalled_since is not None and state is LinkState.CONNECTED:
            if now < stalled_since + DOUBT_DELAY:
                self._look_later(stalled_since + DOUBT_DELAY - now)
            else:
                self._websocket.check_link()
                self._look_later(LOOK_INTERVAL)
        if changed or state is not self._state or troubled_before is not (self._since is not None):
            self._state = state
            self._changed()

    def _look_later(self, delay: float, *, changed: bool = False) -> None:
        if self._over:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay, lambda: self.look(changed=changed))

    def _note_idle_close(self, idle: float) -> None:
        """Advise a shorter ping interval if a proxy or firewall seems to close idle connections.

        The signs are a close after a long time without traffic, or a second close after about the same time.
        """
        interval = self._config.ping_interval
        self._advice = ""
        if idle < _IDLE_MIN or 0 < interval <= idle:
            return
        again = any(abs(before - idle) <= max(1.0, idle / 10) for before in self._idle_closes)
        if not self._idle_closes or again:
            self._idle_closes.append(idle)
        if again or idle >= _IDLE_PROOF:
            shorter = max(1, int(idle * 0.6))
            setting = self._config.network.names.keepalive.format(shorter)
            self._advice = f"it was closed after {idle:.0f} s without traffic: {setting} may avoid that"
