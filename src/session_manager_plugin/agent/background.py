"""A sandbox in a thread of its own, for programs and tests that run no event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from session_manager_plugin.agent.api import StartedSession
from session_manager_plugin.agent.sandbox import Sandbox
from session_manager_plugin.agent.session import EndReason

T = TypeVar("T")


class BackgroundSandbox:
    """Runs ``sandbox``, which nobody else may have entered, while the context is entered.

    Read the sandbox's attributes; what it has as coroutines is offered here as calls.
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

    def start_session(
        self, document: str | None = None, parameters: Mapping[str, Sequence[str]] | None = None
    ) -> StartedSession:
        """As ``Sandbox.start_session``."""
        return self._call(self.sandbox.start_session(document, parameters))

    def wait_ended(self, session_id: str, timeout: float) -> EndReason | None:
        """Wait until the session is over and say why; None when it is not over after ``timeout`` seconds.
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
