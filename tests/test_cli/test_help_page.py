"""The help: one screen of what is used daily, everything with ``--all``, and lines that can be copied."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner

from session_manager_plugin.cli.help_page import Page, first_sentence, split_example
from session_manager_plugin.cli.main import COMMAND_GROUPS, COMMANDS, smp
from tests.test_cli.conftest import Smp

SCREEN_ROWS = 23
"""Those of a terminal with 24, which shows a prompt below."""


def shown(monkeypatch: pytest.MonkeyPatch, columns: int, *arguments: str) -> list[str]:
    """The lines that a command prints at a terminal of so many columns."""
    monkeypatch.setenv("COLUMNS", str(columns))
    result = CliRunner().invoke(smp, arguments)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def examples(lines: list[str]) -> list[str]:
    """What stands below the heading of the examples."""
    return [line for line in lines[lines.index("Examples:") + 1 :] if line.startswith("  ")]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_terminal_of_24_rows(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    lines = shown(monkeypatch, 80, *command.split(), "--help")
    assert len(lines) <= SCREEN_ROWS
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("columns", [60, 80, 100])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_no_line_is_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch, command: str, columns: int) -> None:
    """A terminal would break it inside a word."""
    for everything in ((), ("--all",)):
        assert max(map(len, shown(monkeypatch, columns, *command.split(), "--help", *everything))) <= columns


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_on_a_narrow_terminal_only_what_is_copied_is_wider(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """A name, an option with its value, and a quoted word of an example."""
    lines = shown(monkeypatch, 40, *command.split(), "--help", "--all")
    wide = [line for line in lines if len(line) > 40 and line not in examples([*lines, "Examples:"])]
    assert [line for line in wide if not re.fullmatch(r" +\S+( --\S+)?( \S+)?", line)] == []


@pytest.mark.parametrize("arguments", [("--help", "start"), ("start", "--help"), ("--help", "start", "--all")])
def test_the_help_of_a_command(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    assert shown(monkeypatch, 80, *arguments)[0] == "Usage: smp start [OPTIONS] [TARGET]"


@pytest.mark.parametrize("columns", [60, 80, 100])
@pytest.mark.parametrize("command", COMMANDS)
def test_examples_are_whole_words(monkeypatch: pytest.MonkeyPatch, command: str, columns: int) -> None:
    lines = shown(monkeypatch, columns, command, "--help", "--all")
    assert max(map(len, examples(lines))) <= columns
    joined = " ".join(" ".join(examples(lines)).replace(" \\ ", " ").split())
    found = smp.get_command(click.Context(smp), command)
    assert found is not None
    for line in found.examples.strip().splitlines():  # type: ignore[attr-defined]
        assert " ".join(split_example(line)[0].split()) in joined


@pytest.mark.parametrize("command", COMMANDS)
def test_everything_shows_every_option_once(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    text = "\n".join(shown(monkeypatch, 100, command, "--help", "--all"))
    found = smp.get_command(click.Context(smp), command)
    assert found is not None
    for parameter in found.params:
        if isinstance(parameter, click.Option):
            pattern = rf"(?m)^  (-\w, )?{re.escape(max(parameter.opts, key=len))}(?![\w-])"
            assert len(re.findall(pattern, text)) == 1, parameter.opts


def test_all_needs_help_beside_it(smp: Smp) -> None:
    run = smp("connect", "--all")
    assert run.status == 2
    assert "No such option '--all'" in run.err


def test_every_command_has_a_heading() -> None:
    grouped = [name for names in COMMAND_GROUPS.values() for name in names]
    assert sorted(set(COMMANDS) - set(grouped)) == []


def test_smp_alone_says_what_it_is_for_and_how_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, 80)
    assert "Session Manager" in lines[0]
    assert max(map(len, lines)) <= 60
    assert len([line for line in lines if line.startswith("  smp ")]) == 5


@pytest.mark.parametrize("given", [["-q", "connect"], ["--region", "eu-west-1", "connect"], ["-q", "help", "connect"]])
def test_an_option_in_front_of_its_command_is_refused_with_the_order_that_works(smp: Smp, given: list[str]) -> None:
    run = smp(*given)
    command = "help" if "help" in given else "connect"
    assert run.status == 2
    assert f"{given[0]} goes behind the command: smp {command} {given[0]}" in run.err


def test_an_option_without_a_command_goes_behind_one(smp: Smp) -> None:
    assert "--region goes behind the command: smp start --region" in smp("--region", "eu-west-1").err
    assert "--vresion" in smp("--vresion").err
    assert "Did you mean --version?" in smp("--vresion").err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("sandbox", "--port", "x"), "'x' is not a whole number from 0 to 65535"),
        (("sandbox", "--port", "70000"), "'70000' is not a whole number from 0 to 65535"),
        (("sandbox", "--cut-every", "-1"), "'-1' is not a whole number from 0 on"),
        (("sandbox", "--fault-seed", "1.5"), "'1.5' is not a whole number"),
        (("probe", "--count", "many"), "'many' is not a whole number from 0 to "),
        (("cp", "--streams", "99", "a:b", "c"), "'99' is not a whole number from 1 to 8"),
        (("exec", "--fanout", "0", "web-1", "--", "true"), "'0' is not a whole number from 1 on"),
        (("help", "prob"), "there is no command 'prob'. Did you mean probe?"),
    ],
)
def test_a_wrong_value_is_answered_with_what_was_expected(smp: Smp, arguments: tuple[str, ...], expected: str) -> None:
    run = smp(*arguments)
    assert (run.status, run.out) == (2, b"")
    assert expected in run.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_number_says_what_was_expected(command: str) -> None:
    """click's own types answer with ``99 is not in the range 1<=x<=8`` and ``'x' is not a valid integer``."""
    found = smp.get_command(click.Context(smp), command)
    assert found is not None
    types = {type(parameter.type) for parameter in found.params if not getattr(parameter, "count", False)}
    assert not types & {click.IntRange, click.FloatRange, type(click.INT), type(click.FLOAT), click.Choice}


