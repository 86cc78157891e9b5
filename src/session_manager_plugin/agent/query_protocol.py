"""The form parameters and the XML of EC2, RDS and STS: AWS's ``ec2`` and ``query`` protocols.

In a request the elements of a list are numbered, ``Filter.1.Value.2=…``; in a response each is an XML element with the
list's element name.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

_NAMESPACES = {
    "ec2": "http://ec2.amazonaws.com/doc/2016-11-15/",
    "rds": "http://rds.amazonaws.com/doc/2014-10-31/",
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
}
_MAX_DEPTH = 8
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


def parse_parameters(body: bytes) -> dict[str, Any]:
    """Parse form parameters to nested dictionaries: ``Filter.1.Name=a`` to ``{"Filter": {"1": {"Name": "a"}}}``. A name
    that contradicts an earlier one is ignored."""
    parameters: dict[str, Any] = {}
    for name, value in parse_qsl(body.decode(errors="replace"), keep_blank_values=True):
        *parents, last = name.split(".")[:_MAX_DEPTH]
        table: Any = parameters
        for parent in parents:
            table = table.setdefault(parent, {}) if isinstance(table, dict) else None
        if isinstance(table, dict):
            table.setdefault(last, value)
    return parameters


def numbered(value: object) -> list[Any]:
    """Return the elements of a numbered list in order; an empty list for any other value."""
    if not isinstance(value, dict):
        return []
    return [item for key, item in sorted(value.items(), key=lambda pair: int(pair[0]) if pair[0].isdecimal() else 0)]


def numbered_strings(value: object) -> list[str]:
    """Return the strings in a numbered list."""
    return [item for item in numbered(value) if isinstance(item, str)]


def result_xml(service: str, operation: str, result: dict[str, Any], request_id: str) -> bytes:
    """Serialize the response of an operation. The value of a member is a string, a number, a boolean, a structure
    (``dict``), or a list, whose elements are named like the member; None is left out."""
    fields = "".join(_element(name, value) for name, value in result.items())
    if service == "ec2":
        content = f"<requestId>{request_id}</requestId>{fields}"
    else:
        metadata = f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
        content = f"<{operation}Result>{fields}</{operation}Result>{metadata}"
    opening = f'<{operation}Response xmlns="{_NAMESPACES.get(service, "")}">'
    return f"{_HEAD}{opening}{content}</{operation}Response>".encode()


def error_xml(service: str, code: str, message: str, request_id: str) -> bytes:
    """Serialize an error response."""
    fields = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if service == "ec2":
        errors = f"<Errors><Error>{fields}</Error></Errors>"
        return f"{_HEAD}<Response>{errors}<RequestID>{request_id}</RequestID></Response>".encode()
    error = f"<Error><Type>Sender</Type>{fields}</Error><RequestId>{request_id}</RequestId>"
    return f'{_HEAD}<ErrorResponse xmlns="{_NAMESPACES.get(service, "")}">{error}</ErrorResponse>'.encode()


def _element(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "".join(_element(name, item) for item in value)
    if isinstance(value, dict):
        return f"<{name}>{''.join(_element(key, item) for key, item in value.items())}</{name}>"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"<{name}>{escape(text)}</{name}>"
