"""Suggestions for an unknown command or option."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from difflib import SequenceMatcher, get_close_matches

_TARGET = re.compile(r"(m?i-[0-9a-f]{8,17}|ecs:.+|tag:.+=.+)")
_NAME = re.compile(r"(?=.*[\d.])[A-Za-z0-9][\w.-]*")
"""The name or address of a target: a word with a digit or a dot."""
_WORD = re.compile(r"[A-Za-z0-9][\w.-]*")
_SESSION_COMMANDS = ("start", "connect")
"""The commands that open a session, the best suggestion first."""
_NEAR = 0.6
"""Least similarity, 0 to 1, for a suggestion."""
_OTHER_NAMES = {
    "cp": "copy download get put rsync scp send sftp sync upload",
    "exec": "command cmd execute run send-command",
    "forward": "port port-forward port-forwarding portforward ports socks tunnel",
    "kill": "delete end stop terminate terminate-session",
    "ls": "hosts instances list nodes targets",
    "probe": "check configure debug diagnose doctor ping status test",
    "ssh-proxy": "proxy",
    "start": "bash console login open sh session shell ssm start-session",
    "connect": "attach join resume resume-session",
    "ls --sessions": "sessions describe-sessions",
    "ls --sessions --history": "history",
    "help --man": "man",
    "--version": "version",
}
"""By what to type: commands of other tools, and words, with the same meaning."""
_TARGET_OPTIONS = ("--target", "--targets", "--instance", "--instance-id", "--host", "--name")
_PORT_OPTIONS = ("-L", "-D", "-N", "-R", "--port", "--local-port", "--remote-port", "--socks")
_ELSEWHERE = {
    **dict.fromkeys(_PORT_OPTIONS, "Ports: smp forward TARGET -L 8080:80."),
    **dict.fromkeys(("-c", "--command"), "Commands: smp exec TARGET -- COMMAND."),
    **dict.fromkeys(("-i", "-l", "--user", "--identity"), "Users and keys belong to ssh: see smp ssh-config."),
}
"""What to do instead, by options that other tools have."""


def nearest_command(typed: str, commands: Collection[str], following: str = "") -> str:
    """Return a sentence with a suggestion for an unknown command; empty if there is none.

    ``following`` is the word after it; it is repeated only if it looks like a target.
    """
    target = f" {following}" if _TARGET.fullmatch(following) or _NAME.fullmatch(following) else ""
    if _TARGET.fullmatch(typed):
        command = next(name for name in _SESSION_COMMANDS if name in commands)
        return f"Did you mean smp {command} {typed}?" if command == "start" else f"smp {command} joins a session"
    if typed == "ssh" and {"start", "ssh-config"} <= set(commands):
        return f"Did you mean smp start{target}? smp ssh-config{target} makes ssh itself reach targets."
    for command, names in _OTHER_NAMES.items():
        if typed in names.split() and (command.startswith("-") or command.split()[0] in commands):
            return f"Did you mean smp {command}{target if command in ('start', 'exec', 'probe') else ''}?"
    if near := get_close_matches(typed, commands, n=1):
        return f"Did you mean smp {near[0]}?"
    if "start" not in commands or not _WORD.fullmatch(typed):
        return ""
    if _NAME.fullmatch(typed):
        return f"Did you mean smp start {typed}?"
    return f"If it is a target: smp start {typed}."


def other_option(typed: str, path: str, *, takes_target: bool) -> str:
    """Return a sentence about an unknown option of the command ``path`` that other tools have; empty for others."""
    if typed in _TARGET_OPTIONS and takes_target:
        return f"The target stands alone: {path} TARGET."
    return _ELSEWHERE.get(typed, "")


def nearest(typed: str, names: Iterable[str]) -> str:
    """Return the name most similar to ``typed``, ignoring dashes; empty if none is similar enough."""

    def likeness(name: str) -> float:
        return SequenceMatcher(None, typed.strip("-"), name.strip("-")).ratio()

    near = max(names, key=likeness, default="")
    return near if near and likeness(near) >= _NEAR else ""
