"""What the official agent does and the sandbox's agent leaves out, each by a name: ``Sandbox(quirks=...)``.

``docs/sandbox.md`` describes them from a client's point of view. Each has one place in the code, named below.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

ALL = "all"
NONE = "none"


class Quirk(StrEnum):
    """One behaviour of the official agent. Found by running version 3.3.1142.0."""

    SIGNAL_SCAN = "signal-scan"
    """Every 0x03 and 0x1C in a command's input is a signal, not only the first byte of a message: ``command.py``."""
    SIGNAL_BLOCKS_READER = "signal-blocks-reader"
    """After a signal nothing is read from the websocket until the command has ended: ``command.py``, ``agent.py``."""
    REFUSED_PORT_DIES = "refused-port-dies"
    """A destination that refuses the first connection is reported as the death of the worker: ``port_basic.py``."""
    MANGLED_REPLACEMENT_CHARACTER = "mangled-replacement-character"
    """U+FFFD in output arrives as the byte EF, and an unfinished character is held back: ``official_text.py``."""
    PAUSE_STOPS_OUTPUT = "pause-stops-output"
    """A command with separate outputs that writes while the client is away sends nothing any more: ``command.py``."""
    OLDEST_ONLY_RESEND = "oldest-only-resend"
    """One message is sent again per 100 ms, and the session closes 4 s after its program: ``official_sending.py``."""
    PACE = "pace"
    """The same as ``Sandbox(pace="real")``."""


def parse_quirks(text: str) -> frozenset[Quirk]:
    """The quirks that ``text`` names: names separated by commas, ``all`` or ``none``. Raises ``ValueError``."""
    if text in (ALL, NONE):
        return frozenset(Quirk) if text == ALL else frozenset()
    return to_quirks(part.strip() for part in text.split(","))


def to_quirks(names: Iterable[str]) -> frozenset[Quirk]:
    """The quirks with these names. Raises ``ValueError``."""
    try:
        return frozenset(map(Quirk, names))
    except ValueError:
        raise ValueError(f"the agent's quirks are {', '.join(Quirk)}") from None
