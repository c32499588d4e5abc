"""POST /v1/fill-mask: the likeliest tokens for each mask."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from models.heads import FillMaskOptions
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

_TEXTS = one_or_many(
    {"type": "string", **NOT_EMPTY, "examples": ["The capital of [MASK] is Paris."]}
)


class FillMaskRequest(HeadRequestBody):
    """Texts with at least one [MASK] each."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"inputs": ["The capital of [MASK] is Paris."], "top_k": 3}]
        }
    )

    inputs: Annotated[
        list[str],
        Field(min_length=1, fail_fast=True),
        BeforeValidator(as_list),
        WithJsonSchema(_TEXTS),
    ]
    top_k: int | None = Field(
        default=None,
        ge=1,
        description="Candidates for each mask; left out, 5, or all targets where these are given.",
    )
    targets: list[str] | None = Field(
        default=None,
        fail_fast=True,
        min_length=1,
        max_length=1000,
        description="Only these are scored, each one token; scores are over the whole vocabulary.",
    )


class Candidate(BaseModel):
    """A token for a mask, and the text with this one mask filled."""

    token: str
    token_id: int
    score: float
    sequence: str


class Mask(BaseModel):
    """A mask: where it stands in the text as it was sent, in characters, best candidate first."""

    start: int
    end: int
    candidates: list[Candidate]


class FilledMasks(TruncatableResult):
    """The masks of one text, in order."""

    masks: list[Mask]


class FillMaskResponse(ResponseBody):
    """One result a text."""

    results: list[FilledMasks]


@router.post("/fill-mask", response_model=FillMaskResponse, responses=ERRORS, openapi_extra=HEADERS)
async def fill_mask(body: FillMaskRequest, ask: Ask) -> bytes:
    """Fill the masks of texts."""
    targets = None if body.targets is None else tuple(body.targets)
    options = FillMaskOptions(
        body.top_k, targets, ask.overflow(body), truncation_side=body.truncation_side
    )
    reply = await ask.ask(
        Question(
            "fill-mask",
            body.inputs,
            options,
            model=body.model,
            head=body.head,
            skip=ask.skips(body),
        )
    )
    return await respond(reply, [{"masks": masks} for masks in reply.answers], {"masks": []})
