"""The OpenAPI document: what FastAPI makes of the routes, and what is told of keys and headers."""

import json
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.endpoint import Endpoint, Kind
from service.error_response import ErrorBody
from service.limits.deadline import LONGEST_TIMEOUT_S
from service.scheduling.ticket import Lane

# The headers that every task takes.
HEADERS: dict[str, Any] = {
    "parameters": [
        {
            "name": "X-Request-Timeout",
            "in": "header",
            "required": False,
            "description": "Seconds within which the answer is wanted; what cannot be answered by "
            "then is refused at once, with 429.",
            "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_TIMEOUT_S},
        },
        {
            "name": "X-Priority",
            "in": "header",
            "required": False,
            "description": "Left out, requests with many inputs are bulk: they run when no "
            "interactive one waits, and get a share of the time otherwise.",
            "schema": {"type": "string", "enum": [str(lane) for lane in Lane]},
        },
    ]
}

# What any route of /v1 may answer besides 200.
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The body is not JSON."},
    401: {"model": ErrorBody, "description": "No API key, or an unknown one."},
    404: {"model": ErrorBody, "description": "No model of that name."},
    413: {"model": ErrorBody, "description": "The body is too large."},
    422: {"model": ErrorBody, "description": "The request cannot be answered as it was sent."},
    429: {"model": ErrorBody, "description": "Too busy, or asked too often; see Retry-After."},
    500: {"model": ErrorBody, "description": "An error of the service's own."},
    503: {"model": ErrorBody, "description": "Not ready, shutting down, or holding all it can."},
    504: {"model": ErrorBody, "description": "The answer would have come too late."},
}

_KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "Asked for where the operator has set API keys.",
}
_ADMIN_KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "One of the admin keys; API keys are none.",
}
_CONVERTER = re.compile(r":\w+}")
_SECURITY: Mapping[Kind, list[dict[str, list[str]]]] = {
    Kind.WORK: [{}, {"key": []}],
    Kind.ADMIN: [{"admin_key": []}],
}


def describe_api(app: FastAPI, endpoints: Mapping[str, Endpoint]) -> dict[str, Any]:
    """The OpenAPI document, with the keys that each kind of route asks for; made once."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            # Where a gateway leaves its prefix, clients that are made of the document send it.
            servers=[{"url": root}] if (root := app.state.settings.root_path) else None,
        )
        # As the document writes them: without how a parameter is read.
        kinds = {_CONVERTER.sub("}", path): each.kind for path, each in endpoints.items()}
        schemes = {"key": _KEY}
        if Kind.ADMIN in kinds.values():
            schemes["admin_key"] = _ADMIN_KEY
        schema["components"]["securitySchemes"] = schemes
        for path, operations in schema["paths"].items():
            kind = kinds.get(path)
            if kind is not None and kind in _SECURITY:
                for operation in operations.values():
                    operation["security"] = _SECURITY[kind]
        _tell_defaults(schema["components"]["schemas"])
        app.openapi_schema = schema
    return app.openapi_schema


def _tell_defaults(schemas: dict[str, Any]) -> None:
    """Say in words what fields are that are left out, which is true of requests alone.

    Of a field with a `default` openapi-typescript has it that it is always there, as it would be in
    an answer, and what it makes of a request without the field does not compile.
    """
    for schema in schemas.values():
        for field in schema.get("properties", {}).values():
            if "default" in field:
                default = json.dumps(field.pop("default"), ensure_ascii=False)
                told = field.get("description", "")
                field["description"] = f"{told} Left out, {default}.".strip()
