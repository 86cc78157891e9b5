"""The parts that all commands of ``smp`` share: common options, types of values, error messages."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.types import FloatParamType, IntParamType, StringParamType

from session_manager_plugin.cli.environment import Environment, named_output_errors, parse_seconds
from session_manager_plugin.cli.help_page import ALL, asks_for_everything, asks_for_help, command_page, given_color
from session_manager_plugin.cli.render import tell
from session_manager_plugin.errors import UsageError
from session_manager_plugin.utils.logging import configure

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"]}
COLORS = ("auto", "always", "never")
"""The values of ``--color``."""
_EVERYTHING = "session_manager_plugin.help.everything"


if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Command(click.Command):
    """A command whose error messages do not contain a refused argument, which could be a token."""

    def __init__(
        self,
        *args: Any,
        examples: str = "",
        groups: Mapping[str, Collection[str]] | None = None,
        more_groups: Mapping[str, Collection[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs["context_settings"] = {**CONTEXT_SETTINGS, "allow_extra_args": True}
        super().__init__(*args, **kwargs)
        self.groups = groups or {}
        """Headings of the first screen of the help, each with the names of the parameters below it."""
        self.more_groups = more_groups or {}
        """Further headings of ``--help --all``."""
        self.examples = examples
        """Command lines, each optionally followed by two blanks and an explanation."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the arguments. ``--help`` is printed during that."""
        with named_output_errors():
            return super().make_context(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. Errors do not contain them."""
        if (color := given_color(args)) in COLORS:  # for help and errors, which come before the options are parsed
            ctx.ensure_object(Environment).color = color
        prepare_help(ctx, args)
        if asks_for_everything(args) and not any(ALL in each.opts for each in self.params):
            args = [each for each in args if each != ALL]
        rest = super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            takes = (
                "fewer" if any(isinstance(each, click.Argument) for each in self.params) else "options only, no other"
            )
            ctx.fail(f"{ctx.command_path} takes {takes} arguments")
        return rest

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Complete options, even if nothing was typed yet."""
        return super().shell_complete(ctx, incomplete or "-")

    def get_help(self, ctx: click.Context) -> str:
        """Return the first screen, or the whole help with ``--all``."""
        everything = bool(ctx.meta.get(_EVERYTHING))
        return str(command_page(ctx, self.groups, self.more_groups, self.examples, everything=everything))


def prepare_help(context: click.Context, arguments: Sequence[str]) -> None:
    """Configure help before click prints it: whether it shows everything, and whether it is coloured."""
    if asks_for_help(arguments):
        context.meta[_EVERYTHING] = asks_for_everything(arguments)
        environment = context.ensure_object(Environment)
        context.color = environment.uses_color(environment.stdout)


class Choice(StringParamType):
    """One of a few words. Errors do not contain a wrong value."""

    name = "choice"

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return text such as ``[auto|always|never]``."""
        return f"[{'|'.join(self.choices)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value."""
        if value not in self.choices:
            self.fail(f"choose from {', '.join(self.choices)}", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Return the words that begin with ``incomplete``."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(choice) for choice in self.choices if choice.startswith(incomplete)]


class FileName(StringParamType):
    """The name of a file. Its existence is not checked."""

    name = "file"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Make the shell complete file names."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


class CommandName(StringParamType):
    """The name of a command of the group."""

    name = "command"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        names = _command_names(ctx)
        if value not in names:
            from session_manager_plugin.cli.nearest import nearest

            hint = nearest(str(value), names)
            self.fail(f"there is no command {value!r}{f'. Did you mean {hint}?' if hint else ''}", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Return the names that begin with ``incomplete``."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in _command_names(ctx) if name.startswith(incomplete)]


def _command_names(context: click.Context | None) -> list[str]:
    if context is None or not isinstance(root := context.find_root().command, click.Group):
        return []
    return root.list_commands(context)


class WholeNumber(IntParamType):
    """A whole number from ``low`` on, up to ``high`` if given."""

    name = "number"

    def __init__(self, low: int | None = None, high: int | None = None) -> None:
        self._low, self._high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        try:
            number = int(value)
            if (self._low is not None and number < self._low) or (self._high is not None and number > self._high):
                raise ValueError
        except ValueError:
            low = "" if self._low is None else f" from {self._low}"
            high = f" to {self._high}" if self._high is not None else " on" if low else ""
            self.fail(f"{str(value)!r} is not a whole number{low}{high}", param, ctx)
        return number


class Seconds(FloatParamType):
    """A number of seconds; ``zero``: 0 is allowed."""

    name = "seconds"

    def __init__(self, *, zero: bool) -> None:
        self._zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        try:
            return parse_seconds(str(value), zero=self._zero)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def command(
    name: str,
    *,
    examples: str,
    groups: Mapping[str, Collection[str]] | None = None,
    more_groups: Mapping[str, Collection[str]] | None = None,
    cls: type[Command] = Command,
) -> Callable[[Callable[..., Any]], Command]:
    """Return a decorator for a click command with the common options; its function receives the ``Environment`` first.

    ``groups`` and ``more_groups`` are the headings of its help, and ``cls`` is the class of the command; see
    ``Command``.
    """

    def decorate(function: Callable[..., Any]) -> Command:
        @functools.wraps(function)
        def prepared(
            *,
            verbose: int,
            quiet: bool,
            log_file: Path | None,
            log_format: Literal["text", "json"],
            color: str,
            **options: Any,
        ) -> Any:
            environment = click.get_current_context().ensure_object(Environment)
            environment.verbosity, environment.quiet, environment.color = verbose, quiet, color
            _configure_logging(environment, log_file, log_format)
            return function(environment, **options)

        made = click.command(name, cls=cls, examples=examples, groups=groups, more_groups=more_groups)(prepared)
        made.params += _common_options()
        return made

    return decorate


def _configure_logging(environment: Environment, log_file: Path | None, log_format: Literal["text", "json"]) -> None:
    """Configure logging from ``-v``, ``--log-file`` and ``--log-format``. Raises ``UsageError``.

    At ``-vv`` on a terminal, without a log file, lines are written to the state directory: they would hide the session.
    """
    wants_details = environment.verbosity > 1 and log_file is None and environment.is_terminal(environment.stderr)
    details = environment.state_log if wants_details else None
    try:
        kept = configure(environment.verbosity, log_file, log_format, details=details)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"the log file {log_file} cannot be opened: {reason}") from error
    if kept is not None:
        tell(environment, f"everything is logged in {kept}", error=False)


def _common_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["-v", "--verbose"],
            count=True,
            help="Show the stages of the connection. They are written to standard error. -vv logs everything, at a "
            "terminal to a file.",
        ),
        click.Option(["-q", "--quiet"], is_flag=True, help="Show errors only."),
        click.Option(
            ["--log-file"],
            type=click.Path(dir_okay=False, path_type=Path),
            envvar="SMP_LOG_FILE",
            show_envvar=True,
            help="File to append log lines to: the stages of the connection, or everything with -vv. It is created "
            "with mode 0600, and no line holds a token. Example: smp.log.",
        ),
        click.Option(
            ["--log-format"],
            type=Choice("text", "json"),
            default="text",
            show_default=True,
            help="Format of log lines: text, or a JSON object with time, level, logger and message.",
        ),
        click.Option(
            ["--color"],
            type=Choice(*COLORS),
            default="auto",
            show_default=True,
            help="Whether messages and the status line are coloured. auto colours them at a terminal, and honours "
            "NO_COLOR and CLICOLOR_FORCE.",
        ),
    ]
