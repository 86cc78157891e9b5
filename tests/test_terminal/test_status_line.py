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
from session_manager_plugin.terminal.link_status import LinkStatus
from session_manager_plugin.terminal.status_line import MIN_INTERVAL, StatusLine

HINT = "~. to leave"
CALM = LinkStatus(state="connected", label="alice-0123456789abcdef0", latency=0.0234, latencies=(0.023, 0.0234))
TROUBLE = LinkStatus(
    state="reconnecting",
    label="alice-0123456789abcdef0",
    latency=0.0234,
    latencies=(0.02, 0.02, 0.06, 0.02, 0.1, 0.02, 0.3, 0.02),
    retransmitting=12,
    silent_for=7.4,
)
SGR = re.compile(r"\x1b\[([\d;]*)m")


def line(*, color: bool | None = True, unicode: bool | None = True) -> StatusLine:
    return StatusLine(hint=HINT, color=color, unicode=unicode)


def text(rendered: bytes) -> str:
    """The line without its SGR sequences; nothing else of the terminal's language may be left."""
    plain = SGR.sub("", rendered.decode())
    assert plain.isprintable()
    return plain


def colours(rendered: bytes) -> set[str]:
    """The SGR parameters that set a colour."""
    return {code for codes in SGR.findall(rendered.decode()) for code in codes.split(";") if re.match(r"[349]\d", code)}


def test_all_is_well() -> None:
    rendered = line().render(CALM, 80)
    assert re.fullmatch(r" connected   alice-0123456789abcdef0  23 ms  ▁▁ +~\. to leave", text(rendered))
    assert cell_len(text(rendered)) == 80
    assert colours(rendered) == {"32", "36"}


def test_all_there_is_to_say() -> None:
    rendered = line().render(TROUBLE, 120)
    assert re.fullmatch(
        r" reconnecting   alice-0123456789abcdef0  23 ms  ▁▁▂▁▃▁█▁  resending 12  last contact 7 s ago +~\. to leave",
        text(rendered),
    )


def test_state_is_a_word_and_a_colour() -> None:
    """The same line in two states differs in both; without colours in the word still."""
    lost = CALM._replace(state="error")
    assert colours(line().render(CALM, 80)) != colours(line().render(lost, 80))
    assert text(line(color=False).render(CALM, 80)) != text(line(color=False).render(lost, 80))
    assert "wondering" in text(line().render(CALM._replace(state="wondering"), 80))


def test_parts_leave_a_narrow_line_in_order() -> None:
    status_line = line(color=False)
    parts = {
        "trend": "▁▁▂▁▃▁█▁",
        "resending": "resending",
        "latency": "23 ms",
        "label": "alice",
        "hint": HINT,
        "contact": "last contact",
        "state": "reconnecting",
    }
    seen: list[list[str]] = []
    for columns in range(120, 12, -1):
        rendered = text(status_line.render(TROUBLE, columns))
        present = [name for name, words in parts.items() if words in rendered]
        if not seen or seen[-1] != present:
            seen.append(present)
    names = list(parts)
    assert seen == [names[start:] for start in range(len(names))]
    calm = text(status_line.render(CALM, 32))
    assert "23 ms" in calm
    assert "alice" not in calm


@pytest.mark.parametrize("status", [CALM, TROUBLE, LinkStatus("up", "目标-日本語-🙂"), LinkStatus("", "")])
def test_never_wider_than_the_terminal(status: LinkStatus) -> None:
    for unicode in (True, False):
        status_line = line(unicode=unicode)
        for columns in range(130):
            assert cell_len(text(status_line.render(status, columns))) <= columns


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0004, "0.4 ms"), (0.00994, "9.9 ms"), (0.00996, "10 ms"), (1.2345, "1234 ms")]
)
def test_latency_is_in_milliseconds(seconds: float, shown: str) -> None:
    assert f"  {shown}  " in text(line().render(CALM._replace(latency=seconds), 80))


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
    assert re.search(r"23 ms +~", text(line().render(CALM._replace(latencies=latencies), 80)))


def test_a_locale_without_unicode() -> None:
    rendered = line(unicode=False).render(TROUBLE._replace(label="zürich"), 120)
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
    monkeypatch.setenv("TERM", "dumb")
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
    assert status_line.update(CALM._replace(latency=0.02341), 80, now=20.0) is None
    assert status_line.next_update_at is None


def test_four_times_a_second_at_most() -> None:
    status_line = line()
    shown = []
    steps = 1000
    for step in range(steps):
        now = step / 100
        if status_line.update(CALM._replace(latency=0.1 + step / 1000), 80, now) is not None:
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
    status_line.update(CALM, 80, now=5.0)
    shown = status_line.update(CALM, 100, now=5.01)
    assert shown is not None
    assert cell_len(text(shown)) == 100


def test_rich_is_imported_only_for_a_line() -> None:
    script = """
import sys
import session_manager_plugin.terminal.status_line as module
assert not [name for name in sys.modules if name.split(".")[0] == "rich"]
line = module.StatusLine(hint="")
assert not [name for name in sys.modules if name.split(".")[0] == "rich"]
line.render(module.LinkStatus("connected", ""), 80)
assert "rich.style" in sys.modules
assert "rich.console" not in sys.modules
"""
    source = str(Path(session_manager_plugin.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, env={**os.environ, "PYTHONPATH": source}
    )
    assert (result.returncode, result.stderr) == (0, b"")
