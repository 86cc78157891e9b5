"""Runs a command on many targets, each in a session of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Self

from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.signing import OpeningSigner
from session_manager_plugin.aws.start_pace import StartPace
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.exit_status import Exit
from session_manager_plugin.cli.fleet.collected import FoldingSink, JsonSink
from session_manager_plugin.cli.fleet.lines import LineSink
from session_manager_plugin.cli.fleet.output import SharedOutput
from session_manager_plugin.cli.fleet.progress import Counts, fleet_progress
from session_manager_plugin.cli.fleet.results import FleetResult, FleetTarget, Sink, result_of
from session_manager_plugin.cli.fleet.summary import Summary
from session_manager_plugin.cli.fleet.targets import find_targets
from session_manager_plugin.cli.process import Process, run_process
from session_manager_plugin.cli.render import tell, tell_note
from session_manager_plugin.cli.run_options import RunOptions, TimeLimit
from session_manager_plugin.cli.session import SessionStreams, run_session
from session_manager_plugin.cli.signals import Interruption, RunningSession
from session_manager_plugin.errors import ConfigurationError, UsageError
from session_manager_plugin.execution.fleet import run_on_all
from session_manager_plugin.execution.remote_command import RemoteCommand, Via, attempt_ways
from session_manager_plugin.library import start
from session_manager_plugin.session.command import KEYS
from session_manager_plugin.session.notices import PlainNotices
from session_manager_plugin.session.outcome import Outcome
from session_manager_plugin.utils.link_options import LinkOptions


@dataclass(frozen=True, kw_only=True)
class FleetRun:
    """A command, the targets to run it on, and how."""

    names: tuple[str, ...]
    tags: tuple[str, ...]
    command: RemoteCommand
    via: Via
    fanout: int
    batch: str
    """A number, or a percentage of all targets; empty for all at once."""
    fail_fast: bool
    timeout: float | None
    """Seconds for each target; None for no limit."""
    reason: str
    folds: bool
    as_json: bool
    aws: AwsSettings
    link: LinkOptions


def run_fleet(environment: Environment, fleet: FleetRun) -> Exit:
    """Run the command on all targets and return how the program ends. Raises ``UsageError``, and what prevents to find
    the targets."""
    if fleet.via is not Via.SHELL:
        fleet.command.session_request(Via.DOCUMENT)

    async def main(process: Process) -> Exit:
        return await _Fleet(process, fleet).run()

    return run_process(environment, main)


def open_output(environment: Environment) -> SharedOutput:
    """Return the output of all sessions. Raises ``ConfigurationError``."""
    output = environment.output_messages.writer
    if output is None:
        raise ConfigurationError("standard output cannot be written to")
    return SharedOutput(output, environment.error_messages.writer)


def open_sink(shared: SharedOutput, *, folds: bool, as_json: bool) -> Sink:
    """Return what shows the outputs."""
    return JsonSink(shared) if as_json else FoldingSink(shared) if folds else LineSink(shared)


def batch_size(text: str, total: int) -> int:
    """Return the targets of a batch; 0 for all. Raises ``UsageError``."""
    number = text.removesuffix("%")
    if not text:
        return 0
    if not number.isdecimal() or int(number) == 0 or (number != text and int(number) > 100):
        raise UsageError(f"--batch {text}: give a number from 1 on, or a percentage")
    return int(number) if number == text else max(1, total * int(number) // 100)


class StopOnSignal:
    """For the length of the block the first SIGINT ends the fleet gently: no target begins any more, and the commands
    that run get the signal as well. Any other signal ends all sessions; the fleet then waits for their ends."""

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption
        self._block = contextlib.ExitStack()
        self._running: RunningSession | None = None
        self.stopped = False

    def __enter__(self) -> Self:
        self._running = self._block.enter_context(self._interruption.session(self._offer))
        return self

    def __exit__(self, *_exception: object) -> None:
        self._block.close()

    def _offer(self, number: int) -> bool:
        assert self._running is not None
        self.stopped = self._running.leaving = True  # it is neither asked nor cancelled from here on
        return number in KEYS


class _Fleet:
    def __init__(self, process: Process, fleet: FleetRun) -> None:
        self._process = process
        self._fleet = fleet
        self._pace = StartPace()
        self._summary = Summary()
        self._signal = StopOnSignal(process.interruption)
        self._told_of_shell = False

    async def run(self) -> Exit:
        fleet, environment = self._fleet, self._process.environment
        began_at = time.monotonic()
        targets, missing = await find_targets(fleet.aws, fleet.names, fleet.tags)
        total = len(targets) + len(missing)
        batch = batch_size(fleet.batch, len(targets))
        if not total:
            raise UsageError("no target that is online matches; smp ls lists them")
        shared = open_output(environment)
        sink = open_sink(shared, folds=fleet.folds, as_json=fleet.as_json)
        counts = Counts(total, done=len(missing), failed=len(missing))
        for result in missing:
            self._add(sink, result)

        async def run_one(target: FleetTarget) -> FleetResult:
            counts.running += 1
            try:
                return await self._run_one(target, sink)
            finally:
                counts.running -= 1

        running = run_on_all(
            targets, run_one, fanout=fleet.fanout, batch=batch, is_stopped=lambda: self._is_stopped(shared)
        )
        with (
            self._signal,
            fleet_progress(environment, shared, counts, self._describe_pace),
        ):
            async with aclosing(running) as results:
                async for result in results:
                    counts.done += 1
                    counts.failed += not result.succeeded
                    self._add(sink, result)
        interrupted = self._process.interruption.error
        if interrupted is None:
            sink.close()
            await shared.drain()
        if shared.error is not None:
            raise shared.error
        if not environment.quiet:
            for line in self._summary.lines(total, time.monotonic() - began_at):
                tell(environment, line, error=False)
        if interrupted is not None:
            raise interrupted
        return self._summary.exit(total)

    def _is_stopped(self, shared: SharedOutput) -> bool:
        failed = self._fleet.fail_fast and self._summary.failed
        return bool(failed) or self._signal.stopped or shared.error is not None

    def _add(self, sink: Sink, result: FleetResult) -> None:
        self._summary.add(result)
        sink.finished(result)

    def _describe_pace(self) -> str:
        rate = self._pace.measured
        return f", {rate:.0f} starts/s (AWS allows no more)" if self._pace.limit is not None and rate else ""

    async def _run_one(self, target: FleetTarget, sink: Sink) -> FleetResult:
        fleet, environment = self._fleet, self._process.environment
        began_at = time.monotonic()
        limit = None if fleet.timeout is None else TimeLimit.from_now(fleet.timeout)
        streams = sink.streams(target)
        troubles: list[str] = []
        options = RunOptions(time_limit=limit, notices=PlainNotices(troubles.append))

        async def attempt(via: Via) -> Outcome:
            document, parameters = fleet.command.session_request(via)
            session = start(
                target.id,
                document=document,
                parameters=parameters,
                reason=fleet.reason,
                aws=fleet.aws,
                link=fleet.link,
                signer=OpeningSigner(fleet.aws, tell=partial(tell_note, environment)),
                pace=self._pace,
            )
            handlers = fleet.command.handlers(via, has_input=False)
            ending = await run_session(
                session,
                self._process.interruption,
                lambda _running, _runner: SessionStreams(streams),
                dataclasses.replace(options, handlers=handlers),
            )
            return ending.outcome

        outcome = await attempt_ways(fleet.via, attempt, self._tell_of_shell)
        return result_of(target, outcome, "; ".join(troubles), time.monotonic() - began_at)

    def _tell_of_shell(self, sentence: str) -> None:
        """Tell of the first target only: the others are likely to be in the same case."""
        if not self._told_of_shell:
            self._told_of_shell = True
            tell(self._process.environment, sentence, error=False)
