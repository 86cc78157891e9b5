"""The parts that a process has once for all its sessions: signals, messages, and the terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from session_manager_plugin.cli import signals
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.exit_status import die_of
from session_manager_plugin.cli.signals import Interruption
from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.terminal.capabilities import has_256_colors, has_margins, is_utf8, reflow_moves_cursor
from session_manager_plugin.terminal.link_status import StatusMode

if TYPE_CHECKING:
    from session_manager_plugin.cli.run_options import TerminalOptions
    from session_manager_plugin.terminal.console import Console
    from session_manager_plugin.terminal.status_line import StatusLine

T = TypeVar("T")


class Process(NamedTuple):
    """The running program: its standard streams and settings, and the handling of signals that end it."""

    environment: Environment
    interruption: Interruption

    @contextlib.contextmanager
    def console(self, options: TerminalOptions) -> Iterator[Console]:
        """Open the standard streams, and the terminal behind them, for the duration of the block.

        The terminal is restored when the program ends, and taken again after a stop. Raises ``ConfigurationError`` if
        standard output cannot be written to.
        """
        console = self._open_console(options)
        self.interruption.restore, self.interruption.continued = console.give_back, console.continued
        for messages in self.environment.messages_on_terminal:
            messages.place = console.place_message
        try:
            yield console
        finally:
            console.close()

    def _open_console(self, options: TerminalOptions) -> Console:
        from session_manager_plugin.terminal.console import Console

        environment = self.environment
        try:
            return Console(
                environment.stdin,
                environment.stdout,
                environment.stderr,
                output=environment.output_messages.writer,
                error_output=environment.error_messages.writer,
                status_line=None if options.status is None else self._status_line(options),
                mode=options.status or StatusMode.OFF,
                predict=options.predict,
                reflow_moves_cursor=reflow_moves_cursor(environment.variables),
            )
        except OSError as error:
            raise ConfigurationError(f"standard output cannot be written to: {error.strerror}") from error

    def _status_line(self, options: TerminalOptions) -> StatusLine:
        from session_manager_plugin.terminal.status_line import StatusLine

        return StatusLine(
            hint=options.leave_hint,
            escape=options.escape_name,
            label=options.label,
            color=self.environment.uses_color(self.environment.stdout) and has_256_colors(self.environment.variables),
            unicode=is_utf8(self.environment.variables),
        )


def run_process(
    environment: Environment,
    main: Callable[[Process], Coroutine[Any, Any, T]],
    *,
    die: Callable[[int], NoReturn] = die_of,
) -> T:
    """Run the main coroutine of a program with sessions, with signals handled and messages queued.

    Returns and raises the same as ``signals.run``. ``die`` ends the process because of a signal.
    """

    async def with_queued_messages(interruption: Interruption) -> T:
        interruption.received = environment.interrupted
        with environment.queued_messages():
            return await main(Process(environment, interruption))

    return signals.run(with_queued_messages, die=die)


def status_mode(environment: Environment, choice: str, *, otherwise: StatusMode = StatusMode.AUTO) -> StatusMode | None:
    """Return how the state of the link is shown; None without a terminal that supports ANSI sequences.

    ``choice`` is a ``StatusMode`` value or "auto", which means ``otherwise``, but None on a terminal without margins.
    """
    if not environment.has_screen or (environment.is_dumb and choice != StatusMode.BAR.value):
        return None
    if choice != "auto":
        return StatusMode(choice)
    return otherwise if has_margins(environment.variables.get("TERM", "")) else None
