"""The time limits for acknowledgements of the last output, after the program has ended."""

from __future__ import annotations

DRAIN_TIMEOUT = 2.0
"""Seconds without an acknowledgement after which the agent stops waiting."""
CLOSING_LIMIT = 4.0
"""Seconds that the official agent waits in all: twice 2 s, before and after it reports ``Terminating``."""


class PatientClosing:
    """Waits while acknowledgements arrive, and while the client is away. ``deadline`` is when the session ends in any
    case; None before the program has ended and while the client is away."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        self._began = False

    def begin(self, now: float) -> None:
        """The program has ended."""
        self._began = True
        self.deadline = now + DRAIN_TIMEOUT

    def waiting_since(self, moment: float) -> None:
        """Further acknowledgements are due, and the last one arrived at ``moment``."""
        if self.deadline is not None:
            self.deadline = max(self.deadline, moment + DRAIN_TIMEOUT)

    def client_left(self) -> None:
        """The client is away."""
        self.deadline = None

    def client_returned(self, now: float) -> None:
        """The client is back."""
        if self._began:
            self.deadline = now + DRAIN_TIMEOUT


class LimitedClosing(PatientClosing):
    """Waits ``CLOSING_LIMIT`` in all, whether the client is there or not: the quirk ``OLDEST_ONLY_RESEND``."""

    def begin(self, now: float) -> None:
        """The program has ended."""
        self.deadline = now + CLOSING_LIMIT

    def waiting_since(self, moment: float) -> None:
        """Ignored."""

    def client_left(self) -> None:
        """Ignored."""

    def client_returned(self, now: float) -> None:
        """Ignored."""
