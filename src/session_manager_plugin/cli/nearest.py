"""Suggestions for an unknown command or option."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from difflib import SequenceMatcher, get_close_matches

_TARGET = re.compile(r"(m?i-[0-9a-f]{8,17}|ecs:.+|tag:.+=.+)")
_NAME = re.compile(r"(?=.*\d)[A-Za-z0-9][\w.-]*")
"""The name or address of a target: a word with a digit."""
_SESSION_COMMANDS = ("start", "connect")
"""The commands that open a session, the best suggestion first."""
_NEAR = 0.6
"""Least similarity, 0 to 1, for a suggestion."""
_OTHER_NAMES = {
    "copy": "cp",
    "delete": "kill",
    "list": "ls",
    "port-forward": "forward",
    "proxy": "ssh-proxy",
    "run": "exec",
    "scp": "cp",
    "shell": "start",
    "ssh": "ssh-config",
    "start-session": "start",
    "targets": "ls",
    "terminate": "kill",
    "tunnel": "forward",
    "login": "start",
}
"""Commands of other tools with the same meaning."""


def nearest_command(typed: str, commands: Collection[str]) -> str:
    """Return a sentence with a suggestion for an unknown command; empty if there is none."""
    if _TARGET.fullmatch(typed):
        command = next(name for name in _SESSION_COMMANDS if name in commands)
        return f"Did you mean smp {command} {typed}?" if command == "start" else f"smp {command} joins a session"
    if typed == "version":
        return "Did you mean smp --version?"
    if (other := _OTHER_NAMES.get(typed)) in commands:
        return f"Did you mean smp {other}?"
    if near := get_close_matches(typed, commands, n=1):
        return f"Did you mean smp {near[0]}?"
    return f"Did you mean smp start {typed}?" if _NAME.fullmatch(typed) and "start" in commands else ""


def nearest(typed: str, names: Iterable[str]) -> str:
    """Return the name most similar to ``typed``, ignoring dashes; empty if none is similar enough."""

    def likeness(name: str) -> float:
        return SequenceMatcher(None, typed.strip("-"), name.strip("-")).ratio()

    near = max(names, key=likeness, default="")
    return near if near and likeness(near) >= _NEAR else ""
