"""Capabilities of the terminal, derived from the variables TERM, COLORTERM, LC_ALL, LC_CTYPE and LANG."""

from __future__ import annotations

import codecs
import locale
import re
from collections.abc import Mapping

_CAPABLE = re.compile(
    r"(xterm|tmux|screen|rxvt|linux|alacritty|contour|eterm|foot|ghostty|gnome|iterm2?|kitty|konsole|mintty|mlterm"
    r"|ms-terminal|nsterm|putty|st|stterm|teraterm|vte|wezterm|vt[1-5]\d\d)([-+.].*)?",
    re.IGNORECASE,
)
"""Terminals with margins, many of which are missing from the terminfo of some hosts. For these types terminfo, which
takes 2 ms to load, is not read."""
_MANY_COLORS = re.compile(
    r".*(256color|direct)|(alacritty|contour|foot|ghostty|kitty|konsole|mintty|ms-terminal|screen|tmux|vte|wezterm"
    r"|xterm(-kitty|-ghostty)?)([.+].*)?$"
)
_OF_XTERM_JS = ("vscode", "Hyper", "Tabby")
"""Values of TERM_PROGRAM for terminals made with xterm.js."""
_SET_BY_PYTHON = ("C.UTF-8", "C.utf8")
"""Values of LC_CTYPE that are ignored: Python sets them in the environment where the locale is C (PEP 538), so they
come from this process or from the AWS CLI, not from the user."""


def has_margins(term: str) -> bool:
    """Whether a terminal of the type ``term`` can show a bar: set margins, and save and address the cursor.

    Its sequences must be those of a VT100. Returns False for a type that neither terminfo nor this module lists.
    """
    if _CAPABLE.fullmatch(term):
        return True
    try:
        import curses
    except ImportError:
        return False
    try:
        curses.setupterm(term, 1)
    except curses.error:
        return False
    sequences = [curses.tigetstr(name) or b"" for name in ("csr", "cup", "sc", "rc")]
    return sequences[2:] == [b"\x1b7", b"\x1b8"] and all(sequence.startswith(b"\x1b[") for sequence in sequences[:2])


def has_256_colors(variables: Mapping[str, str]) -> bool:
    """Whether the terminal has the 256 colours of xterm."""
    return variables.get("COLORTERM") in ("truecolor", "24bit") or bool(_MANY_COLORS.match(variables.get("TERM", "")))


def reflow_moves_cursor(variables: Mapping[str, str]) -> bool:
    """Whether the terminal, when it becomes narrower and a row below the cursor is wrapped anew, moves the cursor down
    by the rows that this adds, away from its character.

    xterm.js does (6.0.0, ``Buffer._reflowSmaller``). A multiplexer in such a terminal has a TERM of its own.
    """
    return variables.get("TERM_PROGRAM") in _OF_XTERM_JS and variables.get("TERM", "").startswith("xterm")


def is_utf8(variables: Mapping[str, str]) -> bool:
    """Whether the locale that the user has set in ``variables`` is one with UTF-8.

    Python itself reports UTF-8 even where the locale is C (PEP 538, PEP 540).
    """
    names = [variables.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")]
    if not names[0] and names[1] in _SET_BY_PYTHON:
        del names[1]
    name = next(filter(None, names), "C")
    charset = "UTF-8" if name == "UTF-8" else name.partition(".")[2].partition("@")[0]
    if not charset:
        if name in ("C", "POSIX") or variables.get("LC_CTYPE") in _SET_BY_PYTHON:
            return False
        charset = locale.getencoding()
    try:
        return codecs.lookup(charset).name == "utf-8"
    except LookupError:
        return False
