"""The stages ``websocket``, ``channel`` and ``latency``: the beginning of a session, step by step, and pings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from enum import Enum, auto
from http import HTTPStatus

from session_manager_plugin.cli.probe.checks import Group, Latency, Report, Stage
from session_manager_plugin.cli.probe.machine import check_clock
from session_manager_plugin.cli.probe.sentences import split
from session_manager_plugin.communicator import opening
from session_manager_plugin.communicator.connect_errors import OPENING_ERRORS, explain, websocket_refused
from session_manager_plugin.communicator.http_answer import Answer
from session_manager_plugin.communicator.opening import Link
from session_manager_plugin.communicator.opening_signature import OpeningSignature
from session_manager_plugin.communicator.probe_channel import ProbeChannel
from session_manager_plugin.communicator.route import Route
from session_manager_plugin.errors import ConnectionLost, SessionEnded, SessionManagerError, TimedOut
from session_manager_plugin.protocol.events import SessionReady
from session_manager_plugin.session.protocols import DataKey, KeyService
from session_manager_plugin.session.runner import DEFAULT_SESSION_TYPE, HANDLERS
from session_manager_plugin.utils.link_options import Bearer

PING_INTERVAL = 0.2
"""Seconds between two pings: the shortest interval that ping(8) allows every user."""
PING_TIMEOUT = 5.0
SESSION_STAGES = (Stage.WEBSOCKET, Stage.CHANNEL, Stage.LATENCY)


class Upgrade(Enum):
    """The result of a request for a websocket."""

    OPEN = auto()
    SIGNATURE_REFUSED = auto()
    """The signed request was refused; an unsigned one may be accepted."""
    FAILED = auto()


async def check_upgrade(
    group: Group,
    channel: ProbeChannel,
    route: Route,
    token: str,
    bearer: Bearer,
    signature: OpeningSignature | None,
    *,
    timeout: float,
    clock: bool,
) -> Upgrade:
    """Request a websocket, with ``signature`` if given. With ``clock``, compare the response's ``Date`` with this
    machine's clock."""
    answer: Answer | None = None
    headers: Mapping[str, str] = {}
    if signature is not None:
        signature.start()
        headers = await signature.headers()
    refused = False
    with group.check(Stage.WEBSOCKET, route.place, "websocket") as check:
        try:
            async with asyncio.timeout(timeout):
                answer = await channel.upgrade(token, bearer, headers)
        except OPENING_ERRORS as error:
            stage = opening.Stage.WEBSOCKET
            finding = explain(error, route.place, via=route.via, timeout=timeout, stage=stage, signature=signature)
            check.failed(finding.what, finding.advice or "check the URL")
        else:
            if answer.status == HTTPStatus.SWITCHING_PROTOCOLS:
                check.passed(f"101 {answer.reason}{_signature_text(signature)}")
            elif answer.status == HTTPStatus.FORBIDDEN and headers:
                refused = True
                what, advice = websocket_refused(answer, route.place, signature)
                check.warned(f"{what}, to a signed request", f"{advice}; an unsigned request follows")
            else:
                check.failed(*websocket_refused(answer, route.place, signature))
    if clock and answer is not None:
        with group.check(Stage.LOCAL, "clock") as check:
            check_clock(check, answer.headers.get("date"), datetime.now(UTC))
    if refused:
        return Upgrade.SIGNATURE_REFUSED
    is_open = answer is not None and answer.status == HTTPStatus.SWITCHING_PROTOCOLS
    return Upgrade.OPEN if is_open else Upgrade.FAILED


def _signature_text(signature: OpeningSignature | None) -> str:
    if signature is None:
        return ""
    return ", signed" if signature.sent else f", not signed: {signature.obstacle}"


