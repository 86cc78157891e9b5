"""The HTTP side of the sandbox's AWS APIs: authentication, dispatch to an operation, and the response in the service's
own format.

Systems Manager, ECS, EC2 Instance Connect and KMS speak AWS JSON 1.1; EC2, RDS and STS take form parameters and answer
with XML. Pure: an HTTP request in, an HTTP response out. The operations are in ``services/``. Errors have the
service's own codes and shape, so that SDKs raise their modelled exceptions.

A session runs programs as the sandbox's user, and loopback is open to every user of the machine. So the access key id
is random and is the secret; the signature is not verified.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from session_manager_plugin.agent.call_rate import CallRate
from session_manager_plugin.agent.http_messages import HttpRequest, HttpResponse, text_response
from session_manager_plugin.agent.query_protocol import error_xml, parse_parameters, result_xml
from session_manager_plugin.errors import ApiError

_JSON_TYPE = "application/x-amz-json-1.1"
_XML_TYPE = "text/xml;charset=UTF-8"
_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 .*\bCredential=(?P<key>[^/,\s]+)/[^/,\s]*/[^/,\s]*/(?P<service>[^/,\s]+)/")
_JSON_SERVICES = {
    "AmazonSSM": "ssm",
    "AmazonEC2ContainerServiceV20141113": "ecs",
    "AWSEC2InstanceConnectService": "ec2-instance-connect",
    "TrentService": "kms",
}
"""The service's name in IAM, by the first part of X-Amz-Target."""


@dataclass(frozen=True, slots=True)
class StartedSession:
    """The response of StartSession and ResumeSession. The token opens one websocket; None if the session has ended and
    cannot be resumed."""

    session_id: str
    stream_url: str
    token: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of the credentials that signed a request. ``targets`` are those that temporary credentials of
    just-in-time access are valid for; None for the user's own credentials."""

    arn: str
    targets: frozenset[str] | None = None


Operation = Callable[[dict[str, Any], Caller], dict[str, Any]]
"""Takes the members of a request (strings if they came as form parameters) and the caller, returns the members of the
response; raises ``ApiError``."""


class Api:
    """Answers requests. ``find_caller`` returns the owner of an access key id, or None. ``operations`` are keyed by
    their IAM actions (``ssm:StartSession``). ``authorize`` raises ``ApiError`` if the caller may not call an action.
    Above ``rate`` calls a second an operation fails with ThrottlingException; 0 means no limit. StartSession has a rate
    of its own, elsewhere."""

    def __init__(
        self,
        find_caller: Callable[[str], Caller | None],
        operations: Mapping[str, Operation],
        authorize: Callable[[Caller, str], None],
        *,
        rate: float = 0.0,
    ) -> None:
        self._find_caller = find_caller
        self._operations = operations
        self._authorize = authorize
        self._rates = {name: CallRate(rate, time.monotonic) for name in operations if name != "ssm:StartSession"}
        self.calls: Counter[str] = Counter()
        """Calls of each operation, by its IAM action."""
        self.throttled: Counter[str] = Counter()
        """Those of them that were throttled."""

    def respond(self, request: HttpRequest) -> HttpResponse:
        """Return the response to one request. Errors are responses too: this does not raise."""
        if request.method != "POST" or request.path != "/":
            return text_response(
                HTTPStatus.NOT_FOUND, "This is a Session Manager sandbox for AWS SDKs and the AWS CLI."
            )
        credential = _CREDENTIAL.match(request.headers.get("authorization", ""))
        prefix, _, name = request.headers.get("x-amz-target", "").partition(".")
        if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            parameters = parse_parameters(request.body)
            name = str(parameters.get("Action", ""))
            return self._respond_in_xml(credential["service"] if credential else "", name, parameters, request)
        try:
            operation = f"{_JSON_SERVICES.get(prefix, prefix)}:{name}"
            return _json_response(HTTPStatus.OK, self._call(operation, request, lambda: _parse_json(request.body)))
        except ApiError as error:
            return _json_response(HTTPStatus.BAD_REQUEST, {"__type": error.code, "message": str(error)})

    def _respond_in_xml(
        self, service: str, name: str, parameters: dict[str, Any], request: HttpRequest
    ) -> HttpResponse:
        request_id = str(uuid.uuid4())
        try:
            result = self._call(f"{service}:{name}", request, lambda: parameters)
            return HttpResponse(HTTPStatus.OK, result_xml(service, name, result, request_id), _XML_TYPE)
        except ApiError as error:
            status = (
                HTTPStatus.FORBIDDEN
                if error.code in ("AccessDenied", "AuthFailure", "InvalidClientTokenId", "UnauthorizedOperation")
                else HTTPStatus.BAD_REQUEST
            )
            return HttpResponse(status, error_xml(service, error.code, str(error), request_id), _XML_TYPE)

    def _call(self, operation: str, request: HttpRequest, parse: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        caller = self._authenticate(request.headers.get("authorization", ""), operation)
        if operation not in self._operations:
            raise ApiError("UnknownOperationException", f"the sandbox has no operation {operation[:80]}")
        self.calls[operation] += 1
        if (rate := self._rates.get(operation)) is not None and not rate.take():
            self.throttled[operation] += 1
            raise ApiError("ThrottlingException", "Rate exceeded")
        self._authorize(caller, operation)
        return self._operations[operation](parse(), caller)

    def _authenticate(self, authorization: str, operation: str) -> Caller:
        if not authorization:
            raise ApiError("MissingAuthenticationTokenException", "Request is missing Authentication Token")
        credential = _CREDENTIAL.match(authorization)
        caller = None if credential is None else self._find_caller(credential["key"])
        if caller is None:
            code = _UNKNOWN_KEY_CODES.get(operation.partition(":")[0], "UnrecognizedClientException")
            raise ApiError(code, "The security token included in the request is invalid.")
        return caller


_UNKNOWN_KEY_CODES = {"ec2": "AuthFailure", "rds": "InvalidClientTokenId", "sts": "InvalidClientTokenId"}


def string(fields: dict[str, Any], key: str) -> str:
    """Return a member that must be present and a string. Raises ``ApiError``."""
    value = fields.get(key)
    if value is None:
        raise ApiError("ValidationException", f"{key} must not be null")
    if not isinstance(value, str):
        raise ApiError("SerializationException", f"{key} is not a string")
    return value


def optional_string(fields: dict[str, Any], key: str) -> str:
    """Return a string member; an empty string if it is missing or null. Raises ``ApiError``."""
    return string(fields, key) if fields.get(key) is not None else ""


def strings(fields: dict[str, Any], key: str) -> list[str]:
    """Return a member that is a list of strings; an empty list if it is missing or null. Raises ``ApiError``."""
    value = fields.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ApiError("SerializationException", f"{key} is not a list of strings")
    return value


def structures(fields: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Return a member that is a list of structures; an empty list if it is missing or null. Raises ``ApiError``."""
    value = fields.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ApiError("SerializationException", f"{key} is not a list of structures")
    return value


def _parse_json(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise ApiError("SerializationException", "the request's body is not JSON") from None
    if not isinstance(fields, dict):
        raise ApiError("SerializationException", "the request's body is not a JSON object")
    return fields


def _json_response(status: HTTPStatus, value: dict[str, Any]) -> HttpResponse:
    body = json.dumps(value).encode()
    return HttpResponse(status, body, _JSON_TYPE, {"x-amzn-RequestId": str(uuid.uuid4())})
