"""A session started by the AWS CLI: with the official plugin's texts and an exit status for the AWS CLI.

For any exit status but 0 the AWS CLI itself exits with 255 and prints all our arguments, even if one is a token.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from session_manager_plugin.aws.profile import ca_bundle
from session_manager_plugin.aws.session_services import SessionServices
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.signing import OpeningSigner
from session_manager_plugin.cli.environment import Environment, prepare_standard_streams
from session_manager_plugin.cli.exit_status import HANG_UP, Exit, ExitStatus, die_of, exit_of, exit_of_outcome
from session_manager_plugin.cli.invocation import InvalidOperation, Invocation, exposes_token, parse, take_response
from session_manager_plugin.cli.parent import watched_parent
from session_manager_plugin.cli.process import Process, run_process, status_mode
from session_manager_plugin.cli.recording_options import recorder
from session_manager_plugin.cli.render import closing_advice, tell, tell_ending, tell_error, tell_incomplete, tell_note
from session_manager_plugin.cli.run_options import TerminalOptions
from session_manager_plugin.cli.session import Ending, run_terminal_session
from session_manager_plugin.cli.signals import handled_signals
from session_manager_plugin.errors import ConfigurationError, UsageError
from session_manager_plugin.library import connect
from session_manager_plugin.protocol.events import SessionReady
from session_manager_plugin.session.notices import OfficialNotices
from session_manager_plugin.session.protocols import DataKey, KeyService
from session_manager_plugin.terminal.escapes import DEFAULT_CHARACTER, parse_escape_character
from session_manager_plugin.terminal.link_status import StatusMode
from session_manager_plugin.terminal.predict_mode import PredictMode
from session_manager_plugin.utils.link_options import (
    CONNECT_TIMEOUT,
    KEEPALIVE,
    RECONNECT_TIMEOUT,
    LinkOptions,
    Sign,
)
from session_manager_plugin.utils.logging import configure
from session_manager_plugin.utils.setting_names import PLUGIN_SETTINGS
from session_manager_plugin.utils.text import printable_lines

if TYPE_CHECKING:
    from session_manager_plugin.session.listener import Listener

STARTING = "\nStarting session with SessionId: {}\n"
EXITING = "\n\nExiting session with sessionId: {}.\n\n"
CLOSED = "\n\nSessionId: {} : {}\n\n"


class ExitPolicy(NamedTuple):
    """The exit status for the AWS CLI: 0 for a normal end; 255 if this side has failed, but 0 if the AWS CLI would then
    print a token.

    ``setting`` is SMP_EXIT_STATUS: ``always`` returns the true status, ``never`` 0.
    """

    setting: str
    token_exposed: bool

    @property
    def hides_failures(self) -> bool:
        """Whether the status is always 0, even after a signal."""
        return self.setting == "never" or (self.setting != "always" and self.token_exposed)

    def die(self, number: int) -> NoReturn:
        """End the process because of a signal."""
        if self.hides_failures:
            os._exit(ExitStatus.SUCCESS)
        die_of(number)

    def leave(self, end: Exit) -> int:
        """Return the exit status, or end the process by its signal."""
        if self.hides_failures:
            return ExitStatus.SUCCESS
        if end.signal is not None:
            die_of(end.signal)
        if self.setting == "always":
            return end.status
        return ExitStatus.FAILURE if end.failed else ExitStatus.SUCCESS

    def refuse(self) -> int:
        """Return the exit status for an unknown operation. The caller is not the AWS CLI and prints no arguments."""
        return ExitStatus.SUCCESS if self.setting == "never" else ExitStatus.FAILURE


def run_invocation(arguments: Sequence[str], environment: Environment | None = None) -> int:
    """Run the session described by three or more ``arguments``, and return the exit status.

    If a signal has ended the session, ends the process by that signal.
    """
    prepare_standard_streams()
    environment = environment or Environment(program="session-manager-plugin")
    environment.forget_empty_settings()
    environment.quiet = environment.flag("SMP_QUIET")
    policy = ExitPolicy(environment.variables.get("SMP_EXIT_STATUS", ""), exposes_token(arguments[0]))
    if policy.hides_failures:
        for number in handled_signals():
            signal.signal(number, lambda number, _frame: policy.die(number))
    try:
        return policy.leave(_run(arguments, environment, policy))
    except InvalidOperation as error:
        environment.write_error(f"{error}\n")
        return policy.refuse()
    except (Exception, KeyboardInterrupt) as error:
        tell_error(environment, error)
        return policy.leave(exit_of(error))


def _run(arguments: Sequence[str], environment: Environment, policy: ExitPolicy) -> Exit:
    invocation = parse(arguments, take_response(arguments[0], environment))
    _configure_logging(environment)
    trusted = ca_bundle(None, invocation.profile, environment.variables)
    link = LinkOptions(
        ca_bundle=trusted,
        sign=_sign(environment),
        names=PLUGIN_SETTINGS,
        connect_timeout=environment.seconds("SMP_CONNECT_TIMEOUT", CONNECT_TIMEOUT, zero=False),
        reconnect_timeout=environment.seconds("SMP_RECONNECT_TIMEOUT", RECONNECT_TIMEOUT, zero=True),
        keepalive=environment.seconds("SMP_KEEPALIVE", KEEPALIVE, zero=True),
    )
    settings = AwsSettings(invocation.region, invocation.profile, invocation.endpoint_url, trusted)
    services = SessionServices(settings, invocation.session_id, invocation.target)
    texts = _Texts(environment, invocation)
    options = TerminalOptions(
        status=_status_mode(environment),
        predict=_predict_mode(environment),
        escape_character=parse_escape_character(environment.variables.get("SMP_ESCAPE_CHAR") or DEFAULT_CHARACTER),
        open_recording=recorder(environment),
        notices=OfficialNotices(invocation.session_id, texts.say, partial(tell, environment)),
        began=texts.begin,
        bind=partial(_bind, invocation) if invocation.forwards_port else None,
        terminate=services.terminate,
    )

    async def main(process: Process) -> Ending:
        session = connect(
            invocation.stream_url,
            invocation.token,
            session_id=invocation.session_id,
            link=link,
            handshake_required=invocation.needs_handshake,
            key_service=services if invocation.can_encrypt else _NoKeyService(),
            resume_service=services,
            signer=OpeningSigner(settings, tell=partial(tell_note, environment)),
        )
        leave = partial(process.interruption.interrupt, HANG_UP, "because the program that started it has ended")
        with watched_parent(leave):
            texts.start()
            return await run_terminal_session(session, process, options)

    ending = run_process(environment, main, die=policy.die)
    texts.end(ending)
    return exit_of_outcome(ending.outcome)


def _status_mode(environment: Environment) -> StatusMode | None:
    """Return the mode in SMP_STATUS; by default only trouble is shown. An invalid value is ignored."""
    choice = environment.variables.get("SMP_STATUS", "")
    known = choice in [mode.value for mode in StatusMode]
    return status_mode(environment, choice if known else "auto", otherwise=StatusMode.NOTICE)


def _predict_mode(environment: Environment) -> PredictMode:
    """Return the mode of SMP_PREDICT; by default nothing is predicted. A wrong value is ignored."""
    choice = environment.variables.get("SMP_PREDICT", "")
    return PredictMode(choice) if choice in [mode.value for mode in PredictMode] else PredictMode.NEVER


def _sign(environment: Environment) -> Sign:
    """Return the value of SMP_SIGN. Raises ``UsageError``."""
    try:
        return Sign(environment.variables.get("SMP_SIGN") or Sign.AUTO)
    except ValueError:
        raise UsageError(f"SMP_SIGN: choose from {', '.join(mode.value for mode in Sign)}") from None


def _bind(invocation: Invocation) -> Listener | None:
    """Bind the local end of a forwarded port, if the arguments contain it. None: the session's properties have it."""
    from session_manager_plugin.session.port import LocalEnd

    local_end = LocalEnd.of_request(invocation.parameters)
    return None if local_end is None else local_end.bind()


