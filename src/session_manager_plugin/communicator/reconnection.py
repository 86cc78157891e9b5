"""Replaces a lost websocket: when to try, with which token, and when to give up."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Protocol

from session_manager_plugin.communicator.config import WebSocketConfig
from session_manager_plugin.communicator.stream_url import replace_token, validate_websocket_url
from session_manager_plugin.errors import (
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    LocalProtocolError,
    ProxyRefused,
    Refused,
    SessionExpired,
    SessionManagerError,
)
from session_manager_plugin.session.protocols import ResumeService
from session_manager_plugin.utils.logging import get_logger, register_secret

FIRST_DELAY = 0.05
"""The longest delay before the first attempt, in seconds. It doubles with each attempt."""
MAX_DELAY = 5.0
"""The longest delay between two attempts, in seconds: after any outage the session is restored soon."""
ATTEMPT_TIMEOUT = 15.0
"""The longest duration of one attempt, in seconds. Otherwise an attempt on a network that has gone would not end."""
PROOF_DELAY = 1.0
"""Seconds after which a new websocket without any received message counts as accepted. A gateway that refuses the token
closes the websocket at once."""
TELLING_DELAY = 1.0
"""Seconds of an outage before it is reported."""
TOKEN_REFUSED = 1008
"""The close code for a token that the gateway refuses (protocol reference 7)."""
_PROXY_AUTHENTICATION = 407


class Reconnectable(Protocol):
    """The websocket to be opened again."""

    last_error: Exception | None

    async def connect(self, config: WebSocketConfig, /) -> bool:
        """Try once, with ``config``. Returns False if that failed; the reason is in ``last_error``."""


class Proof(Enum):
    """Whether the gateway has accepted the websocket's token. An open websocket does not prove that."""

    ABSENT = "absent"
    """There is no websocket."""
    UNPROVEN = "unproven"
    """The websocket is open, and no message was received on it."""
    PROVEN = "proven"
    """A message was received, or the websocket has stayed open for ``PROOF_DELAY`` seconds after an outage."""


class ProofInput(Enum):
    """Events of the websocket."""

    OPENED = "opened"
    MESSAGE_RECEIVED = "message received"
    STAYED_OPEN = "stayed open"
    LOST = "lost"


PROOFS = {
    (Proof.ABSENT, ProofInput.OPENED): Proof.UNPROVEN,
    (Proof.UNPROVEN, ProofInput.MESSAGE_RECEIVED): Proof.PROVEN,
    (Proof.UNPROVEN, ProofInput.STAYED_OPEN): Proof.PROVEN,
    (Proof.UNPROVEN, ProofInput.LOST): Proof.ABSENT,
    (Proof.PROVEN, ProofInput.LOST): Proof.ABSENT,
}
"""All transitions. Messages after the first have no effect and are not looked up, because they are so frequent."""


def next_proof(proof: Proof, step: ProofInput) -> Proof:
    """Return the state that ``step`` leads to. Raises ``LocalProtocolError`` if the table has no row for it."""
    try:
        return PROOFS[proof, step]
    except KeyError:
        raise LocalProtocolError(f"proof: {step.name} in state {proof.name}") from None


