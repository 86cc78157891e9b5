"""What the terminal can do, by the variables TERM, LC_ALL, LC_CTYPE and LANG."""

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
"""Terminals that have margins, and of which many hosts have no entry in their terminfo. For most of them terminfo,
which takes 2 ms to load, is not asked."""
_SET_BY_PYTHON = ("C.UTF-8", "C.utf8")
"""Values of LC_CTYPE that say nothing: Python puts them into the environment where the locale is C (PEP 538), so they
come from this process or from the AWS CLI."""


def has_margins(term: str) -> bool:
    """Whether a terminal of the type `term` can hold a bar: set margins, save the cursor, and address it.

    The sequences must be those of a VT100, which are the ones that are sent. A type that neither terminfo nor
    this module has heard of cannot.
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


def is_utf8(variables: Mapping[str, str]) -> bool:
    """Whether a program with these environment variables writes UTF-8, as the user has set the locale.

    Python's own idea of it is always UTF-8 where the locale is C (PEP 538, PEP 540).
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
