"""``smp sandbox``: the options that make things go wrong on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from session_manager_plugin.agent import Faults, MessageFaults
from session_manager_plugin.cli.fault_options import fault_options, make_faults
from tests.test_cli.conftest import Smp


def parsed(*arguments: str) -> Faults:
    """What the options ask for."""
    made: list[Faults] = []

    @click.command()
    @fault_options
    def command(**options: Any) -> None:
        made.append(make_faults(options))

    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert result.exception is None
    return made[0]


def test_nothing_goes_wrong_by_default() -> None:
    assert parsed() == Faults()


@pytest.mark.parametrize("text", ["0.05", "5%", "0.05,0.05", "5%, 0.05"])
def test_a_probability_for_both_directions(text: str) -> None:
    faults = MessageFaults(drop=0.05)
    assert parsed("--drop", text) == Faults(to_client=faults, to_agent=faults)


def test_one_for_each_direction() -> None:
    faults = parsed("--reorder", "10%,0", "--delay", "0,1", "--delay-time", "1.5")
    assert faults.to_client == MessageFaults(reorder=0.1, delay_time=1.5)
    assert faults.to_agent == MessageFaults(delay=1.0, delay_time=1.5)


def test_a_slow_link() -> None:
    slow = MessageFaults(delay=1.0, delay_time=0.075, delay_jitter=0.015)
    expected = Faults(to_client=slow, to_agent=slow, pong_delay=0.15)
    assert parsed("--latency", "150ms", "--jitter", "0.03s") == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--cut-every 300000", Faults(cut_every=300_000)),
        ("--cut-after 1000 --cut-code 1006", Faults(cut_after=1000, cut_code=1006)),
        ("--cut-every 1 --cut-code reset", Faults(cut_every=1)),
        ("--withhold-pongs", Faults(withhold_pongs=True)),
        ("--refuse-resume 3 --refuse-websocket 4", Faults(refuse_resume=3, refuse_websocket=4)),
        ("--void-token forbidden", Faults(void_token="forbidden")),
        ("--reusable-tokens", Faults(tokens_reusable=True)),
        ("--fault-seed 7", Faults(seed=7)),
    ],
)
def test_other_faults(arguments: str, expected: Faults) -> None:
    assert parsed(*arguments.split()) == expected


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        *(
            (["--drop", text], "--drop': a probability is a number from 0 to 1")
            for text in ("2", "nan", "", "x", "1,1,1")
        ),
        (["--corrupt", "101%"], "--corrupt': a probability is a number from 0 to 1"),
        (["--cut-code", "1005"], "choose reset, 1000, 1001, 1006, 1011 or another"),
        (["--cut-code", "x"], "choose reset, 1000, 1001, 1006, 1011 or another"),
        (["--cut-every", "-1"], "'-1' is not a whole number from 0 on"),
        (["--delay-time", "61"], "the delay time is 0 to 60 seconds, not 61"),
        (["--void-token", "x"], "choose from close, forbidden"),
        (["--agent-quirks", "all,none"], "--agent-quirks': the agent's quirks are signal-scan, "),
        (["--target", ""], "--target': a target's name is not empty"),
        (["--end-after", "-1"], "--end-after': '-1' is not a number of seconds"),
        *(
            (["--start-rate", text], "--start-rate': a rate is a number of sessions a second")
            for text in ("x", "-1/s", "1/m", "inf", "1/")
        ),
        (["--inventory", "/nonexistent"], "--inventory': File '/nonexistent' does not exist"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(smp: Smp, arguments: list[str], sentence: str) -> None:
    run = smp("sandbox", *arguments)
    assert run.status == 2
    assert sentence in run.err
    assert run.err.count("\n") == 1


def test_a_faulty_inventory_is_refused_with_the_place(smp: Smp, tmp_path: Path) -> None:
    path = tmp_path / "account.toml"
    path.write_text("[[instances]]\nid = 'i-1'\nport = 7\n")
    run = smp("sandbox", "--inventory", str(path))
    assert run.status == 2
    assert f"--inventory': {path}: instances[1].port: unknown key; expected one of id, name, tags" in run.err
