"""Converting errors to detail and advice."""

from __future__ import annotations


def split(error: Exception, advice: str) -> tuple[str, str]:
    """Split an error's sentence at the semicolon into detail and advice. ``advice`` is the default."""
    detail, separator, rest = str(error).rpartition("; ")
    return (detail, rest) if separator else (rest, advice)
