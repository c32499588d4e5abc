"""POST /v1/embeddings: OpenAI's route, and a little more."""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
)

from models.bundle.manifest import Pooling
from models.heads import EmbedOptions, Windows
from service.answering.answerer import Question, Reply
from service.api.openai.dialect import OPENAI
from service.api.openapi import ERRORS, HEADERS
from service.api.route import Ask, declare, json_response, write
from service.api.schemas import NOT_EMPTY, RequestBody, TruncatableResult, Usage
from service.endpoint import Kind

router = APIRouter(prefix="/v1", tags=["tasks"], route_class=declare(Kind.WORK, OPENAI))

_ERRORS: dict[int | str, dict[str, Any]] = ERRORS | {
    400: ERRORS[400] | {"description": "The request cannot be answered as it was sent."},
    422: ERRORS[422] | {"description": "Token ids that this model's tokenizer could not make."},
}
_TEXT = {"type": "string", **NOT_EMPTY}
_TOKENS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
_SCHEMA = {
    "anyOf": [
        _TEXT,
        {"type": "array", "items": _TEXT, "minItems": 1},
        _TOKENS,
        {"type": "array", "items": _TOKENS, "minItems": 1},
    ],
    "title": "Input",
    "description": "A text, or the model's own token ids, used exactly as given; or a list. Ids "
    "begin and end with the model's special tokens, unless special_tokens is false.",
}


def _as_list(value: Any) -> Any:
    """A text, or one list of token ids, as a list of one item."""
    if not isinstance(value, list):
        return [value]
    numbers = value and all(isinstance(part, int | float) for part in value)
    return [value] if numbers else value


def _tag(item: Any) -> str:
    return "<tokens>" if isinstance(item, list) else "<text>"


Item = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[int], Field(fail_fast=True), Tag("<tokens>")],
    Discriminator(_tag),
]


class EmbeddingsRequest(RequestBody):
    """OpenAI's request, with `pooling`, `normalize`, `prompt_name`, and what to do if too long."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"input": ["A cat sits on the mat.", "The dog is asleep."]}]
        }
    )

    input: Annotated[
        list[Item],
        Field(min_length=1, fail_fast=True),
        BeforeValidator(_as_list),
        WithJsonSchema(_SCHEMA),
    ]
    encoding_format: Literal["float", "base64"] | None = Field(
        default=None, description="Left out, float."
    )
    dimensions: int | None = Field(
        default=None,
        ge=1,
        description="Keep only the first so many; normalising comes after. "
        "Left out, as many as the model gives by default.",
    )
    pooling: Pooling | None = Field(default=None, description="Left out, the model's own.")
    normalize: bool = Field(default=True, description="Give each vector length 1.")
    prompt_name: str | None = Field(
        default=None,
        description="Which of the model's prompts goes before each text; not before token ids. "
        "Left out, its default one, where it has one; empty, none.",
    )
    windows: Windows | None = Field(
        default=None,
        description="Read texts that are too long whole, in windows as long as the model takes. An "
        "embedding is then the mean of its windows', by their tokens; with `each` these are "
        "answered, too. Not of token ids.",
    )
    window_overlap: int = Field(
        default=0,
        ge=0,
        description="By how many tokens a window overlaps the one before; at most half of one.",
    )
    special_tokens: bool | None = Field(
        default=None,
        description="False: lists of token ids come without the model's special tokens, which are "
        "added. Left out or true: they have them, and are refused otherwise, since another "
        "tokenizer may have made them.",
    )
    user: str | None = Field(default=None, description="Taken because OpenAI does; not used.")


class WindowEmbedding(BaseModel):
    """The vector of a part of a text, from start to end in its characters as it was sent."""

    start: int
    end: int
    embedding: list[float] | str


class Embedding(TruncatableResult):
    """One vector: floats, or their bytes (float32, little endian) in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    windows: list[WindowEmbedding] | None = Field(
        default=None, description="With windows `each`: those of the text, in order; else absent."
    )


class EmbeddingsResponse(BaseModel):
    """OpenAI's response."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


@router.post(
    "/embeddings", response_model=EmbeddingsResponse, responses=_ERRORS, openapi_extra=HEADERS
)
async def embed(body: EmbeddingsRequest, ask: Ask) -> bytes:
    """Embed texts, or token ids, into vectors."""
    options = EmbedOptions(
        body.pooling,
        body.normalize,
        body.dimensions,
        ask.overflow(body),
        body.prompt_name,
        body.truncation_side,
        body.windows,
        body.window_overlap,
        special_tokens=body.special_tokens is not False,
    )
    reply = await ask.ask(Question("embed", body.input, options, model=body.model, field="input"))
    base64 = body.encoding_format == "base64"
    if body.windows == "each":
        vectors = sum(len(answer.windows) for answer in reply.answers)
        data = await write(_windowed_entries(reply, base64=base64), vectors)
    else:
        data = await write(_entries(reply, base64=base64), len(reply.answers))
    usage = {"prompt_tokens": reply.tokens, "total_tokens": reply.tokens}
    return json_response({"object": "list", "data": data, "model": reply.model, "usage": usage})


def _entries(reply: Reply, *, base64: bool) -> Iterator[dict[str, Any]]:
    for index, (vector, at) in enumerate(zip(reply.answers, reply.truncated_at, strict=True)):
        shown = to_base64(vector) if base64 else vector
        entry = {"object": "embedding", "index": index, "embedding": shown}
        if at is not None:
            entry["truncated"] = True
            entry["truncated_at"] = at
        yield entry


def _windowed_entries(reply: Reply, *, base64: bool) -> Iterator[dict[str, Any]]:
    whole = replace(reply, answers=[answer.vector for answer in reply.answers])
    for answer, entry in zip(reply.answers, _entries(whole, base64=base64), strict=True):
        entry["windows"] = [
            {
                "start": window.start,
                "end": window.end,
                "embedding": to_base64(window.vector) if base64 else window.vector,
            }
            for window in answer.windows
        ]
        yield entry


def to_base64(vector: NDArray[np.float32]) -> str:
    """The bytes of a vector, float32 and little endian, as OpenAI's clients read them."""
    return b64encode(vector.astype("<f4").tobytes()).decode()
