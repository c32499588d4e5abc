"""POST /v1/token-classify: what stands where in a text: names, places, whatever the labels say."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from models.heads import Aggregation, Entity, TokenClassifyOptions
from service.answering.answerer import Question
from service.api.openapi import ERRORS, HEADERS
from service.api.route import Ask, declare, respond
from service.api.schemas import (
    NOT_EMPTY,
    HeadRequestBody,
    ResponseBody,
    TruncatableResult,
    as_list,
    one_or_many,
)
from service.endpoint import Kind

router = APIRouter(prefix="/v1", tags=["tasks"], route_class=declare(Kind.WORK))

_TEXTS = one_or_many({"type": "string", **NOT_EMPTY})


class TokenClassifyRequest(HeadRequestBody):
    """Texts."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": ["The king of France lives in Paris."]}]}
    )

    inputs: Annotated[
        list[str],
        Field(min_length=1, fail_fast=True),
        BeforeValidator(as_list),
        WithJsonSchema(_TEXTS),
    ]
    aggregation: Aggregation = Field(
        default="simple",
        description="What is told as one: none, every token; simple, neighbouring tokens of one "
        "label; first, max and average give each word one label before that.",
    )
    ignore_labels: list[str] = Field(
        default=["O"],
        max_length=1000,
        fail_fast=True,
        description="Labels that are not told: of a group without its B- or I-.",
    )
    stride: int | None = Field(
        default=None,
        ge=0,
        description="Read texts that are too long whole, in windows that overlap by so many "
        "tokens; wants an aggregation other than none.",
    )


class EntityBody(BaseModel):
    """A part of the text with its label, from start to end in characters of the text as sent.

    `index` is a token's place among the text's, special ones counted; of groups it is absent.
    """

    label: str
    score: float
    word: str
    start: int
    end: int
    index: int | None = None


class Entities(TruncatableResult):
    """What is in one text, in order."""

    entities: list[EntityBody]


class TokenClassifyResponse(ResponseBody):
    """One result a text."""

    results: list[Entities]


@router.post(
    "/token-classify",
    response_model=TokenClassifyResponse,
    responses=ERRORS,
    openapi_extra=HEADERS,
)
async def token_classify(body: TokenClassifyRequest, ask: Ask) -> bytes:
    """Find what stands where in texts."""
    options = TokenClassifyOptions(
        body.aggregation,
        tuple(body.ignore_labels),
        ask.overflow(body),
        body.truncation_side,
        body.stride,
    )
    reply = await ask.ask(
        Question(
            "token-classify",
            body.inputs,
            options,
            model=body.model,
            head=body.head,
            skip=ask.skips(body),
        )
    )
    return await respond(
        reply,
        _write([body.inputs[place] for place in reply.places], reply.answers),
        {"entities": []},
    )


def _write(texts: Sequence[str], answers: Sequence[Sequence[Entity]]) -> Iterator[dict[str, Any]]:
    for text, entities in zip(texts, answers, strict=True):
        yield {"entities": [write_entity(text, entity) for entity in entities]}


def write_entity(text: str, entity: Entity) -> dict[str, Any]:
    """An entity, its word as the text itself spells it."""
    told: dict[str, Any] = {
        "label": entity.label,
        "score": entity.score,
        "word": text[entity.start : entity.end],
        "start": entity.start,
        "end": entity.end,
    }
    if entity.index is not None:
        told["index"] = entity.index
    return told
