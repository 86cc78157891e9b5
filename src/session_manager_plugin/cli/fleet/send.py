"""A command on many targets by Run Command: AWS runs it, and this program follows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence

from session_manager_plugin.aws.run_command import (
    ERROR_OUTPUT_LIMIT,
    MAX_IDS,
    OUTPUT_LIMIT,
    Invocation,
    RunCommand,
    refused_instances,
)
from session_manager_plugin.cli.fleet.options import FleetRun
from session_manager_plugin.cli.fleet.output import SharedOutput
from session_manager_plugin.cli.fleet.results import INTERRUPTED, TIMED_OUT, FleetResult, FleetTarget, Sink
from session_manager_plugin.cli.fleet.stop import StopOnSignal
from session_manager_plugin.errors import ConnectError, SessionManagerError
from session_manager_plugin.execution.fleet import run_on_all
from session_manager_plugin.session.outcome import FAILURE
from session_manager_plugin.utils.logging import get_logger

FIRST_POLL, POLL_INTERVAL = 0.25, 1.0
"""Seconds between two looks at a command: the first, twice as much each time, and in the end; with many commands at
once each waits longer."""
POLLS_A_SECOND = 10
"""Looks at all commands together, at most."""
CANCEL_TIMEOUT = 1.5
"""Seconds for cancelling what runs when the program leaves."""
_NOT_RUN = "Terminated"
"""The details of an invocation that has not begun when too many others had failed."""
_DETAILS = {
    "Cancelled": INTERRUPTED,
    "DeliveryTimedOut": "the command was not delivered in time; the agent may be offline",
    "Undeliverable": "the command could not be delivered; the agent may be offline",
}


class SendCommandFleet:
    """Sends the command to at most ``MAX_IDS`` targets at a time and yields each as it has ended.

    ``failures_left`` returns how many targets may still fail; less than 0: nothing is sent any more; None: all may.
    """

    def __init__(
        self,
        fleet: FleetRun,
        sink: Sink,
        shared: SharedOutput,
        stop: StopOnSignal,
        failures_left: Callable[[], int | None],
    ) -> None:
        self._fleet = fleet
        self._sink = sink
        self._shared = shared
        self._stop = stop
        self._failures_left = failures_left
        self._service = RunCommand(fleet.aws)
        self._active: set[str] = set()
        """Ids of the commands that have not ended."""
        self._results: asyncio.Queue[FleetResult | None] = asyncio.Queue()
        self._woken = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.running = 0
        """Targets at work, or waiting in Run Command."""
        self.pace = self.slowed = ""

    async def results(self, targets: Sequence[FleetTarget], batch: int) -> AsyncGenerator[FleetResult, None]:
        """Yield a result for each target that the command was sent to; see ``run_on_all``."""
        groups = [targets[start : start + batch] for start in range(0, len(targets), batch)] if batch else [targets]
        chunks = [group[start : start + MAX_IDS] for group in groups for start in range(0, len(group), MAX_IDS)]
        # Two commands at least, so that one is at work while the last targets of the other end.
        commands = min(self._fleet.fanout, max(2, -(-self._fleet.fanout // MAX_IDS)))
        concurrency = self._fleet.fanout // commands
        self._shared.add_flow(self, self._room.clear, self._room.set)
        self._stop.on_stop = self._woken.set

        async def work() -> None:
            try:
                async with contextlib.aclosing(
                    run_on_all(
                        chunks,
                        lambda chunk: self._run(chunk, concurrency),
                        fanout=commands,
                        batch=-(-batch // MAX_IDS),
                        is_stopped=self._is_stopped,
                    )
                ) as ended:
                    async for _ in ended:
                        pass
            finally:
                self._results.put_nowait(None)

        working = asyncio.ensure_future(work())
        try:
            while (result := await self._results.get()) is not None:
                yield result
            await working
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            self._shared.remove(self)
            await self._cancel_all()

    def _is_stopped(self) -> bool:
        left = self._failures_left()
        return (left is not None and left < 0) or self._stop.stopped or self._shared.error is not None

    async def _run(self, chunk: Sequence[FleetTarget], concurrency: int) -> None:
        """Send the command to some targets and follow it to its end, or until the program leaves."""
        began_at = time.monotonic()
        pending = {target.id: target for target in chunk}
        self.running += len(pending)
        try:
            command_id = await self._send(pending, concurrency, began_at)
            if command_id is None:
                return
            self._active.add(command_id)
            cancelled = False
            interval = FIRST_POLL
            while pending and not self._stop.leaves and self._shared.error is None:
                if self._stop.stopped and not cancelled:
                    cancelled = True
                    await self._cancel(command_id)
                await self._pause(interval)
                interval = min(2 * interval, POLL_INTERVAL)
                for invocation in await self._service.list_invocations(command_id):
                    if invocation.is_finished and (target := pending.get(invocation.instance_id)) is not None:
                        if invocation.details == _NOT_RUN:
                            self.running -= 1
                        else:
                            self._finish(await self._result(command_id, invocation, target, began_at))
                        del pending[target.id]
            if not pending:
                self._active.discard(command_id)
        finally:
            self.running -= len(pending)

    async def _send(self, pending: dict[str, FleetTarget], concurrency: int, began_at: float) -> str | None:
        """Send the command; targets to which it cannot be sent are results, and no longer pending."""
        fleet = self._fleet
        while pending:
            left = self._failures_left()
            try:
                return await self._service.send(
                    list(pending),
                    fleet.command.line,
                    max_concurrency=concurrency,
                    max_errors=None if left is None else max(0, left),
                    timeout=fleet.timeout,
                    comment=fleet.reason,
                )
            except ConnectError as error:
                refused = refused_instances(error) & pending.keys()
                sentence = "not online, or not managed by Systems Manager in this account" if refused else str(error)
                for instance_id in refused or list(pending):
                    target = pending.pop(instance_id)
                    self._finish(FleetResult(target, FAILURE, time.monotonic() - began_at, sentence))
        return None

    async def _result(
        self, command_id: str, invocation: Invocation, target: FleetTarget, began_at: float
    ) -> FleetResult:
        await self._room.wait()
        streams = self._sink.streams(target)
        output, error_output = invocation.output, ""
        if output is None:
            output, error_output = await self._service.get_outputs(command_id, target.id)
        streams.write(output.encode())
        streams.write_error(error_output.encode())
        truncated = len(output) >= OUTPUT_LIMIT or len(error_output) >= ERROR_OUTPUT_LIMIT
        status, error = outcome_of_invocation(invocation, self._fleet.timeout)
        return FleetResult(target, status, time.monotonic() - began_at, error, truncated)

    def _finish(self, result: FleetResult) -> None:
        self.running -= 1
        self._results.put_nowait(result)

    async def _pause(self, interval: float) -> None:
        """Wait until the next look, or until a signal."""
        interval = max(interval, len(self._active) / POLLS_A_SECOND)
        if self._stop.stopped:
            self._woken.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval):
                await self._woken.wait()

    async def _cancel(self, command_id: str) -> None:
        try:
            await self._service.cancel(command_id)
        except SessionManagerError as error:
            get_logger(__name__).warning("command %s could not be cancelled: %s", command_id, error)

    async def _cancel_all(self) -> None:
        """Cancel the commands that have not ended, in the time that is left."""
        active, self._active = self._active, set()
        if active:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CANCEL_TIMEOUT):
                    await asyncio.gather(*map(self._cancel, active))


def outcome_of_invocation(invocation: Invocation, timeout: float | None) -> tuple[int, str]:
    """Return the exit status and the sentence of a command that has ended."""
    details = invocation.details or invocation.status
    if details in ("Success", "Failed") and 0 <= invocation.code <= 255:
        return invocation.code, "" if invocation.code or details == "Success" else "Run Command reports a failure"
    if details == "ExecutionTimedOut":
        limit = "" if timeout is None else f" within {timeout:g} s"
        return TIMED_OUT, f"the command did not end{limit or ' in the time that Run Command gives it'}"
    return FAILURE, _DETAILS.get(details, f"Run Command reports {details}")
