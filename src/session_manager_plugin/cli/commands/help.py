"""``smp help``: the help of a command, or its man page."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

import click

import session_manager_plugin
from session_manager_plugin.cli.click_options import CommandName, command, prepare_help
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.help_page import ALL
from session_manager_plugin.errors import ConfigurationError

_EXAMPLES = """
smp help                                     (the same as smp --help)
smp help connect                             (the same as smp connect --help)
smp help --all connect                       (all of its options)
smp help --man connect                       (the same as man smp-connect, wherever smp is installed)
"""


@command("help", examples=_EXAMPLES)
@click.option("--man", "as_man", is_flag=True, help="Show the man page, with man(1). Example: smp help --man probe.")
@click.option("--all", "everything", is_flag=True, help="Show all options, not only those that are used daily.")
@click.argument("name", type=CommandName(), required=False, metavar="[COMMAND]")
def help(environment: Environment, *, as_man: bool, everything: bool, name: str | None) -> int:
    """Show the help of smp or of one of its commands.

    The man page says more: exit statuses, variables of the environment, files.
    """
    if as_man:
        _show_page(environment, man_page("smp" if name is None else f"smp-{name}"))
    group = click.get_current_context().find_root()
    shown = group
    if name is not None:
        assert isinstance(group.command, click.Group)
        found = group.command.get_command(group, name)
        assert found is not None
        shown = found.make_context(name, [], parent=group, resilient_parsing=True)
    prepare_help(shown, ["--help", ALL] if everything else ["--help"])
    environment.write(f"{shown.get_help()}\n")
    return 0


def man_page(name: str) -> Path:
    """Return the path of a man page. Raises ``ConfigurationError`` if it is not installed.

    The page is in the source tree, if this package is imported from one, or under the prefix of the installation.
    """
    package = Path(session_manager_plugin.__file__).parent
    directories = [package.parents[1] / "man"]
    directories += [Path(path, "share", "man", "man1") for path in (sysconfig.get_path("data"), package.parents[3])]
    for directory in directories:
        page = directory / f"{name}.1"
        if page.is_file():
            return page
    raise ConfigurationError(f"the man page {name}(1) was not installed with this package; smp help shows the options")


def _show_page(environment: Environment, page: Path) -> None:
    """Replace this process with man(1), so that its pager has the terminal to itself."""
    program = shutil.which("man", path=environment.variables.get("PATH"))
    if program is None:
        raise ConfigurationError(f"man(1) is not installed here; the page is in {page}, and smp help shows the options")
    os.execv(program, [program, str(page)])
