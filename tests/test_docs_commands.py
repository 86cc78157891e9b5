"""README.md and docs/: the commands that they show can be parsed, and the links lead somewhere."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import click
import pytest

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.main import COMMANDS, smp
from tests.test_session import test_marked_command

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted(ROOT.glob("docs/*.md"))
FENCE = re.compile(r"(?ms)^```(\w*)\n(.*?)^```$")


def command_lines() -> Iterator[tuple[str, str]]:
    """Each command line of `smp` that a document shows, with the name of the document."""
    for path in DOCUMENTS:
        for language, block in FENCE.findall(path.read_text()):
            if language not in ("sh", ""):
                continue
            for line in block.replace("\\\n", " ").splitlines():
                shown = line.split("  #")[0].removeprefix("$ ")
                found = re.match(r"(?:.*\| )?(smp \S.*)", shown)
                if found and not re.search(r"\[|…", found[1]):
                    yield path.name, found[1]


@pytest.mark.parametrize(("document", "line"), sorted(set(command_lines())))
def test_a_command_that_is_shown_can_be_parsed(
    document: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "account.toml").touch()
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    _, name, *arguments = takewhile(lambda word: not set(word) <= set("();<>|&"), words)
    if name.startswith("-"):
        return
    assert name in COMMANDS
    command = smp.get_command(click.Context(smp), name)
    assert command is not None
    parent = click.Context(smp, obj=Environment())
    if not {"--help", "-h"} & set(arguments):
        command.make_context(name, arguments, parent=parent)


def anchors(path: Path) -> set[str]:
    """The names of a document's headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.+)$", path.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_each_row_of_a_table_is_whole(path: Path) -> None:
    text = re.sub(r"(?ms)^```.*?^```$", "", path.read_text())
    for table in re.findall(r"(?m)(?:^\|.*\n)+", text):
        cells = [len(re.sub(r"`[^`]*`", "", row).split("|")) for row in table.splitlines()]
        assert set(cells) == {cells[0]}, table.splitlines()[cells.index(min(cells))]


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    names = {path.name for path in ROOT.glob("docs/*.md")} - {"index.md"}
    assert sorted(name for name in names if f"]({name})" not in index) == []


def test_every_command_is_described() -> None:
    text = (ROOT / "docs" / "commands.md").read_text()
    assert [name for name in COMMANDS if not re.search(rf"`smp {re.escape(name)}\b|smp help", text)] == []


def test_every_variable_is_described() -> None:
    """Those of options, and those that are read elsewhere."""
    sources = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    text = (ROOT / "docs" / "environment.md").read_text()
    assert sorted(name for name in set(re.findall(r'"(SMP_[A-Z_]+)"', sources)) if f"`{name}`" not in text) == []


def test_every_escape_is_described() -> None:
    listed = (ROOT / "docs" / "screens" / "escapes.txt").read_text()
    text = (ROOT / "docs" / "commands.md").read_text()
    assert [keys for keys in re.findall(r"(?m)^ (~\S+) ", listed) if f"| `{keys}` |" not in text] == []


PLACES = re.compile(
    r"(?<![\w./~-])(?:\.ci|agent|aws|benchmarks|cli|communicator|completions|docs|execution|forwarding|man|protocol"
    r"|session|src|terminal|tests|tools|transfer|utils)/[\w./-]*"
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_documents_name_in_this_repository_exists(path: Path) -> None:
    """Files, directories, targets of make, and modules to run."""
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    for words in re.findall(r"`([^`\n]+)`", path.read_text()):
        for name in PLACES.findall(words):
            places = [top / name for top in (ROOT, ROOT / "src" / "session_manager_plugin")]
            assert "NAME" in name or any(place.exists() for place in places), name
        assert set(re.findall(r"\bmake ([a-z-]+)", words)) <= targets, words
        for module in re.findall(r"python -m ((?:tools|benchmarks)[\w.]*)", words):
            file = ROOT / module.replace(".", "/")
            assert file.with_suffix(".py").exists() or (file / "__main__.py").exists(), module


def test_contributors_find_every_package() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    packages = {path.parent.name for path in (ROOT / "src" / "session_manager_plugin").glob("*/__init__.py")}
    assert sorted(name for name in packages if f"| `{name}/` |" not in text) == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_the_readme_counts_the_combinations_that_are_tested() -> None:
    found = re.search(r"in more than (\d+) combinations", (ROOT / "README.md").read_text())
    assert found is not None
    marks = test_marked_command.test_output_and_status.pytestmark  # type: ignore[attr-defined]
    assert int(found[1]) <= math.prod(len(mark.args[1]) for mark in marks if mark.name == "parametrize")
