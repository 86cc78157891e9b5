"""The state that a terminal saves at DECSC and restores at DECRC. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from session_manager_plugin.terminal.pen import Pen


@dataclass
class SavedCursor:
    """The state saved by DECSC on one of the two screens; before any DECSC, the initial state, which DECRC restores."""

    row: int = 0
    column: int = 0
    pen: Pen = field(default_factory=Pen)
    origin: bool = False
    known: bool = True
    """Whether row and column are known. If not, only the terminal itself can restore them."""
    initial: bool = True
    """Whether the remote has not saved any state."""
    ours: bool = False
    """Whether ``aside`` has overwritten the state that the terminal has saved."""
    awaited: bool = False
    """Whether the remote has saved the state and has not restored it since."""

    @property
    def is_precious(self) -> bool:
        """Whether state of the remote would be lost if we overwrote what the terminal has saved."""
        return self.awaited and not self.known and not self.ours
