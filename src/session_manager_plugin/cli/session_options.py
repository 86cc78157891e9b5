"""The options of sessions: for the connection and for the terminal.

They are declared once, and passed to a command as one frozen object each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from session_manager_plugin.cli.click_options import Choice, FileName, Seconds
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.utils.link_options import CONNECT_TIMEOUT, KEEPALIVE, RECONNECT_TIMEOUT

if TYPE_CHECKING:
    from session_manager_plugin.aws.settings import AwsSettings


def link_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--connect-timeout``, ``--keepalive``, ``--reconnect-timeout`` and ``--sign`` to a command that has
    ``aws_options``.

    The command's function receives them as its keyword argument ``link``, a ``LinkOptions`` with the proxy and the CA
    bundle of its ``settings``. ``aws_options`` stands above this decorator.
    """

    @functools.wraps(function)
    def with_link(
        environment: Environment,
        *,
        settings: AwsSettings,
        connect_timeout: float,
        keepalive: float,
        reconnect_timeout: float,
        sign: str,
        **options: Any,
    ) -> Any:
        from session_manager_plugin.utils.link_options import LinkOptions, Sign

        link = LinkOptions(
            proxy=settings.proxy,
            ca_bundle=settings.ca_bundle,
            sign=Sign(sign),
            connect_timeout=connect_timeout,
            keepalive=keepalive,
            reconnect_timeout=reconnect_timeout,
        )
        return function(environment, settings=settings, link=link, **options)

    return _with(_LINK_OPTIONS, with_link)


def terminal_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--status``, ``--predict``, ``--escape-char``, ``--record``, ``--record-input`` and ``--stdin-eof`` to a
    command.

    The command's function receives them as its keyword argument ``options``, a ``TerminalOptions`` whose notices are
    messages on standard error. Raises ``UsageError`` for an invalid value.
    """

    @functools.wraps(function)
    def with_options(
        environment: Environment,
        *,
        status: str,
        predict: str,
        escape_char: str,
        record: str | None,
        record_input: bool,
        stdin_eof: str,
        **options: Any,
    ) -> Any:
        from functools import partial

        from session_manager_plugin.cli.process import status_mode
        from session_manager_plugin.cli.recording_options import recorder
        from session_manager_plugin.cli.render import tell
        from session_manager_plugin.cli.run_options import TerminalOptions
        from session_manager_plugin.session.handler_options import StdinEof
        from session_manager_plugin.session.notices import PlainNotices
        from session_manager_plugin.terminal.escapes import parse_escape_character
        from session_manager_plugin.terminal.predict_mode import PredictMode

        terminal = TerminalOptions(
            status=status_mode(environment, status),
            predict=PredictMode(predict),
            escape_character=parse_escape_character(escape_char),
            open_recording=recorder(environment, record, keeps_input=record_input),
            stdin_eof=StdinEof(stdin_eof),
            notices=PlainNotices(partial(tell, environment, error=False)),
        )
        return function(environment, options=terminal, **options)

    return _with(_TERMINAL_OPTIONS, with_options)


def gateway_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where a session is and how to reach it, except for its URL and token."""
    return _with(_GATEWAY_OPTIONS, function)


def _with(
    options: Sequence[Callable[[Callable[..., Any]], Callable[..., Any]]], function: Callable[..., Any]
) -> Callable[..., Any]:
    for option in reversed(options):
        function = option(function)
    return function


sign_option = click.option(
    "--sign",
    type=Choice("auto", "always", "never"),
    default="auto",
    show_default=True,
    envvar="SMP_SIGN",
    show_envvar=True,
    help="Whether to sign the request that opens the websocket with AWS credentials. auto signs it for the "
    "ssmmessages hosts of AWS, if there are credentials; always for other hosts too. The credentials need the "
    "permission ssmmessages:OpenDataChannel. A signed request that is refused is repeated once without. Nothing is "
    "signed with --bearer always.",
)
"""``--sign``: whether the request that opens the websocket is signed."""

