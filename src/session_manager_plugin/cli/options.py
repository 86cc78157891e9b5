"""What the commands of `smp` have in common: the options of all of them, the types of their values, how they fail."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click
from click.types import FloatParamType, StringParamType

from session_manager_plugin.cli.environment import Environment, parse_seconds
from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.utils.logging import configure

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Command(click.Command):
    """A command that takes options only, and does not repeat what it refuses: that could be a token."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        kwargs["context_settings"] = {**CONTEXT_SETTINGS, "allow_extra_args": True}
        super().__init__(*args, **kwargs)
        self._examples = examples

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse arguments without naming them."""
        rest = super().parse_args(ctx, args)
        if ctx.args:
            ctx.fail(f"{ctx.command_path} takes options only, no other arguments")
        return rest

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, as they are to be typed."""
        with formatter.section("Examples"):
            for line in self._examples.strip().splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Choice(StringParamType):
    """One of a few words; a wrong one is not repeated."""

    name = "choice"

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """As in `[auto|always|never]`."""
        return f"[{'|'.join(self.choices)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The value itself."""
        if value not in self.choices:
            self.fail(f"choose from {', '.join(self.choices)}", param, ctx)
        return str(value)


class Seconds(FloatParamType):
    """A number of seconds; `zero` tells whether 0 is allowed."""

    name = "seconds"

    def __init__(self, *, zero: bool) -> None:
        self._zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        try:
            return parse_seconds(str(value), zero=self._zero)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def command(name: str, *, examples: str) -> Callable[[Callable[..., Any]], Command]:
    """A click command with the options that every command has; its function is handed the `Environment` first."""

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
            try:
                configure(verbose, log_file, log_format)
            except OSError as error:
                reason = error.strerror or str(error)
                raise ConfigurationError(f"the log file {log_file} cannot be opened: {reason}") from error
            return function(environment, **options)

        made = click.command(name, cls=Command, examples=examples)(prepared)
        made.params += _common_options()
        return made

    return decorate


def _common_options() -> list[click.Parameter]:
    return [
        click.Option(["-v", "--verbose"], count=True, help="Say what happens on stderr; -vv says everything."),
        click.Option(["-q", "--quiet"], is_flag=True, help="Say nothing but errors."),
        click.Option(
            ["--log-file"],
            type=click.Path(dir_okay=False, path_type=Path),
            envvar="SMP_LOG_FILE",
            show_envvar=True,
            help="Append what happens to a file that only you can read. No log line holds a token.",
        ),
        click.Option(
            ["--log-format"], type=Choice("text", "json"), default="text", show_default=True, help="Of each log line."
        ),
        click.Option(
            ["--color"],
            type=Choice("auto", "always", "never"),
            default="auto",
            show_default=True,
            help="Colours in messages and in the status line. auto honours NO_COLOR and CLICOLOR_FORCE.",
        ),
    ]


def status_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--status`: whether the terminal's last row shows the state of the connection."""
    return click.option(
        "--status",
        type=Choice("auto", "bar", "off"),
        default="auto",
        show_default=True,
        envvar="SMP_STATUS",
        show_envvar=True,
        help="The state of the connection and its latency in the last row of the terminal; "
        "auto shows it where there are 10 rows or more.",
    )(function)
