"""The whole probe: this machine, then a stream URL, a target, or the endpoints of a region; beside it the AWS CLI."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from session_manager_plugin.aws.diagnosis import SERVICES, find_endpoints
from session_manager_plugin.aws.kms import KmsKeyService
from session_manager_plugin.aws.region import Region
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.signing import OpeningSigner
from session_manager_plugin.aws.systems_manager import StartedSession, SystemsManager
from session_manager_plugin.aws.targets import is_target_id, resolve_target
from session_manager_plugin.cli.probe.channel import (
    SESSION_STAGES,
    Upgrade,
    check_session,
    check_upgrade,
    session_channel,
)
from session_manager_plugin.cli.probe.checks import Group, Report, Stage
from session_manager_plugin.cli.probe.machine import (
    check_clock,
    check_credentials,
    check_identity,
    check_listing,
    check_programs,
    check_region,
    explain,
)
from session_manager_plugin.cli.probe.network import NETWORK_STAGES, reached, say_offline
from session_manager_plugin.communicator.http_answer import NotHTTP
from session_manager_plugin.communicator.opening import Link
from session_manager_plugin.communicator.opening_signature import OpeningSignature
from session_manager_plugin.communicator.route import Route
from session_manager_plugin.communicator.stream_url import websocket_scheme
from session_manager_plugin.errors import AmbiguousTarget, SessionManagerError, TimedOut
from session_manager_plugin.utils.hosts import host_and_port, join_host_and_port
from session_manager_plugin.utils.link_options import NetworkOptions
from session_manager_plugin.utils.logging import get_logger

ANSWER_TIMEOUT = 1.0
"""Seconds to wait for the response of an interrupted StartSession, to terminate the session it has started."""
API, GATEWAY, IDENTITY = "ssm", "ssmmessages", "sts"
HTTPS_PORT = 443
T = TypeVar("T")
_CALL_FAILED = re.compile(r"^\w+ failed: ")
_NAMES = {GATEWAY: "message gateway"}
PING_PATH = "/ping"
"""A path for which endpoints of AWS require no signature. Every response has a date."""


@dataclass(frozen=True)
class Request:
    """The subject and the settings of a probe."""

    network: NetworkOptions
    timeout: float
    """Seconds for each stage."""
    count: int
    """Pings."""
    settings: AwsSettings
    variables: Mapping[str, str]
    stream: StartedSession | None = None
    """An existing session. With an empty token only the connection is checked."""
    target: str = ""
    """The target of the session. Without ``stream`` a session with it is started."""


async def probe(request: Request, report: Report) -> None:
    """Run all checks, and add each to ``report`` when it is finished."""
    programs = report.background_group("AWS CLI, which smp does not need")
    checking = asyncio.create_task(check_programs(programs, request.variables))
    try:
        await _probe_connection(request, report)
    finally:
        report.add(programs)
        if (task := asyncio.current_task()) is not None and task.cancelling():
            checking.cancel()
        await checking


async def _probe_connection(request: Request, report: Report) -> None:
    """Run the checks of all that ``smp`` itself needs."""
    needed = request.stream is None
    machine = report.group("this machine")
    region = await check_region(machine, request.settings, needed=needed)
    if region is not None:
        request = replace(request, settings=replace(request.settings, region=region.name))
    signed = await check_credentials(machine, request.settings, needed=needed)
    machine.finish()
    if request.stream is not None:
        await _probe_stream(request, report, request.stream, clock=True)
    elif region is None:
        rest = report.group("network")
        rest.skip(request.target or "endpoints", "the region is not known", *NETWORK_STAGES, *SESSION_STAGES)
        rest.finish()
    elif request.target:
        await _probe_target(request, report, region, signed=signed)
    else:
        await _probe_region(request, report, region, signed=signed)


# The endpoints of a region.


async def _probe_region(request: Request, report: Report, region: Region, *, signed: bool) -> None:
    endpoints = await _find_endpoints(request, report, region, SERVICES)
    if endpoints is None:
        return
    groups = {service: report.group(_title(service, url), is_endpoint=True) for service, url in endpoints.items()}
    async with asyncio.TaskGroup() as tasks:
        for service, group in groups.items():
            tasks.create_task(_probe_endpoint(request, group, service, endpoints[service], signed=signed))
    say_offline(groups.values(), region.name)
    report.finish(groups.values())  # at once, because those that fail for the same reason are shown as one
    rest = report.group("session")
    rest.skip("session", "none was given: name a TARGET, or --url and a token", *SESSION_STAGES)
    rest.finish()


async def _find_endpoints(
    request: Request, report: Report, region: Region, services: Sequence[str]
) -> dict[str, str] | None:
    """Return the URLs of services; None, with a failed check, if they are unknown."""
    try:
        return await asyncio.to_thread(find_endpoints, request.settings, region.name, services)
    except Exception as error:
        group = report.group("network")
        with group.check(Stage.LOCAL, "endpoints") as check:
            detail, _ = explain(error, request.settings)
            check.failed(detail, "check the region, and the variables and settings of endpoints")
        group.skip("endpoints", "they are not known", *NETWORK_STAGES, *SESSION_STAGES)
        group.finish()
        return None


def _title(service: str, url: str) -> str:
    """Return the title of a host's group: its name, and the service unless the name contains it."""
    host, port = host_and_port(url)
    place = host if port == HTTPS_PORT else join_host_and_port(host, port)
    return place if service in host.split(".") else f"{_NAMES.get(service, service)} at {place}"


