"""A command on many targets, each in a session of its own."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncGenerator, Callable, Sequence

from session_manager_plugin.aws.signing import OpeningSigner
from session_manager_plugin.aws.start_pace import StartPace
from session_manager_plugin.cli.fleet.options import FleetRun
from session_manager_plugin.cli.fleet.results import FleetResult, FleetTarget, Sink, result_of
from session_manager_plugin.cli.process import Process
from session_manager_plugin.cli.run_options import RunOptions, TimeLimit
from session_manager_plugin.cli.session import SessionStreams, run_session
from session_manager_plugin.execution.fleet import run_on_all
from session_manager_plugin.execution.remote_command import Via, attempt_ways
from session_manager_plugin.library import start
from session_manager_plugin.session.notices import PlainNotices
from session_manager_plugin.session.outcome import Outcome


class SessionFleet:
    """Runs the command in sessions. ``is_stopped`` returns whether no target is to begin any more; ``note`` is called
    with an informative sentence for the user."""

    def __init__(
        self,
        process: Process,
        fleet: FleetRun,
        sink: Sink,
        is_stopped: Callable[[], bool],
        note: Callable[[str], None],
    ) -> None:
        self._process = process
        self._fleet = fleet
        self._sink = sink
        self._is_stopped = is_stopped
        self._note = note
        self._pace = StartPace()
        self._told_of_shell = False
        self.running = 0
        """Targets at work."""

    @property
    def pace(self) -> str:
        """What there is to say of the pace; empty if nothing slows it down."""
        rate = self._pace.measured
        return f", {rate:.0f} starts/s (AWS allows no more)" if self._pace.limit is not None and rate else ""

    @property
    def slowed(self) -> str:
        """A sentence about what has slowed the fleet down; empty if nothing has."""
        times = self._pace.refused
        if not times:
            return ""
        rate = self._pace.average
        return f"AWS throttled StartSession {times} time{'s' * (times != 1)}; {rate:.0f} sessions a second were started"

    def results(self, targets: Sequence[FleetTarget], batch: int) -> AsyncGenerator[FleetResult, None]:
        """Yield a result for each target that has begun; see ``run_on_all``."""
        return run_on_all(
            targets, self._run_counted, fanout=self._fleet.fanout, batch=batch, is_stopped=self._is_stopped
        )

    async def _run_counted(self, target: FleetTarget) -> FleetResult:
        self.running += 1
        try:
            return await self._run_one(target)
        finally:
            self.running -= 1

    async def _run_one(self, target: FleetTarget) -> FleetResult:
        fleet = self._fleet
        began_at = time.monotonic()
        limit = None if fleet.timeout is None else TimeLimit.from_now(fleet.timeout)
        streams = self._sink.streams(target)
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
                signer=OpeningSigner(fleet.aws, tell=self._note),
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

        outcome = await attempt_ways(fleet.via or Via.AUTO, attempt, self._tell_of_shell)
        return result_of(target, outcome, "; ".join(troubles), time.monotonic() - began_at)

    def _tell_of_shell(self, sentence: str) -> None:
        """Tell of the first target only: the others are likely to be in the same case."""
        if not self._told_of_shell:
            self._told_of_shell = True
            self._note(sentence)