_LINK_OPTIONS = [
    click.option(
        "--connect-timeout",
        type=Seconds(zero=False),
        default=CONNECT_TIMEOUT,
        show_default=True,
        envvar="SMP_CONNECT_TIMEOUT",
        show_envvar=True,
        help="Seconds for each attempt to connect: DNS, TCP, proxy, TLS and websocket together. Example: 5.",
    ),
    click.option(
        "--keepalive",
        type=Seconds(zero=True),
        default=KEEPALIVE,
        show_default=True,
        envvar="SMP_KEEPALIVE",
        show_envvar=True,
        help="Seconds between two pings of the websocket; 0 sends none. Give less where a firewall or a NAT forgets "
        "silent connections sooner. Pings do not put off the idle timeout of the service.",
    ),
    click.option(
        "--reconnect-timeout",
        type=Seconds(zero=True),
        default=RECONNECT_TIMEOUT,
        show_default=True,
        envvar="SMP_RECONNECT_TIMEOUT",
        show_envvar=True,
        help="Seconds for bringing a lost connection back; 0 ends the session with it. Example: 3600.",
    ),
    sign_option,
]
_TERMINAL_OPTIONS = [
    click.option(
        "--status",
        type=Choice("auto", "bar", "title", "off"),
        default="auto",
        show_default=True,
        envvar="SMP_STATUS",
        show_envvar=True,
        help="Where to show the connection's state: bar, title, off, or auto. bar is the last row of the terminal, "
        "title the title of its window; auto is bar at a terminal of 10 rows or more.",
    ),
    click.option(
        "--predict",
        type=Choice("auto", "always", "never"),
        default="never",
        show_default=True,
        envvar="SMP_PREDICT",
        show_envvar=True,
        help="Whether to draw what you type before its echo has arrived: auto on slow connections, always or never. "
        "Drawn characters are underlined on very slow ones. Nothing is drawn at a prompt without echo, nor in programs "
        "that use the whole screen. ~p turns it on and off.",
    ),
    click.option(
        "--escape-char",
        metavar="C",
        default="~",
        show_default=True,
        envvar="SMP_ESCAPE_CHAR",
        show_envvar=True,
        help="Character that begins an escape at the start of a line. At a terminal ~. leaves, ~? lists the others, "
        "and ~~ sends the character itself. It is one character, a control character as ^X, or none for no escapes. "
        "Example: --escape-char ^]",
    ),
    click.option(
        "--record",
        metavar="FILE",
        type=FileName(),
        help="Record what a shell shows, in a new file. It is an asciicast v2 with times and sizes, readable for you "
        "only; asciinema play FILE shows it again. Without this option SMP_RECORD_DIR, if it is set, names a "
        "directory for recordings of all shells. Example: --record incident.cast",
    ),
    click.option(
        "--record-input",
        is_flag=True,
        help="Record what is typed too, passwords included. Only together with --record or SMP_RECORD_DIR.",
    ),
    click.option(
        "--stdin-eof",
        type=Choice("eot", "close", "ignore"),
        default="eot",
        show_default=True,
        help="At the end of an input that is not a terminal: eot types Ctrl-D, close ends the session, ignore waits "
        "for the remote end.",
    ),
]
_GATEWAY_OPTIONS = [
    click.option(
        "--token-file", type=FileName(), metavar="FILE", help="File with the token on its first line, up to 8 KiB."
    ),
    click.option(
        "--session-id",
        metavar="ID",
        help="Id of the session, if the URL does not hold it. Example: alice-0123456789abcdef0.",
    ),
    click.option(
        "--bearer",
        type=Choice("auto", "always", "never"),
        default="auto",
        show_default=True,
        help="Whether to send the token in an Authorization header as well. auto does so to hosts that are not "
        "those of AWS, which read it from the first message.",
    ),
    click.option(
        "--insecure", is_flag=True, help="Allow ws:// to another machine. The token travels unencrypted then."
    ),
]
