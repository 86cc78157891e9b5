"""`--parameters` of `smp start`."""

from __future__ import annotations

from pathlib import Path

import pytest

from session_manager_plugin.cli.document_parameters import parse_parameters
from session_manager_plugin.errors import UsageError


@pytest.mark.parametrize(
    ("texts", "parameters"),
    [
        ((), {}),
        (("command=ls -l, a=b",), {"command": ["ls -l, a=b"]}),
        (("portNumber=22,localPortNumber=0",), {"portNumber": ["22"], "localPortNumber": ["0"]}),
        (('portNumber=["22"]',), {"portNumber": ["22"]}),
        (('{"portNumber": 22, "host": ["db"]}', "host=other"), {"portNumber": ["22"], "host": ["other"]}),
    ],
)
def test_forms(texts: tuple[str, ...], parameters: dict[str, list[str]]) -> None:
    assert parse_parameters(texts) == parameters


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"command": ["top"]}')
    assert parse_parameters([f"file://{tmp_path}/p.json"]) == {"command": ["top"]}
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        parse_parameters([f"file://{tmp_path}/none"])


@pytest.mark.parametrize("text", ["command", "=x", "{", '{"a": {"b": 1}}', '{"a": [null]}'])
def test_other_forms(text: str) -> None:
    with pytest.raises(UsageError):
        parse_parameters([text])
