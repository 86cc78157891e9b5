"""The stage ``local``: the programs on this machine, the region, the credentials, the clock."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

from session_manager_plugin import PLUGIN_VERSION
from session_manager_plugin.cli.probe.checks import Group, Running, Stage
from session_manager_plugin.errors import SessionManagerError
from session_manager_plugin.utils.logging import get_logger

if TYPE_CHECKING:
    from session_manager_plugin.aws.region import Region
    from session_manager_plugin.aws.settings import AwsSettings

PLUGIN = "session-manager-plugin"
PROGRAM_TIMEOUT = 10.0
"""Seconds that a program may take to print its version; the AWS CLI is slow on a cold disk."""
CREDENTIALS_TIMEOUT = 20.0
"""Seconds for finding credentials. (botocore's own limits are minutes.)"""
ENVIRONMENT_TOKEN_VERSION = (1, 2, 497, 0)
"""Up to this version of the plugin the AWS CLI passes the token as an argument (awscli, sessionmanager.py)."""
CLI_TOKEN_VERSION = (2, 13, 37)
"""From this version on the AWS CLI passes the token in the environment."""
SKEW_WARNING = timedelta(seconds=60)
SKEW_LIMIT = timedelta(minutes=5)
"""AWS refuses signatures that are older, or further in the future (Signature Version 4)."""
_VERSION = re.compile(r"\d+(?:\.\d+){1,3}")
_CLI_VERSION = re.compile(r"aws-cli/(\d+(?:\.\d+)*)")


# Programs.


async def check_programs(group: Group, variables: Mapping[str, str]) -> None:
    """Check the AWS CLI and the plugin that it would start. The AWS CLI takes seconds to print its version, so this
    runs beside the other checks."""
    path = variables.get("PATH", os.defpath)
    cli_path = shutil.which("aws", path=path)
    cli = asyncio.create_task(_version_of(cli_path))
    try:
        with group.check(Stage.LOCAL, PLUGIN, "plugin") as check:
            await _check_plugin(check, path)
        with group.check(Stage.LOCAL, "aws") as check:
            answer = await cli
            check.took(answer.seconds)
            _check_cli(check, cli_path, answer.text)
    finally:
        cli.cancel()
        group.finish()


async def _check_plugin(check: Running, path: str) -> None:
    found = _all_on_path(PLUGIN, path)
    ours = _our_plugin()
    if not found:
        where = f": put {os.path.dirname(ours)} on it" if ours else ""
        check.warned("none is on the PATH", f"the AWS CLI will say that it is not found{where}; smp does not need it")
        return
    first, *others = found
    answer = await _version_of(first)
    version = (_VERSION.search(answer.text) or [""])[0]
    is_ours = _is_same(first, ours) if ours else version == PLUGIN_VERSION
    detail = f"{first} is version {version or '?'}{', this package' if is_ours else ''}"
    if others:
        detail = f"{detail}; it hides {', '.join(others)}"
    if not version:
        check.warned(
            f"{first} is the first on the PATH and does not say its version",
            "the AWS CLI cannot use it: repair or remove it"
            + (f", or put {os.path.dirname(ours)} before it" if ours else ""),
        )
    elif not is_ours:
        where = f": put {os.path.dirname(ours)} before {os.path.dirname(first)}" if ours else ""
        old = tuple(map(int, version.split("."))) <= ENVIRONMENT_TOKEN_VERSION
        why = ", and so old that everybody on this machine can see the token" if old else ""
        check.warned(
            detail, f"the AWS CLI will start that one, not this package's{why}{where} on the PATH to change it"
        )
    else:
        check.passed(detail)


def _check_cli(check: Running, path: str | None, text: str) -> None:
    if path is None:
        check.warned(
            "the AWS CLI is not on the PATH", "smp works without it; aws ssm start-session needs it to be installed"
        )
        return
    match = _CLI_VERSION.search(text)
    if match is None:
        check.warned(f"{path} does not say its version", "start it as `aws --version` and see what is wrong")
        return
    version = tuple(map(int, match[1].split(".")))
    if version[0] == 2 and version < CLI_TOKEN_VERSION:
        check.warned(
            f"{path} is version {match[1]}, which gives the token to the plugin as an argument",
            "everybody on this machine can see it there: install AWS CLI 2.13.37 or later",
        )
    else:
        check.passed(f"{path} is version {match[1]}")


def _all_on_path(program: str, path: str) -> list[str]:
    """Return every executable file of that name, each once."""
    found: dict[str, str] = {}
    for directory in path.split(os.pathsep):
        file = shutil.which(program, path=directory or os.curdir)
        if file is not None:
            found.setdefault(os.path.realpath(file), file)
    return list(found.values())


def _is_same(file: str, other: str) -> bool:
    return os.path.realpath(file) == os.path.realpath(other)


def _our_plugin() -> str | None:
    """Return the plugin that was installed with this package."""
    return shutil.which(PLUGIN, path=os.path.dirname(sys.executable))


class _Answer(NamedTuple):
    """The output of a program, and its duration in seconds."""

    text: str
    seconds: float


async def _version_of(path: str | None) -> _Answer:
    """Return the output of a program's ``--version``; empty if that fails."""
    if path is None:
        return _Answer("", 0.0)
    begun = time.monotonic()
    text = ""
    try:
        process = _start_version(path)
        try:
            # A thread, because on some platforms asyncio's subprocesses work in one event loop only.
            text = await asyncio.to_thread(_output_of, process)
        except asyncio.CancelledError:
            process.kill()  # ends the thread
            raise
    except (OSError, subprocess.SubprocessError) as error:
        get_logger(__name__).info("%s --version: %s", path, error)
    return _Answer(text, time.monotonic() - begun)


def _start_version(path: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [path, "--version"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,  # a Ctrl-C reaches the probe alone, which ends the program without judging it
    )


def _output_of(process: subprocess.Popen[bytes]) -> str:
    """Wait for ``process``, and return its output; empty if it failed. Raises ``TimeoutExpired``."""
    with process:
        try:
            output, _ = process.communicate(timeout=PROGRAM_TIMEOUT)
        finally:
            process.kill()
    return output.decode(errors="replace").strip() if process.returncode == 0 else ""


# Settings of AWS.


async def check_region(group: Group, settings: AwsSettings, *, needed: bool) -> Region | None:
    """Check the region and the setting that names it."""
    from session_manager_plugin.aws.region import find_region

    with group.check(Stage.LOCAL, "region") as check:
        try:
            region = await asyncio.to_thread(find_region, settings)
        except Exception as error:
            _say_missing(check, needed, *explain(error, settings))
            return None
        if region is None:
            _say_missing(check, needed, "none is set", "give --region, or set AWS_REGION")
        else:
            check.passed(f"{region.name}, from {region.source}")
        return region


async def check_credentials(group: Group, settings: AwsSettings, *, needed: bool) -> bool:
    """Check that there are credentials, and their source."""
    from session_manager_plugin.aws.diagnosis import find_credentials

    with group.check(Stage.LOCAL, "credentials") as check:
        try:
            async with asyncio.timeout(CREDENTIALS_TIMEOUT):
                found = await asyncio.to_thread(find_credentials, settings)
        except TimeoutError:
            _say_missing(
                check,
                needed,
                f"the credential provider did not answer within {CREDENTIALS_TIMEOUT:g} s",
                "check the network: SSO, STS or the metadata service cannot be reached",
            )
            return False
        except Exception as error:
            _say_missing(check, needed, *explain(error, settings))
            return False
        if found is None:
            _say_missing(
                check,
                needed,
                "none were found",
                "log in with `aws sso login`, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )
            return False
        profile = f", profile {found.profile}" if found.profile else ""
        check.passed(f"{found.key_id[:4]}…{found.key_id[-4:]} from {found.source}{profile}")
        return True


async def check_identity(group: Group, settings: AwsSettings, *, timeout: float) -> None:
    """Check that AWS accepts the credentials: GetCallerIdentity, which needs no permission."""
    from session_manager_plugin.aws.diagnosis import find_identity

    with group.check(Stage.LOCAL, "identity") as check:
        try:
            check.passed(await asyncio.to_thread(find_identity, settings, timeout))
        except Exception as error:
            check.failed(*explain(error, settings))


async def check_listing(group: Group, settings: AwsSettings, *, timeout: float) -> None:
    """Check the permission to list targets, which ``smp ls`` and targets by name need."""
    from session_manager_plugin.aws.diagnosis import try_to_list_targets

    with group.check(Stage.LOCAL, "DescribeInstanceInformation", "list targets") as check:
        try:
            await asyncio.to_thread(try_to_list_targets, settings, timeout)
        except Exception as error:
            detail, advice = explain(error, settings)
            check.warned(detail, f"smp ls and targets by name need it, ids do not: {advice}")
        else:
            check.passed("allowed: smp ls and targets by name work")


def _say_missing(check: Running, needed: bool, detail: str, advice: str) -> None:
    if needed:
        check.failed(detail, advice)
    else:
        check.warned(f"{detail} (not needed for this session)", advice)


def explain(error: Exception, settings: AwsSettings) -> tuple[str, str]:
    """Return detail and advice for an exception of ``aws`` or botocore."""
    from session_manager_plugin.aws import aws_errors

    if isinstance(error, SessionManagerError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, SessionManagerError):
        profile = settings.profile or os.environ.get("AWS_PROFILE")
        option = f" --profile {profile}" if profile else ""
        return str(error), f"run `aws sts get-caller-identity{option}` once: it asks, and keeps the answer"
    operation = getattr(error, "operation_name", "")
    found = aws_errors.explain(error, permission=f"for {operation}", profile=settings.profile)
    what = f"{operation} was refused: {found.what}" if operation else found.what
    return what, found.advice or "check the target and the endpoint"


# The clock.


def check_clock(check: Running, date: str | None, now: datetime) -> None:
    """Compare this machine's clock with the ``Date`` of a response that was received at ``now``."""
    try:
        there = parsedate_to_datetime(date or "")
    except ValueError:
        check.skipped("the service did not tell its time")
        return
    if there.tzinfo is None:  # the zone -0000 of RFC 5322
        there = there.replace(tzinfo=UTC)
    # The header has whole seconds, rounded down.
    skew = now - there - timedelta(seconds=0.5)
    seconds = abs(skew.total_seconds())
    if seconds <= 2:
        check.passed("as the service's, within 2 s")
        return
    detail = f"{_span(seconds)} {'ahead of' if skew > timedelta() else 'behind'} the service's"
    advice = "set this machine's clock, best by NTP (`timedatectl set-ntp true`)"
    if abs(skew) > SKEW_LIMIT:
        check.failed(detail, f"AWS refuses signatures that are 5 minutes off: {advice}")
    elif abs(skew) > SKEW_WARNING:
        check.warned(detail, f"{advice}, before AWS refuses its signatures")
    else:
        check.passed(detail)


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return str(timedelta(seconds=round(seconds)))
