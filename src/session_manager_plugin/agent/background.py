"""A sandbox in a thread of its own, for programs and tests without an event loop."""

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
    """Runs ``sandbox``, whose own context must not be entered, while this context is entered.

    All methods block and may be called from any thread. Use ``sandbox`` itself only for reading, ``apply`` for changes.
    """

    def __init__(self, sandbox: Sandbox | None = None) -> None:
        self.sandbox = sandbox or Sandbox()
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="sandbox")

    def __enter__(self) -> Self:
        """Start the sandbox. Raises ``OSError`` if the port is in use."""
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
        """The URL of all AWS APIs of the sandbox."""
        return self.sandbox.endpoint_url

    @property
    def region(self) -> str:
        """The sandbox's AWS region."""
        return self.sandbox.region

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with which a subprocess reaches the sandbox and no AWS account: credentials,
        region, endpoint, and a ``PATH`` with this package's ``session-manager-plugin`` first. Add them to
        ``os.environ``."""
        path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
        return {**self.sandbox.environment, "AWS_ENDPOINT_URL": self.endpoint_url, "PATH": path}

    @property
    def inventory(self) -> Inventory:
        """The contents of the account. May be replaced at any time, for instance by a copy of
        ``dataclasses.replace``."""
        return self.sandbox.inventory

    @inventory.setter
    def inventory(self, inventory: Inventory) -> None:
        self.sandbox.inventory = inventory

    @property
    def faults(self) -> Faults:
        """The faults of sessions started from now on."""
        return self.sandbox.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.sandbox.faults = faults

    @property
    def sessions(self) -> Mapping[str, SandboxSession]:
        """All sessions by id, in the order of their start, ended sessions included."""
        return self.apply(lambda sandbox: dict(sandbox.sessions))

    def start_session(
        self,
        document: str | None = None,
        parameters: Mapping[str, Sequence[str]] | None = None,
        target: str | None = None,
    ) -> StartedSession:
        """See ``Sandbox.start_session``. Raises ``ApiError``."""
        return self._call(self.sandbox.start_session(document, parameters, target))

    def end_session(self, session_id: str, text: str) -> None:
        """End a session as the service does at a time limit, with ``text`` for the client. Raises ``KeyError``."""
        self.apply(lambda sandbox: sandbox.end_session(session_id, text))

    def disconnect(self, session_id: str) -> bool:
        """Cut the client's websocket; the session continues and may be resumed. Returns False if no client is attached.
        Raises ``KeyError``."""
        return self.apply(lambda sandbox: sandbox.session(session_id).disconnect())

    def wait_ended(self, session_id: str, timeout: float) -> EndReason | None:
        """Wait until the session has ended and return the reason; None if it has not ended after ``timeout`` seconds.
        Raises ``KeyError``."""
        return self._call(self._wait_ended(session_id, timeout))

    def apply(self, function: Callable[[Sandbox], T]) -> T:
        """Call ``function`` with the sandbox, in the sandbox's thread, and return its result. For example
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
