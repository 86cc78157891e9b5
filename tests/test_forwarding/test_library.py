"""``forward`` of the library, with the real botocore."""

from __future__ import annotations

import asyncio

import pytest

from session_manager_plugin import AwsSettings, forward
from session_manager_plugin.agent import Sandbox
from session_manager_plugin.errors import ForwardEnded
from tests.support.forward_services import echo_server
from tests.support.forwarding import read_exactly
from tests.support.waiting import DEADLINE


async def test_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox() as sandbox, echo_server() as port, asyncio.timeout(DEADLINE):
        for name, value in sandbox.environment.items():
            monkeypatch.setenv(name, value)
        aws = AwsSettings(endpoint_url=sandbox.endpoint_url)
        async with forward("web-1", port, host="127.0.0.1", aws=aws) as forwarding:
            reader, writer = await asyncio.open_connection("127.0.0.1", forwarding.port)
            writer.write(b"hello")
            assert await read_exactly(reader, 5) == b"hello"
            assert [connection.received for connection in forwarding.connections()] == [5]
            writer.close()
            sandbox.end_session(next(iter(sandbox.sessions)), "Idle timeout.")
            with pytest.raises(ForwardEnded, match="Idle timeout"):
                await forwarding.wait()
        assert all(session.ended.is_set() for session in sandbox.sessions.values())