@pytest.mark.parametrize(
    ("variables", "colored"), [({"CLICOLOR_FORCE": "1"}, True), ({"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, False)]
)
def test_colours(smp: Smp, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], colored: bool) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    run = smp("help", "connect")
    assert (b"\x1b[1mSession:\x1b[0m" in run.out) == colored
    assert (b"\x1b[" in run.out) == colored


def test_a_long_example_is_cut_outside_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    page = Page(colored=False)
    page.add_examples("smp start web-1 --request 'the disk is full, see INC-17' --region eu-west-1  (a note)")
    assert str(page).splitlines() == [
        "Examples:",
        "  smp start web-1 --request 'the disk is full, see INC-17' \\",
        "      --region eu-west-1",
        "      a note",
    ]


def test_the_parts_of_texts() -> None:
    assert first_sentence("Stream URL. It is\nused as it is.") == "Stream URL"
    assert split_example("smp ls | cut -f 1    the ids alone") == ("smp ls | cut -f 1", "the ids alone")
    assert split_example("smp ls  (a note)") == ("smp ls", "a note")
    assert split_example("smp ls") == ("smp ls", "")


@pytest.mark.parametrize(
    "arguments",
    [("ls", "--help", "--color", "always"), ("ls", "--color=always", "-h")],
)
def test_color_is_for_the_help_too(arguments: tuple[str, ...]) -> None:
    always = CliRunner().invoke(smp, arguments, color=True).output
    never = CliRunner().invoke(smp, [each.replace("always", "never") for each in arguments], color=True).output
    assert "\x1b[" in always
    assert "\x1b[" not in never


def test_color_is_for_wrong_options_too(smp: Smp) -> None:
    assert smp("ls", "--region", "us east", "--color", "always").err.startswith("\x1b[1;31msmp:")
    assert smp("exec", "web-1", "--region", "us east", "--", "--color", "always").err.startswith("smp: ")
