"""Names of files: of remote ones as ``sh`` reads them, and ``TARGET:PATH`` as a person writes it."""

from __future__ import annotations

import re
from typing import NamedTuple

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./,:@%+=-")
_TARGET = re.compile(r"(?P<target>[^/\s:][^/:]*):(?P<path>.*)", re.DOTALL)


def escape_name(name: bytes) -> str:
    """Return ``name`` as ``printf %b`` reads it: printable ASCII without blanks and quotes.

    Every other byte is ``\\0ooo``, in octal. Only so a name that is no UTF-8 can be a parameter of a session. A
    leading ``=`` keeps an empty name visible.
    """
    return "=" + "".join(chr(byte) if byte in _PLAIN else f"\\0{byte:03o}" for byte in name)


class RemotePath(NamedTuple):
    """A file on a target."""

    target: str
    path: bytes


def parse_location(text: str) -> RemotePath | None:
    """Return the remote path that ``text`` is, or None for a local one, as scp tells them apart.

    A colon makes it remote unless a slash comes before it: ``./a:b`` is local. ``ecs:CLUSTER/SERVICE:PATH`` and
    ``tag:KEY=VALUE:PATH`` hold one more colon.
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


def base_name(path: bytes) -> bytes:
    """Return the last component of ``path``; empty for ``.``, ``..`` and the root."""
    name = path.rstrip(b"/").rpartition(b"/")[2]
    return b"" if name in (b".", b"..") else name


def partial_name(name: bytes, random: str) -> bytes:
    """Return the name under which a file is written until it is complete: hidden, at most 255 bytes, beside it."""
    return b"." + name[:200] + b".smp-" + random.encode()
