"""Messages about the link where no status is shown: one line when trouble begins, one when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_manager_plugin.cli.render import tell
from session_manager_plugin.utils.logging import redact
from session_manager_plugin.utils.text import printable

if TYPE_CHECKING:
    from session_manager_plugin.cli.environment import Environment
    from session_manager_plugin.session.session import Session
    from session_manager_plugin.terminal.console import Console


class LinkNews:
    """Watches the link of ``session``. ``escape`` is the escape that leaves the session, or empty."""

    def __init__(self, environment: Environment, session: Session, console: Console, escape: str = "") -> None:
        self._environment = environment
        self._session = session
        self._console = console
        self._escape = escape
        self._told = False
        """Whether a message about the current trouble was written."""

    def start(self) -> None:
        """Begin to watch the link."""
        self._session.set_link_handler(self._changed)

    def _changed(self) -> None:
        self._console.look()
        health = self._session.health
        if not self._session.heard:
            return  # the session has not begun; the message about its end will have the reason
        if health.troubled and not self._told:
            self._told = True
            leaves = self._escape and self._console.is_listening
            self._tell(f"{health.sentence} ({self._escape} leaves)" if leaves else health.sentence)
        elif self._told and health.restored_after is not None:
            self._told = False
            self._tell(health.sentence)

    def _tell(self, sentence: str) -> None:
        if self._console.shows_status or self._environment.quiet:
            return
        if self._console.is_held:
            self._console.say([f"{self._environment.program}: {printable(redact(sentence))}"])
        else:
            tell(self._environment, sentence, error=False)
