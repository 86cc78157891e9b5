"""The schema of asciicast v2, as docs.asciinema.org/manual/asciicast/v2 tells it."""

from __future__ import annotations

import json
import re
from typing import Any

_HEADER: dict[str, type] = {"timestamp": int, "title": str, "env": dict, "idle_time_limit": float, "command": str}


def check_asciicast(data: bytes) -> list[Any]:
    """The header and the events of a recording; an assertion fails unless every line is as the format wants it."""
    text = data.decode()
    assert text.endswith("\n"), "the last line is whole"
    header, *events = [json.loads(line) for line in text.removesuffix("\n").split("\n")]
    assert header["version"] == 2
    assert all(type(header[key]) is int and header[key] > 0 for key in ("width", "height"))
    for key, value in header.items():
        assert key in ("version", "width", "height") or isinstance(value, _HEADER[key]), key
    assert all(isinstance(value, str) for value in header.get("env", {}).values())
    last = 0.0
    for event in events:
        time, code, payload = event
        assert isinstance(time, float)
        assert time >= last
        last = time
        assert code in ("o", "i", "r")
        assert isinstance(payload, str)
        assert payload
        assert code != "r" or re.fullmatch(r"[1-9]\d*x[1-9]\d*", payload)
    return [header, *events]
