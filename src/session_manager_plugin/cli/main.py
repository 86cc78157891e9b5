"""``smp``: the command group, and the end of the program."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from session_manager_plugin import PLUGIN_VERSION, __version__
from session_manager_plugin.cli.click_options import CONTEXT_SETTINGS, prepare_help
from session_manager_plugin.cli.environment import Environment, named_output_errors, prepare_standard_streams
from session_manager_plugin.cli.exit_status import Exit, die_of, exit_of
from session_manager_plugin.cli.help_page import ALL, asks_for_everything, group_page
from session_manager_plugin.cli.render import tell_error
from session_manager_plugin.errors import UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMPLETE = "_SMP_COMPLETE"
"""The variable by which a shell's script requests suggestions; see ``cli.completion``."""
COMMANDS = {
    "start": "Start a session: a shell on an instance or in a container.",
    "exec": "Run a command on a target, or on many, with its exit status.",
    "ls": "List targets, or your sessions.",
    "kill": "Terminate sessions.",
    "forward": "Forward local ports to a target and to hosts that it reaches.",
    "cp": "Copy files to and from a target, without S3.",
    "ssh-proxy": "Connect ssh to a target: what its ProxyCommand runs.",
    "ssh-config": "Write the configuration with which ssh reaches targets.",
    "connect": "Join a session whose stream URL and token you have.",
    "demo": "Try a session on this machine: a sandbox and a session with it.",
    "probe": "Check what a session needs, stage by stage, and say what to do.",
    "sandbox": "Run a Session Manager on this machine, for tries and tests.",
    "completion": "Print the script that completes smp in bash, zsh or fish.",
    "help": "Show the help of a command, or its man page.",
}
"""The commands with their lines in the help. Module and function in ``cli.commands`` have the command's name (with
``_`` for ``-``). Only the command that is run is imported."""

COMMAND_GROUPS = {
    "Sessions": ("start", "exec", "forward", "cp", "ssh-proxy", "ssh-config", "connect"),
    "Targets and running sessions": ("ls", "kill"),
    "Trouble, tests and set-up": ("probe", "demo", "sandbox", "completion", "help"),
}
"""The headings of the commands in the help."""
_WELCOME = """\
smp {version}: sessions of AWS Systems Manager Session Manager,
without the official plugin.

  smp demo          try it here, without an AWS account
  smp probe         check credentials, network, permissions
  smp ls            list the targets that are online
  smp start web-1   open a shell on a target, by name or id
  smp --help        show all commands
"""


class _Group(click.Group):
    """A group that imports a command when it is used."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the arguments. ``--help`` and ``--version`` are printed during that."""
        with named_output_errors():
            return super().make_context(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Find the command. For an option before the command the error shows the correct order."""
        if args and args[0] in ctx.help_option_names:
            args = [*(each for each in args[1:2] if each in COMMANDS), *args]  # the help of that command
        prepare_help(ctx, args)
        if asks_for_everything(args) and not any(each in COMMANDS for each in args):
            args = [each for each in args if each != ALL]  # the one screen shows all
        command = next((each for each in args if each in COMMANDS), None)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            option = error.option_name
            command = command or self._command_with(ctx, option)
            if command is None:
                raise
            ctx.fail(f"{option} goes behind the command: smp {command} {option}")

    def _command_with(self, ctx: click.Context, option: str) -> str | None:
        """Return the first command that has ``option``."""
        for name in COMMANDS:
            command = self.get_command(ctx, name)
            if command is not None and any(option in parameter.opts for parameter in command.params):
                return name
        return None

    def get_help(self, ctx: click.Context) -> str:
        return str(group_page(ctx, COMMANDS, COMMAND_GROUPS))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"session_manager_plugin.cli.commands.{name}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command. The error for an unknown one suggests the nearest."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from session_manager_plugin.cli.nearest import nearest_command

            following = args[1] if len(args) > 1 else ""
            ctx.fail(f"No such command {args[0]!r}. {nearest_command(args[0], COMMANDS, following)}".rstrip())
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Return commands, without importing them, or options."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)


@click.group(
    cls=_Group,
    context_settings=CONTEXT_SETTINGS,
    invoke_without_command=True,
)
@click.version_option(__version__, message=f"smp %(version)s (session-manager-plugin {PLUGIN_VERSION})")
@click.pass_context
def smp(context: click.Context) -> None:
    """Sessions of AWS Systems Manager Session Manager: shells, commands, ports, files."""
    if context.invoked_subcommand is None:
        with named_output_errors():
            click.echo(_WELCOME.format(version=__version__), nl=False)


def program(arguments: Sequence[str], environment: Environment) -> Exit:
    """Run a command, write any error to stderr, and return the ``Exit``. Does not raise."""
    try:
        # Not ``smp.main``, which writes an empty line after Ctrl-C.
        with smp.make_context(environment.program, list(arguments), obj=environment) as context:
            outcome: Any = smp.invoke(context)
        return outcome if isinstance(outcome, Exit) else Exit(int(outcome or 0))
    except click.exceptions.Exit as end:
        return Exit(end.exit_code)
    except (click.Abort, EOFError):  # Ctrl-D instead of an answer
        return exit_of(KeyboardInterrupt())
    except click.NoSuchOption as error:
        told: BaseException = UsageError(
            f"No such option {error.option_name!r}.{_suggestion(error)}{_hint(error, environment)}"
        )
    except click.UsageError as error:
        told = UsageError(f"{error.format_message()}{_hint(error, environment)}")
    except click.ClickException as error:
        told = UsageError(error.format_message())
    except BaseException as error:
        told = error
    tell_error(environment, told)
    return exit_of(told)


def _suggestion(error: click.NoSuchOption) -> str:
    from session_manager_plugin.cli.nearest import nearest, other_option

    if error.ctx is not None:
        arguments = (each for each in error.ctx.command.params if isinstance(each, click.Argument))
        takes_target = any("TARGET" in (each.metavar or "") for each in arguments)
        if other := other_option(error.option_name, error.ctx.command_path, takes_target=takes_target):
            return f" {other}"
    near = nearest(error.option_name, error.possibilities or ())
    return f" Did you mean {near}?" if near else ""


def _hint(error: click.UsageError, environment: Environment) -> str:
    path = error.ctx.command_path if error.ctx is not None else environment.program
    return f" ({path} --help shows what there is)"


def main(arguments: Sequence[str] | None = None, environment: Environment | None = None) -> int:
    """Run ``smp`` with ``arguments`` (by default those of the process), and return the exit status.

    If a signal has ended the session, ends the process by that signal.
    """
    is_input_closed = prepare_standard_streams()
    given = sys.argv[1:] if arguments is None else arguments
    environment = environment or Environment(is_input_closed=is_input_closed)
    environment.forget_empty_settings()
    if shell := environment.variables.get(COMPLETE):
        return _complete(shell, given, environment)
    end = program(given, environment)
    if end.signal is not None:
        die_of(end.signal)
    return end.status


def _complete(shell: str, arguments: Sequence[str], environment: Environment) -> int:
    """Print suggestions for a shell's script. Errors are not shown."""
    from session_manager_plugin.cli.completion import answer

    with contextlib.suppress(Exception):
        environment.write(answer(smp, shell, arguments, environment))
    return 0
