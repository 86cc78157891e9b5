"""Man pages and completion scripts: up to date, well-formed, installed, and found."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import click
import pytest
from hatchling.builders.wheel import WheelBuilder

import session_manager_plugin
from session_manager_plugin import __version__
from session_manager_plugin.cli.commands import help as help_command
from session_manager_plugin.cli.main import COMMANDS, smp
from session_manager_plugin.errors import ConfigurationError
from tests.support.programs import need
from tools.docs import ROOT, captured, generated, release_date

PAGES = ["smp", *(f"smp-{name}" for name in COMMANDS), "session-manager-plugin"]
SMP = [sys.executable, "-m", "session_manager_plugin"]


def rendered(page: Path) -> str:
    """A page as text, without what makes it bold."""
    shown = subprocess.run(
        [need("man"), str(page)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANWIDTH": "200"},
    )
    return re.sub(".\b", "", shown.stdout)


@pytest.mark.parametrize("path", sorted(generated()), ids=str)
def test_what_is_generated_is_up_to_date(path: Path) -> None:
    assert (ROOT / path).is_file(), f"{path} is missing: make docs"
    assert (ROOT / path).read_text() == generated()[path], f"{path} is stale: make docs"


def test_there_are_no_pages_of_commands_that_are_gone() -> None:
    assert {page.name for page in (ROOT / "man").iterdir()} == {f"{name}.1" for name in PAGES}


def test_the_page_written_by_hand_has_the_version_and_its_date() -> None:
    first, *_ = (ROOT / "man" / "session-manager-plugin.1").read_text().splitlines()
    assert first == f'.TH "SESSION-MANAGER-PLUGIN" "1" "{release_date()}" "smp {__version__}" "User Commands"'


@pytest.mark.parametrize("name", PAGES)
def test_man_has_no_warning(name: str) -> None:
    command = [need("man"), "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(ROOT / "man" / f"{name}.1")]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"},
    )
    assert run.stderr == ""


@pytest.mark.parametrize("name", PAGES)
def test_mandoc_has_no_complaint(name: str) -> None:
    page = ROOT / "man" / f"{name}.1"
    run = subprocess.run(
        [need("mandoc"), "-T", "lint", "-W", "warning", str(page)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.stdout, run.returncode) == ("", 0)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_all_its_sections(name: str) -> None:
    text = rendered(ROOT / "man" / f"{name}.1")
    sections = re.findall(r"(?m)^[A-Z][A-Z ]+$", text)
    wanted = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "EXAMPLES", "SEE ALSO"]
    assert [section for section in sections if section in wanted] == wanted


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_page_shows_every_option_as_it_is_typed(name: str) -> None:
    """With hyphens that can be copied."""
    text = rendered(ROOT / "man" / f"smp-{name}.1")
    command = smp.get_command(click.Context(smp), name)
    assert command is not None
    for parameter in command.params:
        for option in parameter.opts if parameter.param_type_name == "option" else ():
            assert re.search(rf"(?m)^ +(-\w, )?{re.escape(option)}\b", text), option


def test_the_wheel_installs_them(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    data = f"python_session_manager_plugin-{__version__}.data/data/share"
    with zipfile.ZipFile(wheel) as archive:
        shared = {name.removeprefix(f"{data}/") for name in archive.namelist() if name.startswith(data)}
    assert shared == {
        *(f"man/man1/{name}.1" for name in PAGES),
        "bash-completion/completions/smp",
        "zsh/site-functions/_smp",
        "fish/vendor_completions.d/smp.fish",
    }


def run_help(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`smp help` in a process of its own."""
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **variables}
    return subprocess.run(
        [*SMP, "help", *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment
    )


@pytest.mark.parametrize("name", [(), ("connect",), ("ssh-config",)])
def test_help_is_that_of_the_command(name: tuple[str, ...]) -> None:
    direct = subprocess.run([*SMP, *name, "--help"], capture_output=True, text=True, timeout=60, check=True)
    run = run_help(*name)
    assert (run.stdout, run.stderr, run.returncode) == (direct.stdout, "", 0)


def test_help_for_what_is_no_command() -> None:
    run = run_help("nonsense")
    assert run.returncode == 2
    assert "there is no command 'nonsense'" in run.stderr


@pytest.mark.parametrize(("name", "title"), [((), "SMP(1)"), (("connect",), "SMP-CONNECT(1)")])
def test_help_shows_the_man_page(name: tuple[str, ...], title: str) -> None:
    need("man")
    run = run_help("--man", *name)
    assert (run.stderr, run.returncode) == ("", 0)
    assert run.stdout.startswith(title)


def test_help_without_man(tmp_path: Path) -> None:
    run = run_help("--man", "connect", PATH=str(tmp_path))
    assert run.returncode == 255
    assert run.stderr.startswith("smp: man(1) is not installed here; the page is in ")
    assert run.stderr.count("\n") == 1


def test_a_page_under_the_prefix_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lib" / "python3" / "site-packages" / "session_manager_plugin" / "__init__.py"
    page = tmp_path / "share" / "man" / "man1" / "smp-connect.1"
    page.parent.mkdir(parents=True)
    monkeypatch.setattr(session_manager_plugin, "__file__", str(package))
    # Where the tests run the package may be installed with its pages.
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path / "elsewhere"))
    with pytest.raises(ConfigurationError, match="smp-connect\\(1\\) was not installed"):
        help_command.man_page("smp-connect")
    page.touch()
    assert help_command.man_page("smp-connect") == page


@pytest.mark.parametrize("path", sorted(captured()), ids=str)
def test_documents_show_the_screens_that_tests_have_seen(path: Path) -> None:
    """What stands in docs/screens is compared with what is shown, in tests/test_cli/test_screens.py and
    tests/e2e/test_screen.py.
    """
    assert (ROOT / path).read_text() == captured()[path], f"{path} is stale: make docs"
