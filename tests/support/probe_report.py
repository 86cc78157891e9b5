"""The documented form of `smp probe --json`, as a check, and a way to look things up in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

STAGES = ("local", "dns", "tcp", "proxy", "tls", "websocket", "channel", "latency")
VERDICTS = ("pass", "warn", "fail", "skipped")
CHECK_KEYS = ["stage", "name", "verdict", "ms", "detail", "advice"]
LATENCY_KEYS = ["count", "lost", "min_ms", "avg_ms", "max_ms", "mdev_ms"]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def check_schema(report: Any) -> None:
    """Fail unless `report` is what docs/probe.md describes."""
    assert list(report) == ["ok", "checks", "latency"]
    assert isinstance(report["ok"], bool)
    assert isinstance(report["checks"], list)
    assert report["checks"]
    for check in report["checks"]:
        assert list(check) == CHECK_KEYS
        assert check["stage"] in STAGES
        assert check["verdict"] in VERDICTS
        for key in ("name", "detail"):
            assert isinstance(check[key], str)
            assert check[key].isprintable()
        assert check["name"]
        assert check["detail"]
        if check["verdict"] == "skipped":
            assert check["ms"] is None
        else:
            assert _is_number(check["ms"])
        if check["verdict"] in ("pass", "skipped"):
            assert check["advice"] is None
        else:
            assert isinstance(check["advice"], str)
            assert check["advice"]
            assert check["advice"].isprintable()
    assert report["ok"] is not any(check["verdict"] == "fail" for check in report["checks"])
    latency = report["latency"]
    if latency is None:
        return
    assert list(latency) == LATENCY_KEYS
    assert isinstance(latency["count"], int)
    assert isinstance(latency["lost"], int)
    assert 0 <= latency["lost"] <= latency["count"]
    times = [latency[key] for key in LATENCY_KEYS[2:]]
    if latency["lost"] == latency["count"]:
        assert times == [None] * 4
    else:
        assert all(_is_number(value) for value in times)
        assert latency["min_ms"] <= latency["avg_ms"] <= latency["max_ms"]


@dataclass(frozen=True)
class Found:
    """One check of a report."""

    name: str
    verdict: str
    detail: str
    advice: str


class ProbeReport:
    """What `smp probe --json` printed; it has the documented form."""

    def __init__(self, text: bytes) -> None:
        self.json: dict[str, Any] = json.loads(text)
        check_schema(self.json)

    def of(self, stage: str, name: str = "") -> list[Found]:
        """The checks of a stage whose name begins with `name`."""
        return [
            Found(check["name"], check["verdict"], check["detail"], check["advice"] or "")
            for check in self.json["checks"]
            if check["stage"] == stage and check["name"].startswith(name)
        ]

    def one(self, stage: str, name: str = "") -> Found:
        """The only one of them."""
        found = self.of(stage, name)
        assert len(found) == 1, self.json
        return found[0]

    def verdicts(self) -> dict[str, list[str]]:
        """The verdicts of each stage but the local one, in order."""
        verdicts: dict[str, list[str]] = {}
        for check in self.json["checks"]:
            if check["stage"] != "local":
                verdicts.setdefault(check["stage"], []).append(check["verdict"])
        return verdicts
