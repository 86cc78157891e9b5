"""The arguments of ``session_manager_plugin.copy``, which are checked before a session is started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from session_manager_plugin import AwsSettings, copy
from session_manager_plugin.agent import Sandbox
from session_manager_plugin.errors import UsageError
from session_manager_plugin.transfer.report import CopyReport


@pytest.mark.parametrize(
    ("sources", "destination", "streams", "text"),
    [
        ("a", "b", 1, "one side of a copy is on a target"),
        ("web-1:a", "web-2:b", 1, "one side of a copy is on a target"),
        (Path("web-1:a"), Path("web-2:b"), 1, "one side of a copy is on a target"),
        (Path("web-1:a"), "b", 1, "one side of a copy is on a target"),
        (["web-1:a", Path("web-1:b")], ".", 1, "the sources must be all local, or all on one target"),
        (["web-1:a", "web-2:b"], ".", 1, "the sources must be on one target"),
        ([], "web-1:b", 1, "there is no source to copy"),
        ("", "web-1:b", 1, "a source is an empty name"),
        (["a", ""], "web-1:b", 1, "a source is an empty name"),
        ("web-1:a", "", 1, "the destination is an empty name"),
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


async def test_a_path_is_never_standard_input_or_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dash, there = tmp_path / "-", tmp_path / "there"
    dash.write_text("file")
    there.mkdir()
    async with Sandbox() as sandbox:
        for name, value in sandbox.environment.items():
            monkeypatch.setenv(name, value)
        aws = AwsSettings(endpoint_url=sandbox.endpoint_url, region=sandbox.region)
        report = await copy(Path("-"), f"local:{there}/", aws=aws)
        assert not report.problems
        dash.unlink()
        await copy(f"local:{there}/-", Path("-"), aws=aws)
    assert dash.read_text() == "file"


def test_the_repr_of_a_report_shows_results_only() -> None:
    assert repr(CopyReport()) == "CopyReport(files=[], problems=[])"
