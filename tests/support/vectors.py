"""The recorded vectors of ``tests/vectors``; its README tells their provenance."""

import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parent.parent / "vectors"


def load_vectors(name: str) -> dict[str, Any]:
    """The file ``name`` as it stands."""
    vectors = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    assert isinstance(vectors, dict)
    return vectors
