"""POST /v1/score: how likely a text is to a masked LM, in all and token by token."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from models.derived.score import ScoreOptions
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


class ScoreRequest(HeadRequestBody):
    """Texts; each is read as many times as it has tokens."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"inputs": ["He walked to the door.", "Door the walked he."]}]
        }
    )

    inputs: Annotated[
        list[str],
        Field(min_length=1, fail_fast=True),
        BeforeValidator(as_list),
        WithJsonSchema(_TEXTS),
    ]


class ScoredToken(BaseModel):
    """A token, from start to end in characters of the text, with its log-probability."""

    text: str
    start: int
    end: int
    score: float


class TextScoreBody(TruncatableResult):
    """The sum of the tokens' log-probabilities (natural logarithms), and the perplexity."""

    score: float | None
    perplexity: float | None
    tokens: list[ScoredToken]


class ScoreResponse(ResponseBody):
    """One result a text."""

    results: list[TextScoreBody]


@router.post("/score", response_model=ScoreResponse, responses=ERRORS, openapi_extra=HEADERS)
async def score(body: ScoreRequest, ask: Ask) -> bytes:
    """Say how likely texts are."""
    options = ScoreOptions(ask.overflow(body), body.truncation_side)
    reply = await ask.ask(
        Question(
            "score", body.inputs, options, model=body.model, head=body.head, skip=ask.skips(body)
        )
    )
    return await respond(
        reply,
        (
            {"score": each.score, "perplexity": each.perplexity, "tokens": each.tokens}
            for each in reply.answers
        ),
        {"score": None, "perplexity": None, "tokens": []},
    )
