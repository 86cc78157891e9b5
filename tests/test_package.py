"""The package itself: what importing it costs, what it exports, and that its documents and scripts agree."""

import ast
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder

import session_manager_plugin
from session_manager_plugin import errors

CHECKOUT = Path(__file__).parent.parent
PACKAGE = "session_manager_plugin"


def test_importing_the_package_imports_nothing_else() -> None:
    program = (
        "import sys; before = set(sys.modules); import session_manager_plugin; "
        "session_manager_plugin.PLUGIN_VERSION; print(*sorted(set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.split() == ["session_manager_plugin"]


def test_the_library_is_fetched_when_it_is_used() -> None:
    from session_manager_plugin import library

    for name in ("AwsSettings", "LinkOptions", "Outcome", "Session", "connect"):
        assert name in dir(session_manager_plugin)
        assert getattr(session_manager_plugin, name) is getattr(library, name)


def test_the_errors_of_the_library_are_exported() -> None:
    assert session_manager_plugin.CommandTimedOut is errors.CommandTimedOut
    exported = {name for name in session_manager_plugin.__all__ if hasattr(errors, name)}
    defined = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert defined - exported == {"ApiError", "LeftByEscape", "TerminalGone"}  # of the sandbox, and of the commands


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'session_manager_plugin' has no attribute 'nonsense'"):
        getattr(session_manager_plugin, "nonsense")  # noqa: B009


def test_plugin_version_switches_no_feature_off() -> None:
    parts = [int(part) for part in session_manager_plugin.PLUGIN_VERSION.split(".")]
    assert len(parts) == 4
    # The AWS CLI warns about anything older; agents compare with lower numbers.
    assert parts > [1, 2, 764, 0]


EVERYWHERE = ("errors", "utils", "PLUGIN_VERSION", "__version__")
"""What each part may import besides its own modules."""
DIRECTION: dict[str, tuple[str, ...]] = {
    "errors": (),
    "utils": (),
    "protocol": EVERYWHERE,
    "session": (*EVERYWHERE, "protocol"),
    "terminal": (*EVERYWHERE, "session.protocols", "session.link_health"),
    "communicator": (*EVERYWHERE, "protocol", "session.protocols", "session.link_health"),
    "aws": (*EVERYWHERE, "protocol", "session.protocols"),
    "agent": (*EVERYWHERE, "protocol", "session.protocols"),
    "transfer": (*EVERYWHERE, "protocol", "session.protocols", "session.document_names", "session.link_health"),
    "forwarding": (*EVERYWHERE, "protocol", "session"),
    "execution": (*EVERYWHERE, "protocol", "session"),
    "arguments": (*EVERYWHERE, "aws"),
    "library": (*EVERYWHERE, "arguments", "aws", "communicator", "execution", "forwarding", "session", "transfer"),
}
"""Who may import whom; `cli` may import everything."""


@pytest.mark.parametrize("part", DIRECTION)
def test_imports_keep_their_direction(part: str) -> None:
    package = CHECKOUT / "src" / PACKAGE
    files = [package / f"{part}.py"] if (package / f"{part}.py").exists() else sorted((package / part).rglob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.ImportFrom) or (node.module or "").partition(".")[0] != PACKAGE:
                continue
            modules = (
                [node.module or ""] if node.module != PACKAGE else [f"{PACKAGE}.{each.name}" for each in node.names]
            )
            for module in modules:
                name = module.removeprefix(f"{PACKAGE}.")
                allowed = (part, *DIRECTION[part])
                assert any(name == each or name.startswith(f"{each}.") for each in allowed), f"{file} imports {module}"


def test_the_package_is_typed() -> None:
    assert Path(session_manager_plugin.__file__).with_name("py.typed").is_file()


@pytest.mark.parametrize("name", ["demo", "test"])
def test_readme_has_the_commands_that_ci_runs(name: str) -> None:
    """`.ci/run` takes both commands out of README.md by these marks, so that the two cannot drift apart."""
    readme = (CHECKOUT / "README.md").read_text("utf-8")
    (command,) = re.findall(rf"^<!-- {name} command -->\n```sh\n(.+)\n```$", readme, re.MULTILINE)
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert f"readme_command {name}" in (CHECKOUT / ".ci" / "run").read_text("utf-8")


@pytest.mark.parametrize("path", ["Makefile", ".ci/run"])
def test_what_the_tests_command_leaves_out_is_run_elsewhere(path: str) -> None:
    """`testpaths` in pyproject.toml is `tests/test_*`."""
    tests = CHECKOUT / "tests"
    directories = {file.relative_to(tests).parts[0] for file in tests.rglob("test_*.py")}
    slow = {f"tests/{name}" for name in directories if not name.startswith("test_")}
    commands = re.findall(
        r"^\S+/bin/pytest( .+)$|^\t\S+/pytest( .+)$", (CHECKOUT / path).read_text("utf-8"), re.MULTILINE
    )
    run = {word for command in commands for word in "".join(command).split() if word.startswith("tests/")}
    assert slow
    assert run == slow


def test_changelog_has_the_version() -> None:
    changelog = (CHECKOUT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(rf"^## {re.escape(session_manager_plugin.__version__)}\b", changelog, re.MULTILINE)


OLD_PYTHON = "import sys; sys.version_info = (3, 10, 12, 'final', 0); sys.version = '3.10.12 (main)'; "


def test_an_old_python_is_refused_with_a_sentence() -> None:
    program = f"{OLD_PYTHON}import session_manager_plugin"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert run.stderr.splitlines()[-1] == (
        f"ImportError: smp needs Python 3.11 or newer; {sys.executable} is Python 3.10.12"
    )


def test_an_old_python_is_refused_by_the_single_file_too() -> None:
    program = f"{OLD_PYTHON}from tools import zipapp; exec(zipapp.BOOTSTRAP)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60, cwd=CHECKOUT
    )
    assert (run.returncode, run.stderr) == (
        1,
        f"smp: this needs Python 3.11 or newer, and {sys.executable} is Python 3.10\n",
    )


def test_the_source_distribution_has_what_its_tests_need(tmp_path: Path) -> None:
    (archive,) = SdistBuilder(str(CHECKOUT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    for needed in ("src", "tests/support", "tools", "docs", "man", "completions", "benchmarks", ".ci/run", "Makefile"):
        assert any(name == needed or name.startswith(f"{needed}/") for name in names), needed
    assert not any("node_modules" in name or "__pycache__" in name for name in names)
