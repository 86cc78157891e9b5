"""Received payloads reach their handlers in order, whenever these are set, and reading pauses for what is kept."""

from __future__ import annotations

from collections.abc import Callable

from session_manager_plugin.communicator.inbox import UNCLAIMED_OVERHEAD, UNCLAIMED_SIZE, Inbox, PauseReason
from session_manager_plugin.protocol.messages import PayloadType


class Owner:
    """An inbox, what was received from it, and whether it asked to go on reading."""

    def __init__(self) -> None:
        self.flow: list[bool] = []
        self.taken: list[tuple[str, bytes]] = []
        self.inbox = Inbox(self.flow.append)

    def take(self, payload_type: PayloadType) -> None:
        """Set a handler."""
        self.inbox.set_handler(payload_type, lambda data: self.taken.append((payload_type.name, data)))


def test_payloads_wait_for_the_handler_of_the_output() -> None:
    owner = Owner()
    owner.inbox.receive(PayloadType.STDERR, b"1")
    owner.inbox.receive(PayloadType.OUTPUT, b"2")
    owner.take(PayloadType.STDERR)
    owner.inbox.receive(PayloadType.STDERR, b"3")
    assert owner.taken == []
    owner.take(PayloadType.OUTPUT)
    owner.inbox.receive(PayloadType.OUTPUT, b"4")
    assert owner.taken == [("STDERR", b"1"), ("OUTPUT", b"2"), ("STDERR", b"3"), ("OUTPUT", b"4")]


def test_a_payload_type_without_a_handler_is_dropped() -> None:
    owner = Owner()
    owner.inbox.receive(PayloadType.EXIT_CODE, b"0")
    owner.take(PayloadType.OUTPUT)
    owner.inbox.receive(PayloadType.EXIT_CODE, b"0")
    owner.inbox.receive(PayloadType.OUTPUT, b"x")
    assert owner.taken == [("OUTPUT", b"x")]


def test_reading_pauses_for_the_owner_and_for_what_is_kept() -> None:
    owner = Owner()
    inbox = owner.inbox
    reasons: list[PauseReason] = []
    steps: list[Callable[[], None]] = [
        lambda: inbox.receive(PayloadType.OUTPUT, bytes(UNCLAIMED_SIZE - UNCLAIMED_OVERHEAD)),
        lambda: inbox.receive(PayloadType.OUTPUT, b""),
        inbox.pause,
        inbox.resume,
        inbox.pause,
        lambda: owner.take(PayloadType.OUTPUT),
        inbox.pause,
        inbox.resume,
        inbox.resume,
    ]
    for step in steps:
        step()
        reasons.append(inbox.pause_reason)
    nothing, kept, paused = PauseReason.NONE, PauseReason.UNCLAIMED, PauseReason.OWNER
    assert reasons == [nothing, kept, kept | paused, kept, kept | paused, paused, paused, nothing, nothing]
    assert owner.flow == [False, True]
