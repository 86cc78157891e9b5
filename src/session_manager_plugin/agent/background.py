"""A sandbox in a thread of its own, for programs and tests that run no event loop."""

from __future__ import annotations

import asyncio
import os
import sysconfig
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from session_manager_plugin.agent.api import StartedSession
from session_manager_plugin.agent.faults import Faults
from session_manager_plugin.agent.inventory import Inventory
from session_manager_plugin.agent.sandbox import Sandbox
from session_manager_plugin.agent.session import EndReason, SandboxSession

T = TypeVar("T")


class BackgroundSandbox:
    """Runs ``sandbox``, which nobody else may have entered, while the context is entered.

    Blocking code may use everything here from any thread. ``sandbox`` itself is for reading; ``apply`` is for the rest.
    """

    def __init__(self, sandbox: Sandbox | None = None) -> None:
        self.sandbox = sandbox or Sandbox()
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="sandbox")

    def __enter__(self) -> Self:
        """Start it. Raises ``OSError`` when the port is taken."""
        self._thread.start()
        self._started.result()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._started.result().call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def endpoint_url(self) -> str:
        """The URL of every AWS API that the sandbox answers."""
        return self.sandbox.endpoint_url

    @property
    def region(self) -> str:
        """The region that it is in."""
        return self.sandbox.region

    @property
    def environment(self) -> dict[str, str]:
        """What a subprocess needs to reach the sandbox and nothing else: credentials, region, endpoint, and a ``PATH``
        with this package's ``session-manager-plugin`` first. Add it to ``os.environ``."""
        path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
        return {**self.sandbox.environment, "AWS_ENDPOINT_URL": self.endpoint_url, "PATH": path}

    @property
    def inventory(self) -> Inventory:
        """What the account holds. May be replaced at any time, ``dataclasses.replace`` makes a changed one."""
        return self.sandbox.inventory

    @inventory.setter
    def inventory(self, inventory: Inventory) -> None:
        self.sandbox.inventory = inventory

    @property
    def faults(self) -> Faults:
        """What goes wrong in the sessions that are started from now on."""
        return self.sandbox.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.sandbox.faults = faults

    @property
    def sessions(self) -> Mapping[str, SandboxSession]:
        """All sessions by id, in the order of their start: those that are going on, and those that are over."""
        return self.apply(lambda sandbox: dict(sandbox.sessions))

    def start_session(
        self,
        document: str | None = None,
        parameters: Mapping[str, Sequence[str]] | None = None,
        target: str | None = None,
    ) -> StartedSession:
        """As ``Sandbox.start_session``: the first target unless another is given. Raises ``ApiError``."""
        return self._call(self.sandbox.start_session(document, parameters, target))

    def end_session(self, session_id: str, text: str) -> None:
        """End a session as the service does at a time limit; the client is told ``text``. Raises ``KeyError``."""
        self.apply(lambda sandbox: sandbox.end_session(session_id, text))

    def disconnect(self, session_id: str) -> bool:
        """Cut the client's websocket; the session goes on and may be resumed. False when no client is attached. Raises
        ``KeyError``."""
        return self.apply(lambda sandbox: sandbox.session(session_id).disconnect())

    def wait_ended(self, session_id: str, timeout: float) -> EndReason | None:
        """Wait until the session is over and return the reason; None when it is not over after ``timeout`` seconds.
        Raises ``KeyError``."""
        return self._call(self._wait_ended(session_id, timeout))

    def apply(self, function: Callable[[Sandbox], T]) -> T:
        """Call ``function`` with the sandbox in its thread, for what must not be done from another one, for example
        ``background.apply(lambda sandbox: sandbox.session(session_id).disconnect())``."""

        async def call() -> T:
            return function(self.sandbox)

        return self._call(call())

    async def _wait_ended(self, session_id: str, timeout: float) -> EndReason | None:
        session = self.sandbox.session(session_id)
        try:
            await asyncio.wait_for(session.ended.wait(), timeout)
        except TimeoutError:
            return None
        return session.end_reason

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._started.result()).result()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._started.set_exception(error)

    async def _serve(self) -> None:
        async with self.sandbox:
            self._started.set_result(asyncio.get_running_loop())
            await self._stop.wait()
