"""When what is typed is drawn before the remote has echoed it. ``prediction`` defines how."""

from __future__ import annotations

from enum import Enum


class PredictMode(Enum):
    """When predictions are shown."""

    AUTO = "auto"
    """On a slow link, or when an answer takes long."""
    ALWAYS = "always"
    NEVER = "never"