async def _probe_endpoint(request: Request, group: Group, service: str, url: str, *, signed: bool) -> None:
    """Check that an endpoint of AWS is reachable, and what it answers: ``ssm`` the time and a list of targets, ``sts``
    the identity of the caller."""
    if not await _reach_endpoint(request, group, service, url) or not signed:
        return
    if service == API:
        await check_listing(group, request.settings, timeout=request.timeout)
    elif service == IDENTITY:
        await check_identity(group, request.settings, timeout=request.timeout)


async def _reach_endpoint(request: Request, group: Group, service: str, url: str) -> bool:
    """Return whether an endpoint of AWS is reachable. For ``ssm``, compare the clocks too."""
    network = request.network if service == GATEWAY else replace(request.network, dial=None)
    async with reached(group, websocket_scheme(url), network, timeout=request.timeout) as way:
        if way is None:
            return False
        if service == API:
            await _check_clock(group, *way, timeout=request.timeout)
        return True


async def _check_clock(group: Group, route: Route, link: Link, *, timeout: float) -> None:
    with group.check(Stage.LOCAL, "clock") as check:
        try:
            async with asyncio.timeout(timeout):
                answer = await link.get(PING_PATH, route.place)
        except (OSError, NotHTTP) as error:
            check.skipped(f"{route.place} did not answer: {str(error) or 'no answer in time'}")
        else:
            check_clock(check, answer.headers.get("date"), datetime.now(UTC))


# A session.


async def _probe_stream(request: Request, report: Report, stream: StartedSession, *, clock: bool) -> bool:
    """Return whether the session began."""
    group = report.group(_title(GATEWAY, stream.stream_url))
    signer = OpeningSigner(request.settings)
    signature = OpeningSignature.of(stream.stream_url, request.network, signer, request.timeout)
    try:
        upgrade, began = await _probe_websocket(request, report, group, stream, signature, clock=clock)
        if upgrade is Upgrade.SIGNATURE_REFUSED:
            assert signature is not None
            signature.withdraw()
            _, began = await _probe_websocket(request, report, group, stream, signature, clock=False)
        return began
    finally:
        group.finish()


async def _probe_websocket(
    request: Request,
    report: Report,
    group: Group,
    stream: StartedSession,
    signature: OpeningSignature | None,
    *,
    clock: bool,
) -> tuple[Upgrade, bool]:
    """Check one connection, and the session on it unless the signature was refused. Return whether the session
    began."""
    began = False
    async with reached(group, stream.stream_url, request.network, timeout=request.timeout) as way:
        if way is None:
            group.skip("session", "its gateway cannot be reached", *SESSION_STAGES)
            return Upgrade.FAILED, False
        route, link = way
        channel = session_channel(link, route, stream.session_id)
        bearer = request.network.bearer
        upgrade = await check_upgrade(
            group, channel, route, stream.token, bearer, signature, timeout=request.timeout, clock=clock
        )
        if upgrade is Upgrade.FAILED:
            group.skip("session", "there is no websocket", *SESSION_STAGES[1:])
        if upgrade is Upgrade.OPEN:
            try:
                if stream.token:
                    began = await check_session(
                        group,
                        report,
                        channel,
                        stream.token,
                        KmsKeyService(request.settings, stream.session_id, request.target),
                        count=request.count,
                        timeout=request.timeout,
                    )
                else:
                    group.skip("session", "no token was given", *SESSION_STAGES[1:])
            finally:
                await channel.close()
        return upgrade, began


