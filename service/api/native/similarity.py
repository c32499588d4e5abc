"""POST /v1/similarity: how alike texts are, by the cosines of their vectors."""

from typing import Annotated, Any, Self

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from models.errors import TooManyInputs
from models.heads import EmbedOptions
from service.answering.answerer import Question
from service.answering.derived import compare_texts
from service.api.openapi import ERRORS, HEADERS
from service.api.route import Ask, declare, json_response
from service.api.schemas import NOT_EMPTY, RequestBody, ResponseBody
from service.endpoint import Dialect, Kind

# As many rows have a quarter of a million numbers.
MOST_TEXTS = 512

SIMILARITY = Dialect("native", prefixes=("/v1/similarity",), items=("inputs", "targets"))
router = APIRouter(prefix="/v1", tags=["tasks"], route_class=declare(Kind.WORK, SIMILARITY))

_Texts = Annotated[
    list[Annotated[str, Field(json_schema_extra=NOT_EMPTY)]], Field(min_length=1, fail_fast=True)
]


class SimilarityRequest(RequestBody):
    """A source with targets, or inputs of which each is compared with each."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "source": "A cat sits on the mat.",
                    "targets": ["A dog sleeps on the rug.", "Shares fell."],
                }
            ]
        }
    )

    source: str | None = Field(default=None, json_schema_extra=NOT_EMPTY)
    targets: _Texts | None = Field(default=None, description="Compared with the source.")
    inputs: _Texts | None = Field(
        default=None, description=f"Compared each with each, at most {MOST_TEXTS}."
    )

    @model_validator(mode="after")
    def _check_which(self) -> Self:
        pair = self.source is not None and self.targets is not None and self.inputs is None
        every = self.inputs is not None and self.source is None and self.targets is None
        if not (pair or every):
            raise PydanticCustomError(
                "which_texts", "send source and targets, or inputs alone: one of the two"
            )
        return self


class Similarity(BaseModel):
    """Cosines: of each target with the source, or of all pairs, a row a text."""

    scores: list[float] | None = None
    matrix: list[list[float]] | None = None
    truncated: bool | None = Field(
        default=None, description="True where a text was cut; else absent."
    )
    truncated_at: list[int | None] | None = Field(
        default=None,
        description="Where each was cut, null for whole ones: the source first, then the targets.",
    )


class SimilarityResponse(ResponseBody):
    """One result."""

    results: list[Similarity]


@router.post(
    "/similarity", response_model=SimilarityResponse, responses=ERRORS, openapi_extra=HEADERS
)
async def similarity(body: SimilarityRequest, ask: Ask) -> bytes:
    """Compare texts by their meaning."""
    options = EmbedOptions(overflow=ask.overflow(body), truncation_side=body.truncation_side)
    if body.inputs is not None:
        if len(body.inputs) > MOST_TEXTS:
            raise TooManyInputs(
                f"{len(body.inputs)} texts have more pairs than are compared at once, which are "
                f"those of {MOST_TEXTS}; send a source with targets, or embed them",
                param="inputs",
            )
        question = Question("embed", body.inputs, options, model=body.model)
        reply, cosines = await compare_texts(ask.ask, question)
        result: dict[str, Any] = {"matrix": cosines}
    else:
        items = [body.source, *(body.targets or ())]
        question = Question("embed", items, options, model=body.model, field="targets")
        reply, cosines = await compare_texts(ask.ask, question, source="source")
        result = {"scores": cosines}
    if any(reply.truncated):
        result |= {"truncated": True, "truncated_at": list(reply.truncated_at)}
    return json_response(
        {
            "model": reply.model,
            "results": [result],
            "usage": {"prompt_tokens": reply.tokens, "total_tokens": reply.tokens},
        }
    )
