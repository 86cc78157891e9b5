"""Predictive echo at prompts without echo: nothing typed there is ever shown."""

from __future__ import annotations

import os
import random
import string

import pytest

from tests.support.tty_world import WAYS, TtyWorld, sleep

TRIALS = int(os.environ.get("SMP_TEST_ECHO_TRIALS", "8"))
"""For each way of asking, with each of the two shells. docs/echo.md counts 10,000."""


def hidden_but_shown(way: str, seed: int, *, edits: bool) -> set[str]:
    """Ask once in a session of some lines; returns what was typed without echo and yet seen in the row.

    The secret is in capitals, each at most once, and nothing else is. It is typed slowly or fast, before or after the
    prompt has appeared, or pasted; the lines before it were echoed, and may be typed ahead, too.
    """
    dice = random.Random(seed)
    world = TtyWorld(seed, {"ask": WAYS[way], "sleep": sleep}, edits=edits)
    world.wait(1.0)

    def type_text(text: str, pause: float) -> None:
        for character in text:
            world.key(character.encode(), pause * dice.uniform(0.5, 1.5))

    for _ in range(dice.randint(0, 3)):
        type_text(dice.choice(("ls", "ls -l", "make all", "", "sleep")), 0.12)
        world.key(b"\x03" if dice.random() < 0.1 else b"\r", 0.1)
        world.wait(dice.choice((0.0, 0.05, 0.3, 3.0)))
    for _ in range(dice.choice((1, 1, 2))):
        type_text("ask", dice.choice((0.03, 0.12)))
        world.key(b"\r", 0.1)
        world.wait(dice.choice((0.0, 0.0, 0.1, 0.3, 1.0, 3.0)))
        secret = dice.sample(string.ascii_uppercase, 8)
        secret.insert(dice.randint(0, 8), dice.choice(("*", "7", "")))
        if way == "name_and_password":
            type_text("me\r", 0.1)
            world.wait(dice.choice((0.0, 0.5)))
        if dice.random() < 0.2:
            world.key("".join(secret).encode())
        else:
            type_text("".join(secret), dice.choice((0.02, 0.1, 0.3)))
        world.wait(dice.choice((0.0, 1.0)))
        world.key(b"\r", 0.1)
    world.wait(4.0)
    type_text("echo", 0.12)
    world.wait(4.0)
    assert (world.terminal.text, world.terminal.column) == (world.plain.text, world.plain.column)
    echoed = set("".join(world.plain_seen))
    return {letter for letter in world.hidden if letter.isupper() and letter not in echoed} & set("".join(world.seen))


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("edits", [True, False], ids=["bash", "dash"])
@pytest.mark.parametrize("way", WAYS)
def test_nothing_typed_without_echo_is_ever_shown(way: str, edits: bool) -> None:
    for seed in range(TRIALS):
        assert hidden_but_shown(way, seed, edits=edits) == set(), f"seed {seed}"
