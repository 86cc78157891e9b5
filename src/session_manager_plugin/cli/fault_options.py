"""The options of ``smp sandbox`` for fault injection."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from session_manager_plugin.cli.click_options import Choice, Seconds, WholeNumber
from session_manager_plugin.errors import UsageError

if TYPE_CHECKING:
    from session_manager_plugin.agent import Faults

_Option = Callable[[Callable[..., Any]], Callable[..., Any]]
_MESSAGE_FAULTS = ("drop", "duplicate", "reorder", "delay", "corrupt")
FAULTS = (
    *_MESSAGE_FAULTS,
    *("delay_time", "latency", "jitter", "cut_every", "cut_after", "cut_code", "withhold_pongs"),
    *("refuse_resume", "refuse_websocket", "fault_seed"),
)
"""The names of the parameters, without those about tokens."""


class Milliseconds(click.ParamType[float]):
    """A time with its unit, as 150ms or 0.15s; the value is in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s)", str(value).strip())
        if found is None or (seconds := float(found[1]) / (1000 if found[2] == "ms" else 1)) > 60:
            self.fail(f"{value!r} is not a time of up to 60s; expected a number with its unit, as 150ms or 0.15s")
        return seconds


_LATENCY_OPTIONS: list[_Option] = [
    click.option(
        "--latency",
        type=Milliseconds(),
        default=0.0,
        metavar="TIME",
        help="Round trip of messages and pings, as 150ms or 0.15s, half of it each way. 0 if not given.",
    ),
    click.option(
        "--jitter",
        type=Milliseconds(),
        default=0.0,
        metavar="TIME",
        help="How much the round trip varies, up and down. 0 if not given. Example: 30ms.",
    ),
]


def _probabilities(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[float, float]:
    """Parse probabilities for both directions: one number, or two (to the client, to the agent) with a comma."""
    try:
        first, *rest = [_probability(part) for part in value.split(",")]
        (second,) = rest or [first]
    except ValueError:
        raise click.BadParameter(
            "a probability is a number from 0 to 1 or a percentage, as in 0.05 or 5%; with a comma two of them, "
            "to the client and to the agent, as in 5%,0"
        ) from None
    return first, second


def _cut_code(_context: click.Context, _parameter: click.Parameter, value: str) -> int | None:
    """Parse a websocket's close code; None for a reset."""
    from session_manager_plugin.agent.faults import check_cut_code

    if value == "reset":
        return None
    try:
        code = int(value)
        check_cut_code(code)
    except ValueError:
        raise click.BadParameter(
            "choose reset, 1000, 1001, 1006, 1011 or another close code that can be sent"
        ) from None
    return code


def _probability(text: str) -> float:
    number, percent = text.strip(), 1
    if number.endswith("%"):
        number, percent = number[:-1], 100
    probability = float(number) / percent
    if not (math.isfinite(probability) and 0 <= probability <= 1):
        raise ValueError(text)
    return probability


def _probable(name: str, happens: str) -> _Option:
    return click.option(f"--{name}", default="0", metavar="P[,P]", callback=_probabilities, help=happens)


def latency_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a slow link to a command; `link_faults` converts their values."""
    for option in reversed(_LATENCY_OPTIONS):
        function = option(function)
    return function


def link_faults(latency: float, jitter: float) -> dict[str, float]:
    """The fields of `MessageFaults` for a link of this round trip in seconds. Raises `UsageError`."""
    if jitter > latency:
        raise UsageError("--jitter is at most --latency")
    return {"delay": 1.0, "delay_time": latency / 2, "delay_jitter": jitter / 2} if latency else {}


def fault_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add all fault options to a command. ``make_faults`` converts their values."""
    number = WholeNumber(0)
    options: list[_Option] = [
        _probable(
            "drop",
            "How probably a message is lost. Acknowledgements too; a number from 0 to 1 or a percentage, for both "
            "directions or, with a comma, to the client and to the agent. 0 if not given. Examples: 5%, 0.05,0.",
        ),
        _probable("duplicate", "How probably it arrives twice; written as with --drop. Example: 5%."),
        _probable("reorder", "How probably 1 to 8 later ones overtake it; written as with --drop. Example: 5%."),
        _probable("delay", "How probably it arrives --delay-time later. Written as with --drop. Example: 100%."),
        click.option(
            "--delay-time",
            type=Seconds(zero=True),
            default=0.2,
            show_default=True,
            metavar="SECONDS",
            help="How much later a delayed message arrives, up to 60 seconds. Example: 1.5.",
        ),
        *_LATENCY_OPTIONS,
        _probable(
            "corrupt", "How probably its payload is damaged or its end is missing; written as with --drop. Example: 1%."
        ),
        click.option(
            "--cut-every",
            type=number,
            default=0,
            metavar="BYTES",
            help="Cut the websocket after every BYTES of messages. Both ways are counted together. Never if not given. "
            "Example: 300000.",
        ),
        click.option(
            "--cut-after",
            type=number,
            default=0,
            metavar="BYTES",
            help="Cut it once, when this many have passed in the session. Never if not given. Example: 100000.",
        ),
        click.option(
            "--cut-code",
            default="reset",
            show_default=True,
            metavar="reset|CODE",
            callback=_cut_code,
            help="How it is cut: reset (of the TCP connection), 1006 (the connection is closed without a close "
            "frame), or the code of the close frame. Example: 1001.",
        ),
        click.option("--withhold-pongs", is_flag=True, help="Do not answer pings."),
        click.option(
            "--refuse-resume",
            type=number,
            default=0,
            metavar="N",
            help="Answer each session's first N calls of ResumeSession with an error. 0 if not given. Example: 3.",
        ),
        click.option(
            "--refuse-websocket",
            type=number,
            default=0,
            metavar="N",
            help="Refuse the first N websockets after a session's first, with status 403. 0 if not given. Example: 3.",
        ),
        click.option(
            "--void-token",
            type=Choice("close", "forbidden"),
            default="close",
            show_default=True,
            help="How a token is refused that was used or replaced: the websocket opens and is closed with code 1008, "
            "or it is not opened, with status 403.",
        ),
        click.option(
            "--reusable-tokens",
            is_flag=True,
            help="Let a token open any number of websockets of its session, not one; each takes the place of the one "
            "before.",
        ),
        click.option(
            "--fault-seed",
            type=WholeNumber(),
            default=0,
            show_default=True,
            metavar="NUMBER",
            help="Which messages suffer: with the same number always the same ones. Example: 7.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def make_faults(options: dict[str, Any]) -> Faults:
    """Return the ``Faults`` for the values of ``fault_options``. Raises ``UsageError``."""
    from session_manager_plugin.agent import Faults, MessageFaults

    slow = link_faults(options["latency"], options["jitter"])
    try:
        to_client, to_agent = (
            MessageFaults(
                **{name: options[name][direction] for name in _MESSAGE_FAULTS}
                | {"delay_time": options["delay_time"]}
                | slow
            )
            for direction in (0, 1)
        )
        return Faults(
            to_client=to_client,
            to_agent=to_agent,
            seed=options["fault_seed"],
            cut_every=options["cut_every"],
            cut_after=options["cut_after"],
            cut_code=options["cut_code"],
            withhold_pongs=options["withhold_pongs"],
            pong_delay=options["latency"],
            refuse_resume=options["refuse_resume"],
            refuse_websocket=options["refuse_websocket"],
            void_token=options["void_token"],
            tokens_reusable=options["reusable_tokens"],
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
