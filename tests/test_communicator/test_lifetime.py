"""``Lifetime``: a session is opened once and ends once; callers wait for its beginning and its end."""

from __future__ import annotations

import pytest

from session_manager_plugin.communicator.lifetime import TRANSITIONS, LifeInput, LifeState, Lifetime
from session_manager_plugin.errors import ConnectionLost, LocalProtocolError, NotConnected, SessionEnded
from session_manager_plugin.protocol.events import SessionReady

READY = SessionReady("Port")


def in_state(state: LifeState) -> Lifetime:
    """A session that has come so far."""
    life = Lifetime()
    if state is not LifeState.UNOPENED:
        life.open()
    if state is LifeState.OVER:
        life.end("bye")
    return life


@pytest.mark.parametrize("state", [*LifeState])
async def test_a_session_is_opened_once(state: LifeState) -> None:
    life = in_state(state)
    assert life.state is state
    if (state, LifeInput.OPEN) in TRANSITIONS:
        life.open()
        assert life.state is LifeState.OPEN
    else:
        with pytest.raises(LocalProtocolError, match=f"in state {state.name}"):
            life.open()
        assert life.state is state


@pytest.mark.parametrize("state", [*LifeState])
async def test_the_first_outcome_counts(state: LifeState) -> None:
    life = in_state(state)
    life.end(ConnectionLost("cut"))
    assert life.state is TRANSITIONS.get((state, LifeInput.END), state)
    with pytest.raises({LifeState.UNOPENED: NotConnected, LifeState.OPEN: ConnectionLost}.get(state, SessionEnded)):
        await life.ready()
    if state is LifeState.OVER:
        assert await life.ended() == "bye"


async def test_a_session_begins_once() -> None:
    life = in_state(LifeState.OPEN)
    life.begin(READY)
    life.begin(READY)
    life.end("bye")
    assert await life.ready() is READY
    assert await life.ended() == "bye"


async def test_a_session_that_is_over_or_not_open_does_not_begin() -> None:
    for state in (LifeState.UNOPENED, LifeState.OVER):
        life = in_state(state)
        life.begin(READY)
        with pytest.raises((NotConnected, SessionEnded)):
            await life.ready()
