"""StatusLine: what it says, in how many cells, how often, and in which bytes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from rich.cells import cell_len

import session_manager_plugin
from session_manager_plugin.session.link_health import LinkHealth, LinkState, LinkStatus
from session_manager_plugin.terminal.status_line import MIN_INTERVAL, StatusLine

HINT = "exit leaves"
LABEL = "alice-0123456789abcdef0"
CALM = LinkStatus(LinkHealth(LinkState.CONNECTED, latency=0.0234), LABEL, (0.023, 0.0234))
BUSY = LinkStatus(
    LinkHealth(LinkState.CONNECTED, latency=0.0234, retransmitting=12),
    LABEL,
    (0.02, 0.02, 0.06, 0.02, 0.1, 0.02, 0.3, 0.02),
)
REASON = "the service closed the connection with code 1001"
RECONNECTING = LinkHealth(LinkState.RECONNECTING, True, 23.9, "attempt 5 in 3 s", REASON, retransmitting=12)
TROUBLE = LinkStatus(RECONNECTING, LABEL, BUSY.latencies)


def calm(latency: float) -> LinkStatus:
    """All is well, at this latency."""
    return CALM._replace(health=CALM.health._replace(latency=latency))


SGR = re.compile(r"\x1b\[([\d;]*)m")


GREEN = "28"


def line(*, color: bool | None = True, unicode: bool | None = True) -> StatusLine:
    return StatusLine(hint=HINT, escape="~", color=color, unicode=unicode)


def text(rendered: bytes) -> str:
    """The line without SGR and the EL that fills the row; nothing else of the terminal's language may be left."""
    plain = SGR.sub("", rendered.decode()).removesuffix("\x1b[K")
    assert plain.isprintable()
    return plain


def colours(rendered: bytes) -> set[str]:
    """The colours of texts and backgrounds, by number."""
    return {number for codes in SGR.findall(rendered.decode()) for number in re.findall(r"[34]8;5;(\d+)", codes)}


def test_all_is_well() -> None:
    rendered = line().render(CALM, 80)
    assert re.fullmatch(r" connected   alice-0123456789abcdef0  23 ms  ▁▁ +exit leaves, ~\? help", text(rendered))
    assert cell_len(text(rendered)) == 80


def test_a_label_takes_the_place_of_the_id() -> None:
    labelled = StatusLine(hint=HINT, label="web-1 eu-west-1", color=False, unicode=True)
    assert re.fullmatch(r" connected   web-1 eu-west-1  23 ms  ▁▁ +exit leaves", text(labelled.render(CALM, 80)))
    assert labelled.title(CALM).decode().endswith("(web-1 eu-west-1)")


def test_all_there_is_to_say() -> None:
    rendered = line().render(BUSY, 120)
    assert re.fullmatch(
        r" connected   alice-0123456789abcdef0  23 ms  ▁▁▂▁▃▁█▁  resending 12 +exit leaves, ~\? help",
        text(rendered),
    )


def test_state_is_a_word_and_a_colour() -> None:
    """The same line in two states differs in both; without colours in the word still."""
    lost = CALM._replace(health=LinkHealth(LinkState.CLOSED))
    assert colours(line().render(CALM, 80)) != colours(line().render(lost, 80))
    assert text(line(color=False).render(CALM, 80)) != text(line(color=False).render(lost, 80))


@pytest.mark.parametrize("state", LinkState)
def test_only_a_link_that_is_well_is_green(state: LinkState) -> None:
    rendered = line().render(LinkStatus(LinkHealth(state, state is not LinkState.CONNECTED, 3.0), LABEL), 80)
    assert re.match(rf" {state.value}[ ,]", text(rendered))
    assert (GREEN in colours(rendered)) is (state is LinkState.CONNECTED)


def test_parts_leave_a_narrow_line_in_order() -> None:
    status_line = line(color=False)
    parts = {
        "trend": "▁▁▂▁▃▁█▁",
        "resending": "resending",
        "latency": "23 ms",
        "label": "alice",
        "hint": "~? help",
        "state": "connected",
    }
    assert f"{HINT}, ~? help" in text(status_line.render(BUSY, 120))
    seen: list[list[str]] = []
    for columns in range(120, 10, -1):
        rendered = text(status_line.render(BUSY, columns))
        present = [name for name, words in parts.items() if words in rendered]
        if not seen or seen[-1] != present:
            seen.append(present)
    names = list(parts)
    # Where the label has no room any more, or even the hint, there may be some for the latency.
    instead = [["latency", "hint", "state"], ["hint", "state"], ["latency", "state"], ["state"]]
    assert seen == [*(names[start:] for start in range(len(names) - 2)), *instead]


SILENT = LinkHealth(LinkState.SILENT, True, 17.9)
RESTORED = LinkHealth(LinkState.CONNECTED, restored_after=14.2, advice="it was closed while idle", latency=0.0234)


