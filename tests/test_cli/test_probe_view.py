"""What a probe shows: plain lines, a live table at a terminal, JSON; and what its numbers mean."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import struct
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.probe.checks import Group, Latency, Report, Stage, Verdict
from session_manager_plugin.cli.probe.sections import sections
from session_manager_plugin.cli.probe.view import PlainView, TableView, view_of
from session_manager_plugin.utils.logging import register_secret
from tests.support.probe_report import CHECK_KEYS, LATENCY_KEYS, check_schema


def some_report(report: Report) -> None:
    """Checks of every verdict, in two groups; the second one is quicker."""
    first, second = report.group("one"), report.group("two")
    with second.check(Stage.TCP, "IPv6 [::1]:443", "tcp IPv6") as check:
        check.took(0.0015)
        check.warned("Connection refused", "check it")
    second.finish()
    with first.check(Stage.LOCAL, "aws") as check:
        check.took(0.75)
        check.passed("found")
    with first.check(Stage.DNS, "a host") as check:
        check.took(0.012)
        check.failed("not \x1b[31mfound\x1b[m\nat all", "spell it\x07 right")
    first.skip("a host", "not found", Stage.TCP)
    first.finish()


PLAIN = """\
one
  pass     local         750 ms  aws: found
  fail     dns            12 ms  a host: not found at all
                                 -> spell it right
two
  warn     tcp           1.5 ms  IPv6 [::1]:443: Connection refused
                                 -> check it
1 passed, 1 warning, 1 failed, 1 skipped (-v shows them)
"""
VERBOSE = """\
one
  pass     local         750 ms  aws: found
  fail     dns            12 ms  a host: not found at all
                                 -> spell it right
  skipped  tcp                   a host: not found
two
  warn     tcp           1.5 ms  IPv6 [::1]:443: Connection refused
                                 -> check it
