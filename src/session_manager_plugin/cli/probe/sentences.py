"""Errors in the words of a probe."""

from __future__ import annotations


def split(error: Exception, advice: str) -> tuple[str, str]:
    """Return detail and advice of an error's sentence, which a semicolon separates; by default `advice`."""
    detail, separator, rest = str(error).rpartition("; ")
    return (detail, rest) if separator else (rest, advice)