async def check_session(
    group: Group,
    report: Report,
    channel: ProbeChannel,
    token: str,
    key_service: KeyService,
    *,
    count: int,
    timeout: float,
) -> bool:
    """Begin the session and ping its gateway ``count`` times. Return whether the session began.

    ``timeout`` is for the key service, in seconds.
    """
    begun = time.monotonic()
    with group.check(Stage.CHANNEL, "token") as check:
        try:
            channel.begin(token)
            ready, failure = await channel.until_ready(key_service, _KeyCheck(group, timeout).ask), None
        except (OSError, SessionManagerError) as error:
            ready, failure = None, error
        ready_at = time.monotonic()
        accepted_at = channel.heard_at or (ready_at if ready is not None else None)
        if accepted_at is not None:
            check.took(accepted_at - begun)
            check.passed("accepted" if channel.heard_at else "accepted: the connection stays open, no message yet")
        else:
            assert failure is not None
            check.failed(*_token_failure(failure))
            group.skip("session", "the token was not accepted", Stage.CHANNEL, Stage.LATENCY)
            return False
    with group.check(Stage.CHANNEL, "handshake") as check:
        check.took(ready_at - accepted_at)
        if failure is not None:
            check.failed(*_handshake_failure(failure))
        elif ready is not None and ready.peer_version:
            check.passed("complete")
        else:
            check.passed("none, as with current agents and plain shells")
    if ready is None:
        group.skip("session", "it did not begin", Stage.CHANNEL, Stage.LATENCY)
        return False
    _say_session(group, ready)
    await _check_latency(group, report, channel, count)
    return True


class _KeyCheck:
    """The check of an encrypted session's data key, made when the far end asks for encryption."""

    def __init__(self, group: Group, timeout: float) -> None:
        self._group = group
        self._timeout = timeout

    async def ask(self, key_id: str, asking: Awaitable[DataKey]) -> DataKey:
        """Return the data key."""
        with self._group.check(Stage.CHANNEL, "encryption") as check:
            try:
                async with asyncio.timeout(self._timeout):
                    key = await asking
            except TimeoutError:
                error = TimedOut(f"KMS did not answer within {self._timeout:g} s", seconds=self._timeout)
                check.failed(str(error), "check the network between this machine and the endpoint of kms")
                raise error from None
            except SessionManagerError as error:
                check.failed(*split(error, "check the key's policy, --target, --region and --profile"))
                raise
            check.passed(f"a data key of {key_id}")
            return key


def _say_session(group: Group, ready: SessionReady) -> None:
    with group.check(Stage.CHANNEL, "agent") as check:
        if ready.peer_version:
            check.passed(f"version {ready.peer_version}")
        else:
            check.skipped("its version is told in a handshake only")
    with group.check(Stage.CHANNEL, "session type") as check:
        check.passed(ready.session_type or f"{DEFAULT_SESSION_TYPE} (without a handshake there is no other)")


def _token_failure(error: Exception) -> tuple[str, str]:
    again = "the token may be wrong, expired or used already: start a new session"
    if isinstance(error, SessionEnded):
        return f"the session was closed at once: {error.output or 'without a reason'}", "start a new session"
    if isinstance(error, ConnectionLost):
        return str(error), again
    return split(error, again)


def _handshake_failure(error: Exception) -> tuple[str, str]:
    if isinstance(error, SessionEnded):
        return f"the session was closed: {error.output or 'without a reason'}", "start a new session"
    return split(error, "start a new session; if it stays so, look at the agent's log on the target")


async def _check_latency(group: Group, report: Report, channel: ProbeChannel, count: int) -> None:
    if count == 0:
        group.skip("pings", "none were asked for", Stage.LATENCY)
        return
    times: list[float] = []
    sent = 0
    failure: Exception | None = None
    with group.check(Stage.LATENCY, "pings") as check:
        try:
            while sent < count:
                if sent:
                    await channel.idle(PING_INTERVAL)
                sent += 1
                seconds = await channel.ping(PING_TIMEOUT)
                if seconds is not None:
                    times.append(1000 * seconds)
                elif not times:
                    break  # the gateway answers no pings
        except (OSError, SessionManagerError) as error:
            failure = error
        report.latency = latency = Latency(max(sent, 1), times)
        if failure is not None:
            reason = (failure.output or "without a reason") if isinstance(failure, SessionEnded) else failure
            check.failed(f"{latency}; then the session ended: {reason}", "start a new session")
        elif latency.lost:
            check.warned(
                str(latency),
                "the gateway or something on the way loses pings: an idle session may be cut"
                if times
                else "the gateway answers no pings: a dead link will be noticed late",
            )
        else:
            check.passed(str(latency))


def session_channel(link: Link, route: Route, session_id: str) -> ProbeChannel:
    """Return the channel of a session over a link."""
    return ProbeChannel(link, route, session_id=session_id, session_types=frozenset(HANDLERS))
