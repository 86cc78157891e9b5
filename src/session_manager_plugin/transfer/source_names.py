"""The names of remote files as the user typed them, in place of those that the target and its tar use."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from session_manager_plugin.transfer.local_files import LINK_TO_NOTHING
from session_manager_plugin.transfer.names import base_name

_TAR_FAILED = ("tar: Exiting with failure status", "tar: error exit delayed")
"""The last lines of the messages of GNU tar and of busybox; they add nothing to the others."""
_TAR_REMOVED = "File removed before we read it"
"""The reason that GNU tar prints for a link to nothing when it follows links."""
_TAR_MESSAGE = re.compile(r"tar: (?:\./)*(?P<name>.+?)(?:: Cannot [a-z]+)?: (?P<reason>[^:]+)")


class SourceNames:
    """The sources of a download, as typed. An entry is named by the last component of its source (empty for the home
    directory, ``.``, ``..`` and ``/``) and the path below it."""

    def __init__(self, paths: Sequence[bytes]) -> None:
        self._paths = [path.rstrip(b"/") or path for path in paths]
        self._patterns = [b"" if path == b"~" else base_name(path) for path in self._paths]
        self.archive = b""
        """The name of the entry that was received last as an archive."""

    @property
    def first(self) -> str:
        """The first source."""
        return os.fsdecode(self._paths[0] or b".")

    def has(self, top: bytes) -> bool:
        """Return whether the first component of an entry's name is that of a source."""
        return any(_matches(top, pattern) for pattern in self._patterns)

    def shown(self, name: bytes) -> str:
        """Return the name of an entry as a path that begins with its source."""
        top, _, below = name.partition(b"/")
        for path, pattern in zip(self._paths, self._patterns, strict=True):
            if _matches(top, pattern):
                typed = os.path.join(os.path.dirname(path), top) if top else path
                return os.fsdecode(os.path.join(typed, below) if below else typed or b".")
        return os.fsdecode(name)

    def in_archive(self, name: bytes) -> str:
        """Return a name that tar has printed as a path that begins with its source."""
        return self.shown(name if self.archive else b"/" + name)


class TarProblem(NamedTuple):
    """What tar could not read, by its name in the archive without ``./``, and why."""

    name: bytes
    reason: str


def tar_problem(text: str) -> TarProblem | None:
    """Parse a message of the target's tar; return None for one that adds nothing to the others."""
    if text.startswith(_TAR_FAILED):
        return None
    match = _TAR_MESSAGE.fullmatch(text)
    if match is None:
        return TarProblem(b"tar", text.removeprefix("tar: "))
    reason = f"{LINK_TO_NOTHING}, or was removed meanwhile" if match["reason"] == _TAR_REMOVED else match["reason"]
    return TarProblem(os.fsencode(match["name"]), reason)


def _matches(name: bytes, pattern: bytes) -> bool:
    translated = pattern.decode("latin-1").replace("[^", "[!")
    return name == pattern or (bool(name) and fnmatch.fnmatchcase(name.decode("latin-1"), translated))
