"""The stages from ``dns`` to ``tls`` for one endpoint, each with a verdict."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Collection
from dataclasses import replace

from session_manager_plugin.cli.probe.addresses import (
    FAMILIES,
    MAX_ADDRESSES,
    Addresses,
    Attempt,
    connect_all,
    literal_family,
    look_up,
)
from session_manager_plugin.cli.probe.checks import Check, Group, Stage, Verdict, clean
from session_manager_plugin.cli.probe.sentences import split
from session_manager_plugin.cli.probe.tls import check_tls
from session_manager_plugin.communicator import opening
from session_manager_plugin.communicator.connect_errors import OPENING_ERRORS, explain, tunnel_refused
from session_manager_plugin.communicator.opening import Link, connect_through_socks
from session_manager_plugin.communicator.route import Route, route_of
from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.utils.hosts import host_and_port, join_host_and_port
from session_manager_plugin.utils.link_options import NetworkOptions
from session_manager_plugin.utils.setting_names import SMP_SETTINGS

NETWORK_STAGES = (Stage.DNS, Stage.TCP, Stage.PROXY, Stage.TLS)
OFFLINE = "this machine seems to be offline"
_NOT_FOUND = "the name was not found, neither for IPv4 nor for IPv6"
_UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN})


@contextlib.asynccontextmanager
async def reached(
    group: Group, url: str, network: NetworkOptions, *, timeout: float
) -> AsyncIterator[tuple[Route, Link] | None]:
    """Check every stage of a connection to ``url`` (ws or wss), and yield the link; None if a stage has failed.

    ``timeout`` is for each stage, in seconds. Stages after a failed one are reported as skipped.
    """
    reached_link = await _reach(group, url, network, timeout)
    try:
        yield reached_link
    finally:
        if reached_link is not None:
            reached_link[1].abort()


async def _reach(group: Group, url: str, network: NetworkOptions, timeout: float) -> tuple[Route, Link] | None:
    name = join_host_and_port(*host_and_port(url))
    try:
        route = route_of(url, network)
    except ConfigurationError as error:
        group.skip(name, "the proxy is not usable", Stage.DNS, Stage.TCP)
        with group.check(Stage.PROXY, "settings") as check:
            check.failed(*split(error, "correct --proxy, or the variables HTTPS_PROXY and ALL_PROXY"))
        group.skip(name, "the proxy failed", Stage.TLS)
        return None
    found = await _check_names(group, route, timeout)
    if not found:
        group.skip(name, "the name was not found", *NETWORK_STAGES[1:])
        return None
    address = await _check_tcp(group, route, found, timeout)
    if address is None:
        group.skip(name, "no TCP connection", *NETWORK_STAGES[2:])
        return None
    link = await _check_proxy(group, route, address, timeout)
    if link is None:
        group.skip(name, "the proxy gave no connection", Stage.TLS)
        return None
    try:
        secured = await check_tls(group, route, link, network.ca_bundle, timeout)
    except BaseException:
        link.abort()
        raise
    if not secured:
        link.abort()
        return None
    return route, link


# Names.


async def _check_names(group: Group, route: Route, timeout: float) -> list[Addresses]:
    host, port = route.dialled
    with group.check(Stage.DNS, f"{host}{_role(route)}", f"dns{_short_role(route)}") as check:
        literal = literal_family(host)
        if literal is not None:
            shown = f"{host}, " if _role(route) else ""
            check.passed(f"{shown}an {FAMILIES[literal]} address: no name to look up")
            return [await look_up(host, port, literal, timeout)]
        looked_up = await asyncio.gather(*(look_up(host, port, family, timeout) for family in FAMILIES))
        found = [family for family in looked_up if family.addresses]
        errors = {family.error for family in looked_up if family.error}
        detail = "; ".join(_family_text(family) for family in looked_up)
        if not found and errors:
            failure = errors.pop() if len(errors) == 1 else detail
            check.failed(failure, f"{OFFLINE}: no DNS server answers; check its network, its VPN and its DNS servers")
        elif not found:
            check.failed(
                _NOT_FOUND,
                "check the name, this machine's DNS servers and the VPN (names of VPC endpoints are known in their "
                "VPC only)",
            )
        elif errors:
            check.warned(
                detail,
                "the DNS server does not answer for one family, which delays connections: report it to its operator",
            )
        else:
            check.passed(detail)
        return found


def say_offline(groups: Collection[Group], region: str) -> None:
    """If no name of any endpoint was found, advise to check the network rather than each name."""
    failures = [[check for check in group.checks if check.detail == _NOT_FOUND] for group in groups]
    if not all(failures):
        return
    advice = f"{OFFLINE}, or there is no region {region}; check its network, its VPN, its DNS servers and the region"
    for group, checks in zip(groups, failures, strict=True):
        for check in checks:
            group.checks[group.checks.index(check)] = replace(check, advice=clean(advice))


def _family_text(found: Addresses) -> str:
    family = FAMILIES[found.family]
    if found.error:
        return f"{family}: {found.error}"
    if not found.addresses:
        return f"no {family} address"
    shown = [str(address[4][0]) for address in found.addresses[:MAX_ADDRESSES]]
    more = len(found.addresses) - len(shown)
    return f"{family} {', '.join(shown)}{f' and {more} more' if more else ''}"


def _role(route: Route) -> str:
    if route.proxy is not None:
        return " (the proxy)"
    return "" if route.dialled[0] == route.host else f" (for {route.host})"


def _short_role(route: Route) -> str:
    if route.proxy is not None:
        return " (proxy)"
    return "" if route.dialled[0] == route.host else " (--dial)"


# TCP.


async def _check_tcp(group: Group, route: Route, found: list[Addresses], timeout: float) -> socket.socket | None:
    """Connect with both families, and return the fastest socket. If only one family works, that is a warning, because
    clients try both."""
    chosen: Attempt | None = None
    results: list[tuple[Addresses, list[Attempt]]] = []
    try:
        with group.check(
            Stage.TCP, join_host_and_port(*route.dialled), "tcp"
        ):  # shown while running; reported by family
            results = list(
                zip(found, await asyncio.gather(*(connect_all(family, timeout) for family in found)), strict=True)
            )
        connected = [attempt for _, attempts in results for attempt in attempts if attempt.connected is not None]
        chosen = min(connected, key=lambda attempt: attempt.seconds, default=None)
        for family, attempts in results:
            group.add(_tcp_check(route, family, attempts, timeout, works=chosen is not None))
        group.changed()
    finally:
        for _, attempts in results:
            for attempt in attempts:
                if attempt.connected is not None and attempt is not chosen:
                    attempt.connected.close()
    return None if chosen is None else chosen.connected


def _tcp_check(route: Route, found: Addresses, attempts: list[Attempt], timeout: float, *, works: bool) -> Check:
    family = FAMILIES[found.family]
    name = clean(f"{family} {join_host_and_port(*route.dialled)}")
    label = f"tcp {family}{_short_role(route)}"
    good = [attempt for attempt in attempts if attempt.connected is not None]
    bad = [(attempt, attempt.error) for attempt in attempts if attempt.error is not None]
    failures = "; ".join(f"{attempt.address}: {_tcp_text(error, timeout)}" for attempt, error in bad)
    if not bad:
        detail = f"connected to {', '.join(attempt.address for attempt in good)}"
        ms = 1000 * min(attempt.seconds for attempt in good)
        return Check(Stage.TCP, name, Verdict.PASS, ms, clean(detail), label=label)
    advice = _tcp_advice(route, bad[0][1])
    ms = 1000 * max(attempt.seconds for attempt in attempts)
    if good:
        detail = f"connected to {', '.join(attempt.address for attempt in good)}, but not to {failures}"
        return Check(Stage.TCP, name, Verdict.WARN, ms, clean(detail), clean(advice), label)
    if works:
        advice = f"the other family works, and clients try both; nevertheless {advice}"
        return Check(Stage.TCP, name, Verdict.WARN, ms, clean(failures), clean(advice), label)
    return Check(Stage.TCP, name, Verdict.FAIL, ms, clean(failures), clean(advice), label)


def _tcp_text(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error)


def _tcp_advice(route: Route, error: Exception) -> str:
    place = join_host_and_port(*route.dialled)
    if isinstance(error, ConnectionRefusedError):
        whose = "" if route.proxy is None else " of the proxy"
        return f"check host and port{whose}: nothing listens at {place}, or a firewall rejects it"
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return f"{OFFLINE}: it has no route there; check its network and its VPN"
    if route.proxy is not None:
        return f"check the proxy's host and port, or allow outgoing TCP to {place} in the firewall"
    return (
        f"allow outgoing TCP to port {route.dialled[1]} in firewall and security groups, or name the proxy with "
        "--proxy or HTTPS_PROXY"
    )


# Proxies.


async def _check_proxy(group: Group, route: Route, connected: socket.socket, timeout: float) -> Link | None:
    """Return a link to the endpoint itself, over ``connected`` or, for a SOCKS proxy, over a new socket."""
    if route.proxy is None:
        with group.check(Stage.PROXY, "none", "proxy") as check:
            check.passed(f"direct to {join_host_and_port(*route.dialled)}: {route.proxy_reason}")
        return Link(connected)
    link: Link | None = None
    with group.check(Stage.PROXY, route.proxy_place, "proxy") as check:
        try:
            async with asyncio.timeout(timeout):
                if route.is_socks:
                    connected.close()
                    link = Link(await connect_through_socks(route))
                    check.passed(f"connected to {route.place} by {route.proxy_place} ({route.proxy_reason})")
                    return link
                link = Link(connected)
                answer = await link.tunnel(route)
            if answer.is_success:
                check.passed(f"connected to {route.place} by {route.proxy_place} ({route.proxy_reason})")
                return link
            what, advice = tunnel_refused(
                answer, route.place, route.via, has_credentials=route.has_proxy_credentials, names=SMP_SETTINGS
            )
            check.failed(f"{what} ({route.proxy_reason})", advice)
        except BaseException as error:
            if link is not None:
                link.abort()
                link = None
            if not isinstance(error, OPENING_ERRORS):
                raise
            finding = explain(error, route.place, via=route.via, timeout=timeout, stage=opening.Stage.PROXY)
            check.failed(finding.what, finding.advice or "check the proxy's port and the scheme of its URL")
    if link is not None:
        link.abort()
    return None
