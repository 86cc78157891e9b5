"""Executing the escapes typed at the terminal of a session."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from session_manager_plugin.cli.connection_details import connection_details, printable
from session_manager_plugin.errors import LeftByEscape, SessionManagerError
from session_manager_plugin.session.session import Session
from session_manager_plugin.terminal.console import Console
from session_manager_plugin.terminal.escapes import Escape, EscapeScanner, show_escape_character

_KEYS = {Escape.SUSPEND: "^Z"}
_HELP = {
    Escape.LEAVE: "leave: end the session, whatever it is doing",
    Escape.SUSPEND: "suspend smp; fg brings it back",
    Escape.CONNECTIONS: "list forwarded connections",
    Escape.DETAILS: "details of the connection",
    Escape.RECONNECT: "reconnect now",
    Escape.TOGGLE_BAR: "show or hide the status bar",
    Escape.TOGGLE_PREDICTION: "draw what you type at once, or wait for its echo",
    Escape.HELP: "this list",
}
"""The escapes with their descriptions, in the order of the list."""


class EscapeCommands:
    """Executes the escapes of one session. ``leave`` ends the session with the given error.

    Output is written at the cursor, as by ssh; a full-screen program has to repaint its screen afterwards.
    """

    def __init__(
        self,
        console: Console,
        session: Session,
        connections: Callable[[], Sequence[str] | None],
        character: bytes,
        leave: Callable[[Exception], None],
        *,
        target: str = "",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``connections`` returns one line for each forwarded connection; None if no port is forwarded. ``target`` is
        what the details call the target; empty if that is not known. ``now`` is a clock in seconds."""
        self._target = target
        self._now = now
        self._began_at = now()
        self._console = console
        self._session = session
        self._list_connections = connections
        self._character = character
        self._name = show_escape_character(character)
        self._leave = leave
        self._reconnecting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read escapes from the terminal, if there is one."""
        self._console.listen(EscapeScanner(self._character), self.obey)

    def obey(self, escape: Escape) -> None:
        """Execute an escape."""
        match escape:
            case Escape.LEAVE:
                self._leave(LeftByEscape(f"{self._name}."))
            case Escape.SUSPEND:
                self.suspend(f"{self._name}^Z")
            case Escape.HELP:
                self._say(escape, self._help())
            case Escape.DETAILS:
                self._say(escape, self._details())
            case Escape.CONNECTIONS:
                self._say(escape, self._connections())
            case Escape.RECONNECT:
                self._say(escape, ["reconnecting"])
                self._reconnecting = asyncio.get_running_loop().create_task(self._reconnect())
            case Escape.TOGGLE_PREDICTION if self._console.shows_status:
                self._console.toggle_prediction()
                self._say(escape, ["keys are drawn at once" if self._console.predicts else "keys wait for their echo"])
            case Escape.TOGGLE_BAR if self._console.shows_status:
                self._console.toggle_bar()
            case Escape.TOGGLE_BAR | Escape.TOGGLE_PREDICTION:
                self._say(escape, ["there is no screen here to show that on"])

    async def _reconnect(self) -> None:
        try:
            await self._session.reconnect()
        except SessionManagerError as error:
            self._console.say([printable(f"not reconnecting: {error}")])

    def suspend(self, typed: str = "^Z") -> None:
        """Stop until the shell continues us. ``typed`` is the text of the key that was typed."""
        self._console.say([f"{typed} [suspended]"], at_cursor=True)
        if not self._console.suspend():
            self._console.say(["smp: cannot be suspended: there is no shell that would bring it back"])

    def _say(self, escape: Escape, lines: list[str]) -> None:
        self._console.say([self._name + self._key(escape), *map(printable, lines)], at_cursor=True)

    def _key(self, escape: Escape) -> str:
        return _KEYS.get(escape) or escape.value.decode()

    def _help(self) -> list[str]:
        absent: set[Escape] = set()
        if not self._console.shows_status:
            absent |= {Escape.TOGGLE_BAR, Escape.TOGGLE_PREDICTION}
        if self._list_connections() is None:
            absent.add(Escape.CONNECTIONS)
        if self._session.began is None:
            absent.add(Escape.RECONNECT)
        rows = [(self._key(escape), text) for escape, text in _HELP.items() if escape not in absent]
        return [
            "Escapes, at the start of a line:",
            *(f" {self._name}{key:<3} {text}" for key, text in rows),
            f" {self._name}{self._name:<3} send the escape character",
        ]

    def _details(self) -> list[str]:
        uptime = None if self._session.began is None else self._now() - self._began_at
        return connection_details(self._session, self._target, uptime, self._console.size.columns)

    def _connections(self) -> list[str]:
        connections = self._list_connections()
        if connections is None:
            return ["no port is forwarded in this session"]
        return [f" {line}" for line in connections] or ["no connection is open"]
