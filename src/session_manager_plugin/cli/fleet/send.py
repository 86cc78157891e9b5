"""A command on many targets by Run Command: AWS runs it, and this program follows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from typing import Any, NamedTuple

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
from session_manager_plugin.cli.fleet.results import TIMED_OUT, FleetResult, FleetTarget, Sink
from session_manager_plugin.cli.fleet.stop import StopOnSignal
from session_manager_plugin.errors import ConnectError, SessionManagerError
from session_manager_plugin.execution.fleet import run_on_all
from session_manager_plugin.session.outcome import FAILURE

FIRST_POLL, POLL_INTERVAL = 0.25, 1.0
"""Seconds between two looks at a command: the first, twice as much each time, and in the end; with many commands at
once each waits longer."""
POLLS_A_SECOND = 10
"""Looks at all commands together, at most."""
SEND_GRACE = 0.5
"""Seconds that the answer of SendCommand is waited for when the program leaves: only with it a command can be
cancelled."""
CANCEL_TIMEOUT = 1.0
"""Seconds that the answer of CancelCommand is waited for."""
LAST_LOOK_TIMEOUT = 0.3
"""Seconds for finding out which commands had ended before. All three together are less than
``signals.LEAVE_LIMIT``."""
_NAMED = 3
"""Ids of commands in a sentence."""
CANCELLED = "the command was cancelled"
_NOT_RUN = "Terminated"
"""The details of an invocation that has not begun when too many others had failed."""
_DETAILS = {
    "Cancelled": CANCELLED,
    "DeliveryTimedOut": "the command was not delivered in time; the agent may be offline",
    "Undeliverable": "the command could not be delivered; the agent may be offline",
}


class SendCommandFleet:
    """Sends the command to at most ``MAX_IDS`` targets at a time and yields each as it has ended.

    ``failures_left`` returns how many targets may still fail; less than 0: nothing is sent any more; None: all may.
    ``tell`` is called with a sentence for the user. The first SIGINT cancels the commands and waits for their ends; any
    other signal, a second one, and an output that fails cancel them, and the targets count as failed.
    """

    def __init__(
        self,
        fleet: FleetRun,
        sink: Sink,
        shared: SharedOutput,
        stop: StopOnSignal,
        failures_left: Callable[[], int | None],
        tell: Callable[[str], None],
        service: RunCommand,
    ) -> None:
        self._fleet = fleet
        self._sink = sink
        self._shared = shared
        self._stop = stop
        self._failures_left = failures_left
        self._tell = tell
        self._service = service
        self._active: set[str] = set()
        """Ids of the commands that have not ended, as far as is known, and that were not cancelled."""
        self._results: asyncio.Queue[FleetResult | None] = asyncio.Queue()
        self._woken = asyncio.Event()
        """Set at the first signal."""
        self._leaving = asyncio.Event()
        """Set when nothing more is waited for."""
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
        self._shared.add_failure_handler(self, lambda _error: self._leaving.set())
        self._stop.on_stop, self._stop.on_leave, self._stop.on_die = self._woken.set, self._leaving.set, self._die

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
            await asyncio.gather(*map(self._cancel, list(self._active)))

    def _is_stopped(self) -> bool:
        left = self._failures_left()
        return (left is not None and left < 0) or self._stop.is_stopped or self._leaving.is_set()

    async def _run(self, chunk: Sequence[FleetTarget], concurrency: int) -> None:
        """Send the command to some targets, and report a result for each to which it was sent."""
        work = _Chunk({target.id: target for target in chunk}, time.monotonic())
        self.running += len(chunk)
        try:
            command_id = await self._send(work, concurrency)
            if command_id is not None:
                self._active.add(command_id)
                await self._follow(command_id, work)
                self._active.discard(command_id)
        finally:
            self.running -= len(work.pending)

    async def _send(self, work: _Chunk, concurrency: int) -> str | None:
        """Return the id of the command; None if it was sent to no target, each of which then has its result.

        Targets that are refused get their results, and the command is sent to the others.
        """
        fleet = self._fleet
        while work.pending:
            left = self._failures_left()
            sending = asyncio.ensure_future(
                self._service.send(
                    list(work.pending),
                    fleet.command.line,
                    max_concurrency=concurrency,
                    max_errors=None if left is None else max(0, left),
                    timeout=fleet.timeout,
                    comment=fleet.reason,
                )
            )
            if not await self._answered(sending, grace=SEND_GRACE):
                self._fail(work, "SendCommand was not answered in time: the command may run", is_interrupted=True)
                return None
            try:
                return sending.result()
            except SessionManagerError as error:
                if refused := refused_instances(error) & work.pending.keys():
                    self._fail(work, "not online, or not managed by Systems Manager in this account", refused)
                else:
                    self._fail(work, str(error))
        return None

    async def _follow(self, command_id: str, work: _Chunk) -> None:
        """Report the results of a command as they are known, until it has ended or the program leaves."""
        is_cancelled = False
        interval = FIRST_POLL
        while work.pending and not self._leaving.is_set():
            if self._stop.is_stopped and not is_cancelled:
                is_cancelled = True
                if failure := await self._cancel(command_id):
                    self._tell(failure)
            await self._pause(interval)
            interval = min(2 * interval, POLL_INTERVAL)
            looking = asyncio.ensure_future(self._look(command_id, work))
            if await self._answered(looking) and (error := looking.exception()) is not None:
                if not isinstance(error, SessionManagerError):
                    raise error
                self._fail(work, f"command {command_id} may go on: {error}")
                if not isinstance(error, ConnectError):  # no command can be followed
                    self._leaving.set()
        if work.pending:
            failure = await self._cancel(command_id)
            with contextlib.suppress(TimeoutError, SessionManagerError):
                async with asyncio.timeout(LAST_LOOK_TIMEOUT):
                    await self._look(command_id, work)
            self._fail(work, failure or CANCELLED, is_interrupted=True)

    async def _look(self, command_id: str, work: _Chunk) -> None:
        """Report the results of the targets where the command has ended since the last look."""
        for invocation in await self._service.list_invocations(command_id):
            target = work.pending.get(invocation.instance_id)
            if target is None or not invocation.is_finished:
                continue
            if invocation.details == _NOT_RUN:
                self.running -= 1
            else:
                self._finish(await self._result(command_id, invocation, target, work.began_at))
            del work.pending[target.id]

    async def _answered(self, call: asyncio.Future[Any], *, grace: float = 0.0) -> bool:
        """Wait for ``call``, but no longer than ``grace`` seconds once the program leaves. Returns whether it has
        ended; otherwise it is cancelled."""
        leaving = asyncio.ensure_future(self._leaving.wait())
        try:
            await asyncio.wait((call, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                await asyncio.wait((call,), timeout=grace)
            return call.done()
        finally:
            for task in (call, leaving):
                if not task.done():
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

    async def _result(
        self, command_id: str, invocation: Invocation, target: FleetTarget, began_at: float
    ) -> FleetResult:
        await self._room.wait()
        status, sentence = outcome_of_invocation(invocation, self._fleet.timeout)
        output, error_output = invocation.output, ""
        if output is None:
            try:
                output, error_output = await self._service.get_outputs(command_id, target.id)
            except SessionManagerError as error:
                sentence = f"{sentence or f'exit status {status}'}; the output could not be read: {error}"
                return FleetResult(target, FAILURE, time.monotonic() - began_at, sentence)
        streams = self._sink.streams(target)
        streams.write(output.encode())
        streams.write_error(error_output.encode())
        truncated = len(output) >= OUTPUT_LIMIT or len(error_output) >= ERROR_OUTPUT_LIMIT
        is_interrupted = sentence == CANCELLED and self._stop.is_stopped
        return FleetResult(
            target,
            status,
            time.monotonic() - began_at,
            sentence,
            truncated,
            replaced="\ufffd" in output or "\ufffd" in error_output,
            is_interrupted=is_interrupted,
        )

    def _finish(self, result: FleetResult) -> None:
        self.running -= 1
        self._results.put_nowait(result)

    def _fail(
        self,
        work: _Chunk,
        sentence: str,
        instance_ids: Collection[str] | None = None,
        *,
        is_interrupted: bool = False,
    ) -> None:
        """Make ``sentence`` the result of pending targets: of all, or of those with ``instance_ids``."""
        for instance_id in list(work.pending) if instance_ids is None else instance_ids:
            target = work.pending.pop(instance_id)
            seconds = time.monotonic() - work.began_at
            self._finish(FleetResult(target, FAILURE, seconds, sentence, is_interrupted=is_interrupted))

    async def _pause(self, interval: float) -> None:
        """Wait until the next look, or until a signal."""
        interval = max(interval, len(self._active) / POLLS_A_SECOND)
        event = self._leaving if self._stop.is_stopped else self._woken
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval):
                await event.wait()

    async def _cancel(self, command_id: str) -> str:
        """Cancel a command. Returns an empty string, or a sentence if that failed."""
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT):
                await self._service.cancel(command_id)
        except TimeoutError:
            return f"command {command_id} may go on: CancelCommand was not answered"
        except SessionManagerError as error:
            return f"command {command_id} goes on: {error}"
        self._active.discard(command_id)
        return ""

    def _die(self) -> None:
        """The program ends now: name the commands that were not cancelled."""
        if self._active:
            named = sorted(self._active)[:_NAMED]
            more = len(self._active) - len(named)
            ids = f"{', '.join(named)}{f' and {more} more' if more else ''}"
            self._tell(f"not cancelled, and may go on: command{'s' * (len(self._active) > 1)} {ids}")


class _Chunk(NamedTuple):
    """Targets to which the command is sent by one call."""

    pending: dict[str, FleetTarget]
    """Those without a result, by their ids."""
    began_at: float


def outcome_of_invocation(invocation: Invocation, timeout: float | None) -> tuple[int, str]:
    """Return the exit status and the sentence of a command that has ended."""
    details = invocation.details or invocation.status
    if details in ("Success", "Failed") and 0 <= invocation.code <= 255:
        return invocation.code, "" if invocation.code or details == "Success" else "Run Command reports a failure"
    if details == "ExecutionTimedOut":
        limit = "" if timeout is None else f" within {timeout:g} s"
        return TIMED_OUT, f"the command did not end{limit or ' in the time that Run Command gives it'}"
    return FAILURE, _DETAILS.get(details, f"Run Command reports {details}")
