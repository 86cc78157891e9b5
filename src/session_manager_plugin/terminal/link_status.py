"""Where the state of the link is shown. How it is shown is for `status_line` and `display`."""

from __future__ import annotations

from enum import Enum


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