async def _probe_target(request: Request, report: Report, region: Region, *, signed: bool) -> None:
    endpoints = await _find_endpoints(request, report, region, (API,))
    if endpoints is None:
        return
    title = _title(API, endpoints[API])
    group = report.group(title)
    can_call = await _reach_endpoint(request, group, API, endpoints[API])
    if not (signed and can_call):
        reason = "its endpoint cannot be reached" if signed else "there are no credentials"
        group.skip("StartSession", reason, Stage.CHANNEL)
        group.skip("session", "none was started", Stage.WEBSOCKET, Stage.LATENCY)
        group.finish()
        return
    found = request.target if is_target_id(request.target) else await _find_target(request, group)
    if found is None:
        group.skip("session", "none was started", Stage.WEBSOCKET, Stage.CHANNEL, Stage.LATENCY)
        group.finish()
        return
    request = replace(request, target=found)
    systems_manager = SystemsManager(request.settings)
    async with _session(request, group, systems_manager, report) as started:
        if started is not None and await _probe_stream(request, report, started, clock=False):
            await _check_resume(report.group(title), systems_manager, started.session_id, request)


async def _check_resume(group: Group, systems_manager: SystemsManager, session_id: str, request: Request) -> None:
    """Check the permission to restore a lost connection, by asking for a new token as after a loss."""
    with group.check(Stage.CHANNEL, "ResumeSession") as check:
        try:
            await _answered(systems_manager.resume_session(session_id), group, request.timeout)
        except SessionManagerError as error:
            detail, advice = _sentence(error, "check the permission ssm:ResumeSession")
            check.warned(detail, f"a session whose connection is lost may not come back: {advice}")
        else:
            check.passed("allowed: a lost connection can be restored")


async def _find_target(request: Request, group: Group) -> str | None:
    """Return the id of the target, or None, with a failed check, if its name does not lead to one."""
    with group.check(Stage.CHANNEL, "target") as check:
        try:
            found = await _answered(resolve_target(request.settings, request.target), group, request.timeout)
        except AmbiguousTarget as error:
            check.failed(f"{error.message}: {', '.join(error.matches)}", "name one of them by its id")
        except SessionManagerError as error:
            check.failed(*_sentence(error, "check the target's name, --region and --profile"))
        else:
            check.passed(found if found == request.target else f"{request.target} is {found}")
            return found
    return None


async def _answered(call: Awaitable[T], group: Group, timeout: float) -> T:
    """Return the answer to a call of the API. Raises ``TimedOut``, which names the host, after ``timeout`` seconds."""
    try:
        async with asyncio.timeout(timeout):
            return await call
    except TimeoutError:
        raise TimedOut(
            f"{group.title} did not answer within {timeout:g} s; it accepts connections and answers no call: check "
            "the endpoint, and proxies and firewalls on the way",
            seconds=timeout,
        ) from None


def _sentence(error: SessionManagerError, advice: str) -> tuple[str, str]:
    """Return detail and advice of the error of a call; ``advice`` is the default."""
    what, _, what_to_do = _CALL_FAILED.sub("", str(error)).partition("; ")
    return what, what_to_do or advice


@contextlib.asynccontextmanager
async def _session(
    request: Request, group: Group, systems_manager: SystemsManager, report: Report
) -> AsyncIterator[StartedSession | None]:
    """Yield a session on the target, or None if it could not be started. It is terminated however the block ends."""
    starting = asyncio.ensure_future(systems_manager.start_session(request.target))
    started: StartedSession | None = None
    try:
        with group.check(Stage.CHANNEL, "StartSession") as check:
            try:
                started = await _answered(asyncio.shield(starting), group, request.timeout)
            except SessionManagerError as error:
                check.failed(*_sentence(error, "check the target, --region and --profile"))
            else:
                check.passed(f"session {started.session_id} on {request.target}")
        if started is None:
            group.skip("session", "none was started", Stage.WEBSOCKET, Stage.CHANNEL, Stage.LATENCY)
        group.finish()
        yield started
    except asyncio.CancelledError:
        # The thread cannot be stopped, so the session may still be started.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await asyncio.shield(starting)
        raise
    finally:
        starting.cancel()
        if starting.done() and not starting.cancelled() and starting.exception() is None:
            last = report.groups[-1]
            group = report.group(group.title) if last.done or last.title != group.title else last
            await _terminate(group, systems_manager, starting.result().session_id, request.settings)


async def _terminate(group: Group, systems_manager: SystemsManager, session_id: str, settings: AwsSettings) -> None:
    with group.check(Stage.CHANNEL, "TerminateSession") as check:
        try:
            await systems_manager.terminate_session(session_id)
        except Exception as error:
            detail, _ = explain(error, settings)
            get_logger(__name__).warning("session %s could not be terminated: %s", session_id, detail)
            check.warned(
                f"session {session_id} goes on: {detail}",
                f"end it with `aws ssm terminate-session --session-id {session_id}`, or wait for its idle timeout",
            )
        else:
            check.passed(f"session {session_id} is over")
    group.finish()
