"""The one line that says how the link is doing."""

from __future__ import annotations

import codecs
import io
import locale
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from session_manager_plugin.terminal.link_status import LinkStatus

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

MIN_INTERVAL = 0.25
"""Seconds between two lines at least: more could not be read."""

_TREND_LENGTH = 8
_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.-:=+*#"
_SMALLEST_SPAN = 0.005
"""Seconds of difference the whole height of the trend stands for at least, so that a calm link looks calm."""

_STATE_COLOURS = {
    "connected": "green",
    "connecting": "yellow",
    "reconnecting": "yellow",
    "closing": "yellow",
    "disconnected": "red",
    "closed": "red",
    "error": "red",
}
_GAP = "  "
_STAYS = 7
"""The rank of a part that is never left out; what does not fit of it is cut off."""


class StatusLine:
    """Renders a `LinkStatus` to one line, no more than four times a second.

    The first line imports rich, which takes some 60 ms.
    """

    def __init__(self, *, hint: str, color: bool | None = None, unicode: bool | None = None) -> None:
        """`hint` says how to leave. `color`: by NO_COLOR unless given; `unicode`: by the locale unless given."""
        self._hint = hint
        self._color = not os.environ.get("NO_COLOR") if color is None else color
        self._unicode = _locale_is_utf8() if unicode is None else unicode
        self._console: Console | None = None
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

        On a narrow terminal the least important parts are left out; the state stays longest.
        """
        from rich.text import Text

        state = Text(
            f" {_printable(status.state)} ",
            style=f"bold reverse {_STATE_COLOURS.get(status.state, 'cyan')}",
        )
        # In the order of the line; the numbers are the order of leaving.
        parts = [(_STAYS, state)]
        if status.trouble:
            parts.append((_STAYS, Text(_printable(status.trouble), style="bold red")))
        parts.append((3, Text(_printable(status.label))))
        if status.latency is not None:
            # It says little once the link is silent.
            parts.append((4 if status.silent_for is None else 2, Text(_milliseconds(status.latency))))
        if len(status.latencies) > 1:
            parts.append((0, Text(self._trend(status.latencies[-_TREND_LENGTH:]), style="cyan")))
        if status.retransmitting > 0:
            parts.append((1, Text(f"resending {status.retransmitting}", style="yellow")))
        if status.silent_for is not None:
            parts.append((6, Text(f"last contact {status.silent_for:.0f} s ago", style="bold yellow")))
        hint = Text(_printable(self._hint), style="dim")
        parts.append((5, hint))

        def width() -> int:
            return sum(part.cell_len for _, part in parts) + len(_GAP) * (len(parts) - 1)

        parts = [(rank, part) for rank, part in parts if part.plain]
        while width() > columns and (least := min(parts, key=lambda ranked: ranked[0]))[0] != _STAYS:
            parts.remove(least)
        if parts[-1][1] is hint:
            hint.pad_left(columns - width())
        line = Text(_GAP).join(part for _, part in parts)
        line.truncate(columns)
        return self._to_bytes(line, columns)

    def _to_bytes(self, line: Text, columns: int) -> bytes:
        if self._console is None:
            self._console = self._open_console()
        self._console.width = max(1, columns)
        with self._console.capture() as capture:
            self._console.print(line, end="", no_wrap=True, highlight=False, markup=False, emoji=False)
        return capture.get().encode("utf-8" if self._unicode else "ascii", "replace")

    def _open_console(self) -> Console:
        from rich.console import Console

        return Console(
            file=io.StringIO(),
            height=1,
            force_terminal=True,
            color_system="standard",
            no_color=not self._color,
            legacy_windows=False,
        )

    def title(self, status: LinkStatus) -> bytes:
        """The same for the title of the window, in the terminal's encoding: what does not change all the time."""
        words = [status.state]
        if status.trouble:
            words.append(status.trouble)
        elif status.latency is not None:
            words.append(_milliseconds(status.latency))
        text = " ".join(filter(None, (", ".join(words), status.label and f"({status.label})")))
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


def _locale_is_utf8() -> bool:
    try:
        return codecs.lookup(locale.getencoding()).name == "utf-8"
    except LookupError:
        return False