1 passed, 1 warning, 1 failed, 1 skipped
"""


class Output:
    """A pipe as the standard output of a view."""

    def __init__(self) -> None:
        self._reading, writing = os.pipe()
        os.set_blocking(self._reading, False)
        self.environment = Environment(stdout=writing)

    def read(self) -> str:
        """What was written since."""
        try:
            return os.read(self._reading, 1 << 20).decode()
        except BlockingIOError:
            return ""

    def close(self) -> None:
        """No more of it."""
        os.close(self._reading)
        os.close(self.environment.stdout)


@pytest.fixture
def output() -> Iterator[Output]:
    """A pipe."""
    made = Output()
    yield made
    made.close()


@pytest.mark.parametrize(("verbosity", "shown"), [(0, PLAIN), (1, VERBOSE)])
def test_plain_lines_are_in_order(output: Output, verbosity: int, shown: str) -> None:
    output.environment.verbosity = verbosity
    report = Report()
    view = view_of(report, output.environment, as_json=False)
    assert isinstance(view, PlainView)
    report.changed = view.changed
    some_report(report)
    view.finish()
    assert output.read() == shown


def say(group: Group, name: str) -> None:
    with group.check(Stage.TCP, name) as check:
        check.passed("-")


def test_a_line_is_printed_as_soon_as_its_turn_has_come(output: Output) -> None:
    report = Report()
    view = view_of(report, output.environment, as_json=False)
    report.changed = view.changed
    first, second = report.group("1"), report.group("2")
    say(second, "second")
    assert output.read() == ""
    say(first, "first")
    assert output.read().endswith("first: -\n")
    say(first, "again")
    assert output.read().endswith("again: -\n")
    first.finish()
    assert output.read().splitlines()[0] == "2"
    view.finish()
    assert output.read() == "3 passed\n"


def test_endpoints_that_fail_for_the_same_reason_are_one(output: Output) -> None:
    report = Report()
    view = view_of(report, output.environment, as_json=False)
    report.changed = view.changed
    advice = {"a": "mend the network", "b": "mend the network", "c": "mend c"}
    groups = {title: report.group(title, is_endpoint=True) for title in (*advice, "d")}
    say(groups["d"], "host d")
    for title, sentence in advice.items():
        with groups[title].check(Stage.TCP, f"host {title}") as check:
            check.failed("no answer", sentence)
        groups[title].skip("tls", "no TCP connection", Stage.TLS)
    assert output.read() == ""  # the others may have the same reason
    report.finish(groups.values())
    view.finish()
    lines = [" ".join(re.sub(r"[\d.]+ ms", "", line).split()) for line in output.read().splitlines()]
    assert lines == [
        "a, b",
        "fail tcp host a: no answer",
        "-> mend the network",
        "c",
        "fail tcp host c: no answer",
        "-> mend c",
        "d",
        "pass tcp host d: -",
        "1 passed, 3 failed, 3 skipped (-v shows them)",
    ]
    assert len(report.as_json()["checks"]) == 7


def test_quiet_prints_failures_only(output: Output) -> None:
    output.environment.quiet = True
    report = Report()
    view = view_of(report, output.environment, as_json=False)
    report.changed = view.changed
    some_report(report)
    view.finish()
    assert [line.split()[0] for line in output.read().splitlines()] == ["one", "fail", "->"]


def test_json_has_the_documented_form() -> None:
    report = Report()
    some_report(report)
    report.latency = Latency(4, [1.0, 2.0, 3.0])
    value = report.as_json()
    check_schema(value)
    assert value["checks"][1] == {
        "stage": "dns",
        "name": "a host",
        "verdict": "fail",
        "ms": 12.0,
        "detail": "not found at all",
        "advice": "spell it right",
    }
    assert value["ok"] is False
    assert value["latency"] == {"count": 4, "lost": 1, "min_ms": 1.0, "avg_ms": 2.0, "max_ms": 3.0, "mdev_ms": 0.816}


def test_the_documentation_has_the_schema() -> None:
    """Its example, and the values and keys that its tables name."""
    text = (Path(__file__).parents[2] / "docs" / "probe.md").read_text("utf-8")
    example = re.search(r"(?ms)^```\n(\{\"ok\".*?)^```", text)
    assert example is not None
    check_schema(json.loads(example[1]))
    tables = dict(re.findall(r"(?m)^\| `(\w+)` \| (.*) \|$", text))
    assert re.findall(r"`(\w+)`", tables["stage"]) == [stage.value for stage in Stage]
    assert re.findall(r"`(\w+)`", tables["verdict"]) == [verdict.value for verdict in Verdict]
    assert {stage.value for stage in Stage} <= set(tables)
    for key in (*CHECK_KEYS, *LATENCY_KEYS, "ok", "checks", "latency"):
        assert re.search(rf"(?m)^\|[^|]*`{key}`[^|]*\|", text), key


def test_latency_reads_as_ping_prints_it() -> None:
    # The figures of `ping -c 4`: 0.023, 0.031, 0.038 and 0.030 ms.
    latency = Latency(4, [0.023, 0.031, 0.038, 0.030])
    assert str(latency) == "4 sent, 4 received, 0% loss, rtt min/avg/max/mdev = 0.023/0.030/0.038/0.005 ms"
    assert (
        str(Latency(3, [1.0])) == "3 sent, 1 received, 66.67% loss, rtt min/avg/max/mdev = 1.000/1.000/1.000/0.000 ms"
    )
    assert str(Latency(1, [])) == "1 sent, 0 received, 100% loss"


def test_secrets_are_in_no_check() -> None:
    register_secret("a-registered-secret")
    report = Report()
    with report.group().check(Stage.PROXY, "http://user:pass-word@proxy") as check:
        check.failed("a-registered-secret wss://host/?token=abc", "Authorization: Bearer abc")
    text = str(report.as_json())
    for secret in ("password", "a-registered-secret", "token=abc", "Bearer abc"):
        assert secret not in text


def test_a_check_that_breaks_off_says_nothing() -> None:
    report = Report()
    with pytest.raises(ZeroDivisionError), report.group().check(Stage.DNS, "host"):
        raise ZeroDivisionError
    assert report.checks == []


def drawn(columns: int, rows: int, **variables: str) -> str:
    """What a terminal gets to show the table of `some_report`."""
    reading, writing = os.openpty()
    try:
        fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environment = Environment(stdout=writing, variables={"TERM": "xterm-256color", **variables})
        report = Report()
        view = view_of(report, environment, as_json=False)
        assert isinstance(view, TableView)
        report.changed = view.changed
        some_report(report)
        view.finish()
        os.set_blocking(reading, False)
        data = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                data += os.read(reading, 65536)
    finally:
        os.close(writing)
        os.close(reading)
    return data.decode(errors="replace")


def test_the_table_at_a_terminal() -> None:
    text = drawn(100, 30)
    assert "\x1b[32m" in text  # a green pass
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    assert "not found at all" in shown
    assert "spell it right" in shown
    assert "1 passed, 1 warning, 1 failed, 1 skipped" in shown
    assert text.rstrip().endswith("skipped (-v shows them)")
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is given back


def test_the_table_without_colours() -> None:
    text = drawn(100, 30, NO_COLOR="1")
    assert re.search(r"\x1b\[[0-9;]*3[0-9][;m]", text) is None
    assert "not found at all" in text


@pytest.mark.parametrize(("columns", "rows"), [(20, 5), (80, 3), (1, 1)])
def test_the_table_in_a_tiny_terminal(columns: int, rows: int) -> None:
    assert drawn(columns, rows)


def test_a_dumb_terminal_and_logs_get_lines() -> None:
    report = Report()
    for environment in (
        Environment(variables={"TERM": "dumb"}, is_terminal=lambda _fd: True),
        Environment(variables={"TERM": "xterm"}, is_terminal=lambda _fd: True, verbosity=1),
        Environment(variables={"TERM": "xterm"}, is_terminal=lambda _fd: True, quiet=True),
        Environment(variables={"TERM": "xterm"}, is_terminal=lambda _fd: False),
    ):
        assert isinstance(view_of(report, environment, as_json=False), PlainView)


def test_a_wrong_setting_is_shown_once() -> None:
    """It fails every check that reads the settings; each is part of the report for programs."""
    report = Report()
    machine, network = report.group("this machine"), report.group("network")
    for group, name in ((machine, "region"), (machine, "credentials"), (network, "endpoints")):
        with group.check(Stage.LOCAL, name) as check:
            check.failed("the profile x could not be found", f"about {name}")
    shown = [
        (section.title, [check.name for check in section.checks])
        for section in sections(report.groups, everything=False)
    ]
    assert shown == [("this machine", ["region"])]
    assert len(sections(report.groups, everything=True)) == 2
    assert len(report.checks) == 3
