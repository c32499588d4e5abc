"""Every error that a route raises becomes an answer here: one shape, and its status and headers.

Owns the words for what pydantic and Starlette find; everything else says itself what is wrong.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic.fields import FieldInfo
from starlette.exceptions import HTTPException

from models.errors import ClozeError, InvalidValue
from service import errors
from service.api.request import json_response
from service.errors import InvalidRequest, ServiceError, describe, find_status
from service.middleware.instrument import TIMES
from service.observability.request_record import Times
from service.settings import Settings

_VALIDATION_CODES = {
    "extra_forbidden": "unknown_field",
    "missing": "missing_field",
}
_SHOWN_CHARACTERS = 200


def add_handlers(app: FastAPI) -> None:
    """Let the application answer all errors but bugs, which are the edge's."""
    app.add_exception_handler(ClozeError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)


def translate_validation(
    error: RequestValidationError, fields: Sequence[str] = ()
) -> InvalidRequest:
    """The first thing that pydantic found, in the same shape as every other error.

    `fields` are those that a body of the route may have.
    """
    found = error.errors()
    # A field that does not belong there explains more than one that is missing.
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    param = _name_place(first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        outermost = fields and len(first["loc"]) == 2
        known = f"it takes {', '.join(fields)}" if outermost else "see /docs for those it has"
        message = f"this route has no such field here; {known}"
    elif first["type"] == "missing":
        message = "the field is missing" if param else "the body is missing; send JSON"
    elif first["type"] in ("model_type", "model_attributes_type", "dict_type"):
        message = "an object is due here, in braces; see /docs for the fields it has"
    elif first["type"] == "too_short":
        message = "the list is empty; send at least one"
    return InvalidRequest(
        message[:1].lower() + message[1:],
        param=param,
        code=_VALIDATION_CODES.get(first["type"], InvalidValue.code),
    )


def _name_place(location: tuple[int | str, ...]) -> str | None:
    name = ""
    for before, part in pairwise(location):
        if isinstance(before, int) and str(part).startswith("<"):
            # Which of the shapes an item may have was tried: no part of the request.
            continue
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name or None


async def _answer_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ClozeError):
        raise error
    status = find_status(error)
    body = describe(error)
    times: Times = request.scope[TIMES]
    times.code = body["error"]["code"]
    response = json_response(body, status)
    if status in (429, 503):
        after_s = error.retry_after_s if isinstance(error, ServiceError) else 1.0
        response.headers["Retry-After"] = str(max(1, math.ceil(after_s)))
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def _answer_invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return await _answer_error(request, translate_validation(error, _list_fields(request)))


def _list_fields(request: Request) -> list[str]:
    """What a body of the request's route may have, and first what it must."""
    body = getattr(request.scope.get("route"), "body_field", None)
    model = body.field_info.annotation if body is not None else None
    fields: dict[str, FieldInfo] = getattr(model, "model_fields", {})
    return sorted(fields, key=lambda name: not fields[name].is_required())


async def _answer_http(request: Request, error: Exception) -> Response:
    """Starlette's own errors: no such route, or not with that method."""
    if not isinstance(error, HTTPException):
        raise error
    # As it was decoded: the URL made of it anew ends at the first question mark.
    path = request.scope["path"]
    path = path if len(path) <= _SHOWN_CHARACTERS else f"{path[:_SHOWN_CHARACTERS]}..."
    settings: Settings = request.app.state.settings
    if error.status_code == 404:
        return await _answer_error(request, errors.RouteNotFound.of(path, settings.docs))
    if error.status_code == 405:
        allowed = error.headers or {}
        remedy = f"; it takes {allowed['Allow']}" if "Allow" in allowed else ""
        response = await _answer_error(
            request, errors.MethodNotAllowed(f"{path} does not take {request.method}{remedy}")
        )
        response.headers.update(allowed)
        return response
    return await _answer_error(request, errors.InvalidRequest(str(error.detail)))