class Reconnection:
    """Ends the outages of one session's websocket.

    First a new websocket is opened with the current token. If the token is refused (by an HTTP status, by close code
    1008, or by closing before any message), ``service`` is called for a new token, and a websocket is opened with that.
    Without credentials the attempts continue with the current token. The owner calls ``opened``, ``message_received``
    and ``lost``. An outage begins with ``lost``, lasts ``timeout`` seconds at most, and ends when a new websocket is
    ``PROVEN``: then ``restored`` is called. ``run`` may be called several times in one outage, because an open
    websocket does not prove that the token was accepted.

    The delay before an attempt doubles each time, and is shortened at random by up to half, so that the clients of a
    gateway that restarts do not return all at once. A refused token shows that the network works again: after the first
    refusal the delay is the shortest again, and doubles only with further refusals in a row.
    """

    def __init__(
        self,
        websocket: Reconnectable,
        config: WebSocketConfig,
        service: ResumeService | None,
        timeout: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        restored: Callable[[], None] = lambda: None,
    ) -> None:
        self.logger = get_logger(__name__)
        self.timeout = timeout
        self.count = 0
        """How often the connection was restored."""
        self._websocket = websocket
        self._config = config
        self._service = service
        self._clock = clock
        self._restored = restored
        self.proof = Proof.ABSENT
        self._proof_timer: asyncio.TimerHandle | None = None
        self._reusable = ""
        """A token with which two websockets were proven, and which is therefore reusable."""
        self._proven_with = ""
        """The token of the last websocket that was proven."""
        self.began_at: float | None = None
        """When the websocket was lost; None while there is no outage."""
        self._reason: Exception | None = None
        self._obstacle = ""
        self._no_token = ""
        """Why the last request for a new token failed; it explains further refusals of the old token."""
        self._patient = True
        self._attempts = 0
        self._next_attempt_at = 0.0
        self._trying = False
        self._token_refused = False
        self._refusals = 0
        """How often in a row the current token was refused."""
        self._hurried = asyncio.Event()

    @property
    def active(self) -> bool:
        """Whether there is an outage."""
        return self.began_at is not None

    @property
    def can_resume(self) -> bool:
        """Whether a new token can be requested."""
        return self._service is not None

    def opened(self) -> None:
        """Note that the websocket is open."""
        self._apply(ProofInput.OPENED)
        if self.active:
            self._proof_timer = asyncio.get_running_loop().call_later(PROOF_DELAY, self._prove, ProofInput.STAYED_OPEN)

    def message_received(self) -> None:
        """Note that messages were received on the websocket."""
        if self.proof is Proof.UNPROVEN:
            self._prove(ProofInput.MESSAGE_RECEIVED)

    def lost(self, reason: Exception, now: float, *, patient: bool) -> None:
        """Note that the websocket was lost, for ``reason``.

        ``patient``: the session is known to exist, so a failed request for a token is repeated.
        """
        refused = self.proof is Proof.UNPROVEN or refuses_token(reason)
        self._apply(ProofInput.LOST)
        self._patient = patient
        self._judge(refused)
        if self.began_at is None:
            self.began_at, self._reason = now, reason
        else:
            self._failed(reason)

    def stop(self) -> None:
        """Stop at the end of the session."""
        self._cancel_proof_timer()

    def _apply(self, step: ProofInput) -> None:
        self.proof = next_proof(self.proof, step)
        self._cancel_proof_timer()

    def _cancel_proof_timer(self) -> None:
        if self._proof_timer is not None:
            self._proof_timer.cancel()
            self._proof_timer = None

    def _prove(self, step: ProofInput) -> None:
        self._apply(step)
        if self._proven_with == self._config.token:
            self._reusable = self._config.token
        self._proven_with = self._config.token
        if self.began_at is None:
            return
        lasted = self._clock() - self.began_at
        self.logger.info("reconnected after %.1f s and %d attempts", lasted, self._attempts)
        self.count += 1
        self.began_at, self._obstacle, self._no_token, self._attempts, self._refusals = None, "", "", 0, 0
        self._restored()

    async def prepare(self) -> None:
        """Make sure that a websocket dropped now can be replaced: get a new token, unless the current one is reusable.

        Raises ``ConfigurationError`` if reconnecting is off, and the error that prevents a new token. The session
        continues in either case.
        """
        if self.timeout <= 0:
            raise ConfigurationError("with a reconnect timeout of 0 the session would end")
        if self._reusable == self._config.token:
            return
        if self._service is None:
            raise ConnectError(
                "the gateway may accept the token only once, and there are no credentials to get a new one: "
                "give --region, --profile or --endpoint-url"
            )
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                self._config = await self._resumed()
        except TimeoutError:
            raise ConnectError(f"no new token within {ATTEMPT_TIMEOUT:g} s") from None

    def hurry(self) -> None:
        """Make the next attempt now."""
        self._hurried.set()

    @property
    def reason(self) -> str:
        """Why the connection is not restored, as a clause: the last failed attempt, or the end of the last
        websocket."""
        return self._obstacle or str(self._reason)

    def next_attempt(self, now: float) -> str:
        """Return a clause about the current or next attempt: its number, and when it is made."""
        attempt = f"attempt {self._attempts + (not self._trying)}"
        wait = 0.0 if self._trying else self._next_attempt_at - now
        return f"{attempt} in {wait:.0f} s" if wait >= 1 else attempt

    async def run(self) -> None:
        """Try until a websocket is open.

        Raises ``SessionExpired``, and ``ConnectionLost`` after ``timeout`` or, unless ``patient``, without a new token.
        """
        while True:
            await self._wait()
            self._attempts += 1
            self._trying = True
            try:
                async with asyncio.timeout(min(ATTEMPT_TIMEOUT, self._config.connect_timeout)) as limit:
                    if await self._attempt():
                        return
            except TimeoutError:
                if not limit.expired():
                    raise
                self._obstacle = f"no answer within {min(ATTEMPT_TIMEOUT, self._config.connect_timeout):g} s"
            finally:
                self._trying = False
            self.logger.info("attempt %d to reconnect failed: %s", self._attempts, self._obstacle or "token refused")

    async def _wait(self) -> None:
        assert self.began_at is not None
        doublings = self._refusals - 1 if self._token_refused else self._attempts
        delay = min(MAX_DELAY, FIRST_DELAY * 2 ** min(doublings, 10)) * random.uniform(0.5, 1.0)
        now = self._clock()
        deadline = self.began_at + self.timeout
        if now >= deadline:
            last = f"; the last attempt: {self._obstacle}" if self._obstacle else ""
            raise self._lost(f" and not restored within {self.timeout:g} seconds{last}")
        self._next_attempt_at = min(now + delay, deadline)
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + self._next_attempt_at - now):
                await self._hurried.wait()
        except TimeoutError:
            pass
        self._hurried.clear()

    async def _attempt(self) -> bool:
        if self._token_refused:
            # If there is no new token, the current one is tried again next time: the obstacle (such as the page of a
            # captive portal) may also have caused the refusal.
            self._token_refused = False
            try:
                self._config = await self._resumed()
            except SessionExpired:
                raise
            except SessionManagerError as error:
                if not self._patient:
                    raise self._lost(f" (and there is no new token: {error})") from error
                self._obstacle = self._no_token = str(error)
                return False
            self._no_token = ""
        if await self._websocket.connect(self._config):
            return True
        failure = self._websocket.last_error
        self._judge(failure is not None and refuses_token(failure))
        self._failed(failure)
        return False

    def _judge(self, token_refused: bool) -> None:
        self._token_refused = token_refused
        self._refusals = self._refusals + 1 if token_refused else 0

    def _failed(self, failure: Exception | None) -> None:
        """Determine the reason after a websocket did not open or did not stay open.

        The first refusal of a token is not the reason: the token may be valid for one websocket only, so the reason is
        still the end of that websocket. If there is no new token, that is the reason.
        """
        if self._token_refused and (self._no_token or self._refusals == 1):
            self._obstacle = self._no_token
        else:
            self._obstacle = str(failure)

    def _lost(self, outcome: str) -> ConnectionLost:
        return ConnectionLost(f"{self._reason}{outcome}", close_code=getattr(self._reason, "close_code", None))

    async def _resumed(self) -> WebSocketConfig:
        """Return the configuration with a new token."""
        if self._service is None:
            raise ConnectError(
                "the gateway accepts the token only once, and there are no credentials to resume the session: "
                "give --region, --profile or --endpoint-url"
            )
        try:
            resumed = await self._service.resume_session()
        except SessionManagerError:
            raise
        except Exception as error:  # the caller's service may raise anything
            raise ConnectError(f"the resume service failed: {type(error).__name__}: {error}") from error
        register_secret(resumed.token, owner=self)
        config, url = self._config, resumed.url
        if not (url and validate_websocket_url(url) and url.startswith(config.url.partition("/")[0])):
            url = replace_token(config.url, config.token, resumed.token)
        return replace(config, url=url, token=resumed.token)


def refuses_token(error: Exception) -> bool:
    """Return whether ``error`` means that the gateway has refused the token: close code 1008, or its 4xx status
    that is neither temporary nor 407. A proxy's status does not: the gateway has not seen the token."""
    if isinstance(error, ConnectionLost):
        return error.close_code == TOKEN_REFUSED
    if isinstance(error, Refused) and not isinstance(error, ProxyRefused):
        return 400 <= error.status < 500 and error.status != _PROXY_AUTHENTICATION and not error.retryable
    return False
