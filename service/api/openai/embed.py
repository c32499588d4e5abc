"""POST /v1/embeddings: OpenAI's route, and a little more."""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
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
from models.errors import InvalidValue
from models.heads import EmbedOptions, TextRole, Windows
from service.answering.answerer import Question, Reply
from service.api.openai.dialect import OPENAI
from service.api.openai.representations import (
    ROLES,
    InputType,
    Representation,
    SparseEmbedding,
    check_weights,
    count_parts,
    make_question,
    write_sparse,
)
from service.api.openapi import ERRORS, HEADERS
from service.api.route import Ask, Asker, declare, json_response, tell_failure, write
from service.api.schemas import NOT_EMPTY, ItemsRequestBody, TruncatableResult, Usage
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


class EmbeddingsRequest(ItemsRequestBody):
    """OpenAI's request, with which vectors of what kind, and what to do if a text is too long."""

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
        default=None, description="Left out, float. Sparse vectors have one form alone."
    )
    representation: Representation | None = Field(
        default=None,
        description="What a text becomes: one dense vector (left out), the weights of a sparse "
        "one, or a vector for each of its tokens, where the model gives these.",
    )
    top_k: int | None = Field(
        default=None,
        ge=1,
        description="Of sparse vectors: the so many largest weights. Left out, as many as the "
        "model gives by default.",
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
    input_type: InputType | None = Field(
        default=None,
        description="What the texts are in a search, in our words, Cohere's or NVIDIA's: the "
        "model's prompt for it goes before each, or none where it has none for it. Of vectors for "
        "each token it says which tokens are answered, too; left out, those of a document. Not "
        "with prompt_name.",
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
    """One vector: floats, or their bytes (float32, little endian) in base64.

    With another representation the weights of a sparse one, or one vector for each token: in base64
    of all of them in their order, with how many and how long they are in `shape`.
    """

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str | SparseEmbedding | list[list[float]]
    shape: list[int] | None = Field(
        default=None, description="Of a vector for each token in base64; else absent."
    )
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
    role = None
    if body.input_type is not None:
        if body.prompt_name is not None:
            raise InvalidValue(
                "it chooses the prompt, and so does prompt_name; leave one of them out",
                param="input_type",
            )
        role = ROLES[body.input_type]
    if body.representation is not None and body.representation != "dense":
        return await _represent(body, role, ask)
    if body.top_k is not None:
        raise InvalidValue(
            'dense vectors have no weights to choose from; ask for "representation": "sparse", or '
            "leave it out",
            param="top_k",
        )
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
        role=role,
    )
    question = Question(
        "embed", body.input, options, model=body.model, field="input", skip=ask.skips(body)
    )
    reply = await ask.ask(question)
    base64 = body.encoding_format == "base64"
    vectors = len(reply.answers)
    if body.windows == "each":
        entries = _write_windows(reply.answers, base64=base64)
        vectors = sum(len(answer.windows) for answer in reply.answers)
    else:
        entries = _write_vectors(reply.answers, base64=base64)
    return await _respond(reply, entries, vectors, base64=base64)


async def _represent(body: EmbeddingsRequest, role: TextRole | None, ask: Asker) -> bytes:
    question = make_question(body, role, ask.overflow(body))
    reply = await ask.ask(replace(question, skip=ask.skips(body)))
    base64 = body.encoding_format == "base64" and body.representation != "sparse"
    if body.representation == "sparse":
        check_weights(reply.answers)
        entries = write_sparse(reply.answers)
    else:
        entries = _write_vectors(reply.answers, base64=base64)
    return await _respond(reply, entries, count_parts(reply.answers), base64=base64)


async def _respond(
    reply: Reply, entries: Iterable[dict[str, Any]], vectors: int, *, base64: bool
) -> bytes:
    """OpenAI's answer, of entries with so many vectors together."""
    data = await write(_complete(reply, entries, base64=base64), vectors)
    usage = {"prompt_tokens": reply.tokens, "total_tokens": reply.tokens}
    return json_response({"object": "list", "data": data, "model": reply.model, "usage": usage})


def _complete(
    reply: Reply, entries: Iterable[dict[str, Any]], *, base64: bool
) -> Iterator[dict[str, Any]]:
    # OpenAI's own clients ask each entry for a vector: that of a text that has none is empty.
    nothing = {"embedding": "" if base64 else []}
    answered = zip(entries, reply.truncated_at, strict=True)
    for index in range(len(reply.answers) + len(reply.failed)):
        if index in reply.failed:
            failure = tell_failure(reply.failed[index])
            yield {"object": "embedding", "index": index, **nothing, **failure}
            continue
        fields, at = next(answered)
        entry = {"object": "embedding", "index": index, **fields}
        if at is not None:
            entry["truncated"] = True
            entry["truncated_at"] = at
        yield entry


def _write_vectors(answers: Sequence[Any], *, base64: bool) -> Iterator[dict[str, Any]]:
    for vector in answers:
        if not base64:
            yield {"embedding": vector}
        elif vector.ndim == 1:
            yield {"embedding": to_base64(vector)}
        else:
            yield {"embedding": to_base64(vector), "shape": vector.shape}


def _write_windows(answers: Sequence[Any], *, base64: bool) -> Iterator[dict[str, Any]]:
    whole = _write_vectors([answer.vector for answer in answers], base64=base64)
    for answer, entry in zip(answers, whole, strict=True):
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
