"""What all routes of /v1 share: the body as JSON, the shape of requests and answers."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Annotated, Any

import orjson
from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from starlette.requests import ClientDisconnect

from models.text.truncation import Overflow
from service.answering.answerer import Question, Reply
from service.api.body import (
    check_characters,
    check_headers,
    check_keys,
    check_sizes,
    hides_keys,
    parse,
)
from service.errors import (
    BodyTooLarge,
    ClientGone,
    ErrorBody,
)
from service.limits.deadline import LONGEST_TIMEOUT_S, read_terms
from service.middleware.instrument import TIMES
from service.observability.request_record import Times
from service.registry.manager import Engine
from service.scheduling.ticket import Lane
from service.settings import Settings

# For the OpenAPI document: the headers that every task takes.
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

# More entries than these are written off the event loop: 64 vectors of 384 take 0.5 ms.
_LARGE_COUNT = 64
# Keys of more than these are counted off the event loop.
_LARGE_BYTES = 1 << 16

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

# Told, not checked: the heads refuse an empty text in words of their own.
NOT_EMPTY: dict[str, JsonValue] = {"minLength": 1}


class Fields(BaseModel):
    """An object of a request: these fields and no others, of exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _leave_one_unknown(cls, value: Any) -> Any:
        """Keep one field that is unknown, the first: each would become an error of its own."""
        if not isinstance(value, dict) or len(value) <= len(cls.model_fields):
            return value
        unknown = next(name for name in value if name not in cls.model_fields)
        known = {name: value[name] for name in cls.model_fields if name in value}
        return {**known, unknown: value[unknown]}


class RequestBody(Fields):
    """The fields that every task takes."""

    model: str | None = Field(
        default=None, description="The model's name; left out, the first that has the task."
    )
    overflow: Overflow | None = Field(
        default=None,
        description="What to do with a text that is too long; left out, the server's setting.",
    )


class HeadRequestBody(RequestBody):
    """The fields of tasks whose heads have weights, so that a model may have several."""

    head: str | None = Field(
        default=None, description="The head's name; left out, the model's first for the task."
    )


class Usage(BaseModel):
    """Tokens that were computed, special tokens included."""

    prompt_tokens: int
    total_tokens: int


class ResponseBody(BaseModel):
    """The fields of every answer."""

    model: str
    usage: Usage


class TruncatableResult(BaseModel):
    """A result whose text may have been cut."""

    truncated: bool | None = Field(
        default=None, description="True where the text was cut; else absent."
    )


class JsonRequest(Request):
    """A request whose body has been read and parsed before FastAPI asks for it."""

    _parsed: Any = None

    async def json(self) -> Any:
        """The parsed body."""
        return self._parsed

    async def load(self, settings: Settings) -> None:
        """Read and parse. Raises one of InvalidRequest, or ClientGone."""
        limit = settings.max_body_bytes
        body = bytearray()
        try:
            async for chunk in self.stream():
                body += chunk
                if len(body) > limit:
                    raise BodyTooLarge.of(limit)
        except ClientDisconnect:
            raise ClientGone("the client left before its request was whole") from None
        size, self._body = len(body), bytes(body)
        # Not there twice while it is parsed.
        del body
        check_headers(self.headers)
        self._parsed = parse(self._body, settings.max_inputs)
        check_sizes(self._parsed, settings.max_inputs)
        # A character takes at least a byte: a body that is not longer needs no count.
        if size > settings.max_characters:
            check_characters(self._parsed, settings.max_characters)
        if hides_keys(self._body, self._parsed):
            if len(self._body) > _LARGE_BYTES:
                await asyncio.to_thread(check_keys, self._body)
            else:
                check_keys(self._body)


class TaskRoute(APIRoute):
    """A route that reads its own body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, behind the parser."""
        handle = super().get_route_handler()

        async def handle_checked(request: Request) -> Response:
            if request.method == "POST":
                settings: Settings = request.app.state.settings
                request = JsonRequest(request.scope, request.receive)
                await request.load(settings)
            return await handle(request)

        return handle_checked


class Asker:
    """Hands a route's question to the engine, with what only the request knows."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._engine: Engine = request.app.state.engine
        times: Times = request.scope[TIMES]
        self._terms = read_terms(
            request.scope["headers"], times.began, self._engine.settings.timeout_s
        )

    def overflow(self, body: RequestBody) -> Overflow:
        """What the request says, else the server."""
        return body.overflow or self._engine.settings.overflow

    async def ask(self, question: Question) -> Reply:
        """The engine's reply; the items are dropped if the client goes away."""
        # The body has been read: the next message is that the client has gone.
        return await self._engine.answer(
            question, self._terms, self._request.scope[TIMES], self._request.receive
        )


async def _find_asker(request: Request) -> Asker:
    # Not the class itself: FastAPI would call that in a thread, for every request.
    return Asker(request)


Ask = Annotated[Asker, Depends(_find_asker)]


async def respond(reply: Reply, results: Iterable[Mapping[str, Any]]) -> Response:
    """The answer of a native route."""
    entries = (
        {**result, "truncated": True} if truncated else result
        for result, truncated in zip(results, reply.truncated, strict=True)
    )
    return json_response(
        {
            "model": reply.model,
            "results": await write(entries, len(reply.answers)),
            "usage": {"prompt_tokens": reply.tokens, "total_tokens": reply.tokens},
        }
    )


async def write(entries: Iterable[Mapping[str, Any]], count: int) -> list[Any]:
    """The entries of an answer for `json_response`; many are written off the event loop.

    One by one, since the interpreter is not given to another thread while one is written.
    """
    if count <= _LARGE_COUNT:
        return list(entries)
    return await asyncio.to_thread(lambda: [orjson.Fragment(_dump(entry)) for entry in entries])


def json_response(content: Any, status: int = 200) -> Response:
    """JSON, with numpy arrays and dataclasses as they are."""
    return Response(_dump(content), status_code=status, media_type="application/json")


def _dump(content: Any) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def as_list(value: Any) -> Any:
    """One item as a list of one."""
    return value if isinstance(value, list) else [value]


def one_or_many(item: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of an item, or a list of at least one."""
    return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}
