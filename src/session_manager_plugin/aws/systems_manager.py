"""The calls of the Systems Manager API that start, resume and end a session."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from session_manager_plugin.aws.aws_errors import aws_failure, error_code, find_denial, is_throttled
from session_manager_plugin.aws.botocore_session import CallLimits, call
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.start_errors import explain_refusal
from session_manager_plugin.aws.threads import in_thread
from session_manager_plugin.errors import AccessDenied, ConnectError, SessionExpired, SessionManagerError
from session_manager_plugin.utils.logging import get_logger, register_secret

T = TypeVar("T")
_FIRST_ERROR = 300
"""The lowest HTTP status of an answer that is no success."""
_ECS = "ecs:"
"""What the target of a container begins with."""
EXEC_SHELL = "/bin/sh"
"""The command of ECS Exec."""
START_LIMITS = CallLimits(10.0, 20.0, 8, mode="adaptive")
"""Adaptive, because StartSession is throttled when many sessions are started at once."""
START_ONCE = CallLimits(10.0, 20.0, 1, keeps_client=True)
"""For a caller that repeats a throttled start itself."""
RESUME_LIMITS = CallLimits(5.0, 5.0, 1)
"""One attempt, because the caller repeats a failed call."""
LEAVE_TIMEOUT = 1.8
"""Seconds for terminating a session whose start was cancelled."""
TERMINATE_LIMITS = CallLimits(1.5, 1.5, 1)
"""Short, because the program is about to end."""
TERMINATE_MANY = CallLimits(1.5, 1.5, 4, keeps_client=True)
"""For a program with many sessions, which it terminates all at once when it ends: a client for each of them would take
longer than the calls, and the service may throttle them."""
RESUME_CREDENTIALS_MAX_AGE = 5.0
"""Seconds. After an outage credentials are looked up again, once for all sessions of the outage."""


@dataclass(frozen=True)
class StartedSession:
    """A session that was started: its id, stream URL and token."""

    session_id: str
    stream_url: str = field(repr=False)
    """May be empty in a response of ResumeSession: then the URL is unchanged."""
    token: str = field(repr=False)


class SystemsManager:
    """Calls the Systems Manager API, each call in a thread. Nothing prompts.

    Every method raises ``AccessDenied``, ``ConfigurationError`` or ``ConnectError``, with botocore's exception as the
    cause. A cancelled call continues in its thread.
    """

    def __init__(self, settings: AwsSettings, *, throttled: Callable[[str], None] = lambda _sentence: None) -> None:
        """``throttled`` is called with a sentence, in the running event loop, when StartSession is throttled for the
        first time: it is tried again, for up to a minute."""
        self._settings = settings
        self._throttled = throttled

    async def start_session(
        self,
        target: str,
        document: str = "",
        parameters: Mapping[str, Sequence[str]] | None = None,
        reason: str = "",
        *,
        limits: CallLimits = START_LIMITS,
    ) -> StartedSession:
        """Start a session on ``target``, an instance's id or ``ecs:CLUSTER_TASK_RUNTIME``.

        Without a ``document`` the session is a shell; no document is sent, because naming even the default one requires
        a permission. For a container a shell is started with ECS Exec (ExecuteCommand), unless that is denied or there
        is a ``reason``, which ECS Exec does not support. If a cancelled call starts a session nevertheless, it is
        terminated within ``LEAVE_TIMEOUT`` seconds.
        """
        if not target.startswith(_ECS) or document or reason:
            return await self._start_session(target, document, parameters, reason, limits)
        try:
            return await self._execute_command(target)
        except AccessDenied as denied:
            if find_denial(str(denied.__cause__)) is not None:
                with contextlib.suppress(AccessDenied):
                    return await self._start_session(target, "", parameters, reason, limits)
            raise

    async def _start_session(
        self,
        target: str,
        document: str,
        parameters: Mapping[str, Sequence[str]] | None,
        reason: str,
        limits: CallLimits,
    ) -> StartedSession:
        request: dict[str, Any] = {"Target": target}
        if document:
            request["DocumentName"] = document
        if parameters:
            request["Parameters"] = {name: list(values) for name, values in parameters.items()}
        if reason:
            request["Reason"] = reason
        loop = asyncio.get_running_loop()
        attempts = _Attempts(lambda sentence: loop.call_soon_threadsafe(self._throttled, sentence))

        def start(client: Any) -> StartedSession:
            if not limits.keeps_client:
                attempts.watch(client.meta.events)
            answer = client.start_session(**request)
            return _started(answer, answer["SessionId"])

        try:
            return await self._start("StartSession", limits, start, attempts=None if limits.keeps_client else attempts)
        except SessionManagerError as error:
            refusal = await explain_refusal(self._settings, error, target, document)
            raise refusal from error.__cause__

    async def _execute_command(self, target: str) -> StartedSession:
        """Start a shell in a container by ECS Exec."""
        from session_manager_plugin.aws.ecs import container_name, split_target

        cluster, task_id, _ = split_target(target)

        def start(client: Any) -> StartedSession:
            session = client.execute_command(
                cluster=cluster,
                task=task_id,
                container=container_name(self._settings, target),
                command=EXEC_SHELL,
                interactive=True,
            )["session"]
            register_secret(session["tokenValue"])
            return StartedSession(session["sessionId"], session["streamUrl"], session["tokenValue"])

        return await self._start("ExecuteCommand", START_LIMITS, start, service="ecs")

    async def _start(
        self,
        operation: str,
        limits: CallLimits,
        start: Callable[[Any], StartedSession],
        *,
        service: str = "ssm",
        attempts: _Attempts | None = None,
    ) -> StartedSession:
        """Call ``start`` with a client. A session that it starts although the call was cancelled is terminated. Where
        ``attempts`` are watched and none is under way, a cancelled call returns at once."""
        calling = asyncio.ensure_future(self._call(operation, limits, start, service=service))
        try:
            return await asyncio.shield(calling)
        except asyncio.CancelledError:
            if attempts is not None and not attempts.cancel():
                calling.cancel()
                raise
            with contextlib.suppress(Exception):
                async with asyncio.timeout(LEAVE_TIMEOUT):
                    await self.try_to_terminate((await calling).session_id, is_one_of_many=limits.keeps_client)
            raise

    async def resume_session(self, session_id: str) -> StartedSession:
        """Get a new token for a session. Raises ``SessionExpired`` if the session has ended."""
        answer = await self._call(
            "ResumeSession",
            RESUME_LIMITS,
            lambda client: client.resume_session(SessionId=session_id),
            credentials_max_age=RESUME_CREDENTIALS_MAX_AGE,
            missing="AWS knows no such session any more",
        )
        # As in the official client, a missing or empty token means that the session has ended (protocol reference 7).
        if not answer.get("TokenValue"):
            raise SessionExpired("AWS has ended it: it was terminated, or has timed out")
        return _started(answer, session_id)

    async def terminate_session(self, session_id: str, *, limits: CallLimits = TERMINATE_LIMITS) -> None:
        """Terminate a session."""
        await self._call("TerminateSession", limits, lambda client: client.terminate_session(SessionId=session_id))

    async def try_to_terminate(self, session_id: str, *, is_one_of_many: bool = False) -> None:
        """Terminate a session. An error is logged, not raised. ``is_one_of_many``: other sessions are likely to be
        terminated at the same time."""
        logger = get_logger(__name__)
        try:
            limits = TERMINATE_MANY if is_one_of_many else TERMINATE_LIMITS
            await self.terminate_session(session_id, limits=limits)
        except Exception as error:
            logger.warning("session %s could not be terminated: %s", session_id, error)
        else:
            logger.info("session %s is terminated", session_id)

    async def _call(
        self,
        operation: str,
        limits: CallLimits,
        request: Callable[[Any], T],
        *,
        service: str = "ssm",
        credentials_max_age: float = math.inf,
        missing: str = "",
    ) -> T:
        """``missing`` is the text of the ``SessionExpired`` to raise if there is no such session."""

        def work() -> T:
            answer: T = call(self._settings, service, limits, request, credentials_max_age=credentials_max_age)
            return answer

        try:
            return await asyncio.wrap_future(in_thread(work))
        except SessionManagerError:
            raise
        except Exception as error:
            if missing and error_code(error) == "DoesNotExistException":
                raise SessionExpired(missing) from error
            raise aws_failure(
                error, f"{operation} failed", permission=f"{service}:{operation}", profile=self._settings.profile
            ) from error


class _Attempts:
    """The attempts of one call of StartSession, which botocore makes in a thread, and between which it sleeps.

    Calls ``notify`` with a sentence, in that thread, for the first answer that says "throttled".
    """

    def __init__(self, notify: Callable[[str], object]) -> None:
        self._notify = notify
        self._notified = False
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._under_way = False

    def watch(self, events: Any) -> None:
        """Watch the attempts of a client, whose ``events`` these are."""
        # Last, because botocore's limiter of the rate sleeps in a handler of the same event.
        events.register_last("before-send.ssm.StartSession", self._sending)
        events.register("needs-retry.ssm.StartSession", self._answered)

    def cancel(self) -> bool:
        """Prevent further attempts. Returns whether one is under way or has succeeded, which may start a session."""
        with self._lock:
            self._is_cancelled = True
            return self._under_way

    def _sending(self, **_context: Any) -> None:
        with self._lock:
            if self._is_cancelled:
                raise ConnectError("the start of the session was cancelled")
            self._under_way = True

    def _answered(self, response: tuple[Any, Any] | None = None, **_context: Any) -> None:
        """``response`` is None if there was no answer."""
        if response is None or response[0].status_code >= _FIRST_ERROR:
            with self._lock:
                self._under_way = False
        if self._notified or response is None or not is_throttled(response[1]):
            return
        self._notified = True
        sentence = "AWS throttles StartSession; trying again, for up to a minute"
        get_logger(__name__).info("%s", sentence)
        self._notify(sentence)


def _started(answer: dict[str, Any], session_id: str) -> StartedSession:
    register_secret(answer["TokenValue"])
    return StartedSession(session_id, answer.get("StreamUrl") or "", answer["TokenValue"])
