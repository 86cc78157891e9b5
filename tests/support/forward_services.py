"""A forward whose sessions a sandbox in this process starts, without the API and botocore."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.session import SandboxSession
from session_manager_plugin.communicator import LinkOptions
from session_manager_plugin.errors import ConnectError, SessionManagerError
from session_manager_plugin.forwarding.destination import Destination
from session_manager_plugin.forwarding.events import ForwardEvent
from session_manager_plugin.forwarding.forward import Forward, ForwardServices
from session_manager_plugin.library import connect
from session_manager_plugin.session.forward_spec import parse_forward, parse_socks
from session_manager_plugin.session.protocols import IDataChannel, SessionStarter
from session_manager_plugin.session.session import Session
from tests.support.stream_server import stream_server

TARGET = "local"


@dataclass
class SandboxServices(ForwardServices):
    """Starts sessions of ``sandbox``. Each start raises the next of ``refusals``, while there are some."""

    sandbox: Sandbox
    databases: dict[str, tuple[str, int]] = field(default_factory=dict)
    refusals: list[SessionManagerError] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)

    async def resolve_target(self) -> str:
        """The sandbox's target."""
        self.calls.append("target")
        return TARGET

    async def resolve_database(self, name: str) -> tuple[str, int]:
        """One of ``databases``."""
        if name not in self.databases:
            raise ConnectError(f"no database {name}")
        return self.databases[name]

    def session(self, target_id: str, destination: Destination) -> Session:
        """A session that is not started yet."""
        assert target_id == TARGET
        self.sessions.append(Session(starter=_SandboxStarter(self, destination)))
        return self.sessions[-1]


@dataclass
class _SandboxStarter(SessionStarter):
    services: SandboxServices
    destination: Destination
    session_id: str = ""

    async def start(self) -> IDataChannel:
        """Start the session."""
        self.services.calls.append(f"start {self.destination}")
        await asyncio.sleep(0)
        if self.services.refusals:
            raise self.services.refusals.pop(0)
        document, parameters = self.destination.document, self.destination.parameters
        started = await self.services.sandbox.start_session(document, parameters)
        self.session_id = started.session_id
        link = LinkOptions(reconnect_timeout=0)
        return connect(
            started.stream_url,
            started.token or "",
            session_id=started.session_id,
            link=link,
            handshake_required=True,
        ).channel

    async def terminate(self) -> None:
        """Terminate it."""
        self.services.calls.append(f"terminate {self.destination}")
        self.services.sandbox.end_session(self.session_id, "Terminated.")


@dataclass
class Bench:
    """A sandbox, a forward on it, and the events of that."""

    sandbox: Sandbox
    services: SandboxServices
    events: list[ForwardEvent] = field(default_factory=list)

    def forward(self, *specs: str, socks: Sequence[str] = (), pool: int = 1, new_session: bool = False) -> Forward:
        """A forward that is not open yet; ``specs`` as for ``-L``, ``socks`` as for ``-D``."""
        return Forward(
            self.services,
            [parse_forward(spec) for spec in specs],
            [parse_socks(text) for text in socks],
            pool=pool,
            new_session=new_session,
            on_event=self.events.append,
        )

    @property
    def open_sessions(self) -> list[SandboxSession]:
        """The sessions that have not ended."""
        return [session for session in self.sandbox.sessions.values() if not session.ended.is_set()]

    def of(self, kind: type[ForwardEvent]) -> list[ForwardEvent]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


@contextlib.asynccontextmanager
async def bench(**settings: object) -> AsyncIterator[Bench]:
    """A bench; ``settings`` are the sandbox's."""
    async with Sandbox(**settings) as sandbox:  # type: ignore[arg-type]
        yield Bench(sandbox, SandboxServices(sandbox))


@contextlib.asynccontextmanager
async def echo_server(answer: Callable[[bytes], bytes] = bytes) -> AsyncIterator[int]:
    """A server that answers what it receives, and closes at the end of its input; gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(answer(data))
                await writer.drain()
        writer.close()

    async with stream_server(serve) as port:
        yield port
