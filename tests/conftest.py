"""What holds for every test."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader
from hypothesis import settings

from session_manager_plugin.utils import logging

# Modules are compiled once, not in each of the processes that run tests and in each program that a test starts.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell without job control starts what is in its background with these ignored; programs under test inherit that.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# The same examples in every run, and no verdict that depends on how busy the machine is.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

_SETTINGS = ("AWS_", "SMP_", "XDG_", "LC_", "BOTO_")
"""What the names of variables begin with that change what the programs under test do."""
_KEPT = ("SMP_TEST_", "SMP_SOAK_")
"""Settings of the tests themselves."""
_DIRECTORIES = {
    "HOME": "home",
    "TMPDIR": "tmp",
    "XDG_CACHE_HOME": "home/.cache",
    "XDG_CONFIG_HOME": "home/.config",
    "XDG_DATA_HOME": "home/.local/share",
    "XDG_STATE_HOME": "home/.local/state",
    "XDG_RUNTIME_DIR": "run",
}
_test_numbers = itertools.count()


def _clean_environment() -> None:
    """Remove the settings of the user who runs the tests."""
    for name in list(os.environ):
        is_setting = name.startswith(_SETTINGS) and not name.startswith(_KEPT)
        if is_setting or name.upper().endswith("_PROXY") or name in ("NO_COLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES"):
            del os.environ[name]
    os.environ["LC_ALL"] = "C.UTF-8"


_clean_environment()


@pytest.fixture(scope="session")
def directories_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory in which each test has its own; its path is short, since that of a socket has 108 bytes."""
    tmp_path_factory.getbasetemp()  # is made where temporary files usually are, not in the directory of the first test
    directory = Path(tempfile.mkdtemp(prefix="smp-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(autouse=True)
def own_directories(directories_of_tests: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has its own ``HOME``, ``TMPDIR`` and XDG directories, all empty."""
    directory = directories_of_tests / str(next(_test_numbers))
    for name, below in _DIRECTORIES.items():
        monkeypatch.setenv(name, str(directory / below))
    for below in ("home", "tmp", "run"):
        (directory / below).mkdir(mode=0o700, parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(directory / "tmp"))
    yield
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(autouse=True)
def own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test registers its own secrets: those of earlier tests would hide its words, or a missing registration."""
    monkeypatch.setattr(logging, "_secrets", {})
    monkeypatch.setattr(logging, "_spellings", ())


@pytest.fixture(autouse=True, scope="session")
def parsed_once() -> Iterator[None]:
    """botocore's description of a service is parsed once in each process that runs tests."""
    load = JSONFileLoader.load_file
    parsed: dict[str, Any] = {}

    def load_once(self: JSONFileLoader, path: str) -> Any:
        if not os.path.basename(path).startswith(("service-2", "endpoint-rule-set")):
            return load(self, path)
        if path not in parsed:
            parsed[path] = load(self, path)
        return parsed[path]

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(JSONFileLoader, "load_file", load_once)
        yield


def pytest_configure(config: pytest.Config) -> None:
    """Leave slow tests out of a run of all tests only: of a path that is given, everything is run.

    The processes of ``-n`` have the same arguments and decide the same.
    """
    given_paths = config.args_source is pytest.Config.ArgsSource.ARGS
    if not given_paths and not config.option.markexpr:
        config.option.markexpr = "not slow"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that is skipped fails where SMP_TEST_REQUIRE_PROGRAMS says that nothing is missing."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("SMP_TEST_REQUIRE_PROGRAMS"):
        report.outcome = "failed"
        report.longrepr = f"skipped, with SMP_TEST_REQUIRE_PROGRAMS set: {report.longrepr}"
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """The processes of ``-n auto``: two more than processors, since many tests wait rather than compute."""
    return (os.cpu_count() or 1) + 2
