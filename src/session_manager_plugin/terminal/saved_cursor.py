"""What a terminal keeps for DECRC. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from session_manager_plugin.terminal.pen import Pen


@dataclass
class SavedCursor:
    """What DECSC has saved on one of the two screens; at first what DECRC then restores: the initial state."""

    row: int = 0
    column: int = 0
    pen: Pen = field(default_factory=Pen)
    origin: bool = False
    known: bool = True
    """Whether row and column are certain; if not, only the terminal's slot can restore them."""
    initial: bool = True
    """Whether the remote has saved none."""
    ours: bool = False
    """Whether the terminal's slot holds something else by now, written by `aside`."""
    awaited: bool = False
    """Whether the remote has saved it and has not restored it since."""

    @property
    def is_precious(self) -> bool:
        """Whether something would be lost if the terminal's slot was overwritten."""
        return self.awaited and not self.known and not self.ours
