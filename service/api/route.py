"""What a route is: it says of itself what those above it ask, reads its own body, and answers.

Of FastAPI a route uses the OpenAPI document that is made of its types, and nothing while it
answers: the body is read and judged here, validated by pydantic, and handed to the route's function
with an Asker.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, get_type_hints

import numpy as np
import orjson
from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope, Send

from models.errors import ClozeError
from models.text.truncation import Overflow
from service.answering.answerer import Conversion, Question, Reply
from service.answering.looker import Look
from service.api.body import read_json
from service.api.packing import PACKED, pack
from service.api.schemas import ItemsRequestBody, RequestBody, leave_one_unknown
from service.api.validation import drop_unknown, translate_validation
from service.endpoint import NATIVE, Dialect, Kind, Page
from service.error_response import describe_error, send_error, shape_error
from service.scope import DEADLINE, DEPARTURE, IGNORED, RECORD

# What is more than so many vectors is written off the event loop: 64 of 384 take 0.5 ms.
_LARGE_WEIGHT = 64
# Numbers written at a time: meanwhile no other thread has the interpreter.
_AT_ONCE = 1 << 14
_JSON = b"application/json"
# Of names that a caller made up, in a header: so many, of so many of these characters.
_MOST_NAMES = 32
_NAME_CHARACTERS = 64
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route answers where it is no JSON, or has headers of its own."""

    content: bytes
    media_type: bytes = _JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Asker:
    """What a route's function asks of the service, for one request."""

    __slots__ = ("_receive", "app", "scope", "state")

    def __init__(self, app: FastAPI, scope: Scope, receive: Receive) -> None:
        self.app = app
        self.state: Any = app.state
        self.scope = scope
        self._receive = receive

    @property
    def path(self) -> dict[str, Any]:
        """The parameters in the path."""
        found: dict[str, Any] = self.scope["path_params"]
        return found

    def overflow(self, body: RequestBody) -> Overflow:
        """What the request says, else the server."""
        found: Overflow = body.overflow or self.state.settings.overflow
        return found

    def skips(self, body: ItemsRequestBody) -> bool:
        """Whether an item that cannot be answered fails alone, as it says, else the server."""
        return (body.on_error or self.state.settings.on_error) == "skip"

    def ignore(self, names: Iterable[str]) -> None:
        """Let the answer name fields of the request that nobody read."""
        told = sorted({_NO_NAME.sub("?", name)[:_NAME_CHARACTERS] for name in names})
        self.scope[IGNORED] = ", ".join(told[:_MOST_NAMES])

    async def ask(self, question: Question) -> Reply:
        """The reply of the model that was asked; the items are dropped if the client goes away."""
        scope = self.scope
        # The body has been read: the next message is that the client has gone.
        reply: Reply = await self.state.answerer.answer(
            question,
            scope[DEADLINE],
            scope[RECORD],
            (scope.get(DEPARTURE), self._receive),
        )
        return reply

    async def convert(self, wanted: Conversion) -> tuple[str, list[bytes], int]:
        """The model, what its tokenizer makes of each item, as JSON, and of how many tokens."""
        scope = self.scope
        found: tuple[str, list[bytes], int] = await self.state.answerer.convert(
            wanted, scope[DEADLINE], scope[RECORD], (scope.get(DEPARTURE), self._receive)
        )
        return found

    async def look(self, look: Look) -> bytes:
        """The answer of a model's graph, as it is sent; nothing is computed for who has gone."""
        scope, state = self.scope, self.state
        if state.settings.log_texts:
            scope[RECORD].texts = look.items
        content: bytes = await state.answerer.looker.answer(
            look, scope[DEADLINE], scope[RECORD], (scope.get(DEPARTURE), self._receive)
        )
        return content


async def _find_asker(request: Request) -> Asker:
    return Asker(request.app, request.scope, request.receive)


Ask = Annotated[Asker, Depends(_find_asker)]


