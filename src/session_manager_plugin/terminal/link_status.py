"""What is shown of the link, and where. How it is shown is for `status_line` and `display`."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class LinkStatus(NamedTuple):
    """What is known of the link at one moment."""

    state: str
    """One word: a `ConnectionState` value, "reconnecting", or another."""
    label: str
    """The session id or the target."""
    latency: float | None = None
    """Seconds the last ping took; None before the first."""
    latencies: tuple[float, ...] = ()
    """Seconds, oldest first; the last eight are shown."""
    retransmitting: int = 0
    """Messages sent again and still unacknowledged."""
    silent_for: float | None = None
    """Seconds since the last sign of life; None while there is nothing to remark on."""
    trouble: str = ""
    """What is wrong with the link, in a few words; empty while all is well."""


class StatusMode(Enum):
    """Where the state of the link is shown. Trouble is shown in every mode, also where nothing else is."""

    BAR = "bar"
    """In the last row, which the remote does not get."""
    TITLE = "title"
    """In the title of the window."""
    NOTICE = "notice"
    """Nowhere while all is well; trouble goes to the title and over the last row."""
    OFF = "off"
    """Nowhere while all is well; trouble goes to the title."""
