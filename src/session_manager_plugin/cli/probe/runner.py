"""The whole probe: this machine, then a stream URL, a target, or the endpoints of a region."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

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
    check_programs,
    check_region,
    explain,
)
from session_manager_plugin.cli.probe.network import NETWORK_STAGES, reached
from session_manager_plugin.communicator.http_answer import NotHTTP
from session_manager_plugin.communicator.opening import Link
from session_manager_plugin.communicator.opening_signature import OpeningSignature
from session_manager_plugin.communicator.route import Route
from session_manager_plugin.communicator.stream_url import websocket_scheme
from session_manager_plugin.errors import AmbiguousTarget, SessionManagerError
from session_manager_plugin.utils.link_options import NetworkOptions
from session_manager_plugin.utils.logging import get_logger

ANSWER_TIMEOUT = 1.0
"""Seconds to wait for the response of an interrupted StartSession, to terminate the session it has started."""
API, GATEWAY = "ssm", "ssmmessages"
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
    needed = request.stream is None
    machine = report.group()
    await check_programs(machine, request.variables)
    region = await check_region(machine, request.settings, needed=needed)
    if region is not None:
        request = replace(request, settings=replace(request.settings, region=region.name))
    signed = await check_credentials(machine, request.settings, needed=needed)
    machine.finish()
    if request.stream is not None:
        await _probe_stream(request, report, request.stream, clock=True)
    elif region is None:
        rest = report.group()
        rest.skip(request.target or "endpoints", "the region is not known", *NETWORK_STAGES, *SESSION_STAGES)
        rest.finish()
    elif request.target:
        await _probe_target(request, report, region, signed=signed)
    else:
        await _probe_region(request, report, region)


# The endpoints of a region.


async def _probe_region(request: Request, report: Report, region: Region) -> None:
    endpoints = await _endpoints(request, report, region, SERVICES)
    if endpoints is None:
        return
    groups = {service: report.group() for service in endpoints}
    rest = report.group()
    async with asyncio.TaskGroup() as tasks:
        for service, group in groups.items():
            tasks.create_task(_probe_endpoint(request, group, service, endpoints[service]))
    rest.skip("session", "none was given: name a TARGET, or --url and a token", *SESSION_STAGES)
    rest.finish()


async def _endpoints(
    request: Request, report: Report, region: Region, services: Sequence[str]
) -> dict[str, str] | None:
    """Return the URLs of services; None, with a failed check, if they are unknown."""
    group = report.group()
    try:
        endpoints = await asyncio.to_thread(find_endpoints, request.settings, region.name, services)
    except Exception as error:
        with group.check(Stage.LOCAL, "endpoints") as check:
            detail, _ = explain(error, request.settings)
            check.failed(detail, "check the region, and the variables and settings of endpoints")
        group.skip("endpoints", "they are not known", *NETWORK_STAGES, *SESSION_STAGES)
        return None
    else:
        return endpoints
    finally:
        group.finish()


async def _probe_endpoint(request: Request, group: Group, service: str, url: str) -> bool:
    """Return whether an endpoint of AWS is reachable. For ``ssm``, compare the clocks too."""
    network = request.network if service == GATEWAY else replace(request.network, dial=None)
    try:
        async with reached(group, websocket_scheme(url), network, timeout=request.timeout) as way:
            if way is None:
                return False
            if service == API:
                await _check_clock(group, *way, timeout=request.timeout)
            return True
    finally:
        group.finish()


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


async def _probe_stream(request: Request, report: Report, stream: StartedSession, *, clock: bool) -> None:
    group = report.group()
    signer = OpeningSigner(request.settings)
    signature = OpeningSignature.of(stream.stream_url, request.network, signer, request.timeout)
    try:
        upgrade = await _probe_websocket(request, report, group, stream, signature, clock=clock)
        if upgrade is Upgrade.SIGNATURE_REFUSED:
            assert signature is not None
            signature.withdraw()
            await _probe_websocket(request, report, group, stream, signature, clock=False)
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
) -> Upgrade:
    """Check one connection, and the session on it unless the signature was refused."""
    async with reached(group, stream.stream_url, request.network, timeout=request.timeout) as way:
        if way is None:
            group.skip("session", "its gateway cannot be reached", *SESSION_STAGES)
            return Upgrade.FAILED
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
                    await check_session(
                        group,
                        report,
                        channel,
                        stream.token,
                        KmsKeyService(request.settings, stream.session_id, request.target),
                        count=request.count,
                    )
                else:
                    group.skip("session", "no token was given", *SESSION_STAGES[1:])
            finally:
                await channel.close()
        return upgrade


async def _probe_target(request: Request, report: Report, region: Region, *, signed: bool) -> None:
    endpoints = await _endpoints(request, report, region, (API,))
    if endpoints is None:
        return
    url = endpoints[API]
    can_call = await _probe_endpoint(request, report.group(), API, url)
    group = report.group()
    if not (signed and can_call):
        reason = "its endpoint cannot be reached" if signed else "there are no credentials"
        group.skip("StartSession", reason, Stage.CHANNEL)
        group.skip("session", "none was started", Stage.WEBSOCKET, Stage.LATENCY)
        group.finish()
        return
    if not is_target_id(request.target):
        found = await _find_target(request, group)
        if found is None:
            group.skip("session", "none was started", Stage.WEBSOCKET, Stage.CHANNEL, Stage.LATENCY)
            group.finish()
            return
        request = replace(request, target=found)
    async with _session(request, group, SystemsManager(request.settings), report) as started:
        if started is not None:
            await _probe_stream(request, report, started, clock=False)


async def _find_target(request: Request, group: Group) -> str | None:
    """Return the id of the target, or None, with a failed check, if its name does not lead to one."""
    with group.check(Stage.CHANNEL, "target") as check:
        try:
            found = await resolve_target(request.settings, request.target)
        except AmbiguousTarget as error:
            check.failed(f"{error.message}: {', '.join(error.matches)}", "name one of them by its id")
        except SessionManagerError as error:
            what, _, advice = str(error).partition("; ")
            check.failed(what, advice or "check the target's name, --region and --profile")
        else:
            check.passed(found if found == request.target else f"{request.target} is {found}")
            return found
    return None


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
                started = await asyncio.shield(starting)
            except Exception as error:
                check.failed(*explain(error, request.settings))
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
            await _terminate(report.group(), systems_manager, starting.result().session_id, request.settings)


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
