"""The bar's colours: legible in the palettes that people use, on light and on dark backgrounds."""

from __future__ import annotations

import re

import pytest

from session_manager_plugin.session.link_health import LinkHealth, LinkState, LinkStatus
from session_manager_plugin.terminal.status_line import StatusLine

LEAST_CONTRAST = 4.5
"""WCAG 2, success criterion 1.4.3, level AA."""

# Text and background, then the colours 0 to 15, as each project or vendor publishes them.
PALETTES = {
    "xterm": "000000 ffffff 000000 cd0000 00cd00 cdcd00 0000ee cd00cd 00cdcd e5e5e5"
    " 7f7f7f ff0000 00ff00 ffff00 5c5cff ff00ff 00ffff ffffff",
    "xterm, reverse": "ffffff 000000 000000 cd0000 00cd00 cdcd00 0000ee cd00cd 00cdcd e5e5e5"
    " 7f7f7f ff0000 00ff00 ffff00 5c5cff ff00ff 00ffff ffffff",
    "Solarized light": "657b83 fdf6e3 073642 dc322f 859900 b58900 268bd2 d33682 2aa198 eee8d5"
    " 002b36 cb4b16 586e75 657b83 839496 6c71c4 93a1a1 fdf6e3",
    "Solarized dark": "839496 002b36 073642 dc322f 859900 b58900 268bd2 d33682 2aa198 eee8d5"
    " 002b36 cb4b16 586e75 657b83 839496 6c71c4 93a1a1 fdf6e3",
    "gruvbox dark": "ebdbb2 282828 282828 cc241d 98971a d79921 458588 b16286 689d6a a89984"
    " 928374 fb4934 b8bb26 fabd2f 83a598 d3869b 8ec07c ebdbb2",
    "gruvbox light": "3c3836 fbf1c7 fbf1c7 cc241d 98971a d79921 458588 b16286 689d6a 7c6f64"
    " 928374 9d0006 79740e b57614 076678 8f3f71 427b58 3c3836",
    "GNOME Terminal": "d0cfcc 171421 171421 c01c28 26a269 a2734c 12488b a347ba 2aa1b3 d0cfcc"
    " 5e5c64 f66151 33d17a e9ad0c 2a7bde c061cb 33c7de ffffff",
    "macOS Terminal": "000000 ffffff 000000 990000 00a600 999900 0000b2 b200b2 00a6b2 bfbfbf"
    " 666666 e50000 00d900 e5e500 0000ff e500e5 00e5e5 e5e5e5",
    "Windows Terminal": "cccccc 0c0c0c 0c0c0c c50f1f 13a10e c19c00 0037da 881798 3a96dd cccccc"
    " 767676 e74856 16c60c f9f1a5 3b78ff b4009e 61d6d6 f2f2f2",
    "PuTTY": "bbbbbb 000000 000000 bb0000 00bb00 bbbb00 0000bb bb00bb 00bbbb bbbbbb"
    " 555555 ff5555 55ff55 ffff55 5555ff ff55ff 55ffff ffffff",
}
LABEL = "web-1 eu-west-1"
LATENCIES = (0.02, 0.05, 0.02)
BUSY = LinkHealth(LinkState.CONNECTED, latency=0.023, retransmitting=3)
STATES = [
    BUSY,
    BUSY._replace(silent_for=25.0),
    BUSY._replace(restored_after=14.0),
    *(LinkHealth(state, True, 7.0, "attempt 2", "cut", retransmitting=1) for state in LinkState),
    *(LinkHealth(state) for state in LinkState),
]


class Palette:
    """What SGR parameters look like."""

    def __init__(self, colours: str) -> None:
        self.foreground, self.background, *self.first = [int(colour, 16) for colour in colours.split()]
        assert len(self.first) == 16

    def colour(self, number: int) -> int:
        """A colour of the 256: the theme's, of xterm's cube, or of the greys."""
        if number < 16:
            return self.first[number]
        if number >= 232:
            return (8 + 10 * (number - 232)) * 0x010101
        levels = (0, 0x5F, 0x87, 0xAF, 0xD7, 0xFF)
        cube = number - 16
        return levels[cube // 36] << 16 | levels[cube // 6 % 6] << 8 | levels[cube % 6]

    def drawn(self, line: str) -> list[tuple[str, int, int]]:
        """Each piece of a line with the colours of its text and its background."""
        pieces = []
        text, ground, is_reversed = self.foreground, self.background, False
        for parameters, piece in re.findall(r"(?:\x1b\[([\d;]*)m)?([^\x1b]*)", line.replace("\x1b[K", "")):
            fields = [int(field or 0) for field in parameters.split(";")] if parameters else []
            if not parameters or 0 in fields:
                text, ground, is_reversed = self.foreground, self.background, False
            while fields:
                match fields.pop(0):
                    case 38 if fields.pop(0) == 5:
                        text = self.colour(fields.pop(0))
                    case 48 if fields.pop(0) == 5:
                        ground = self.colour(fields.pop(0))
                    case 7:
                        is_reversed = True
                    case code if 30 <= code <= 37:
                        text = self.colour(code - 30)
                    case code if 40 <= code <= 47:
                        ground = self.colour(code - 40)
                    case code:
                        assert code in (0, 1), f"SGR {code} looks different in each terminal"
            if piece:
                pieces.append((piece, *((ground, text) if is_reversed else (text, ground))))
        return pieces


def luminance(colour: int) -> float:
    """WCAG 2: relative luminance."""
    channels = [(colour >> shift & 0xFF) / 255 for shift in (16, 8, 0)]
    red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: int, second: int) -> float:
    """WCAG 2: contrast ratio, 1 to 21."""
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_of_known_pairs() -> None:
    assert contrast(0, 0xFFFFFF) == pytest.approx(21)
    assert contrast(0x767676, 0xFFFFFF) == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("palette", PALETTES.values(), ids=list(PALETTES))
def test_every_text_in_the_bar_is_legible(palette: str) -> None:
    line = StatusLine(hint="exit or Ctrl-D leaves", escape="~", color=True, unicode=True)
    for health in STATES:
        rendered = line.render(LinkStatus(health, LABEL, LATENCIES), 120).decode()
        for piece, text, ground in Palette(palette).drawn(rendered):
            if piece.strip():
                assert contrast(text, ground) >= LEAST_CONTRAST, (health.state, piece, f"{text:06x} on {ground:06x}")


@pytest.mark.parametrize("color", [True, False])
def test_without_colours_the_bar_has_those_of_the_theme(color: bool) -> None:
    line = StatusLine(hint="exit leaves", escape="~", color=color, unicode=True)
    for health in STATES:
        rendered = line.render(LinkStatus(health, LABEL, LATENCIES), 120).decode()
        assert bool(re.search(r"\x1b\[[\d;]*[34]8;5;", rendered)) is color
        assert not re.search(r"\x1b\[(?:[\d;]*;)?(?:2|[349]\d|10[0-7])m", rendered)
