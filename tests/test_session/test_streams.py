"""Substitutes for a terminal: streams in memory and over descriptors, used by the handlers."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.session.command import CommandHandler
from session_manager_plugin.session.handler_options import StdinEof
from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.session.shell import ShellHandler
from session_manager_plugin.session.streams import MemoryStreams, NoTerminal
from session_manager_plugin.terminal.descriptor_streams import DescriptorStreams
from tests.support.forwarding import RecordedNotices
from tests.support.memory_channel import MemoryAgent, MemoryChannel
from tests.support.waiting import DEADLINE


async def open_channel(agent: MemoryAgent) -> MemoryChannel:
    channel = MemoryChannel(agent)
    await channel.open()
    if agent.session_type is None:
        agent.send(b"$ ")
    await channel.ready()
    return channel


async def test_the_outputs_of_a_command_in_memory() -> None:
    agent = MemoryAgent("NonInteractiveCommands")
    channel = await open_channel(agent)
    streams = MemoryStreams()
    running = asyncio.ensure_future(CommandHandler(streams, RecordedNotices()).run(channel))
    agent.send(b"out")
    agent.send(b"err", PayloadType.STDERR)
    agent.close_channel()
    await asyncio.wait_for(running, DEADLINE)
    assert (streams.take_output(), streams.take_error_output()) == (b"out", b"err")
    assert streams.take_output() == b""
    await channel.close()


async def test_a_shell_without_a_terminal() -> None:
    agent = MemoryAgent(None)
    channel = await open_channel(agent)
    streams = MemoryStreams(b"uname\n", input_ended=False)
    handler = ShellHandler(streams, NoTerminal(TerminalSize(132, 40)), stdin_eof=StdinEof.EOT)
    running = asyncio.ensure_future(handler.run(channel))
    await agent.until(lambda: agent.data() == b"uname\n")
    assert b'"cols":132' in agent.data(PayloadType.SIZE).replace(b" ", b"")
    streams.feed(b"ls\n")
    streams.end_input()
    await agent.until(lambda: agent.data() == b"uname\nls\n\x04")
    agent.close_channel()
    await asyncio.wait_for(running, DEADLINE)
    assert streams.take_output() == b"$ "
    await channel.close()


async def test_output_in_memory_that_nobody_takes_pauses_its_session_alone() -> None:
    data = random.Random(1).randbytes(1 << 20)
    unread, read = MemoryAgent("NonInteractiveCommands"), MemoryAgent("NonInteractiveCommands")
    channels = [await open_channel(agent) for agent in (unread, read)]
    streams = [MemoryStreams(high_water=2 << 20) for _ in channels]
    running = [
        asyncio.ensure_future(CommandHandler(stream, RecordedNotices()).run(channel))
        for stream, channel in zip(streams, channels, strict=True)
    ]
    sending = asyncio.ensure_future(unread.write(data * 8))
    await channels[0].until(lambda: channels[0].reading_paused)

    await read.write(data)
    assert not channels[1].reading_paused
    read.close_channel()
    await asyncio.wait_for(running[1], DEADLINE)
    assert streams[1].take_output() == data

    received = b""
    while len(received) < len(data) * 8:
        received += streams[0].take_output()
        await asyncio.sleep(0)
    await sending
    assert received == data * 8
    unread.close_channel()
    await asyncio.wait_for(running[0], DEADLINE)
    for channel in channels:
        await channel.close()


async def test_the_output_of_a_command_in_a_file(tmp_path: Path) -> None:
    agent = MemoryAgent("NonInteractiveCommands")
    channel = await open_channel(agent)
    with (tmp_path / "out").open("wb") as out:
        streams = DescriptorStreams(None, out.fileno())
        running = asyncio.ensure_future(CommandHandler(streams, RecordedNotices()).run(channel))
        agent.send(b"out")
        agent.send(b"nobody wants it", PayloadType.STDERR)
        agent.close_channel()
        await asyncio.wait_for(running, DEADLINE)
        streams.close()
    assert (tmp_path / "out").read_bytes() == b"out"
    await channel.close()


async def test_a_shell_between_two_pipes() -> None:
    agent = MemoryAgent(None)
    channel = await open_channel(agent)
    inner, writing = os.pipe()
    reading, outer = os.pipe()
    streams = DescriptorStreams(inner, outer, outer)
    os.write(writing, b"exit\n")
    os.close(writing)
    handler = ShellHandler(streams, NoTerminal(), stdin_eof=StdinEof.IGNORE)
    running = asyncio.ensure_future(handler.run(channel))
    await agent.until(lambda: agent.data() == b"exit\n")
    agent.close_channel()
    await asyncio.wait_for(running, DEADLINE)
    assert os.read(reading, 100) == b"$ "
    streams.close()
    await channel.close()
    for fd in (inner, outer, reading):
        os.close(fd)
