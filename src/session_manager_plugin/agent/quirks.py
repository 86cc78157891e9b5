"""Defects of the official agent that the sandbox's agent has only on request: ``Sandbox(quirks=...)``.

``docs/sandbox.md`` describes them from a client's point of view. Each names the module that implements it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

ALL = "all"
NONE = "none"


class Quirk(StrEnum):
    """One defect of the official agent, observed with version 3.3.1142.0."""

    SIGNAL_SCAN = "signal-scan"
    """Every 0x03 and 0x1C in a command's input is a signal, not only the first byte of a message: ``command.py``."""
    SIGNAL_BLOCKS_READER = "signal-blocks-reader"
    """After a signal the websocket is not read until the command has ended: ``command.py``, ``agent.py``."""
    REFUSED_PORT_DIES = "refused-port-dies"
    """If the destination refuses the first connection, the worker's death is reported: ``port_basic.py``."""
    MANGLED_REPLACEMENT_CHARACTER = "mangled-replacement-character"
    """U+FFFD in output arrives as the byte EF, and an unfinished character is held back: ``official_text.py``."""
    PAUSE_STOPS_OUTPUT = "pause-stops-output"
    """A command with separate outputs that writes while the client is away sends no further output: ``command.py``."""
    OLDEST_ONLY_RESEND = "oldest-only-resend"
    """One message is retransmitted per 100 ms, and the session closes 4 s after its program:
    ``official_sending.py``."""
    PACE = "pace"
    """The same as ``Sandbox(pace="real")``."""


def parse_quirks(text: str) -> frozenset[Quirk]:
    """Parse names separated by commas, ``all`` or ``none``. Raises ``ValueError``."""
    if text in (ALL, NONE):
        return frozenset(Quirk) if text == ALL else frozenset()
    return to_quirks(part.strip() for part in text.split(","))


def to_quirks(names: Iterable[str]) -> frozenset[Quirk]:
    """Return the quirks with these names. Raises ``ValueError``."""
    try:
        return frozenset(map(Quirk, names))
    except ValueError:
        raise ValueError(f"the agent's quirks are {', '.join(Quirk)}") from None
