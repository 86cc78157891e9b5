"""The line that shows the state of the link."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from session_manager_plugin.session.link_health import LinkHealth, LinkState, LinkStatus
from session_manager_plugin.terminal.capabilities import has_256_colors, is_utf8

if TYPE_CHECKING:
    from rich.segment import Segment

MIN_INTERVAL = 0.25
"""Least seconds between two lines: faster changes could not be read."""

_TREND_LENGTH = 8
_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.-:=+*#"
_SMALLEST_SPAN = 0.005
"""Least seconds for the whole height of the trend, so that small variations look small."""

# Only the colours 16 to 255 are used: they are the same in every theme, while 0 to 15 and the default colours are the
# theme's. Each pair has a contrast of at least 4.5 (WCAG 2, level AA).
_BAR = "color(252) on color(236)"
_GOOD, _DOUBTFUL, _BAD = "bold color(231) on color(28)", "bold color(16) on color(220)", "bold color(231) on color(160)"
_STATE_COLOURS = {
    LinkState.CONNECTED: _GOOD,
    LinkState.CONNECTING: _DOUBTFUL,
    LinkState.DELAYED: _DOUBTFUL,
    LinkState.CLOSING: _DOUBTFUL,
}
"""Styles by state. All other states have the style ``_BAD``."""
_BRIEF = {
    LinkState.CONNECTING: "wait",
    LinkState.CONNECTED: "online",
    LinkState.SILENT: "silent",
    LinkState.UNANSWERED: "silent",
    LinkState.DELAYED: "late",
    LinkState.AWAY: "away",
    LinkState.RECONNECTING: "lost",
}
"""Words for the states where there is no room for their names: with the key that leaves they fit in 10 columns."""
_GAP = "  "
_WIDTH = 80
"""Columns that the line occupies in a wider terminal, unless its parts need more. Many terminals wrap a row anew when
they become narrower than its text, which moves what is below and above it."""
_RANK_OF_LABEL, _RANK_OF_LATENCY = 4, 3
_FILL = "\x1b[K"  # EL, which fills the row with the current background
_LONGEST_IN_TITLE = 75
"""Longest wording of state and trouble in the title, in characters."""


class StatusLine:
    """Renders a ``LinkStatus`` to one line, no more than four times a second.

    The first line imports rich's styles and character widths. Rich's console is not needed, and would double the time.
    """

    def __init__(
        self, *, hint: str, escape: str = "", label: str = "", color: bool | None = None, unicode: bool | None = None
    ) -> None:
        """``hint`` is the text about leaving while the link works; ``escape`` the character that begins escapes, as
        shown (``~``), or empty. ``label`` is shown in place of the session's id.

        ``color``: the terminal has 256 colours, and they are wanted; by default that depends on NO_COLOR, TERM and
        COLORTERM. Without colours the state is bold and reversed. ``unicode`` depends on the locale by default.
        """
        self._label = label
        self._hints = [f"{hint}, {escape}? help", f"{escape}? help", ""] if escape else [hint, ""]
        leave = f"{escape}."
        self._leave_hints = [f"Enter {leave} leaves", f"{leave} leaves", leave] if escape else [""]
        self._color = has_256_colors(os.environ) and not os.environ.get("NO_COLOR") if color is None else color
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

        State and trouble are one field at the left, hints stand at the right. On a narrow terminal the least important
        parts are left out, and the longest wording that fits is used. The state, and in trouble the keys that leave,
        are kept longest; in 10 columns or more nothing is cut.
        """
        from rich.segment import Segment
        from rich.style import Style

        health = status.health
        base = Style.parse(_BAR) if self._color else Style.null()
        style = _DOUBTFUL if health.silent_for is not None else _STATE_COLOURS.get(health.state, _BAD)
        state_style = Style.parse(style if self._color else "bold reverse")

        def part(text: str) -> Segment:
            return Segment(_printable(text), base)

        def width(parts: Iterable[Segment]) -> int:
            cells = [part.cell_length for part in parts if part.text]
            return sum(cells) + len(_GAP) * (len(cells) - 1)

        states = [Segment(_printable(f" {words} "), state_style) for words in _wordings(health)]
        brief = Segment(f" {_BRIEF.get(health.state, health.state.value)} ", state_style)
        # In the order of the line. The numbers are ranks: the part of the lowest rank is left out first.
        facts = [(_RANK_OF_LABEL, part(self._label or status.label))]
        if health.latency is not None:
            facts.append((_RANK_OF_LATENCY, part(_milliseconds(health.latency))))
            if len(status.latencies) > 1:
                facts.append((0, part(self._trend(status.latencies[-_TREND_LENGTH:]))))
        if health.retransmitting > 0:
            facts.append((1, part(f"resending {health.retransmitting}")))
        facts = [(rank, fact) for rank, fact in facts if fact.text]

        if health.troubled:  # the clause is shortened before the hint is
            hints = [part(hint) for hint in self._leave_hints]
            wordings = [(state, hint) for state in states for hint in hints[:-1]]
            wordings += [(state, hints[-1]) for state in states]
            state, hint = next((words for words in wordings if width(words) <= columns), (brief, hints[-1]))
        else:
            state = next((state for state in states if width((state,)) <= columns), brief)
            longest, *others = (part(hint) for hint in self._hints)
            hint = next((hint for hint in others if width((state, hint)) <= columns), part(""))
            if width((state, *(fact for _, fact in facts), longest)) <= columns:
                hint = longest
        if any(rank == _RANK_OF_LABEL and width((state, fact, hint)) > columns for rank, fact in facts):
            facts = [(rank, fact) for rank, fact in facts if rank == _RANK_OF_LATENCY]  # may fit instead of the label
        while facts and width((state, *(fact for _, fact in facts), hint)) > columns:
            facts.remove(min(facts, key=lambda ranked: ranked[0]))
        line = [state]
        for _, fact in facts:
            line += (part(_GAP), fact)
        length = sum(each.cell_length for each in line)
        if hint.text:
            filling = min(columns, _WIDTH) - length - hint.cell_length
            line += (part(" " * max(filling, len(_GAP) if width((state, hint)) <= columns else 0)), hint)
            length = sum(each.cell_length for each in line)
        line = Segment.adjust_line_length(line, columns, pad=False)
        if self._color and length < columns:
            line.append(Segment(_FILL, base))
        return self._to_bytes(line)

    def _to_bytes(self, line: Iterable[Segment]) -> bytes:
        from rich.color import ColorSystem

        text = "".join(
            part.style.render(part.text, color_system=ColorSystem.EIGHT_BIT) if part.style else part.text
            for part in line
        )
        return text.encode("utf-8" if self._unicode else "ascii", "replace")

    def title(self, status: LinkStatus) -> bytes:
        """Return the text for the window's title, in the terminal's encoding, without values that change constantly."""
        health = status.health
        label = self._label or status.label
        words = [next((words for words in _wordings(health) if len(words) <= _LONGEST_IN_TITLE), health.state.value)]
        if health.troubled:
            words.append(self._leave_hints[0])
        elif not health.clauses and health.latency is not None:
            words.append(_milliseconds(health.latency))
        text = " ".join(filter(None, (", ".join(filter(None, words)), label and f"({label})")))
        return _printable(text).encode("utf-8" if self._unicode else "ascii", "replace")

    def _trend(self, latencies: Sequence[float]) -> str:
        """Return one bar for each value, scaled between the lowest and the highest value."""
        blocks = _BLOCKS if self._unicode else _ASCII_BLOCKS
        lowest = min(latencies)
        span = max(max(latencies) - lowest, lowest / 2, _SMALLEST_SPAN)
        return "".join(blocks[round((value - lowest) / span * (len(blocks) - 1))] for value in latencies)


def _wordings(health: LinkHealth) -> list[str]:
    """Return wordings of state and trouble, the longest first."""
    state = health.state.value
    clauses = [f"{state} {clause}" if clause.startswith("for ") else f"{state}, {clause}" for clause in health.clauses]
    return [*clauses, state]


def _milliseconds(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:.1f} ms" if milliseconds < 9.95 else f"{milliseconds:.0f} ms"


def _printable(text: str) -> str:
    """Return ``text`` without control characters: the far end chooses the session id."""
    return "".join(character if character.isprintable() else "?" for character in text)
