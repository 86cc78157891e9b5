"""`smp exec --via send-command` when the program has to leave: what is cancelled, what is said. The service is fake."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from session_manager_plugin.aws.run_command import Invocation, RunCommand
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.cli.fleet import send
from session_manager_plugin.cli.fleet.lines import LineSink
from session_manager_plugin.cli.fleet.options import FleetRun
from session_manager_plugin.cli.fleet.output import SharedOutput
from session_manager_plugin.cli.fleet.results import FleetTarget
from session_manager_plugin.cli.fleet.stop import StopOnSignal
from session_manager_plugin.errors import AccessDenied, ConnectError
from session_manager_plugin.execution.remote_command import command_of
from session_manager_plugin.terminal.output import OutputWriter
from session_manager_plugin.utils.link_options import LinkOptions
from tests.support.waiting import DEADLINE, wait_until

TARGETS = [FleetTarget(f"i-{number}", f"web-{number}") for number in range(3)]
CANCELLED = "the command was cancelled"


class Service(RunCommand):
    """A service in which no command ends by itself."""

    def __init__(self) -> None:
        super().__init__(AwsSettings())
        self.sent = asyncio.Event()
        self.answers = asyncio.Event()
        """Set: SendCommand is answered."""
        self.answers.set()
        self.ended: dict[str, Invocation] = {}
        self.cancelled: list[str] = []
        self.cancelling: Callable[[], None] = lambda: None
        self.listing: Callable[[], None] = lambda: None
        self.listed = asyncio.Event()

    async def send(self, instance_ids: Any, script: str, **_limits: Any) -> str:
        self.sent.set()
        await self.answers.wait()
        return f"command-{instance_ids[0]}"

    async def list_invocations(self, command_id: str) -> list[Invocation]:
        self.listing()
        self.listed.set()
        return list(self.ended.values())

    async def get_outputs(self, command_id: str, instance_id: str) -> tuple[str, str]:
        raise AccessDenied("ssm:GetCommandInvocation is denied")

    async def cancel(self, command_id: str) -> None:
        self.cancelling()
        self.cancelled.append(command_id)


class Fleet:
    """The fleet at work on ``TARGETS``."""

    def __init__(self, shared: SharedOutput, *, fanout: int = 1) -> None:
        self.service = Service()
        self.stop = StopOnSignal(Any, lambda _sentence: None)  # type: ignore[arg-type]
        self.told: list[str] = []
        run = FleetRun(
            names=(), tags=(), command=command_of("uptime"), via=None, fanout=fanout, batch="", max_errors=None,
            timeout=None, reason="", folds=False, as_json=True, aws=AwsSettings(), link=LinkOptions(),
        )  # fmt: skip
        self._fleet = send.SendCommandFleet(
            run, LineSink(shared), shared, self.stop, lambda: None, self.told.append, self.service
        )

    def interrupt(self) -> None:
        self.stop.number = signal.SIGINT
        self.stop.on_stop()

    def leave(self) -> None:
        self.interrupt()
        self.stop.on_leave()

    async def errors(self) -> dict[str, str]:
        """The errors of all results, by label."""
        async with asyncio.timeout(DEADLINE):
            return {result.target.label: result.error async for result in self._fleet.results(TARGETS, 0)}


@pytest.fixture
async def fleet(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    monkeypatch.setattr(send, "FIRST_POLL", 0.001)
    monkeypatch.setattr(send, "POLL_INTERVAL", 0.001)
    reader, writer = os.pipe()
    yield Fleet(SharedOutput(OutputWriter(writer), None))
    os.close(reader)
    os.close(writer)


async def test_a_signal_cancels_and_looks_a_last_time(fleet: Fleet) -> None:
    errors = asyncio.ensure_future(fleet.errors())
    await fleet.service.listed.wait()
    fleet.service.ended["i-1"] = Invocation("i-1", "Success", "Success", 0, "done")
    fleet.leave()
    assert await errors == {"web-0": CANCELLED, "web-1": "", "web-2": CANCELLED}
    assert fleet.service.cancelled == ["command-i-0"]


async def test_a_command_that_cannot_be_cancelled(fleet: Fleet) -> None:
    def deny() -> None:
        raise AccessDenied("no ssm:CancelCommand")

    fleet.service.cancelling = deny
    errors = asyncio.ensure_future(fleet.errors())
    await fleet.service.listed.wait()
    fleet.interrupt()
    await wait_until(lambda: fleet.told)
    fleet.leave()
    sentence = "command command-i-0 goes on: no ssm:CancelCommand"
    assert fleet.told == [sentence]
    assert set((await errors).values()) == {sentence}


async def test_cancel_command_that_is_not_answered(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "CANCEL_TIMEOUT", 0.01)

    async def cancel(_command_id: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(fleet.service, "cancel", cancel)
    errors = asyncio.ensure_future(fleet.errors())
    await fleet.service.listed.wait()
    fleet.leave()
    assert set((await errors).values()) == {"command command-i-0 may go on: CancelCommand was not answered"}


async def test_send_command_that_is_answered_in_time(fleet: Fleet) -> None:
    fleet.service.answers.clear()
    errors = asyncio.ensure_future(fleet.errors())
    await fleet.service.sent.wait()
    fleet.leave()
    fleet.service.answers.set()
    assert set((await errors).values()) == {CANCELLED}
    assert fleet.service.cancelled == ["command-i-0"]


async def test_send_command_that_is_not_answered(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "SEND_GRACE", 0.01)
    fleet.service.answers.clear()
    errors = asyncio.ensure_future(fleet.errors())
    await fleet.service.sent.wait()
    fleet.leave()
    assert set((await errors).values()) == {"SendCommand was not answered in time: the command may run"}


@pytest.mark.parametrize("error", [AccessDenied("denied"), ConnectError("offline")])
async def test_a_command_that_cannot_be_followed(fleet: Fleet, error: Exception) -> None:
    def fail() -> None:
        raise error

    fleet.service.listing = fail
    assert set((await fleet.errors()).values()) == {f"command command-i-0 may go on: {error}"}


async def test_an_output_that_cannot_be_read(fleet: Fleet) -> None:
    for target in TARGETS:
        fleet.service.ended[target.id] = Invocation(target.id, "Failed", "Failed", 3, None)
    assert set((await fleet.errors()).values()) == {
        "exit status 3; the output could not be read: ssm:GetCommandInvocation is denied"
    }


async def test_the_end_of_the_program_names_what_is_not_cancelled(fleet: Fleet) -> None:
    errors = asyncio.ensure_future(fleet.errors())
    await fleet.service.listed.wait()
    fleet.stop.on_die()
    assert fleet.told == ["not cancelled, and may go on: command command-i-0"]
    fleet.leave()
    await errors
