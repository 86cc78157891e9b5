"""What the terminal can do: by its type, and by the locale that the user has set."""

from __future__ import annotations

import locale
import os
import subprocess
import sys

import pytest

from session_manager_plugin.terminal.capabilities import has_256_colors, has_margins, is_utf8


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"LANG": "C"}, False),
        ({"LANG": "POSIX"}, False),
        ({"LANG": "C.UTF-8"}, True),
        ({"LANG": "en_US.utf8"}, True),
        ({"LANG": "de_DE.UTF-8@euro"}, True),
        ({"LANG": "de_DE.ISO-8859-1"}, False),
        ({"LANG": "de_DE.no-such-thing"}, False),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "en_US.UTF-8", "LC_CTYPE": "C"}, False),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "", "LC_CTYPE": ""}, True),
        ({"LANG": "C", "LC_ALL": "en_US.UTF-8"}, True),
        ({"LANG": "C", "LC_CTYPE": "en_US.UTF-8"}, True),
        ({"LC_CTYPE": "UTF-8"}, True),  # macOS
        # As Python sets it where the locale is C.
        ({"LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LANG": "de_DE", "LC_CTYPE": "C.utf8"}, False),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8", "LC_ALL": "C.UTF-8"}, True),
    ],
)
def test_utf8_by_the_variables_of_the_locale(variables: dict[str, str], expected: bool) -> None:
    assert is_utf8(variables) is expected


@pytest.mark.parametrize(("encoding", "expected"), [("UTF-8", True), ("ISO-8859-1", False)])
def test_a_locale_that_names_no_encoding(monkeypatch: pytest.MonkeyPatch, encoding: str, expected: bool) -> None:
    monkeypatch.setattr(locale, "getencoding", lambda: encoding)
    assert is_utf8({"LANG": "de_DE"}) is expected


@pytest.mark.parametrize(
    ("variables", "expected"), [({"LANG": "C"}, "False"), ({}, "False"), ({"LANG": "C.UTF-8"}, "True")]
)
def test_what_python_makes_of_the_locale_does_not_count(variables: dict[str, str], expected: str) -> None:
    code = "import os; from session_manager_plugin.terminal.capabilities import is_utf8; print(is_utf8(os.environ))"
    found = subprocess.run(
        [sys.executable, "-c", code], env={"PATH": os.environ["PATH"], **variables}, capture_output=True, check=True
    )
    assert found.stdout.decode().strip() == expected


CAPABLE = [
    "xterm",
    "xterm-256color",
    "xterm-kitty",
    "xterm-ghostty",
    "tmux-256color",
    "screen",
    "screen.xterm-256color",
    "rxvt-unicode",
    "linux",
    "vt100",
    "vt220",
    "alacritty",
    "foot",
    "wezterm",
    "st-256color",
    "eterm-color",
]


@pytest.mark.parametrize("term", CAPABLE)
def test_terminals_with_margins(term: str) -> None:
    assert has_margins(term)


@pytest.mark.parametrize("term", ["", "unknown", "of-nobody", "sty", "../x"])
def test_terminals_that_nobody_has_heard_of(term: str) -> None:
    assert not has_margins(term)


@pytest.mark.parametrize(
    ("term", "expected"), [("hurd", "True"), ("pcansi", "False"), ("vt52", "False"), ("cygwin", "False")]
)
def test_terminfo_is_asked_about_rare_terminals(term: str, expected: str) -> None:
    """In a process of its own: the first type that curses has loaded stays."""
    code = f"from session_manager_plugin.terminal.capabilities import has_margins; print(has_margins({term!r}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert found.stdout.decode().strip() == expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm-kitty"}, True),
        ({"TERM": "xterm-direct"}, True),
        ({"TERM": "screen"}, True),
        ({"TERM": "screen.xterm-256color"}, True),
        ({"TERM": "rxvt-unicode-256color"}, True),
        ({"TERM": "st-16color", "COLORTERM": "truecolor"}, True),
        ({"TERM": "xterm-mono"}, False),
        ({"TERM": "xterm-16color"}, False),
        ({"TERM": "linux"}, False),
        ({"TERM": "vt100"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_terminals_with_256_colours(variables: dict[str, str], expected: bool) -> None:
    assert has_256_colors(variables) is expected