@pytest.mark.parametrize(
    ("health", "columns", "shown"),
    [
        (
            RECONNECTING,
            120,
            f" reconnecting for 23 s, attempt 5 in 3 s: {REASON}          Enter ~. leaves",
        ),
        (RECONNECTING, 92, f" reconnecting for 23 s: {REASON}    Enter ~. leaves"),
        (RECONNECTING, 80, " reconnecting for 23 s, attempt 5 in 3 s          Enter ~. leaves"),
        (RECONNECTING, 40, " reconnecting for 23 s   Enter ~. leaves"),
        (RECONNECTING, 36, " reconnecting for 23 s     ~. leaves"),
        (RECONNECTING, 27, " reconnecting     ~. leaves"),
        (RECONNECTING, 20, " reconnecting     ~."),
        (SILENT, 80, " no answer, last contact 17 s ago   alice-0123456789abcdef0       Enter ~. leaves"),
        (SILENT, 45, " no answer, last contact 17 s ago   ~. leaves"),
        (SILENT, 40, " no answer for 17 s     Enter ~. leaves"),
        (RESTORED, 80, " connected, restored after 14 s; it was closed while idle   23 ms     ~? help"),
        (RESTORED, 40, " connected, restored after 14 s   23 ms "),
    ],
)
def test_the_longest_wording_that_fits_is_chosen_and_nothing_is_cut(
    health: LinkHealth, columns: int, shown: str
) -> None:
    rendered = line(color=False).render(LinkStatus(health, LABEL), columns)
    assert re.split(" {2,}", text(rendered).strip()) == re.split(" {2,}", shown.strip())


NO_TROUBLE = (LinkState.CLOSING, LinkState.CLOSED, LinkState.RECONNECTING)
TROUBLES = [
    RECONNECTING,
    SILENT,
    *(LinkHealth(state, True, 3.0) for state in LinkState if state not in NO_TROUBLE),
]


@pytest.mark.parametrize("health", TROUBLES)
def test_state_and_how_to_leave_stay_in_ten_columns(health: LinkHealth) -> None:
    status_line = line(color=False)
    whole = text(status_line.render(LinkStatus(health, LABEL), 200)).split()
    for columns in range(10, 200):
        state, *others = text(status_line.render(LinkStatus(health, LABEL), columns)).split()
        assert "~." in others
        assert state in (whole[0], "wait", "online", "silent", "late", "away", "lost")


@pytest.mark.parametrize("health", [*TROUBLES, CALM.health, BUSY.health, RESTORED])
def test_no_word_is_cut(health: LinkHealth) -> None:
    status_line = line(color=False)
    briefs = ["wait", "online", "silent", "late", "away", "lost"]
    words = {*text(status_line.render(LinkStatus(health, LABEL, BUSY.latencies), 250)).split(), *briefs}
    words |= {word.rstrip(",;:") for word in words} | {"for", "3", "s", "17", "23", "leaves", "Enter", "help"}
    for columns in range(10, 200):
        assert words.issuperset(text(status_line.render(LinkStatus(health, LABEL, BUSY.latencies), columns)).split())


def test_no_escape_no_hint_of_it() -> None:
    """Nor one of Ctrl-D, which would not leave."""
    status_line = StatusLine(hint=HINT, color=False, unicode=True)
    assert "leaves" not in text(status_line.render(TROUBLE, 120))


@pytest.mark.parametrize("health", [RECONNECTING, SILENT])
def test_what_was_measured_before_a_trouble_is_not_shown_in_it(health: LinkHealth) -> None:
    for columns in range(40, 200):
        rendered = text(line().render(LinkStatus(health, LABEL, BUSY.latencies), columns))
        assert " ms" not in rendered
        assert "▁" not in rendered


@pytest.mark.parametrize(
    ("health", "title"),
    [
        (RECONNECTING, f"reconnecting for 23 s: {REASON}, Enter ~. leaves ({LABEL})"),
        (SILENT, f"no answer, last contact 17 s ago, Enter ~. leaves ({LABEL})"),
        (RESTORED, f"connected, restored after 14 s; it was closed while idle ({LABEL})"),
        (CALM.health, f"connected, 23 ms ({LABEL})"),
    ],
)
def test_the_title_says_the_same(health: LinkHealth, title: str) -> None:
    assert line().title(LinkStatus(health, LABEL)).decode() == title


@pytest.mark.parametrize(
    "status", [CALM, TROUBLE, BUSY, LinkStatus(CALM.health, "目标-日本語-🙂"), LinkStatus(CALM.health, "")]
)
def test_never_wider_than_the_terminal(status: LinkStatus) -> None:
    for unicode in (True, False):
        status_line = line(unicode=unicode)
        for columns in range(130):
            assert cell_len(text(status_line.render(status, columns))) <= columns


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0004, "0.4 ms"), (0.00994, "9.9 ms"), (0.00996, "10 ms"), (1.2345, "1234 ms")]
)
def test_latency_is_in_milliseconds(seconds: float, shown: str) -> None:
    assert f"  {shown}  " in text(line().render(calm(seconds), 80))


