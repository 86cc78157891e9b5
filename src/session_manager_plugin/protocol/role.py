"""The two ends of a session."""

from __future__ import annotations

from enum import Enum


class Role(Enum):
    """``CLIENT`` is the program that a person or the AWS CLI runs; ``AGENT`` is the process on the target."""

    CLIENT = "client"
    AGENT = "agent"
