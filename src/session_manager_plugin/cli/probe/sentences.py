"""Errors in the words of a probe."""

from __future__ import annotations

import ssl


def split(error: Exception, advice: str) -> tuple[str, str]:
    """Detail and advice of an error's sentence, which has them in this order with a semicolon between; `advice` for one
    that has none."""
    detail, separator, rest = str(error).rpartition("; ")
    return (detail, rest) if separator else (rest, advice)


def ssl_text(error: ssl.SSLError) -> str:
    """What TLS did not like."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    return (error.reason or str(error)).replace("_", " ").lower()


def os_text(error: OSError) -> str:
    """What the system says."""
    return error.strerror or str(error) or "the connection was closed"
