"""What is told about the link where no status is shown: one line when it is lost, one when it is back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from session_manager_plugin.cli.render import tell
from session_manager_plugin.utils.logging import redact
from session_manager_plugin.utils.text import printable

if TYPE_CHECKING:
    from session_manager_plugin.cli.environment import Environment
    from session_manager_plugin.session.runner import Session
    from session_manager_plugin.terminal.console import Console


class LinkNews:
    """Watches the link of `session` from `start` on."""

    def __init__(self, environment: Environment, session: Session, console: Console) -> None:
        self._environment = environment
        self._session = session
        self._console = console
        self._troubled_at: float | None = None

    def start(self) -> None:
        """Watch."""
        self._session.set_link_handler(self._changed)

    def _changed(self) -> None:
        self._console.look()
        trouble = self._session.trouble
        if trouble and self._troubled_at is None:
            self._troubled_at = time.monotonic()
            self._tell(trouble)
        elif not trouble and self._troubled_at is not None:
            lasted, self._troubled_at = time.monotonic() - self._troubled_at, None
            if self._session.state == "open":  # an end is told by others
                self._tell(f"the link is well again, after {lasted:.0f} s")

    def _tell(self, sentence: str) -> None:
        if self._console.shows_status or self._environment.quiet:
            return
        if self._console.is_held:
            self._console.say(["", f"{self._environment.program}: {printable(redact(sentence))}"])
        else:
            tell(self._environment, sentence, error=False)
