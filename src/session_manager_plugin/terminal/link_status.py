"""What is shown of the link, and where. How it is shown is for `status_line` and `display`."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from session_manager_plugin.session.link_health import LinkHealth


class LinkStatus(NamedTuple):
    """What is shown of the link at one moment."""

    health: LinkHealth
    label: str
    """The session id or the target."""
    latencies: tuple[float, ...] = ()
    """Seconds, oldest first; the last eight are shown."""


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