class _NoKeyService(KeyService):
    """For old callers, which do not pass a profile for KMS."""

    async def generate_data_key(self, key_id: str, challenge: str) -> DataKey:
        raise ConfigurationError(
            "Installed version of CLI does not support Session Manager encryption feature. "
            "Please upgrade to the latest version of your CLI (e.g., AWS CLI)."
        )


def _configure_logging(environment: Environment) -> None:
    path = environment.variables.get("SMP_LOG_FILE")
    try:
        configure(0, Path(path) if path else None, "text", program=environment.program)
    except OSError as error:
        raise ConfigurationError(f"the log file {path} cannot be opened: {error.strerror}") from error


class _Texts:
    """The messages of the official plugin, byte for byte: other tools parse them.

    They are written to standard output, or to standard error if standard output belongs to another program's protocol
    (reference defect D11). For an unknown document that depends on the session type, so the first text is delayed.
    """

    def __init__(self, environment: Environment, invocation: Invocation) -> None:
        self._environment = environment
        self._session_id = invocation.session_id
        self._is_stdio = invocation.is_stdio

    def start(self) -> None:
        """Write the first message, before connecting."""
        if self._is_stdio is not None:
            self.say(STARTING.format(self._session_id))

    def begin(self, ready: SessionReady) -> None:
        """Write the delayed first message, now that the session type is known."""
        if self._is_stdio is None:
            self._is_stdio = ready.is_stdio
            self.start()
        if ready.customer_message:
            self.say(f"{printable_lines(ready.customer_message)}\n")

    def end(self, ending: Ending) -> None:
        """Write the last message."""
        outcome = ending.outcome
        if outcome.error is None and outcome.text and not self._environment.quiet:
            self.say(CLOSED.format(self._session_id, printable_lines(outcome.text)))
            if advice := closing_advice(outcome.text):
                tell(self._environment, advice.removeprefix("; "))
            tell_incomplete(self._environment, ending)
            return
        if outcome.error is None and not outcome.text:
            self.say(EXITING.format(self._session_id))
        if not outcome.is_normal:
            tell_ending(self._environment, ending._replace(is_stdio=bool(self._is_stdio)))

    def say(self, text: str) -> None:
        """Write a message of the official plugin. Does not raise, and does not block the event loop."""
        if self._environment.quiet:
            return
        if self._is_stdio is False:
            self._environment.write_message(text)
        else:
            self._environment.write_error(text)
