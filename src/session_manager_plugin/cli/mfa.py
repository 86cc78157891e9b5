"""Asking for an MFA code, before a command does anything else: nothing asks once an event loop or a session runs."""

from __future__ import annotations

import os
import re

from session_manager_plugin.aws.profile import mfa_serial
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.raised_signals import raised_signals
from session_manager_plugin.errors import ConfigurationError

TERMINAL = "/dev/tty"
_CODE = re.compile(r"[0-9]{6}")


def find_credentials_with_code(environment: Environment, settings: AwsSettings) -> None:
    """Find the credentials of a profile whose role takes an MFA code; ask for it at the terminal unless the AWS CLI's
    cache has credentials of the role. Does nothing for other profiles, and where nobody can be asked.

    Raises the exceptions of ``aws_failure`` and of ``ask``.
    """
    has_keys = settings.profile is None and environment.variables.get("AWS_ACCESS_KEY_ID")
    if has_keys or mfa_serial(settings.profile, environment.variables) is None or not _can_ask(environment):
        return
    from session_manager_plugin.aws.aws_errors import aws_failure
    from session_manager_plugin.aws.botocore_session import find_frozen_credentials

    settings.credentials.ask = ask
    try:
        find_frozen_credentials(settings)
    except Exception as error:
        permission = "sts:AssumeRole for the profile's role"
        raise aws_failure(error, "AssumeRole failed", permission=permission, profile=settings.profile) from error
    finally:
        settings.credentials.ask = None


def ask(serial: str) -> str:
    """Return the code that is typed at the terminal, without echo. Raises ``ConfigurationError``, and as
    ``raised_signals``."""
    from getpass import getpass

    try:
        with raised_signals():
            code = getpass(f"MFA code of {serial}: ").replace(" ", "")
    except EOFError:
        code = ""
    if _CODE.fullmatch(code) is None:
        raise ConfigurationError("an MFA code has six digits")
    return code


def _can_ask(environment: Environment) -> bool:
    """Whether there is a terminal, which this process may read from, and whose owner sees our messages.

    Standard input may be a pipe, as that of a ProxyCommand is.
    """
    if not environment.is_terminal(environment.stderr) or not hasattr(os, "tcgetpgrp"):  # absent on Windows
        return False
    try:
        terminal = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()  # a background job that reads is stopped
    except OSError:
        return False
    finally:
        os.close(terminal)
