"""The line that shows the state of the link."""

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
"""Least seconds between two lines: faster changes could not be read."""

_TREND_LENGTH = 8
_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.-:=+*#"
_SMALLEST_SPAN = 0.005
"""Least seconds for the whole height of the trend, so that small variations look small."""

_STATE_COLOURS = {
    LinkState.CONNECTED: "green",
    LinkState.CONNECTING: "yellow",
    LinkState.DELAYED: "yellow",
    LinkState.CLOSING: "yellow",
}
"""Colours by state. All other states are red."""
_GAP = "  "
_STAYS = 7
"""The rank of a part that is never left out, only cut off at the width."""
_TITLE_CLAUSE = 60
"""Longest clause in the title, in characters."""


class StatusLine:
    """Renders a ``LinkStatus`` to one line, no more than four times a second.

    The first line imports rich's styles and character widths. Rich's console is not needed, and would double the time.
    """

    def __init__(
        self, *, hint: str, escape: str = "", label: str = "", color: bool | None = None, unicode: bool | None = None
    ) -> None:
        """``hint`` is the text about leaving while the link works; ``escape`` the keys that always leave (``~.``), or
        empty. ``label`` is shown in place of the session's id.

        ``color`` depends on NO_COLOR by default, ``unicode`` on the locale.
        """
        self._hint = hint
        self._label = label
        self._escape_hints = [f"Enter {escape} leaves", f"{escape} leaves", escape] if escape else ["", ""]
        self._color = not os.environ.get("NO_COLOR") if color is None else color
        self._unicode = is_utf8(os.environ) if unicode is None else unicode
        self._status: LinkStatus | None = None
        self._columns = 0
        self._updated_at = -math.inf
        self.line = b""
        """The line last returned by ``update``, to draw it again after damage."""
        self.next_update_at: float | None = None
        """When to call ``update`` even without a change, in seconds on the clock of its ``now``."""

    def update(self, status: LinkStatus, columns: int, now: float) -> bytes | None:
        """Return the line to show now; None if it is unchanged or less than ``MIN_INTERVAL`` has passed.

        In the second case ``next_update_at`` is when the line is due. A change of width is due at once. ``now`` is in
        seconds, monotonic.
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
        """Return one line of at most ``columns`` cells, with SGR sequences and no newline, in the terminal's encoding.

        On a narrow terminal the least important parts are left out, and the longest wording that fits is used. The
        state, and in trouble the keys that leave, are kept longest.
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
        label = self._label or status.label
        state = part(f" {health.state.value} ", f"bold reverse {_STATE_COLOURS.get(health.state, 'red')}")
        clause_style = "bold red" if health.troubled else "bold yellow" if health.silent_for is not None else "green"
        clauses = [part(clause, clause_style) for clause in (*health.clauses, "")]
        if health.troubled:  # the clause is shortened before the hint is
            hints, brief = [part(hint, "dim") for hint in self._escape_hints], 1
        else:
            hints, brief = [part(self._hint, "dim"), part("")], 0
        wordings = [(clause, hint) for clause in clauses for hint in hints[: len(hints) - brief]]
        wordings += [(clause, hint) for clause in clauses for hint in hints[len(hints) - brief :]]
        clause, hint = next((words for words in wordings if width((state, *words)) <= columns), wordings[-1])

        # In the order of the line. The numbers are ranks: the part of the lowest rank is left out first.
        parts = [(_STAYS, state), (_STAYS, clause), (3, part(label))]
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
        """Return the text for the window's title, in the terminal's encoding, without values that change constantly."""
        health = status.health
        label = self._label or status.label
        words = [health.state.value]
        clause = next((clause for clause in health.clauses if len(clause) <= _TITLE_CLAUSE), "")
        if health.troubled:
            words += [clause, self._escape_hints[0]]
        elif clause:
            words.append(clause)
        elif health.latency is not None:
            words.append(_milliseconds(health.latency))
        text = " ".join(filter(None, (", ".join(filter(None, words)), label and f"({label})")))
        return _printable(text).encode("utf-8" if self._unicode else "ascii", "replace")

    def _trend(self, latencies: Sequence[float]) -> str:
        """Return one bar for each value, scaled between the lowest and the highest value."""
        blocks = _BLOCKS if self._unicode else _ASCII_BLOCKS
        lowest = min(latencies)
        span = max(max(latencies) - lowest, lowest / 2, _SMALLEST_SPAN)
        return "".join(blocks[round((value - lowest) / span * (len(blocks) - 1))] for value in latencies)


def _milliseconds(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:.1f} ms" if milliseconds < 9.95 else f"{milliseconds:.0f} ms"


def _printable(text: str) -> str:
    """Return ``text`` without control characters: the far end chooses the session id."""
    return "".join(character if character.isprintable() else "?" for character in text)
