"""Requesting just-in-time access to a target, and waiting for the approval."""

from __future__ import annotations

import asyncio
import time

from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.threads import in_thread
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.live_lines import LiveLine
from session_manager_plugin.cli.process import Process
from session_manager_plugin.cli.render import tell
from session_manager_plugin.terminal.size import terminal_size
from session_manager_plugin.utils.text import printable

_POLL_INTERVALS = (1.0, 2.0, 3.0)
"""Seconds between calls of GetAccessToken. The last interval is repeated."""


async def requested_access(process: Process, settings: AwsSettings, target: str, reason: str) -> AwsSettings:
    """Request just-in-time access to ``target``, wait for the approval, and return settings with its credentials.

    At a terminal a line on standard error shows how long the request has been pending.
    """
    from session_manager_plugin.aws.access_requests import granted_settings, request_access

    request_id = await asyncio.wrap_future(in_thread(lambda: request_access(settings, target, reason)))
    progress = _Progress(process.environment, request_id)
    intervals = iter(_POLL_INTERVALS)
    interval = 0.0

    def ask() -> asyncio.Future[AwsSettings | None]:
        return asyncio.wrap_future(in_thread(lambda: granted_settings(settings, request_id)))

    try:
        with process.interruption.drawing(progress.line):
            while (granted := await ask()) is None:
                interval = next(intervals, interval)
                await progress.wait(interval)
    finally:
        progress.line.erase()
    return granted


class _Progress:
    """A line that is rewritten every second at a terminal, and written once elsewhere."""

    def __init__(self, environment: Environment, request_id: str) -> None:
        self._environment = environment
        self._request = printable(f"access request {request_id}")
        self._began_at = time.monotonic()
        self._is_live = environment.is_terminal(environment.stderr) and not environment.is_dumb
        self._is_told = False
        self.line = LiveLine(environment.stderr, environment.write_error)

    async def wait(self, seconds: float) -> None:
        """Wait, and show the line each second."""
        ends_at = time.monotonic() + seconds
        while (left := ends_at - time.monotonic()) > 0:
            if not self._environment.quiet:
                self._show()
            await asyncio.sleep(min(1.0, left))

    def _show(self) -> None:
        if self._is_live:
            elapsed = time.monotonic() - self._began_at
            size = terminal_size(self._environment.stderr)
            text = f"waiting {elapsed:.0f} s for approval of {self._request}; Ctrl-C stops"
            self.line.draw(text[: size.columns - 1] if size else text)
        elif not self._is_told:
            self._is_told = True
            tell(self._environment, f"{self._request} is waiting for approval", error=False)
