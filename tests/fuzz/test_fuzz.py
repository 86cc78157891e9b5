"""Every target with a fixed budget of inputs: those of the corpus, and those that hypothesis makes of them.

Counter-examples stay: they are files of the corpus, which is replayed here. ``python -m tests.fuzz`` goes on for
longer.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from session_manager_plugin.protocol.messages import MAX_JSON_DEPTH, ClientMessage, ClientMessageType
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
MAX_CORPUS_SIZE = 256 * 1024
"""Bytes: it is to be replayed in a moment, and to be read in a review."""
EXAMPLES = 100
"""Inputs of each kind for each target."""


def corpus(target: str) -> list[Path]:
    return sorted((CORPUS / target).glob("*"))


every_target = pytest.mark.parametrize("target", TARGETS)


@every_target
def test_the_corpus(target: str) -> None:
    files = corpus(target)
    assert files
    for file in files:
        try:
            TARGETS[target](file.read_bytes())
        except BaseException as error:
            error.add_note(str(file))
            raise


def test_the_corpus_is_small_and_all_of_it_is_replayed() -> None:
    assert {file.parent.name for file in CORPUS.glob("*/*")} == {*TARGETS}
    assert sum(file.stat().st_size for file in CORPUS.glob("*/*")) < MAX_CORPUS_SIZE


# Structured inputs: whole where it matters, so that they get behind the first check, and wrong somewhere.

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**31, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 10**400, 1e308, -0.0]),
    st.floats(),
    st.text(max_size=6),
    st.text(st.sampled_from("\ud800\udfff\x00\x1b\u202e"), max_size=3),
    st.sampled_from(["Port", "Standard_Stream", "SessionType", "KMSEncryption", "AAAA", "LocalPortForwarding", "unix"]),
)
KEYS = st.sampled_from(
    [
        "AgentVersion",
        "RequestedClientActions",
        "ActionType",
        "ActionParameters",
        "SessionType",
        "Properties",
        "KMSKeyId",
        "Challenge",
        "ClientVersion",
        "ProcessedClientActions",
        "ActionStatus",
        "ActionResult",
        "Error",
        "Errors",
        "KMSCipherTextKey",
        "ChallengeAcknowledgement",
        "HandshakeTimeToComplete",
        "CustomerMessage",
        "AcknowledgedMessageSequenceNumber",
        "Output",
        "cols",
        "rows",
        "TokenValue",
        "StreamUrl",
        "SessionId",
        "Target",
        "DocumentName",
        "Parameters",
        "portNumber",
        "localPortNumber",
        "localUnixSocket",
        "localConnectionType",
        "type",
        "host",
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(KEYS, values, max_size=4),
    max_leaves=12,
)
BOMBS = st.sampled_from(
    [
        "[" * 2000,
        "[" * 500 + "]" * 500,
        '{"a":' * MAX_JSON_DEPTH + "1" + "}" * MAX_JSON_DEPTH,
        '{"AcknowledgedMessageSequenceNumber":' + "9" * 5000 + "}",
        '{"localPortNumber":"' + "9" * 5000 + '"}',
        '{"RequestedClientActions":[' + "{}," * 500 + "{}]}",
    ]
)
JSON_TEXTS = st.one_of(
    st.dictionaries(KEYS, VALUES, max_size=5).map(json.dumps),
    st.dictionaries(KEYS, SCALARS, max_size=5).map(lambda fields: json.dumps(fields, ensure_ascii=False).swapcase()),
    BOMBS,
).map(lambda text: text.encode("utf-8", "surrogatepass"))


@st.composite
def header_mutations(draw: st.DrawFn) -> bytes:
    """A whole message with one field of its header set to anything."""
    message = ClientMessage(
        draw(st.sampled_from([each.value for each in ClientMessageType])),
        draw(st.integers(-(2**63), 2**63 - 1)),
        draw(st.integers(0, 14)),
        draw(st.one_of(st.binary(min_size=1, max_size=40), JSON_TEXTS)),
        draw(st.binary(min_size=16, max_size=16)),
        1,
    ).serialize()
    data = bytearray(message)
    offset, layout = draw(
        st.sampled_from([(0, ">I"), (36, ">I"), (40, ">Q"), (48, ">Q"), (56, ">Q"), (112, ">I"), (116, ">I")])
    )
    limit = 2 ** (8 * struct.calcsize(layout)) - 1
    edges = st.sampled_from([0, 1, 112, 115, 116, 117, len(data) - 4, len(data) - 3, limit - 4, limit - 3, limit])
    struct.pack_into(layout, data, offset, draw(st.one_of(edges, st.integers(0, limit))))
    return bytes(data[: draw(st.sampled_from([len(data)] * 3 + [0, 116, 119, 120, 121]))])


@st.composite
def mutations(draw: st.DrawFn, target: str) -> bytes:
    """An input of the corpus, cut, changed, and joined with another one."""
    inputs = [file.read_bytes() for file in corpus(target)]
    data = bytearray(draw(st.sampled_from(inputs)))
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 3)):
            case 0:
                data[position : position + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                data[position:position] = draw(st.one_of(st.binary(max_size=8), JSON_TEXTS))
            case 2:
                del data[position : position + draw(st.integers(1, 16))]
            case 3:
                data[position:position] = draw(st.sampled_from(inputs))
    return bytes(data)


def _op(opcode: int, *arguments: bytes) -> bytes:
    return bytes([opcode]) + b"".join(arguments)


def _sized(data: bytes) -> bytes:
    return bytes([min(len(data), 255)]) + data[:255]


BYTE = st.integers(0, 255).map(lambda value: bytes([value]))
PAYLOADS = st.one_of(st.binary(min_size=1, max_size=20), JSON_TEXTS.filter(lambda text: len(text) < 255))
CORE_STEPS = st.one_of(
    st.builds(lambda data, kind: _op(0, _sized(data), kind), PAYLOADS, BYTE),
    st.builds(lambda number, kind, data: _op(2, number, kind, _sized(data)), BYTE, BYTE, PAYLOADS),
    st.builds(lambda number: _op(4, number), BYTE),
    st.builds(lambda kind, data: _op(5, kind, _sized(data)), BYTE, PAYLOADS),
    st.builds(lambda data: _op(6, struct.pack(">H", len(data)), data), header_mutations()),
    st.builds(lambda wait: _op(8, wait), BYTE),
    st.builds(lambda data: _op(9, _sized(data)), st.binary(min_size=1, max_size=20)),
    st.just(_op(10)),
    st.builds(lambda choice: _op(11, choice), BYTE),
)
MUX_STEPS = st.one_of(
    st.builds(lambda data: _op(0, _sized(data)), st.binary(max_size=40)),
    st.builds(
        lambda command, number, data: _op(2, bytes([command, number]), _sized(data)),
        st.integers(0, 4),
        st.integers(0, 7),
        st.binary(max_size=30),
    ),
    st.just(_op(3)),
    st.builds(lambda stream, data: _op(4, stream, _sized(data)), BYTE, st.binary(max_size=30)),
    st.builds(lambda stream: _op(5, stream), BYTE),
    st.builds(lambda limit, stream: _op(6, limit, stream), BYTE, BYTE),
    st.builds(lambda seconds: _op(7, seconds), BYTE),
)
ZERO_JOINED = st.lists(
    st.one_of(
        JSON_TEXTS,
        st.sampled_from([b"StartSession", b"eu-west-1", b"wss://h", b"ws://h:80/a?b=c"]),
        st.binary(max_size=12),
    ),
    max_size=6,
).map(b"\0".join)


def scripts(steps: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """An opening byte and some steps."""
    return st.builds(lambda opening, steps: opening + b"".join(steps), BYTE, st.lists(steps, max_size=25))


STRUCTURED: dict[str, st.SearchStrategy[bytes]] = {
    "message": header_mutations(),
    "acknowledgement": JSON_TEXTS,
    "payload": st.builds(lambda kind, text: kind + text, BYTE, JSON_TEXTS),
    "properties": JSON_TEXTS,
    "client": scripts(CORE_STEPS),
    "agent": scripts(CORE_STEPS),
    "smux": scripts(MUX_STEPS),
    "url": ZERO_JOINED,
    "arguments": ZERO_JOINED,
}


@every_target
def test_any_bytes(target: str) -> None:
    @settings(max_examples=EXAMPLES)
    @given(st.binary(max_size=400))
    def run(data: bytes) -> None:
        TARGETS[target](data)

    run()


@every_target
def test_what_is_in_the_corpus_changed(target: str) -> None:
    @settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow])
    @given(mutations(target))
    def run(data: bytes) -> None:
        TARGETS[target](data)

    run()


@pytest.mark.parametrize("target", STRUCTURED)
def test_what_is_whole_but_for_a_detail(target: str) -> None:
    @settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow])
    @given(STRUCTURED[target])
    def run(data: bytes) -> None:
        TARGETS[target](data)

    run()
