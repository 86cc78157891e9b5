"""Rendering the notices of handlers: as the official plugin does, as plain sentences, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from session_manager_plugin.session.protocols import Notices
from session_manager_plugin.utils.text import printable_lines


class SilentNotices(Notices):
    """Drops all notices."""

    def port_opened(self, port: int, addresses: Sequence[str], *, multiplexed: bool) -> None:
        pass

    def unix_socket_opened(self, path: str, *, multiplexed: bool) -> None:
        pass

    def connection_accepted(self, *, multiplexed: bool) -> None:
        pass

    def destination_failed(self, connection: str) -> None:
        pass

    def interrupted(self) -> None:
        pass

    def trouble(self, sentence: str) -> None:
        pass


class OfficialNotices(Notices):
    """The texts of the official plugin, byte for byte: other tools parse them.

    ``write`` is called with the texts that the official plugin writes to standard output, ``tell`` with sentences of
    our own, without a newline. Sources: ``portsession/basicportforwarding.go``, ``portsession/muxportforwarding.go``.
    """

    def __init__(self, session_id: str, write: Callable[[str], None], tell: Callable[[str], None]) -> None:
        self._session_id = session_id
        self._write = write
        self._tell = tell

    def port_opened(self, port: int, addresses: Sequence[str], *, multiplexed: bool) -> None:
        self._opened(f"Port {port} opened for sessionId {self._session_id}.", multiplexed)

    def unix_socket_opened(self, path: str, *, multiplexed: bool) -> None:
        self._opened(f"Unix socket {printable_lines(path)} opened for sessionId {self._session_id}.", multiplexed)

    def _opened(self, text: str, multiplexed: bool) -> None:
        self._write(f"{text}\nWaiting for connections...\n" if multiplexed else f"{text}\n")

    def connection_accepted(self, *, multiplexed: bool) -> None:
        if multiplexed:
            self._write(f"\nConnection accepted for session [{self._session_id}]\n")
        else:
            self._write(f"Connection accepted for session {self._session_id}.\n")

    def destination_failed(self, connection: str) -> None:
        self._write("\nConnection to destination port failed, check SSM Agent logs.\n")

    def interrupted(self) -> None:
        self._write("Terminate signal received, exiting.\n")

    def trouble(self, sentence: str) -> None:
        self._tell(sentence)


class PlainNotices(Notices):
    """One plain sentence for each notice. ``tell`` is called with the sentence, without a newline."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def port_opened(self, port: int, addresses: Sequence[str], *, multiplexed: bool) -> None:
        self._tell(f"listening on {' and '.join(addresses)}{_one_by_one(multiplexed)}")

    def unix_socket_opened(self, path: str, *, multiplexed: bool) -> None:
        self._tell(f"listening on {path}{_one_by_one(multiplexed)}")

    def connection_accepted(self, *, multiplexed: bool) -> None:
        pass

    def destination_failed(self, connection: str) -> None:
        whose = f"{connection}: " if connection else ""
        self._tell(f"{whose}the far end could not connect to its destination; is something listening there?")

    def interrupted(self) -> None:
        pass

    def trouble(self, sentence: str) -> None:
        self._tell(sentence)


def _one_by_one(multiplexed: bool) -> str:
    return "" if multiplexed else "; this agent takes one connection at a time"