class Route(APIRoute):
    """A route of ours. Its class says what it is: see `declare`."""

    kind: ClassVar[Kind]
    dialect: ClassVar[Dialect] = NATIVE
    page: ClassVar[Page | None] = None
    probe: ClassVar[bool] = False

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        hints = get_type_hints(endpoint)
        self._model: type[BaseModel] | None = hints.get("body")
        self._named = [name for name in self.param_convertors if name in hints]

    async def answer(self, app: FastAPI, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever comes of it but a bug."""
        try:
            found = await self._answer(Asker(app, scope, receive), scope, receive)
        except ClozeError as error:
            _forget_frames(error)
            await send_error(send, error, scope)
            return
        if isinstance(found, bytes):
            content, headers = found, [(b"content-type", _JSON)]
        else:
            content, headers = found.content, [(b"content-type", found.media_type), *found.headers]
        if app.state.settings.gzip and (packed := await pack(content, scope)) is not None:
            content = packed
            headers.extend(PACKED)
        headers.append((b"content-length", b"%d" % len(content)))
        if IGNORED in scope:
            headers.append((b"x-ignored-fields", scope[IGNORED].encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, asker: Asker, scope: Scope, receive: Receive) -> bytes | Answer:
        if self.param_convertors:
            scope["path_params"] = self._read_path(scope["path"])
        if self._model is None:
            named = {name: scope["path_params"][name] for name in self._named}
            told: bytes | Answer = await self.endpoint(asker, **named)
            return told
        parsed = await read_json(scope, receive, asker.state.settings, self.dialect)
        body = self._validate(parsed, self._model, asker)
        answer: bytes | Answer = await self.endpoint(body, asker)
        return answer

    def _validate(self, parsed: Any, model: type[BaseModel], asker: Asker) -> BaseModel:
        everywhere = asker.state.settings.unknown_fields == "ignore"
        unknown: list[str] = []
        if everywhere or self.dialect.unknown_fields == "ignore":
            parsed, unknown = drop_unknown(model, parsed, inside=everywhere)
        try:
            body = validate(model, parsed)
        except ValidationError as error:
            raise translate_validation(error, model) from None
        if unknown:
            asker.ignore(unknown)
        return body

    def _read_path(self, path: str) -> dict[str, Any]:
        """The parameters in a path that the route was found by."""
        match = self.path_regex.match(path)
        assert match is not None
        return {
            name: self.param_convertors[name].convert(value)
            for name, value in match.groupdict().items()
        }


def _forget_frames(error: BaseException | None) -> None:
    """Let go of what a request held when it failed: its frames and its error refer to each other.

    Until the collector came by they would keep its texts, which nobody counts any more.
    """
    while error is not None:
        error.__traceback__, error = None, error.__context__


def validate(model: type[BaseModel], parsed: Any) -> BaseModel:
    """A body of that model. Raises ValidationError, of few errors whatever the body holds."""
    if isinstance(parsed, dict) and len(parsed) > len(model.model_fields):
        parsed = leave_one_unknown(model, parsed)
    return model.model_validate(parsed)


def declare(
    kind: Kind, dialect: Dialect = NATIVE, *, page: Page | None = None, probe: bool = False
) -> type[Route]:
    """The class of routes that are this, for a router's `route_class`; see service/endpoint.py."""
    told = {"kind": kind, "dialect": dialect, "page": page, "probe": probe}
    return type(f"{kind.title()}Route", (Route,), told)


async def respond(
    reply: Reply, results: Iterable[Mapping[str, Any]], nothing: Mapping[str, Any]
) -> bytes:
    """The answer of a native route, of the results of the items that have one.

    That of an item that failed says `nothing` in its fields, beside its error: as it would for a
    client whose types were made of the document.
    """
    entries = (
        result if at is None else {**result, "truncated": True, "truncated_at": at}
        for result, at in zip(results, reply.truncated_at, strict=True)
    )
    return json_response(
        {
            "model": reply.model,
            "results": await write(merge(reply, entries, nothing), reply.weight),
            "usage": {"prompt_tokens": reply.tokens, "total_tokens": reply.tokens},
        }
    )


def merge(
    reply: Reply, entries: Iterable[Mapping[str, Any]], nothing: Mapping[str, Any]
) -> Iterable[Mapping[str, Any]]:
    """The entries, and in the place of each item that has none `nothing` and its error."""
    if not reply.failed:
        return entries
    remaining = iter(entries)
    count = len(reply.answers) + len(reply.failed)
    return (
        {**nothing, **tell_failure(reply.failed[place])}
        if place in reply.failed
        else next(remaining)
        for place in range(count)
    )


def tell_failure(error: ClozeError) -> dict[str, Any]:
    """An item's error, in the shape of a request's."""
    return shape_error(describe_error(error))


async def write(entries: Iterable[Any], weight: int) -> list[Any]:
    """The entries of an answer for `json_response`; many are written off the event loop.

    One by one, since the interpreter is not given to another thread while one is written. Their
    `weight` is that of a Reply.
    """
    if weight <= _LARGE_WEIGHT:
        return list(entries)
    return await asyncio.to_thread(
        lambda: [orjson.Fragment(json_response(entry)) for entry in entries]
    )


def json_response(content: Any) -> bytes:
    """JSON, with numpy arrays and dataclasses as they are."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def write_numbers(numbers: NDArray[np.float32]) -> bytes:
    """The numbers as JSON, some of them at a time."""
    if numbers.size <= _AT_ONCE:
        return json_response(numbers)
    if numbers.ndim > 2:
        return b"[%s]" % b",".join(map(write_numbers, numbers))
    rows = max(_AT_ONCE // (numbers.shape[1] if numbers.ndim > 1 else 1), 1)
    starts = range(0, len(numbers), rows)
    parts = (json_response(numbers[start : start + rows])[1:-1] for start in starts)
    return b"[%s]" % b",".join(parts)
