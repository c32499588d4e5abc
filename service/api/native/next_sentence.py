"""POST /v1/next-sentence: does the second text follow the first."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from models.heads import NextSentenceOptions
from service.answering.answerer import Question
from service.api.openapi import ERRORS, HEADERS
from service.api.route import Ask, declare, respond
from service.api.schemas import (
    NOT_EMPTY,
    HeadRequestBody,
    ItemFields,
    ResponseBody,
    TruncatableResult,
    as_list,
    one_or_many,
)
from service.endpoint import Kind

router = APIRouter(prefix="/v1", tags=["tasks"], route_class=declare(Kind.WORK))


class Pair(ItemFields):
    """Two texts, in order."""

    first: str = Field(json_schema_extra=NOT_EMPTY)
    second: str = Field(json_schema_extra=NOT_EMPTY)


_PAIRS = one_or_many({"$ref": "#/components/schemas/Pair"})


class NextSentenceRequest(HeadRequestBody):
    """Pairs of texts."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "inputs": [
                        {
                            "first": "The river rose overnight.",
                            "second": "The bridge was under water.",
                        }
                    ]
                }
            ]
        }
    )

    inputs: Annotated[
        list[Pair],
        Field(min_length=1, fail_fast=True),
        BeforeValidator(as_list),
        WithJsonSchema(_PAIRS),
    ]


class NextSentence(TruncatableResult):
    """Score is the probability that second follows first; is_next, whether it is at least 0.5."""

    is_next: bool | None
    score: float | None


class NextSentenceResponse(ResponseBody):
    """One result a pair."""

    results: list[NextSentence]


@router.post(
    "/next-sentence", response_model=NextSentenceResponse, responses=ERRORS, openapi_extra=HEADERS
)
async def next_sentence(body: NextSentenceRequest, ask: Ask) -> bytes:
    """Judge whether texts follow one another."""
    options = NextSentenceOptions(ask.overflow(body), body.truncation_side)
    pairs = [(pair.first, pair.second) for pair in body.inputs]
    reply = await ask.ask(
        Question(
            "next-sentence", pairs, options, model=body.model, head=body.head, skip=ask.skips(body)
        )
    )
    return await respond(
        reply,
        [{"is_next": answer.is_next, "score": answer.score} for answer in reply.answers],
        {"is_next": None, "score": None},
    )
