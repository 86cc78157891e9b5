"""Errors in the words of a probe."""

from __future__ import annotations


def split(error: Exception, advice: str) -> tuple[str, str]:
    """Detail and advice of an error's sentence, which has them in this order with a semicolon between; `advice` for one
    that has none."""
    detail, separator, rest = str(error).rpartition("; ")
    return (detail, rest) if separator else (rest, advice)
