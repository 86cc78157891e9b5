"""The names of AWS's regions, read from botocore's data without importing botocore."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path


def region_names() -> dict[str, str]:
    """Return the regions of all partitions with what they are called ("Europe (Ireland)"); none if there is no list."""
    spec = importlib.util.find_spec("botocore")
    for directory in (spec and spec.submodule_search_locations) or ():
        try:
            partitions = json.loads(Path(directory, "data", "partitions.json").read_bytes())["partitions"]
        except (OSError, ValueError, KeyError):
            continue
        regions = {name: each.get("description", "") for part in partitions for name, each in part["regions"].items()}
        return {name: regions[name] for name in sorted(regions) if not name.endswith("-global")}
    return {}
