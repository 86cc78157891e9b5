"""Building, checking and parsing stream URLs."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, unquote_plus, urlencode, urlsplit, urlunsplit

from session_manager_plugin.communicator.aws_hosts import is_aws_host
from session_manager_plugin.errors import InvalidURL

DATA_CHANNEL = "/data-channel/"


def build_stream_url(base_url: str, session_id: str, token: str) -> str:
    """Return the stream URL of a session at ``base_url``, with ``sessionId`` and ``token`` added to the query.

    ``http(s)`` becomes ``ws(s)``, and a bare host gets ``wss``. In a complete stream URL (its path contains
    ``/data-channel/``) only the scheme is changed. Raises ``InvalidURL`` for text that is not a URL.
    """
    url = websocket_scheme(base_url)
    try:
        path = urlsplit(url).path
    except ValueError:
        raise InvalidURL(f"{_shown(url)!r} is not a URL") from None
    if DATA_CHANNEL in path:
        return url
    return _add_to_query(url, sessionId=session_id, token=token)


def _add_to_query(url: str, **parameters: str) -> str:
    """Return ``url`` with these query parameters, replacing earlier values. All other bytes stay unchanged.

    Raises ``InvalidURL`` if a value is not Unicode text, such as an argument in another encoding.
    """
    parts = urlsplit(url)
    kept = [pair for pair in parts.query.split("&") if pair and unquote_plus(pair.partition("=")[0]) not in parameters]
    try:
        added = urlencode(parameters)
    except UnicodeEncodeError:
        raise InvalidURL(f"the {' or the '.join(parameters)} for {_shown(url)!r} is not text") from None
    return urlunsplit(parts._replace(query="&".join([*kept, added])))


def websocket_scheme(url: str) -> str:
    """Return ``url`` with a websocket scheme: ``http(s)`` becomes ``ws(s)``, a missing scheme becomes ``wss``."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return f"wss://{url}"
    return f"{ {'http': 'ws', 'https': 'wss'}.get(scheme.lower(), scheme.lower()) }://{rest}"


def complete_stream_url(url: str, session_id: str | None, token: str) -> tuple[str, str]:
    """Return the URL to open and the session id, for a URL given by the user.

    In a complete stream URL only the scheme is changed; without ``session_id``, the path segment after
    ``/data-channel/`` is the session id. A bare endpoint needs ``session_id``: an empty path is replaced by the
    service's, and the session id and, for hosts outside AWS, the token are added to the query. Raises ``InvalidURL``.
    """
    given, url = url, websocket_scheme(url)
    if "#" in url:
        raise InvalidURL(
            f"{_shown(url)!r} has a fragment, which the URL of a websocket cannot have: remove the part from # on, or "
            "write # as %23"
        )
    if not validate_websocket_url(url):
        raise InvalidURL(f"{_shown(url)!r} is not a stream URL: it needs ws:// or wss://, a host and a legal port")
    parts = urlsplit(url)
    if DATA_CHANNEL in parts.path:
        return url, session_id or parts.path.partition(DATA_CHANNEL)[2].partition("/")[0]
    if not session_id:
        raise InvalidURL(
            f"{_shown(given)!r} names no session: give a complete stream URL or a session id (--session-id)"
        )
    if parts.path in ("", "/"):
        channel = f"/v1{DATA_CHANNEL}{quote(session_id, safe='', errors='replace')}"
        url = _add_to_query(urlunsplit(parts._replace(path=channel)), role="publish_subscribe")
    if is_aws_host(parts.hostname or ""):
        return _add_to_query(url, sessionId=session_id), session_id
    return _add_to_query(url, sessionId=session_id, token=token), session_id


def replace_token(url: str, old: str, new: str) -> str:
    """Return ``url`` with the token ``old`` in its query replaced by ``new``; unchanged if the query lacks ``old``."""
    values = [value for name, value in parse_qsl(urlsplit(url).query) if name == "token"]
    return _add_to_query(url, token=new) if old in values else url


def _shown(url: str) -> str:
    return url.partition("?")[0].partition("#")[0]


def validate_websocket_url(url: str) -> bool:
    """Return whether ``url`` can be opened: ``ws`` or ``wss``, a host, a legal port, no user name, no fragment."""
    if "#" in url:
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if any(character.isspace() or not character.isprintable() for character in url):
        return False
    return parts.scheme in ("ws", "wss") and bool(parts.hostname) and port != 0 and parts.username is None
