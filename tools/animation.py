"""Draws an asciicast v2 as an animated SVG, which browsers and README pages show without a player."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

import pyte

CELL_WIDTH, CELL_HEIGHT = 8.4, 18.0
"""Pixels of one character, in the font size of ``_STYLE``."""
MARGIN = 14.0
CAPTION_HEIGHT = 30.0
MIN_STEP = 0.06
"""Seconds; changes closer together are one picture."""
MAX_PAUSE = 1.6
"""Seconds; longer pauses are shortened."""
LAST_PAUSE = 4.0
"""Seconds that the last picture stays before the animation begins again."""
_BACKGROUND, _FOREGROUND = "#1b1f27", "#d8dee9"
_COLOURS = {
    "black": "#3b4252",
    "red": "#ff7b85",
    "green": "#8fd694",
    "brown": "#f2cf7d",
    "blue": "#88b4ff",
    "magenta": "#dba6f2",
    "cyan": "#7fd6e0",
    "white": _FOREGROUND,
}
_WORDS = re.compile(r"\S+(?: \S+)*")
_STYLE = "font: 14px 'DejaVu Sans Mono', Menlo, Consolas, monospace; white-space: pre"

Row = tuple[tuple[int, str, str, str, bool], ...]
"""Runs of equal looks: column, text, foreground, background, bold."""


@dataclass(frozen=True)
class Frame:
    """What the terminal shows from ``at`` on, in seconds."""

    at: float
    rows: tuple[Row, ...]
    caption: str


def frames(cast: str, caption: Callable[[Sequence[str]], str]) -> list[Frame]:
    """Return the pictures of a recording; ``caption`` returns the line above the rows that are shown."""
    header, *events = [json.loads(line) for line in cast.splitlines()]
    screen = pyte.Screen(header["width"], header["height"])
    stream = pyte.Stream(screen)
    found: list[Frame] = []
    now, last = 0.0, 0.0
    for at, code, text in events:
        if code != "o":
            continue
        now += min(at - last, MAX_PAUSE)
        last = at
        stream.feed(text)
        frame = Frame(now, tuple(_rows(screen)), caption(screen.display))
        if found and (frame.rows, frame.caption) == (found[-1].rows, found[-1].caption):
            continue
        if found and now - found[-1].at < MIN_STEP:
            frame = Frame(found.pop().at, frame.rows, frame.caption)
        found.append(frame)
    return found


def _rows(screen: pyte.Screen) -> Iterator[Row]:
    for y in range(screen.lines):
        runs: list[tuple[int, str, str, str, bool]] = []
        for x in range(screen.columns):
            cell = screen.buffer[y][x]
            foreground, background = _COLOURS.get(cell.fg, _FOREGROUND), _COLOURS.get(cell.bg, _BACKGROUND)
            at_cursor = (x, y) == (screen.cursor.x, screen.cursor.y) and not screen.cursor.hidden
            if cell.reverse != at_cursor:
                foreground, background = background, foreground
            looks = (foreground, background, bool(cell.bold))
            if runs and runs[-1][2:] == looks:
                column, text, *_ = runs[-1]
                runs[-1] = (column, text + cell.data, *looks)
            else:
                runs.append((x, cell.data, *looks))
        yield tuple(run for run in runs if run[1].strip() or run[3] != _BACKGROUND)


def svg(pictures: Sequence[Frame], columns: int, rows: int, title: str) -> str:
    """Return the animation. Each row is stored once, however many pictures show it."""
    width = columns * CELL_WIDTH + 2 * MARGIN
    height = rows * CELL_HEIGHT + MARGIN + CAPTION_HEIGHT
    duration = pictures[-1].at + LAST_PAUSE
    known: dict[Row, str] = {}
    definitions: list[str] = []
    shown: list[str] = []
    for number, picture in enumerate(pictures):
        parts = [f'<text class="c" x="{MARGIN}" y="20">{escape(picture.caption)}</text>']
        for y, row in enumerate(picture.rows):
            if not row:
                continue
            if row not in known:
                known[row] = f"r{len(known)}"
                definitions.append(f'<g id="{known[row]}">{"".join(map(_run, row))}</g>')
            parts.append(f'<use href="#{known[row]}" y="{y * CELL_HEIGHT + CAPTION_HEIGHT:g}"/>')
        shown.append(f'<g transform="translate({number * width:g})">{"".join(parts)}</g>')
    steps = "".join(
        f"{picture.at / duration:.3%}{{transform:translateX({-number * width:g}px)}}"
        for number, picture in enumerate(pictures)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img"><title>{escape(title)}</title>'
        f"<style>text{{{_STYLE};fill:{_FOREGROUND}}}.b{{font-weight:bold}}.c{{fill:#aeb7c8}}"
        f"@keyframes p{{{steps}100%{{transform:translateX({-(len(pictures) - 1) * width:g}px)}}}}"
        f"#s{{animation:p {duration:.2f}s steps(1,end) infinite}}</style>"
        f'<rect width="100%" height="100%" rx="8" fill="{_BACKGROUND}"/>'
        f"<defs>{''.join(definitions)}</defs>"
        f'<g id="s">{"".join(shown)}</g></svg>\n'
    )


def _run(run: tuple[int, str, str, str, bool]) -> str:
    column, text, foreground, background, bold = run
    x = MARGIN + column * CELL_WIDTH
    looks = f' style="fill:{foreground}"' if foreground != _FOREGROUND else ""
    looks += ' class="b"' if bold else ""
    parts = []
    if background != _BACKGROUND:
        parts.append(
            f'<rect x="{x:g}" width="{len(text) * CELL_WIDTH:g}" height="{CELL_HEIGHT:g}" fill="{background}"/>'
        )
    # Each group of words at its own place: not every viewer keeps several blanks in a row.
    for words in _WORDS.finditer(text):
        left, length = x + words.start() * CELL_WIDTH, len(words[0]) * CELL_WIDTH
        parts.append(f'<text x="{left:g}" y="13" textLength="{length:g}"{looks}>{escape(words[0])}</text>')
    return "".join(parts)
