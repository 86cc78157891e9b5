"""Commands run in this process, with descriptors of their own."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.api import StartedSession
from session_manager_plugin.agent.session import EndReason
from session_manager_plugin.cli import drop_in, main
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.utils.logging import configure
from tests.support.fake_gateway import served
from tests.support.waiting import DEADLINE
from tests.test_cli import probing


@dataclass(frozen=True)
class Run:
    """What a command did; `status` is 128 + n when it would have taken the action of signal n."""

    status: int
    out: bytes
    err: str


def ended(session_id: str) -> str:
    """What is told of a session that ended normally."""
    return f"smp: session {session_id} ended\n"


class Started(NamedTuple):
    """What StartSession gave."""

    session_id: str
    url: str
    token: str


class Died(BaseException):
    """Instead of a death."""


def _die(number: int) -> NoReturn:
    raise Died(number)


def run_captured(command: Callable[[Environment], int], program: str, stdin: bytes | int) -> Run:
    """Call `command` with an environment whose streams are files; `stdin` may be a descriptor."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        if isinstance(stdin, bytes):
            given.write(stdin)
            given.seek(0)
            stdin = given.fileno()
        environment = Environment(program, stdin, out.fileno(), err.fileno())
        try:
            status = command(environment)
        except Died as died:
            status = 128 + int(died.args[0])
        out.seek(0)
        err.seek(0)
        return Run(status, out.read(), err.read().decode())


@pytest.fixture(autouse=True)
def commands_in_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command's death is an exception, and logging is off afterwards."""
    monkeypatch.setattr(main, "die_of", _die)
    monkeypatch.setattr(drop_in, "die_of", _die)
    yield
    configure(0, None, "text")


class Smp:
    """`smp`, called in this process."""

    def __call__(self, *arguments: str, stdin: bytes | int = b"") -> Run:
        return run_captured(lambda environment: main.main(arguments, environment), "smp", stdin)


class Plugin:
    """`session-manager-plugin` with three or more arguments, called in this process."""

    def __call__(self, *arguments: str, stdin: bytes | int = b"") -> Run:
        return run_captured(
            lambda environment: drop_in.run_invocation(arguments, environment), "session-manager-plugin", stdin
        )


@pytest.fixture
def smp() -> Smp:
    """Calls `smp`."""
    return Smp()


@pytest.fixture
def plugin() -> Plugin:
    """Calls `session-manager-plugin`."""
    return Plugin()


@pytest.fixture
def prober(smp: Smp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> probing.Prober:
    """Calls `smp probe --json`, on a machine on which nothing is found by chance."""
    return probing.prepare(smp, tmp_path, monkeypatch)


class SandboxThread:
    """A sandbox in a thread of its own."""

    def __init__(self, sandbox: Sandbox, loop: asyncio.AbstractEventLoop) -> None:
        self._sandbox = sandbox
        self._loop = loop
        self.endpoint_url = sandbox.endpoint_url
        self.variables = sandbox.environment

    def start(self, command: str | None = None) -> Started:
        """A new session: a shell, or the interactive command."""

        async def start() -> StartedSession:
            if command is None:
                return await self._sandbox.start_session()
            return await self._sandbox.start_session("AWS-StartInteractiveCommand", {"command": [command]})

        started = asyncio.run_coroutine_threadsafe(start(), self._loop).result(DEADLINE)
        assert started.token is not None
        return Started(started.session_id, started.stream_url, started.token)

    def end_of(self, session_id: str) -> EndReason | None:
        """Why a session is over, once it is."""

        async def ended() -> EndReason | None:
            session = self._sandbox.session(session_id)
            await session.ended.wait()
            return session.end_reason

        return asyncio.run_coroutine_threadsafe(ended(), self._loop).result(DEADLINE)


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxThread]:
    """A sandbox, and the environment in which botocore reaches it."""
    loop = asyncio.new_event_loop()
    with served(Sandbox(), loop) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield SandboxThread(running, loop)
