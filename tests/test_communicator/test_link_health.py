"""``LinkMonitor``: state, duration and sentence of a link, with a fake clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from session_manager_plugin.communicator import ConnectionState, WebSocketConfig
from session_manager_plugin.communicator.link_health import RESTORED_SHOWN, LinkMonitor
from session_manager_plugin.errors import ConnectError, ConnectionLost
from session_manager_plugin.session.link_health import LinkHealth, LinkState


class Facts:
    """What the websocket, the stream and the reconnection say: the three in one."""

    def __init__(self) -> None:
        self.connection_state = ConnectionState.CONNECTED
        self.is_connected = True
        self.silent_since: float | None = None
        self.last_contact_at = 0.0
        self.reading_paused = False
        self.latency: float | None = 0.0012
        self.stalled_since: float | None = None
        self.retransmitting = 0
        self.began_at: float | None = None
        self.reason = "cut"
        self.pings = 0

    def check_link(self) -> None:
        """A ping leaves."""
        self.pings += 1

    def next_attempt(self, now: float) -> str:
        """See ``Reconnection``."""
        return "attempt 2"


class Link:
    """A monitor, its facts and its clock; ``told`` is how the link was each time somebody was to look."""

    def __init__(self, keepalive: float = 15.0) -> None:
        self.now = 0.0
        self.facts = Facts()
        facts = cast(Any, self.facts)
        config = WebSocketConfig("ws://127.0.0.1/", "token", ping_interval=keepalive)
        self.monitor = LinkMonitor(facts, facts, facts, config, self._changed, clock=lambda: self.now)
        self.told: list[LinkHealth] = []
        self.monitor.look()
        self.told.clear()

    def _changed(self) -> None:
        self.told.append(self.monitor.health())

    def at(self, now: float, **facts: Any) -> LinkHealth:
        """Let it be ``now``, with these facts changed; a look is taken."""
        self.now = now
        for name, value in facts.items():
            setattr(self.facts, name, value)
        self.monitor.look()
        return self.monitor.health()

    def lose(self, now: float) -> LinkHealth:
        """The websocket is lost."""
        self.now = now
        self.facts.is_connected, self.facts.began_at, self.facts.silent_since = False, now, None
        self.monitor.lost(now)
        return self.monitor.health()

    def restore(self, now: float) -> LinkHealth:
        """There is a new websocket."""
        return self.at(now, is_connected=True, began_at=None, last_contact_at=now, stalled_since=None)


@pytest.fixture
async def link() -> Link:
    return Link()


async def test_all_is_well(link: Link) -> None:
    health = link.at(1.0)
    assert health == LinkHealth(LinkState.CONNECTED, latency=0.0012)
    assert (health.clauses, health.sentence) == ((), "")
    assert link.told == []


async def test_the_seconds_of_one_trouble_never_run_backwards(link: Link) -> None:
    """A silence that goes over into an outage: by the ping, the message, and the loss there would be three clocks."""
    link.facts.last_contact_at = 10.0
    shown = [link.at(22.0, stalled_since=20.0).lasted]
    shown.append(link.at(24.0, silent_since=21.0).lasted)
    shown.append(link.lose(31.0).lasted)
    shown += [link.at(now).lasted for now in (31.5, 32.0, 35.0)]
    shown.append(link.lose(36.0).lasted)  # an attempt that did not last
    assert shown == [12.0, 14.0, 21.0, 21.5, 22.0, 25.0, 26.0]
    assert link.restore(40.0).sentence == "connection restored after 30 s"


async def test_no_latency_is_shown_while_nothing_answers(link: Link) -> None:
    assert link.at(5.0, silent_since=3.0).latency is None
    assert link.lose(6.0).latency is None
    assert link.restore(8.0).latency == 0.0012


async def test_output_that_arrives_is_no_silence(link: Link) -> None:
    """A key is not acknowledged, as behind much output on a slow link: that is said, and not "no answer"."""
    link.at(9.0, stalled_since=9.0, last_contact_at=8.9)
    for now in (10.0, 11.0, 12.0, 12.9):
        link.now = link.facts.last_contact_at = now
        link.monitor.message_received(now)
        assert link.at(now).state is LinkState.CONNECTED
    health = link.at(13.0)
    assert health.state is LinkState.DELAYED
    assert health.sentence == "input not acknowledged for 4 s"
    assert link.at(14.0, stalled_since=None).state is LinkState.CONNECTED


async def test_output_that_has_just_ceased_is_no_sign_of_life(link: Link) -> None:
    """The last acknowledgement came at 9, the last output a moment later; since then nothing arrives."""
    link.at(9.0, stalled_since=9.0, last_contact_at=8.9)
    link.now = link.facts.last_contact_at = 9.5
    link.monitor.message_received(9.5)
    assert link.at(11.4).state is LinkState.CONNECTED
    health = link.at(11.5)
    assert (health.state, health.sentence) == (LinkState.SILENT, "no answer, last contact 2 s ago")


async def test_a_ping_finds_out_who_is_silent_before_anything_is_said(link: Link) -> None:
    link.facts.last_contact_at = 5.0
    assert link.at(11.0, stalled_since=10.0).state is LinkState.CONNECTED
    assert link.facts.pings == 1
    health = link.at(12.0, last_contact_at=11.1)  # its answer
    assert (health.state, health.sentence) == (LinkState.UNANSWERED, "no answer from the target for 2 s")


async def test_nothing_at_all_arrives(link: Link) -> None:
    link.facts.last_contact_at = 5.0
    health = link.at(12.0, stalled_since=10.0)
    assert (health.state, health.sentence) == (LinkState.SILENT, "no answer, last contact 7 s ago")


async def test_while_we_do_not_read_silence_says_nothing(link: Link) -> None:
    assert link.at(60.0, stalled_since=10.0, reading_paused=True) == LinkHealth(LinkState.CONNECTED, latency=0.0012)


async def test_a_target_that_is_away(link: Link) -> None:
    link.monitor.pause_changed(True)
    assert link.at(1.9).state is LinkState.CONNECTED
    assert link.at(2.0, stalled_since=0.0).sentence == "the target has had no connection for 2 s"
    link.now = 9.0
    link.facts.stalled_since = None
    link.monitor.pause_changed(False)
    assert link.monitor.health().sentence == "connection restored after 9 s"


async def test_an_outage_of_less_than_a_second_is_healed_without_a_word(link: Link) -> None:
    health = link.lose(10.0)
    assert (health.state, health.troubled, health.clauses) == (LinkState.RECONNECTING, False, ())
    assert not link.restore(10.9).sentence


async def test_the_end_is_told_once_and_for_some_seconds(link: Link) -> None:
    link.lose(10.0)
    assert link.at(11.0).sentence == "connection lost 1 s ago; reconnecting, attempt 2: cut"
    health = link.restore(12.4)
    assert (health.state, health.clauses) == (LinkState.CONNECTED, ("restored after 2 s",))
    assert [told.sentence for told in link.told] == [
        "",
        "connection lost 1 s ago; reconnecting, attempt 2: cut",
        "connection restored after 2 s",
    ]
    assert link.at(12.4 + RESTORED_SHOWN).clauses == ()


async def test_a_long_silence_is_shown_though_nothing_is_wrong() -> None:
    """Without pings and with nothing to be acknowledged a dead link looks the same as a quiet one."""
    link = Link(keepalive=0)
    assert link.at(19.0).clauses == ()
    health = link.at(25.0)
    assert (health.state, health.troubled, health.latency) == (LinkState.CONNECTED, False, None)
    assert health.clauses == ("last contact 25 s ago",)


@pytest.mark.parametrize(
    ("state", "ended"), [(ConnectionState.CLOSING, LinkState.CLOSING), (ConnectionState.CLOSED, LinkState.CLOSED)]
)
async def test_the_end_of_a_session_is_no_restored_link(link: Link, state: ConnectionState, ended: LinkState) -> None:
    link.lose(10.0)
    link.at(12.0)
    link.monitor.over()
    health = link.at(13.0, connection_state=state)
    assert (health.state, health.restored_after) == (ended, None)


def losses(link: Link, *idles: float) -> Iterator[str]:
    """The advice after each loss behind so much silence."""
    now = 0.0
    for idle in idles:
        now += idle
        link.lose(now)
        link.at(now + 1.5)
        now += 2.0
        yield link.restore(now).advice


@pytest.mark.parametrize(
    ("keepalive", "idles", "advised"),
    [
        (0, [60.0], [True]),
        (300, [60.0], [True]),
        (0, [5.0], [False]),
        (15, [5.0, 5.3], [False, True]),  # once may be chance
        (15, [5.0, 9.0, 5.2], [False, False, True]),
        (15, [0.5, 0.5], [False, False]),
        (15, [15.2, 15.2], [False, False]),  # a ping had left
    ],
)
async def test_closes_for_want_of_traffic(keepalive: float, idles: list[float], advised: list[bool]) -> None:
    advice = list(losses(Link(keepalive), *idles))
    assert [bool(each) for each in advice] == advised
    if idles == [60.0]:
        assert advice == ["it was closed after 60 s without traffic: --keepalive 36 may avoid that"]


@pytest.mark.parametrize("error", [ConnectionLost("cut", close_code=1001), ConnectError("no route")])
async def test_the_state_is_the_same_whatever_the_cause(link: Link, error: Exception) -> None:
    link.facts.reason = f"{error}; advice"
    link.lose(10.0)
    assert link.at(12.0).clauses == (
        f"for 2 s, attempt 2: {error}; advice",
        f"for 2 s: {error}; advice",
        f"for 2 s: {error}",
        "for 2 s, attempt 2",
        "for 2 s",
    )
