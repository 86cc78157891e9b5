"""Where the state of the link is shown. ``status_line`` and ``display`` define how."""

from __future__ import annotations

from enum import Enum


class StatusMode(Enum):
    """Where the state of the link is shown. Trouble is shown in every mode."""

    BAR = "bar"
    """In the last row, which is not part of the remote's screen."""
    TITLE = "title"
    """In the title of the window."""
    AUTO = "auto"
    """In the last row while the terminal has room for that; otherwise as ``NOTICE``."""
    NOTICE = "notice"
    """Only trouble is shown, in the title and over the last row."""
    OFF = "off"
    """Only trouble is shown, in the title."""
