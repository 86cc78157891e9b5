"""The sessions of a copy with one target, and what the user is told about their links."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

from session_manager_plugin.session.document_names import COMMAND, SEPARATE_OUTPUTS

if TYPE_CHECKING:
    from session_manager_plugin.session.link_health import LinkHealth
    from session_manager_plugin.session.protocols import IDataChannel
    from session_manager_plugin.transfer.report import CopyReport

NOTICE_DELAY = 5.0
"""Seconds of trouble with a link until the user is told. A copy continues after shorter ones without a word."""


class TargetSession(Protocol):
    """The part of ``Session`` that a copy uses."""

    @property
    def session_id(self) -> str:
        """See ``Session``."""

    @property
    def channel(self) -> IDataChannel:
        """See ``Session``."""

    @property
    def health(self) -> LinkHealth:
        """See ``Session``."""

    def set_link_handler(self, handler: Callable[[], None]) -> None:
        """See ``Session``."""

    async def open(self) -> object:
        """See ``Session``."""

    async def close(self) -> None:
        """See ``Session``."""


class TargetSessions:
    """Implements ``Sessions``. ``start`` is called with a document, empty for a shell, and its parameters."""

    def __init__(self, start: Callable[[str, Mapping[str, Sequence[str]]], TargetSession], report: CopyReport) -> None:
        self._start = start
        self._report = report
        self._notices = LinkNotices(report.on_notice)

    def command(self, command: str) -> AbstractAsyncContextManager[IDataChannel]:
        """See ``Sessions``."""
        return self._session(COMMAND, {"command": [command], SEPARATE_OUTPUTS: ["true"]})

    def shell(self) -> AbstractAsyncContextManager[IDataChannel]:
        """See ``Sessions``."""
        return self._session("", {})

    @asynccontextmanager
    async def _session(self, document: str, parameters: Mapping[str, Sequence[str]]) -> AsyncIterator[IDataChannel]:
        session = self._start(document, parameters)
        try:
            await session.open()
            self._report.sessions.append(session.session_id)
            self._notices.watch(session)
            yield session.channel
        finally:
            self._notices.forget(session)
            await session.close()
            if session.session_id in self._report.sessions:
                self._report.sessions.remove(session.session_id)


class LinkNotices:
    """Calls ``notify`` with a sentence when the link of a watched session has been in trouble for ``delay`` seconds,
    and when no link is in trouble any more."""

    def __init__(self, notify: Callable[[str], None], delay: float = NOTICE_DELAY) -> None:
        self._notify = notify
        self._delay = delay
        self._timers: dict[TargetSession, asyncio.TimerHandle] = {}
        """Of the sessions whose links are in trouble."""
        self._is_told = False

    def watch(self, session: TargetSession) -> None:
        """Begin to watch the link of an open session."""
        session.set_link_handler(partial(self._changed, session))

    def forget(self, session: TargetSession) -> None:
        """Stop watching the link of a session, which is about to be closed."""
        session.set_link_handler(lambda: None)
        if timer := self._timers.pop(session, None):
            timer.cancel()
            self._is_told = self._is_told and bool(self._timers)

    def _changed(self, session: TargetSession) -> None:
        health = session.health
        if health.troubled and session not in self._timers:
            self._timers[session] = asyncio.get_running_loop().call_later(self._delay, self._tell, session)
        elif not health.troubled and (timer := self._timers.pop(session, None)):
            timer.cancel()
            if self._is_told and not self._timers:
                self._is_told = False
                if health.sentence:
                    self._notify(health.sentence)

    def _tell(self, session: TargetSession) -> None:
        if not self._is_told:
            self._is_told = True
            self._notify(session.health.sentence)
