"""The one line that says how the link is doing."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from session_manager_plugin.session.link_health import LinkState, LinkStatus
from session_manager_plugin.terminal.capabilities import is_utf8

if TYPE_CHECKING:
    from rich.segment import Segment

MIN_INTERVAL = 0.25
"""Seconds between two lines at least: more could not be read."""

_TREND_LENGTH = 8
_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.-:=+*#"
_SMALLEST_SPAN = 0.005
"""Seconds of difference the whole height of the trend stands for at least, so that a calm link looks calm."""

_STATE_COLOURS = {
    LinkState.CONNECTED: "green",
    LinkState.CONNECTING: "yellow",
    LinkState.DELAYED: "yellow",
    LinkState.CLOSING: "yellow",
}
"""The others are red."""
_GAP = "  "
_STAYS = 7
"""The rank of a part that is never left out; what does not fit of it is cut off."""
_TITLE_CLAUSE = 60
"""Characters of a clause in the title at most."""


class StatusLine:
    """Renders a `LinkStatus` to one line, no more than four times a second.

    The first line imports the part of rich that knows styles and the width of characters. Rich's console takes as long
    again to import, and a line needs none.
    """

    def __init__(self, *, hint: str, escape: str = "", color: bool | None = None, unicode: bool | None = None) -> None:
        """`hint` says how to leave while all is well, `escape` is what leaves at any time (`~.`), if anything does.

        `color`: by NO_COLOR unless given; `unicode`: by the locale unless given.
        """
        self._hint = hint
        self._escape_hints = [f"Enter {escape} leaves", f"{escape} leaves", escape] if escape else ["", ""]
        self._color = not os.environ.get("NO_COLOR") if color is None else color
        self._unicode = is_utf8(os.environ) if unicode is None else unicode
        self._status: LinkStatus | None = None
        self._columns = 0
        self._updated_at = -math.inf
        self.line = b""
        """The line last returned by `update`, to draw it again after damage."""
        self.next_update_at: float | None = None
        """When to call `update` again although nothing has changed: seconds, on the clock of its `now`."""

    def update(self, status: LinkStatus, columns: int, now: float) -> bytes | None:
        """The line to show now, or None if it would be the same, or comes too soon after the last one.

        A line that comes too soon is not lost: `next_update_at` says when it is due. A new width does not wait.
        `now` is in seconds, monotonic.
        """
        self.next_update_at = None
        if columns == self._columns:
            if status == self._status:
                return None
            if now < self._updated_at + MIN_INTERVAL:
                self.next_update_at = self._updated_at + MIN_INTERVAL
                return None
        line = self.render(status, columns)
        self._status, self._columns = status, columns
        if line == self.line:
            return None
        self.line = line
        self._updated_at = now
        return line

    def render(self, status: LinkStatus, columns: int) -> bytes:
        """One line of at most `columns` cells, with SGR sequences and no newline, in the terminal's encoding.

        On a narrow terminal the least important parts are left out, and of what there is to say about the link the
        longest wording that fits is chosen; the state and, in trouble, how to leave stay longest.
        """
        from rich.segment import Segment
        from rich.style import Style

        def part(text: str, words: str = "") -> Segment:
            style = Style.parse(words)
            return Segment(_printable(text), style if self._color else style.without_color)

        def width(parts: Iterable[Segment]) -> int:
            cells = [part.cell_length for part in parts if part.text]
            return sum(cells) + len(_GAP) * (len(cells) - 1)

        health = status.health
        state = part(f" {health.state.value} ", f"bold reverse {_STATE_COLOURS.get(health.state, 'red')}")
        clause_style = "bold red" if health.troubled else "bold yellow" if health.silent_for is not None else "green"
        clauses = [part(clause, clause_style) for clause in (*health.clauses, "")]
        if health.troubled:  # a hint of two characters says little: the clause is shortened first
            hints, brief = [part(hint, "dim") for hint in self._escape_hints], 1
        else:
            hints, brief = [part(self._hint, "dim"), part("")], 0
        wordings = [(clause, hint) for clause in clauses for hint in hints[: len(hints) - brief]]
        wordings += [(clause, hint) for clause in clauses for hint in hints[len(hints) - brief :]]
        clause, hint = next((words for words in wordings if width((state, *words)) <= columns), wordings[-1])

        # In the order of the line; the numbers are the order of leaving.
        parts = [(_STAYS, state), (_STAYS, clause), (3, part(status.label))]
        if health.latency is not None:
            parts.append((4, part(_milliseconds(health.latency))))
            if len(status.latencies) > 1:
                parts.append((0, part(self._trend(status.latencies[-_TREND_LENGTH:]), "cyan")))
        if health.retransmitting > 0:
            parts.append((1, part(f"resending {health.retransmitting}", "yellow")))
        parts.append((_STAYS if health.troubled else 5, hint))
        parts = [(rank, part) for rank, part in parts if part.text]
        while width(part for _, part in parts) > columns:
            least = min(parts, key=lambda ranked: ranked[0])
            if least[0] == _STAYS:
                break
            parts.remove(least)
        line = [parts[0][1]]
        for _, following in parts[1:]:
            if following is hint:
                line.append(Segment(" " * (columns - width(part for _, part in parts))))
            line += (Segment(_GAP), following)
        return self._to_bytes(Segment.adjust_line_length(line, columns, pad=False))

    def _to_bytes(self, line: Iterable[Segment]) -> bytes:
        from rich.color import ColorSystem

        text = "".join(
            part.style.render(part.text, color_system=ColorSystem.STANDARD) if part.style else part.text
            for part in line
        )
        return text.encode("utf-8" if self._unicode else "ascii", "replace")

    def title(self, status: LinkStatus) -> bytes:
        """The same for the title of the window, in the terminal's encoding; without what changes all the time."""
        health = status.health
        words = [health.state.value]
        clause = next((clause for clause in health.clauses if len(clause) <= _TITLE_CLAUSE), "")
        if health.troubled:
            words += [clause, self._escape_hints[0]]
        elif clause:
            words.append(clause)
        elif health.latency is not None:
            words.append(_milliseconds(health.latency))
        text = " ".join(filter(None, (", ".join(filter(None, words)), status.label and f"({status.label})")))
        return _printable(text).encode("utf-8" if self._unicode else "ascii", "replace")

    def _trend(self, latencies: Sequence[float]) -> str:
        """A bar per value, the lowest one low: what counts is the change."""
        blocks = _BLOCKS if self._unicode else _ASCII_BLOCKS
        lowest = min(latencies)
        span = max(max(latencies) - lowest, lowest / 2, _SMALLEST_SPAN)
        return "".join(blocks[round((value - lowest) / span * (len(blocks) - 1))] for value in latencies)


def _milliseconds(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:.1f} ms" if milliseconds < 9.95 else f"{milliseconds:.0f} ms"


def _printable(text: str) -> str:
    """`text` without anything a terminal would obey: a session id is the far end's to choose."""
    return "".join(character if character.isprintable() else "?" for character in text)
