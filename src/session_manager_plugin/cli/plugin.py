"""`session-manager-plugin`: what the AWS CLI starts for a session, with the arguments of the official plugin.

This module imports next to nothing: the AWS CLI calls `--version` before each session, and the bare command before
each `ecs execute-command`, and waits for the answer. What runs a session is in `drop_in`.
"""

from __future__ import annotations

import os
import sys

from session_manager_plugin import PLUGIN_VERSION

# Type checkers take this name for True wherever it comes from, and `typing` is too much to import for it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SHORTEST_CALL = 3
"""Arguments of the oldest callers: response, region, operation."""

INSTALLED = "\nThe Session Manager plugin was installed successfully. Use the AWS CLI to start a session.\n\n"
UNKNOWN_OPERATION = (
    "\nUnknown operation {}. \nUse session-manager-plugin --version to check the version.\n\n"  # the blank is theirs
)
HELP = """\
The AWS CLI starts this program for `aws ssm start-session` and `aws ecs execute-command`; put its directory first
on the PATH. To open a session yourself use `smp`.

Usage: session-manager-plugin --version
       session-manager-plugin RESPONSE REGION StartSession [PROFILE [PARAMETERS [ENDPOINT-URL]]]

RESPONSE is the answer of StartSession as JSON, or the name of a variable that holds it and begins with
AWS_SSM_START_SESSION_RESPONSE. PARAMETERS is the request as JSON, ENDPOINT-URL the one of the Systems Manager API.

Variables:
  SMP_QUIET=1           no "Starting session" and "Exiting session"
  SMP_EXIT_STATUS       always: the true status; never: 0; else 0 for a normal end and 255 when our side failed,
                        but 0 if the token was among the arguments, which the AWS CLI prints on a failure
  SMP_STATUS=bar        the state of the connection in the last row of the terminal
  SMP_PREDICT           auto, always: draw what is typed before its echo has arrived; never (the default)
  SMP_ESCAPE_CHAR       begins an escape at the start of a line (~): ~. leaves, ~? lists the others; or none
  SMP_RECORD_DIR        a directory for recordings of all shells (asciicast v2, for asciinema play)
  SMP_LOG_FILE          a file that what happens is appended to
  SMP_CONNECT_TIMEOUT   seconds for opening the connection (30)
  SMP_KEEPALIVE         seconds between two pings (15); 0 sends none
  SMP_RECONNECT_TIMEOUT seconds for bringing a lost connection back (900); 0 ends the session
  SMP_SIGN              auto: sign the opening with AWS credentials for AWS's hosts; always: for others too; never
  AWS_CA_BUNDLE         certificates to trust instead of the platform's, as ca_bundle of the profile does
  HTTPS_PROXY NO_PROXY  as everywhere

Example:
  aws ssm start-session --target i-0123456789abcdef0
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what `arguments` (those of the process unless given) ask for; gives the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given:
        return _print(INSTALLED)
    if given == ["--version"]:
        return _print(f"{PLUGIN_VERSION}\n")
    if given == ["--help"]:
        return _print(HELP)
    if len(given) < SHORTEST_CALL:
        return _print(UNKNOWN_OPERATION.format(given[0]))

    if arguments is None:
        from session_manager_plugin.cli.interrupts import end_on_interrupt

        end_on_interrupt()  # before the imports
    import gc

    # What is imported lives as long as the process: to look for garbage in it takes a tenth of the time to the prompt.
    gc.disable()
    from session_manager_plugin.cli.drop_in import run_invocation

    gc.freeze()
    gc.enable()
    return run_invocation(given)


def _print(text: str) -> int:
    try:
        os.write(1, text.encode(errors="surrogateescape"))
    except OSError:
        return 0  # nobody reads it
    return 0