@pytest.mark.parametrize(
    ("latencies", "shown"),
    [
        ((0.02,) * 3, "▁▁▁"),
        ((0.02, 0.0201), "▁▁"),
        ((0.02, 0.03), "▁█"),
        ((0.0, 0.0), "▁▁"),
        (tuple(range(1, 9)), "▁▂▃▄▅▆▇█"),
        (tuple(range(1, 20)), "▁▂▃▄▅▆▇█"),
    ],
)
def test_trend(latencies: tuple[float, ...], shown: str) -> None:
    assert f"ms  {shown}  " in text(line().render(CALM._replace(latencies=latencies), 80))


@pytest.mark.parametrize("latencies", [(), (0.02,)])
def test_one_value_is_no_trend(latencies: tuple[float, ...]) -> None:
    assert re.search(r"23 ms +exit", text(line().render(CALM._replace(latencies=latencies), 80)))


def test_a_locale_without_unicode() -> None:
    rendered = line(unicode=False).render(BUSY._replace(label="zürich"), 120)
    assert rendered.isascii()
    assert "z?rich  23 ms  __.__" not in text(rendered)
    assert "z?rich  23 ms  __._-_#_" in text(rendered)


def test_locale_decides_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, unicode in [("de_DE.UTF-8", True), ("C", False)]:
        monkeypatch.setenv("LC_ALL", name)
        rendered = line(unicode=None).render(CALM, 80)
        assert rendered.isascii() is not unicode


@pytest.mark.parametrize(("environment", "coloured"), [(None, True), ("", True), ("1", False)])
def test_no_color(monkeypatch: pytest.MonkeyPatch, environment: str | None, coloured: bool) -> None:
    if environment is None:
        monkeypatch.delenv("NO_COLOR", raising=False)
    else:
        monkeypatch.setenv("NO_COLOR", environment)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert bool(colours(line(color=None).render(TROUBLE, 100))) is coloured
    assert colours(line(color=True).render(TROUBLE, 100))
    assert not colours(line(color=False).render(TROUBLE, 100))


def test_what_the_far_end_names_cannot_drive_the_terminal() -> None:
    rendered = line(color=False).render(CALM._replace(label="a\x1b]0;x\x07\r\n\x9b2J\u202eb[red]"), 80)
    assert "a?]0;x????2J?b[red]" in text(rendered)


def test_nothing_changed_nothing_shown() -> None:
    status_line = line()
    first = status_line.update(CALM, 80, now=0.0)
    assert first == status_line.line != b""
    assert status_line.update(CALM._replace(), 80, now=10.0) is None
    # What is not seen is no change either.
    assert status_line.update(calm(0.02341), 80, now=20.0) is None
    assert status_line.next_update_at is None


def test_four_times_a_second_at_most() -> None:
    status_line = line()
    shown = []
    steps = 1000
    for step in range(steps):
        now = step / 100
        if status_line.update(calm(0.1 + step / 1000), 80, now) is not None:
            shown.append(now)
    assert len(shown) == steps / 100 / MIN_INTERVAL
    assert all(later - earlier >= MIN_INTERVAL for earlier, later in pairwise(shown))


def test_line_held_back_is_due_later() -> None:
    status_line = line()
    status_line.update(CALM, 80, now=5.0)
    assert status_line.update(TROUBLE, 80, now=5.1) is None
    assert status_line.next_update_at == 5.0 + MIN_INTERVAL
    shown = status_line.update(TROUBLE, 80, now=5.0 + MIN_INTERVAL)
    assert shown is not None
    assert "reconnecting" in text(shown)
    assert status_line.next_update_at is None


def test_change_that_is_taken_back_is_not_due() -> None:
    status_line = line()
    status_line.update(CALM, 80, now=5.0)
    status_line.update(TROUBLE, 80, now=5.1)
    assert status_line.update(CALM, 80, now=5.2) is None
    assert status_line.next_update_at is None


def test_new_width_does_not_wait() -> None:
    status_line = line()
    status_line.update(CALM, 60, now=5.0)
    shown = status_line.update(CALM, 75, now=5.01)
    assert shown is not None
    assert cell_len(text(shown)) == 75


def test_a_wide_line_is_as_short_as_its_parts_and_80_columns_allow() -> None:
    """A terminal that becomes narrower than a row's text wraps it anew."""
    filled = b"\x1b[K\x1b[0m"
    for columns in (81, 100, 200):
        assert cell_len(text(line().render(CALM, columns))) == 80
        assert line().render(CALM, columns).endswith(filled)
    assert not line().render(CALM, 80).endswith(filled)
    assert cell_len(text(line().render(TROUBLE, 200))) > 80


def test_rich_is_imported_only_for_a_line() -> None:
    script = """
import sys
import session_manager_plugin.terminal.status_line as module
assert not [name for name in sys.modules if name.split(".")[0] == "rich"]
line = module.StatusLine(hint="")
assert not [name for name in sys.modules if name.split(".")[0] == "rich"]
from session_manager_plugin.session.link_health import LinkHealth, LinkState
line.render(module.LinkStatus(LinkHealth(LinkState.CONNECTED), ""), 80)
assert "rich.style" in sys.modules
assert "rich.console" not in sys.modules
"""
    source = str(Path(session_manager_plugin.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, env={**os.environ, "PYTHONPATH": source}
    )
    assert (result.returncode, result.stderr) == (0, b"")
