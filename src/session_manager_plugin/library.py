"""The asyncio API: sessions on a stream URL or with a target, commands, forwarded ports, and copies of files.

Every function raises ``UsageError`` for an argument of a wrong value, and ``WrongType``, which is a ``UsageError`` and
a ``TypeError``, for one of a wrong type, before anything else happens.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from session_manager_plugin import arguments
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.communicator import LinkOptions, SessionDataChannel, complete_stream_url
from session_manager_plugin.communicator.config import session_websocket_config
from session_manager_plugin.errors import CommandTimedOut, InvalidURL, SessionManagerError, UsageError
from session_manager_plugin.execution.fleet import FANOUT, run_on_all
from session_manager_plugin.execution.remote_command import RemoteCommand, Via, attempt_ways, command_of
from session_manager_plugin.session.document_names import SEPARATE_OUTPUTS, needs_handshake
from session_manager_plugin.session.outcome import FAILURE, Outcome, outcome_of
from session_manager_plugin.session.protocols import IDataChannel, KeyService, RequestSigner, ResumeService
from session_manager_plugin.session.runner import HANDLERS, SessionRunner
from session_manager_plugin.session.session import Session
from session_manager_plugin.session.streams import MemoryStreams
from session_manager_plugin.utils.hosts import is_loopback

if TYPE_CHECKING:
    from session_manager_plugin.aws.start_pace import StartPace
    from session_manager_plugin.forwarding.destination import Destination
    from session_manager_plugin.forwarding.forward import Forward
    from session_manager_plugin.transfer.report import CopyReport

__all__ = [
    "AwsSettings",
    "CompletedSession",
    "LinkOptions",
    "Outcome",
    "Session",
    "Via",
    "connect",
    "copy",
    "forward",
    "run",
    "run_many",
    "start",
]


def connect(
    url: str,
    token: str,
    *,
    session_id: str | None = None,
    link: LinkOptions | None = None,
    aws: AwsSettings | None = None,
    target: str = "",
    handshake_required: bool = False,
    separate_outputs: bool = False,
    key_service: KeyService | None = None,
    resume_service: ResumeService | None = None,
    signer: RequestSigner | None = None,
) -> Session:
    """Return a session for a stream URL and a token, as returned by StartSession; ``async with`` opens it.

    ``url`` is a complete stream URL, used verbatim, or a bare endpoint, which needs ``session_id``. ``link`` holds the
    options of the connection. ``handshake_required``: the session's document is known to begin with a handshake.
    ``separate_outputs``: the session was started with ``separateOutputStream``; if the agent does not support that, the
    session ends with ``AgentTooOld`` before the command runs.

    With ``aws`` the request that opens the websocket is signed, a lost connection is restored with a new token from
    ResumeSession, and KMS provides the data key of an encrypted session, which also needs the session's ``target``.
    Pass a ``signer``, a ``resume_service`` or a ``key_service`` to replace one of these. Without any of them, requests
    are not signed, a lost connection is restored with the given token only, and an encrypted session fails. The proxy
    and the CA bundle of ``aws`` are used for the websocket too, unless ``link`` has its own.

    Raises ``InvalidURL`` for an invalid URL, and for ``ws://`` to another machine unless ``link.insecure`` is set,
    because the token would be sent unencrypted.
    """
    arguments.check_text("url", url)
    arguments.check_text("token", token, optional=False)
    arguments.check_text("session_id", session_id or "")
    arguments.check_text("target", target)
    arguments.check_settings(aws, link)
    url, session_id = complete_stream_url(url, session_id, token)
    link = link or LinkOptions()
    if aws is not None:
        link = replace(link, proxy=link.proxy or aws.proxy, ca_bundle=link.ca_bundle or aws.ca_bundle)
    host = urlsplit(url).hostname or ""
    if url.startswith("ws://") and not link.insecure and not is_loopback(host):
        otherwise = f", or {link.names.insecure}" if link.names.insecure else ""
        raise InvalidURL(f"refusing ws:// to {host}: the token would travel unencrypted; use wss://{otherwise}")
    if aws is not None:
        from session_manager_plugin.aws.session_services import SessionServices
        from session_manager_plugin.aws.signing import OpeningSigner

        services = SessionServices(aws, session_id, target)
        key_service = key_service or services
        resume_service = resume_service or services
        signer = signer or OpeningSigner(aws)
    channel = SessionDataChannel(
        session_websocket_config(link, url, token, signer),
        session_id=session_id,
        session_types=frozenset(HANDLERS),
        handshake_required=handshake_required,
        separate_outputs=separate_outputs,
        key_service=key_service,
        resume_service=resume_service,
        reconnect_timeout=link.reconnect_timeout,
    )
    return Session(channel)


def start(
    target: str,
    *,
    document: str = "",
    parameters: Mapping[str, Sequence[str]] | None = None,
    reason: str = "",
    aws: AwsSettings | None = None,
    link: LinkOptions | None = None,
    signer: RequestSigner | None = None,
    pace: StartPace | None = None,
) -> Session:
    """Return a session with a target. ``async with`` starts it with StartSession, opens it, and terminates it at the
    end unless the far end has ended it.

    ``target`` is an id, a name, an address or a tag, as for ``aws.targets.resolve_target``. Without a ``document`` the
    session is a shell; ``parameters`` are those of the document. AWS stores ``reason`` with the session. ``aws``
    selects account and region, ``link`` holds the options of the connection. Sessions started with the same ``pace``
    share the rate that the service allows.

    If the parameters request ``separateOutputStream`` and the agent does not support it, the session ends with
    ``AgentTooOld`` before the command runs.

    Opening raises ``UsageError`` and ``ConnectError`` for a target that is not found, ``AccessDenied``, and the errors
    of connecting. A cancelled ``open`` leaves no session behind.
    """
    arguments.check_text("target", target)
    arguments.check_text("document", document)
    arguments.check_text("reason", reason)
    arguments.check_parameters({} if parameters is None else parameters)
    arguments.check_settings(aws, link)
    return Session(
        starter=_TargetStarter(
            target, document, parameters or {}, reason, aws or AwsSettings(), link or LinkOptions(), signer, pace
        )
    )


@dataclass
class _TargetStarter:
    """A ``SessionStarter`` that uses StartSession and TerminateSession."""

    target: str
    document: str
    parameters: Mapping[str, Sequence[str]]
    reason: str
    aws: AwsSettings
    link: LinkOptions
    signer: RequestSigner | None
    pace: StartPace | None
    session_id: str = field(default="", init=False)

    async def start(self) -> IDataChannel:
        """See ``SessionStarter``."""
        from session_manager_plugin.aws.systems_manager import START_ONCE, SystemsManager
        from session_manager_plugin.aws.targets import resolve_target

        target = await resolve_target(self.aws, self.target)
        request = partial(SystemsManager(self.aws).start_session, target, self.document, self.parameters, self.reason)
        if self.pace is None:
            started = await request()
        else:
            started = await self.pace.run(partial(request, limits=START_ONCE))
        self.session_id = started.session_id
        return connect(
            started.stream_url,
            started.token,
            session_id=started.session_id,
            link=self.link,
            aws=self.aws,
            target=target,
            handshake_required=needs_handshake(self.document),
            separate_outputs=list(self.parameters.get(SEPARATE_OUTPUTS, ())) == ["true"],
            signer=self.signer,
        ).channel

    async def terminate(self) -> None:
        """See ``SessionStarter``."""
        from session_manager_plugin.aws.systems_manager import SystemsManager

        await SystemsManager(self.aws).try_to_terminate(self.session_id, is_one_of_many=self.pace is not None)


@dataclass(frozen=True)
class CompletedSession:
    """A remote command that has ended."""

    status: int
    """The exit status, 0 to 255. It is 128 + n if signal n has killed the command, and 255 if the signal is unknown, as
    with ``Via.DOCUMENT``, or if an ``error`` left the status unknown."""
    stdout: bytes
    """Standard output; with ``Via.SHELL`` it includes standard error."""
    stderr: bytes
    target: str = field(default="", compare=False)
    """The target, as named by the caller."""
    seconds: float = field(default=0.0, compare=False)
    """The duration, including the start of the session."""
    error: SessionManagerError | None = None
    """Why the status is unknown or output is missing. Only ``run_many`` sets it; ``run`` raises it."""
    is_killed: bool = field(default=False, compare=False)
    """Whether a signal has killed the command."""


async def run(
    target: str,
    command: str | Sequence[str],
    *,
    input: bytes = b"",
    via: Via = Via.AUTO,
    timeout: float | None = None,
    reason: str = "",
    aws: AwsSettings | None = None,
    link: LinkOptions | None = None,
) -> CompletedSession:
    """Run a command on a target and return its exit status and its outputs.

    ``command`` is a list of words, executed without a shell, or a string for ``sh -c``. Standard output and standard
    error are separate, except with ``Via.SHELL``, which ``Via.AUTO`` falls back to where the document is denied or the
    agent is too old. ``input`` needs ``Via.SHELL``. The session is terminated when this call is cancelled.

    Raises ``CommandTimedOut`` after ``timeout`` seconds, ``OutputIncomplete`` if output was lost, ``SessionEnded`` if
    the session ended before the command's status was known, ``UsageError``, and the errors of starting a session.
    """
    arguments.check_text("target", target)
    arguments.check_bytes("input", input)
    arguments.check_member("via", via, Via)
    arguments.check_run(timeout, reason, aws, link)
    completed = await _run(
        target, command_of(command), input, via, timeout, reason, aws or AwsSettings(), link, pace=None
    )
    if completed.error is not None:
        raise completed.error
    return completed


async def run_many(
    targets: Iterable[str],
    command: str | Sequence[str],
    *,
    fanout: int = FANOUT,
    via: Via = Via.AUTO,
    timeout: float | None = None,
    reason: str = "",
    aws: AwsSettings | None = None,
    link: LinkOptions | None = None,
) -> AsyncGenerator[CompletedSession, None]:
    """Run a command on many targets, at most ``fanout`` at once; yield each result as the command ends.

    The other arguments are those of ``run``. An error on one target is the ``error`` of its result; the other targets
    continue. Where the service throttles StartSession, sessions are started as fast as it allows. A caller that leaves
    the iteration early must close it, with ``contextlib.aclosing``, which terminates the sessions.

    Raises ``UsageError``, before any session is started, for a command that cannot be sent and a ``fanout`` below 1.
    """
    from session_manager_plugin.aws.start_pace import StartPace

    targets = arguments.checked_targets(targets)
    arguments.check_whole_number("fanout", fanout, 1)
    arguments.check_member("via", via, Via)
    arguments.check_run(timeout, reason, aws, link)
    remote, settings, pace = command_of(command), aws or AwsSettings(), StartPace()

    async def run_one(target: str) -> CompletedSession:
        return await _run(target, remote, b"", via, timeout, reason, settings, link, pace)

    async with aclosing(run_on_all(targets, run_one, fanout=fanout)) as all_completed:
        async for completed in all_completed:
            yield completed


async def _run(
    target: str,
    command: RemoteCommand,
    input: bytes,
    via: Via,
    timeout: float | None,
    reason: str,
    aws: AwsSettings,
    link: LinkOptions | None,
    pace: StartPace | None,
) -> CompletedSession:
    """Run a command; a ``SessionManagerError`` becomes the ``error`` of the result."""
    streams = MemoryStreams(input, high_water=sys.maxsize)

    async def attempt(way: Via) -> Outcome:
        document, parameters = command.session_request(way)
        session = start(target, document=document, parameters=parameters, reason=reason, aws=aws, link=link, pace=pace)
        try:
            await session.open()
            handlers = command.handlers(way, has_input=bool(input))
            return await SessionRunner(session, handlers).run(streams)
        except SessionManagerError as error:
            return outcome_of(error)
        finally:
            await session.close()

    began_at = time.monotonic()
    outcome = Outcome()
    try:
        if via is Via.TERMINAL:
            raise UsageError("a command with a terminal has no exit status: use start")
        if input and via is not Via.SHELL:
            raise UsageError("the agent passes no input to a command: use via=Via.SHELL")
        async with asyncio.timeout(timeout) as limit:
            outcome = await attempt_ways(via, attempt, lambda _sentence: None)
        outcome.raise_abnormal()
    except TimeoutError:
        if not limit.expired():
            raise
        assert timeout is not None
        outcome = outcome_of(CommandTimedOut(f"the command did not end within {timeout:g} s", seconds=timeout))
    except SessionManagerError as error:
        outcome = dataclasses.replace(outcome, error=error)
    return CompletedSession(
        FAILURE if outcome.status is None else outcome.status,
        streams.take_output(),
        streams.take_error_output(),
        target,
        time.monotonic() - began_at,
        outcome.error if isinstance(outcome.error, SessionManagerError) else None,
        outcome.is_killed,
    )


def forward(
    target: str,
    port: int,
    *,
    host: str = "",
    local_port: int = 0,
    pool: int = 1,
    new_session: bool = False,
    aws: AwsSettings | None = None,
    link: LinkOptions | None = None,
) -> Forward:
    """Return a forward from a local port to ``port`` of the target, or of a ``host`` that the target reaches.

    ``async with`` binds the local port on loopback and starts the session. ``Forward.port`` is the bound port: any free
    port if ``local_port`` is 0. ``pool`` is the number of sessions; each connection goes to the next of them in turn.
    With ``new_session`` a session that is lost for good is replaced; without it ``Forward.wait`` raises.

    Entering raises ``ConfigurationError`` for a port that cannot be bound, ``UsageError`` and ``ConnectError`` for a
    target that is not found, ``AccessDenied``, and the errors of connecting.
    """
    from session_manager_plugin.forwarding.forward import Forward
    from session_manager_plugin.session.forward_spec import ForwardSpec, LocalAddress

    arguments.check_text("target", target)
    arguments.check_whole_number("port", port, 1, arguments.MAX_PORT)
    arguments.check_text("host", host)
    arguments.check_whole_number("local_port", local_port, 0, arguments.MAX_PORT)
    arguments.check_whole_number("pool", pool, 1)
    arguments.check_settings(aws, link)
    spec = ForwardSpec(LocalAddress(port=local_port), host, port)
    return Forward(ForwardSessions(target, aws, link), [spec], pool=pool, new_session=new_session)


class ForwardSessions:
    """Implements ``ForwardServices`` with ``start``, for one target. ``signer`` returns the signer for each session."""

    def __init__(
        self,
        target: str,
        aws: AwsSettings | None = None,
        link: LinkOptions | None = None,
        signer: Callable[[], RequestSigner] | None = None,
    ) -> None:
        self._target = target
        self._aws = aws or AwsSettings()
        self._link = link
        self._signer = signer

    async def resolve_target(self) -> str:
        """See ``ForwardServices``."""
        from session_manager_plugin.aws.targets import resolve_target

        return await resolve_target(self._aws, self._target)

    async def resolve_database(self, name: str) -> tuple[str, int]:
        """See ``ForwardServices``."""
        from session_manager_plugin.aws.rds import resolve_database

        return await resolve_database(self._aws, name)

    def session(self, target_id: str, destination: Destination) -> Session:
        """See ``ForwardServices``."""
        return start(
            target_id,
            document=destination.document,
            parameters=destination.parameters,
            aws=self._aws,
            link=self._link,
            signer=None if self._signer is None else self._signer(),
        )


LocalPath = os.PathLike[str]
"""A path on this machine, whatever characters it contains. A ``str`` with a colon may be ``TARGET:PATH``."""
MAX_STREAMS = 8


async def copy(
    sources: str | LocalPath | Sequence[str | LocalPath],
    destination: str | LocalPath,
    *,
    recursive: bool = False,
    preserve: bool = False,
    streams: int = 1,
    aws: AwsSettings | None = None,
    link: LinkOptions | None = None,
    report: CopyReport | None = None,
) -> CopyReport:
    """Copy files between this machine and a target; return a report of copied files and of problems.

    Either ``destination`` or every source is remote, written ``TARGET:PATH``; remote sources are all on one target. A
    ``pathlib.Path`` is a local path, even if it contains a colon or is ``-``; a str ``-`` is standard input or output.
    ``recursive`` copies directories, ``preserve`` keeps modes and times. A file of 8 MiB or more is copied in parts
    over ``streams`` (1 to 8) sessions at the same time. ``report`` receives the progress. A file that cannot be read or
    written is listed in ``report.problems``; the others are copied.

    Raises ``UsageError`` unless exactly one side is remote, ``CopyFailed`` for a problem that concerns all files,
    ``OSError`` if standard input cannot be read or the local disk is full, ``RemoteProtocolError`` if the target's
    output is damaged, and the errors of ``start`` for a session that cannot be started or is lost for good, and
    ``TypeError`` for an argument of a wrong type. After an error no incomplete file has its final name.
    """
    from session_manager_plugin.aws.start_pace import StartPace
    from session_manager_plugin.aws.targets import resolve_target
    from session_manager_plugin.transfer.download import download
    from session_manager_plugin.transfer.names import parse_location
    from session_manager_plugin.transfer.report import CopyOptions, CopyReport
    from session_manager_plugin.transfer.target_sessions import TargetSessions
    from session_manager_plugin.transfer.upload import check_standard_input, upload

    sources = arguments.checked_paths("sources", sources)
    arguments.check_path("destination", destination)
    arguments.check_whole_number("streams", streams, 1, MAX_STREAMS)
    arguments.check_settings(aws, link)
    remote_sources = [place for path in sources if isinstance(path, str) and (place := parse_location(path))]
    remote_destination = parse_location(destination) if isinstance(destination, str) else None
    if not sources:
        raise UsageError("there is no source to copy")
    if "" in sources or destination == "":
        raise UsageError(f"{'the destination' if destination == '' else 'a source'} is an empty name")
    if remote_sources and len(remote_sources) < len(sources):
        raise UsageError("the sources must be all local, or all on one target (TARGET:PATH)")
    if bool(remote_sources) == (remote_destination is not None):
        raise UsageError("one side of a copy is on a target, written TARGET:PATH, and the other one is local")
    if len({location.target for location in remote_sources}) > 1:
        raise UsageError("the sources must be on one target")
    if "-" in sources:
        check_standard_input()
    aws, report = aws or AwsSettings(), report or CopyReport()
    options = CopyOptions(recursive=recursive, preserve=preserve, streams=streams)
    target = (remote_destination or remote_sources[0]).target
    target_id = await resolve_target(aws, target)
    pace = StartPace() if streams > 1 else None

    def start_session(document: str, parameters: Mapping[str, Sequence[str]]) -> Session:
        return start(target_id, document=document, parameters=parameters, aws=aws, link=link, pace=pace)

    sessions = TargetSessions(start_session, report)
    if remote_destination is not None:
        await upload(sessions, [_local_name(source) for source in sources], remote_destination.path, options, report)
    else:
        paths = [location.path for location in remote_sources]
        await download(sessions, paths, _local_name(destination), options, report)
    return report


def _local_name(path: str | LocalPath) -> bytes:
    """Return the name of a local file. A str ``-`` is standard input or output, a path of that name is a file."""
    name = os.fsencode(path)
    return b"./-" if name == b"-" and not isinstance(path, str) else name
