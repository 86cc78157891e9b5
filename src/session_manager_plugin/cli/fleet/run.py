"""Runs a command on many targets, and shows what it came to."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import aclosing

from session_manager_plugin.aws.run_command import RunCommand
from session_manager_plugin.cli.descriptors import raise_descriptor_limit
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.exit_status import Exit, ExitStatus, Signalled
from session_manager_plugin.cli.fleet.collected import FoldingSink, JsonSink
from session_manager_plugin.cli.fleet.lines import LineSink
from session_manager_plugin.cli.fleet.options import FleetRun, batch_size
from session_manager_plugin.cli.fleet.output import SharedOutput
from session_manager_plugin.cli.fleet.progress import Counts, fleet_progress
from session_manager_plugin.cli.fleet.results import FleetResult, Sink
from session_manager_plugin.cli.fleet.send import SendCommandFleet
from session_manager_plugin.cli.fleet.sessions import SessionFleet
from session_manager_plugin.cli.fleet.stop import StopOnSignal
from session_manager_plugin.cli.fleet.summary import Summary
from session_manager_plugin.cli.fleet.targets import find_targets
from session_manager_plugin.cli.process import Process, run_process
from session_manager_plugin.cli.render import tell, tell_note
from session_manager_plugin.cli.standard_input import has_input, watched_input
from session_manager_plugin.errors import ConfigurationError, ConnectError, UsageError
from session_manager_plugin.execution.remote_command import Via

DRAIN_TIMEOUT = 0.2
"""Seconds that the reader of the output has after a signal that ends the program."""
_NO_INPUT = "a command on several targets, or by Run Command, has no standard input"


def run_fleet(environment: Environment, fleet: FleetRun) -> Exit:
    """Run the command on all targets and return how the program ends. Raises ``UsageError``, and what prevents to find
    the targets."""
    if fleet.via is not Via.SHELL:
        fleet.command.session_request(Via.DOCUMENT)
    if has_input(environment.stdin):
        raise UsageError(f"{_NO_INPUT}: redirect it from /dev/null")
    raise_descriptor_limit()

    async def main(process: Process) -> Exit:
        return await _Fleet(process, fleet).run()

    return run_process(environment, main)


def open_output(environment: Environment) -> SharedOutput:
    """Return the output of all targets. Raises ``ConfigurationError``."""
    output = environment.output_messages.writer
    if output is None:
        raise ConfigurationError("standard output cannot be written to")
    return SharedOutput(output, environment.error_messages.writer)


def open_sink(shared: SharedOutput, tell: Callable[[str], None], *, folds: bool, as_json: bool) -> Sink:
    """Return what shows the outputs. ``tell`` is called with sentences for the user."""
    return JsonSink(shared) if as_json else FoldingSink(shared) if folds else LineSink(shared, tell)


class _Fleet:
    def __init__(self, process: Process, fleet: FleetRun) -> None:
        self._process = process
        self._fleet = fleet
        self._summary = Summary()
        self._signal = StopOnSignal(process.interruption, self._note)
        self._shared = open_output(process.environment)
        self._sink = open_sink(self._shared, self._tell, folds=fleet.folds, as_json=fleet.as_json)
        self._is_input_lost = False

    async def run(self) -> Exit:
        fleet, environment = self._fleet, self._process.environment
        began_at = time.monotonic()
        targets, missing = await find_targets(fleet.aws, fleet.names, fleet.tags)
        total = len(targets) + len(missing)
        batch = batch_size(fleet.batch, len(targets))
        if not total:
            tags = " and ".join(f"tag:{tag}" for tag in fleet.tags)
            raise ConnectError(f"no online target matches {tags}; smp ls --all lists offline ones too")
        for result in missing:
            self._add(result)
        runner: SessionFleet | SendCommandFleet
        if fleet.via is None:
            runner = SendCommandFleet(
                fleet,
                self._sink,
                self._shared,
                self._signal,
                self._failures_left,
                self._tell,
                RunCommand(fleet.aws),
            )
        else:
            runner = SessionFleet(self._process, fleet, self._sink, self._is_stopped, self._note)

        def counts() -> Counts:
            done = self._summary.succeeded + self._summary.failed
            return Counts(total, runner.running, done, self._summary.failed, runner.pace)

        watched = watched_input(environment.stdin, self._lose_input)
        with watched, self._signal, fleet_progress(self._process, self._shared, counts):
            async with aclosing(runner.results(targets, batch)) as results:
                async for result in results:
                    self._add(result)
        interrupted = self._process.interruption.error
        self._sink.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if interrupted is None else DRAIN_TIMEOUT):
                await self._shared.drain()
        if self._shared.error is not None:
            raise self._shared.error
        for line in self._summary.losses():
            tell(environment, line)
        for line in [*filter(None, [runner.slowed]), *self._summary.lines(total, time.monotonic() - began_at)]:
            tell_note(environment, line)
        if interrupted is not None:
            raise interrupted
        if self._signal.number is not None and not self._summary.is_complete(total):
            raise Signalled(self._signal.number)
        end = self._summary.exit(total)
        return Exit(ExitStatus.FAILURE, failed=True) if self._is_input_lost and not end.status else end

    def _lose_input(self) -> None:
        self._is_input_lost = True
        self._tell(_NO_INPUT)

    def _tell(self, sentence: str) -> None:
        """Write a message, while the progress may be shown."""
        self._shared.before_write()
        tell(self._process.environment, sentence)

    def _note(self, sentence: str) -> None:
        """Write an informative message, while the progress may be shown."""
        self._shared.before_write()
        tell_note(self._process.environment, sentence)

    def _failures_left(self) -> int | None:
        """How many targets may still fail until no target begins any more; less than 0 when they have; None for all."""
        return None if self._fleet.max_errors is None else self._fleet.max_errors - self._summary.failed

    def _is_stopped(self) -> bool:
        left = self._failures_left()
        return (left is not None and left < 0) or self._signal.is_stopped or self._shared.error is not None

    def _add(self, result: FleetResult) -> None:
        self._summary.add(result)
        self._sink.finished(result)
