"""Predictive echo: most keys are on the screen at once, nothing wrong stays, and nothing is shown without echo."""

from __future__ import annotations

import os
import random

import pytest

from session_manager_plugin.terminal.predict_mode import PredictMode
from tests.support.echo_world import EchoWorld
from tests.support.typist import Typist

SLOW, FAST = 0.075, 0.010
REPAIRED = 0.150 + 0.030 + 0.1
TYPED_SECONDS = float(os.environ.get("SMP_TEST_ECHO_SECONDS", "200"))
"""How long somebody types. docs/echo.md counts an hour."""
LETTERS = "abcdefghijklmnopqrstuvwxyz -./0123456789"


def type_text(world: EchoWorld, text: str, pause: float = 0.15) -> None:
    for character in text:
        world.key(character.encode(), pause)


def type_like_a_person(world: EchoWorld, dice: random.Random, count: int) -> tuple[int, int]:
    """Type lines with corrections; returns how many characters were typed, and how many of them were shown at once."""
    shown = typed = 0
    for _ in range(count):
        world.wait(dice.choice((0.08, 0.12, 0.2, 0.35)))
        action = dice.random()
        if action < 0.04 or world.terminal.column > 60:
            world.key(b"\r")
        elif action < 0.09:
            world.key(b"\x7f")
        elif action < 0.11:
            world.key(b"\t")
        else:
            key = dice.choice(LETTERS)
            before = world.terminal.column
            world.key(key.encode())
            typed += 1
            shown += world.terminal.column == before + 1 and world.terminal.cells[before] == key
    world.wait(3.0)
    return typed, shown


def test_most_keys_are_shown_at_once_and_the_row_ends_as_without() -> None:
    typed = shown = 0
    for seed in range(40):
        world = EchoWorld(seed, PredictMode.ALWAYS)
        counts = type_like_a_person(world, random.Random(seed), 100)
        typed, shown = typed + counts[0], shown + counts[1]
        assert (world.terminal.text, world.terminal.column) == (world.plain.text, world.plain.column), seed
    assert shown / typed > 0.7


@pytest.mark.parametrize("mode", [PredictMode.NEVER, PredictMode.AUTO])
def test_no_byte_differs_when_nothing_is_predicted(mode: PredictMode) -> None:
    world = EchoWorld(1, mode, delay=FAST, jitter=0.002)
    type_like_a_person(world, random.Random(1), 200)
    assert world.written == world.remote_writes


def test_a_slow_link_has_predictions_shown() -> None:
    world = EchoWorld(1, PredictMode.AUTO)
    typed, shown = type_like_a_person(world, random.Random(1), 200)
    assert shown / typed > 0.5
    assert b"\x1b[4m" in world.written  # round trips of 150 ms: underlined


def test_backspace_and_the_arrows_are_predicted_within_what_was_typed() -> None:
    world = EchoWorld(1, PredictMode.ALWAYS, jitter=0.0)
    type_text(world, "abc")
    world.wait(1.0)
    end = world.terminal.column
    world.key(b"\x7f")
    assert (world.terminal.text[-2:], world.terminal.column) == ("ab", end - 1)
    world.wait(1.0)
    assert (world.terminal.text, world.terminal.column) == (world.plain.text, world.plain.column)


def test_what_was_wrong_is_repaired_within_a_round_trip_and_a_tenth_of_a_second() -> None:
    world = EchoWorld(1, PredictMode.ALWAYS, jitter=0.0)
    type_text(world, "ab")
    world.wait(1.0)
    world.echo_is_on = False  # as a program that reads single keys
    before = world.terminal.text
    world.key(b"c")
    assert world.terminal.text == f"{before}c"
    world.wait(2 * SLOW + 0.1)
    assert world.terminal.text == before
    assert world.terminal.column == world.plain.column


