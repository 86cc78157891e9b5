"""``LinkNotices``: what the user of a copy is told about the links of its sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import pytest

from session_manager_plugin.session.link_health import LinkHealth, LinkState
from session_manager_plugin.transfer.target_sessions import LinkNotices

if TYPE_CHECKING:
    from session_manager_plugin.transfer.target_sessions import TargetSession

WELL = LinkHealth(LinkState.CONNECTED)
SILENT = LinkHealth(LinkState.SILENT, troubled=True, lasted=7.0)
RESTORED = LinkHealth(LinkState.CONNECTED, restored_after=9.0)


class Linked:
    """The link of a session, as ``Session`` shows it."""

    def __init__(self, notices: LinkNotices) -> None:
        self.health = WELL
        self._changed: Callable[[], None] = lambda: None
        notices.watch(self.session)

    @property
    def session(self) -> TargetSession:
        return cast("TargetSession", self)

    def set_link_handler(self, handler: Callable[[], None]) -> None:
        self._changed = handler

    async def becomes(self, health: LinkHealth) -> None:
        """Change, and let a timer of no delay run."""
        self.health = health
        self._changed()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@pytest.fixture
def told() -> list[str]:
    return []


async def test_one_notice_for_the_trouble_of_several_links(told: list[str]) -> None:
    notices = LinkNotices(told.append, delay=0)
    one, two = Linked(notices), Linked(notices)
    await one.becomes(SILENT)
    await two.becomes(SILENT)
    await one.becomes(RESTORED)
    assert told == ["no answer, last contact 7 s ago"]
    await two.becomes(RESTORED)
    await two.becomes(WELL)
    assert told[1:] == ["connection restored after 9 s"]
    await one.becomes(SILENT)
    assert len(told) == 3


async def test_short_trouble_is_not_told(told: list[str]) -> None:
    link = Linked(LinkNotices(told.append, delay=3600))
    await link.becomes(SILENT)
    await link.becomes(RESTORED)
    assert told == []


async def test_a_session_that_ends_in_trouble_is_forgotten(told: list[str]) -> None:
    notices = LinkNotices(told.append, delay=0)
    link, other = Linked(notices), Linked(notices)
    await link.becomes(SILENT)
    notices.forget(link.session)
    await link.becomes(RESTORED)
    await other.becomes(SILENT)
    assert told == ["no answer, last contact 7 s ago"] * 2
