"""The arguments of ``session_manager_plugin.copy``, which are checked before a session is started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from session_manager_plugin import copy
from session_manager_plugin.errors import UsageError


@pytest.mark.parametrize(
    ("sources", "destination", "streams", "text"),
    [
        ("a", "b", 1, "one side of a copy is on a target"),
        ("web-1:a", "web-2:b", 1, "one side of a copy is on a target"),
        (Path("web-1:a"), Path("web-2:b"), 1, "one side of a copy is on a target"),
        (Path("web-1:a"), "b", 1, "one side of a copy is on a target"),
        (["web-1:a", Path("web-1:b")], ".", 1, "the sources must be all local, or all on one target"),
        (["web-1:a", "web-2:b"], ".", 1, "the sources must be on one target"),
        ([], "web-1:b", 1, "the sources must be all local, or all on one target"),
        ("a\0", "web-1:b", 1, "a path of sources contains a NUL byte, which a file name cannot"),
        ("a", "web-1:b", 0, "streams must be 1 to 8, not 0"),
        ("a", "web-1:b", 9, "streams must be 1 to 8, not 9"),
    ],
)
async def test_arguments_that_are_refused(
    sources: str | Path | Sequence[str | Path], destination: str | Path, streams: int, text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        await copy(sources, destination, streams=streams)
