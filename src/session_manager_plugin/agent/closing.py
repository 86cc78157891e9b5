"""How long the agent waits, once its program has ended, for the acknowledgements of the last output."""

from __future__ import annotations

DRAIN_TIMEOUT = 2.0
"""Seconds without an acknowledgement after which the last output is given up."""
CLOSING_LIMIT = 4.0
"""Seconds that the official agent waits in all: twice 2 s, before and after it reports ``Terminating``."""


class PatientClosing:
    """Waits as long as acknowledgements keep coming, and for a client that is away. ``deadline`` is the instant at
    which the session ends even so; None before the program has ended and while the client is away."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        self._began = False

    def begin(self, now: float) -> None:
        """The program has ended."""
        self._began = True
        self.deadline = now + DRAIN_TIMEOUT

    def waiting_since(self, moment: float) -> None:
        """The last acknowledgement came at ``moment``, and others are due."""
        if self.deadline is not None:
            self.deadline = max(self.deadline, moment + DRAIN_TIMEOUT)

    def client_left(self) -> None:
        """Nobody is there to acknowledge anything."""
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
        """Acknowledgements change nothing."""

    def client_left(self) -> None:
        """Neither does the client's absence."""

    def client_returned(self, now: float) -> None:
        """Nor its return."""