def secrets_shown(seed: int, *, masks: bool, hasty: bool) -> list[str]:
    """What of a password was ever in the row, typed at a prompt without echo behind a line that was echoed."""
    dice = random.Random(seed)
    world = EchoWorld(seed, PredictMode.ALWAYS)
    world.masks = masks
    type_text(world, "read -s", 0.12)
    world.key(b"\r", 0.12)
    if not hasty:
        world.wait(1.0)
    seen = len(world.seen)
    secret = "".join(dice.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=8))
    if dice.random() < 0.2:
        world.key(secret.encode())  # pasted, or by a password manager
    else:
        type_text(world, secret, dice.choice((0.02, 0.1, 0.3)))
    world.wait(2.0)
    world.key(b"\r")
    world.wait(2.0)
    type_text(world, "echo", 0.12)
    world.wait(2.0)
    assert world.terminal.text == world.plain.text
    return [row for row in world.seen[seen:] if any(letter in row.replace("Password", "") for letter in secret)]


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("hasty", [False, True])
def test_nothing_typed_without_echo_is_ever_shown(masks: bool, hasty: bool) -> None:
    for seed in range(60):
        assert secrets_shown(seed, masks=masks, hasty=hasty) == [], seed


@pytest.mark.parametrize("line", ["import os", "com\tx = 1", "com\t\x7fe", "com\t"])
def test_a_prompt_without_a_line_editor_is_learned_from_a_line_whose_end_is_echoed(line: str) -> None:
    world = EchoWorld(1, PredictMode.ALWAYS, prompt=b">>> ")
    type_text(world, line)
    world.key(b"\r", 1.0)
    world.wait(2.0)
    type_text(world, "abcdefgh")
    assert (">>> abcdefgh" in world.seen) == (line[-1] != "\t")


def test_a_paste_is_not_predicted() -> None:
    world = EchoWorld(1, PredictMode.ALWAYS, jitter=0.0)
    type_text(world, "ab")
    world.wait(1.0)
    before = world.terminal.text
    world.key(b"a long text at once")
    assert world.terminal.text == before


@pytest.mark.parametrize("pause", [0.05, 0.12, 0.3])
def test_a_key_whose_echo_arrives_in_time_needs_no_timer(pause: float) -> None:
    world = EchoWorld(1, PredictMode.ALWAYS, jitter=0.0)
    type_text(world, "abcdefghijklmnopqrst", pause)
    world.wait(1.0)
    assert world.timer_calls == 0


def test_a_key_that_is_never_answered_keeps_nothing_busy() -> None:
    world = EchoWorld(1, PredictMode.ALWAYS, delay=3600.0)
    world.key(b"x")
    updates = len(world.seen)
    world.wait(60.0)
    assert len(world.seen) - updates < 100


def test_somebody_types_for_long() -> None:
    """Most characters are shown at once, of those 1 % at most are wrong, and all of these are repaired in time."""
    world = EchoWorld(1, PredictMode.ALWAYS)
    printable = shown = wrong = 0
    checks: list[tuple[float, str, int]] = []

    def check(until: float) -> None:
        nonlocal wrong
        while checks and checks[0][0] <= until:
            at, prefix, since = checks.pop(0)
            world.wait(max(0.0, at - world.now))
            if not any(row.ljust(80).startswith(prefix) for row in world.plain_seen[since:]):
                wrong += 1
                assert not world.terminal.text.ljust(80).startswith(prefix), (world.now, prefix)

    for keystroke in Typist(1).keys(1_000_000):
        next_at = world.now + keystroke.pause
        if next_at > TYPED_SECONDS:
            break
        check(next_at)
        world.wait(max(0.0, next_at - world.now))
        column = world.terminal.column
        world.key(keystroke.key)
        if keystroke.is_printable:
            printable += 1
            if world.terminal.column == column + 1 and world.terminal.cells[column] == keystroke.key.decode():
                shown += 1
                prefix = "".join(world.terminal.cells[: column + 1])
                checks.append((world.now + REPAIRED, prefix, len(world.plain_seen)))
    world.wait(3.0)
    assert (world.terminal.text, world.terminal.column) == (world.plain.text, world.plain.column)
    print(f"{printable} characters in {TYPED_SECONDS:.0f} s: {shown / printable:.1%} shown at once, {wrong} wrong")
    assert shown / printable > 0.7
    assert wrong <= 0.01 * printable
