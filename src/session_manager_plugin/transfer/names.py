"""Names of files: remote names escaped for ``sh``, and ``TARGET:PATH`` as a user writes it."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./,:@%+=-")
_TARGET = re.compile(r"(?P<target>[^/\s:][^/:]*):(?P<path>.*)", re.DOTALL)


def escape_name(name: bytes) -> str:
    """Return ``name`` as ``printf %b`` reads it: printable ASCII without blanks and quotes.

    Every other byte is ``\\0ooo``, in octal. A name that is not UTF-8 can thus be a parameter of a session. The
    leading ``=`` makes an empty name visible.
    """
    return "=" + "".join(chr(byte) if byte in _PLAIN else f"\\0{byte:03o}" for byte in name)


class RemotePath(NamedTuple):
    """A file on a target."""

    target: str
    path: bytes


def parse_location(text: str) -> RemotePath | None:
    """Parse ``text`` as a remote path; return None if it is a local path by the rule of scp.

    A colon makes it remote unless a slash comes before it: ``./a:b`` is local. ``ecs:CLUSTER/SERVICE:PATH`` and
    ``tag:KEY=VALUE:PATH`` contain one more colon.
    """
    match = _TARGET.fullmatch(text)
    if match is None:
        return None
    target, path = match["target"], match["path"]
    if target in ("ecs", "tag"):
        rest, separator, path = path.partition(":")
        if not separator:
            return None
        target = f"{target}:{rest}"
    return RemotePath(target, path.encode(errors="surrogateescape"))


def path_part(text: str) -> str:
    """Return the path of a remote or local name, without the target."""
    place = parse_location(text)
    return text if place is None else os.fsdecode(place.path)


def base_name(path: bytes) -> bytes:
    """Return the last component of ``path``; empty for ``.``, ``..`` and the root."""
    name = path.rstrip(b"/").rpartition(b"/")[2]
    return b"" if name in (b".", b"..") else name


def partial_name(name: bytes, random: str) -> bytes:
    """Return the name in the same directory for a file until it is complete: hidden, at most 255 bytes."""
    return b"." + name[:200] + b".smp-" + random.encode()
