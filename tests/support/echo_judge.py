"""What predictive echo has drawn, judged by a terminal emulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.support.emulator import Life, Look, live, live_one
from tests.support.typist import Keystroke

COLUMNS, ROWS = 80, 24
LATENCY, JITTER = 0.150, 0.030
AT_ONCE = 0.005
"""Seconds within which a predicted key is on the screen."""
REPAIRED = LATENCY + JITTER + 0.1
"""Seconds within which a wrong prediction is taken back."""
_ECHOED = 1.5
"""Seconds within which the echo arrives on a busy machine, too."""


class Written(NamedTuple):
    """What was written to the terminal, and when."""

    at: float
    data: bytes


@dataclass
class Figures:
    """What was counted while somebody typed."""

    printable: int = 0
    """Keys typed on the main screen."""
    alternate: int = 0
    """Keys typed on the alternate screen, where none may be drawn."""
    at_once: int = 0
    wrong: int = 0
    unrepaired: int = 0
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        share = self.at_once / max(1, self.printable)
        return f"{self.printable} keys, {share:.1%} at once, {self.wrong} wrong, {self.unrepaired} of them not repaired"


def count_keys(
    typed: Sequence[tuple[float, Keystroke]],
    written: Sequence[Written],
    remote: Sequence[Written],
    at_once: float = AT_ONCE,
    size: tuple[int, int] = (COLUMNS, ROWS),
) -> Figures:
    """Count the printable keys that were on the screen within `at_once` seconds, and the wrong ones.

    ``written`` is what the terminal was sent, ``remote`` what it would have been sent without predictions. ``size``:
    the terminal's columns and rows.
    """
    columns = size[0]
    keys = [(at, keystroke) for at, keystroke in typed if keystroke.is_printable]
    moments = sorted({at + after for at, _ in keys for after in (0.0, at_once, REPAIRED, _ECHOED)})
    shown, direct = live([life(each, moments, cells=False, size=size) for each in (written, remote)])
    looks = dict(zip(moments, zip(shown, direct, strict=True), strict=True))
    figures = Figures()
    suspects: list[tuple[float, str, bool]] = []
    for at, keystroke in keys:
        before, after = looks[at][0], looks[at + at_once][0]
        figures.alternate += before.alternate
        figures.printable += not before.alternate
        (column, row), character = before.cursor, keystroke.key.decode()
        if after.cursor != (column + 1, row) or after.rows[row].ljust(columns)[column] != character:
            continue
        figures.at_once += 1
        prefix = after.rows[row].ljust(column + 1)[: column + 1]
        (repaired, early), (_, truth) = looks[at + REPAIRED], looks[at + _ECHOED]
        if not _has_prefix(early, prefix, columns) and not _has_prefix(truth, prefix, columns):
            suspects.append((at, prefix, _has_prefix(repaired, prefix, columns)))
    for at, prefix, is_left in suspects:
        echoes = [echo.at for echo in remote if at < echo.at <= at + _ECHOED]
        direct = live_one(life(remote, [*echoes, at + _ECHOED], cells=False, size=size))
        if any(_has_prefix(look, prefix, columns) for look in direct):
            continue  # it was echoed, and soon erased by Backspace, for example
        figures.wrong += 1
        figures.unrepaired += is_left
        figures.examples.append(f"{prefix[-1]!r} in {prefix!r}; then {direct[-1].rows[direct[-1].cursor[1]]!r}")
    return figures


def life(
    written: Sequence[Written],
    moments: Sequence[float],
    *,
    cells: bool = True,
    size: tuple[int, int] = (COLUMNS, ROWS),
) -> Life:
    """Return the life of a terminal that is looked at at these ``moments``, in order."""
    alive = Life(*size)
    place = 0
    for moment in moments:
        while place < len(written) and written[place].at <= moment:
            alive.write(written[place].data)
            place += 1
        alive.look(cells=cells)
    return alive


def _has_prefix(look: Look, prefix: str, columns: int) -> bool:
    return any(row.ljust(columns).startswith(prefix) for row in [*look.rows, *look.history[-50:]])
