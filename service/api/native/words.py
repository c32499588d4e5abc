"""POST /v1/words: the words nearest to a sum of words, by their vectors without any context."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from models.derived.words import DEFAULT_TOP_K, MAX_TOP_K
from models.pipeline import Pipeline
from service.answering.looker import Check, Look
from service.api.openapi import ERRORS, HEADERS
from service.api.route import Ask, declare, json_response
from service.api.schemas import NOT_EMPTY, Fields, ResponseBody, as_list
from service.endpoint import Kind

router = APIRouter(prefix="/v1", tags=["tasks"], route_class=declare(Kind.WORK))

# In either list.
MAX_WORDS = 1000
_WORD = {"type": "string", **NOT_EMPTY}
Words = Annotated[
    list[str],
    Field(max_length=MAX_WORDS, fail_fast=True),
    BeforeValidator(as_list),
    WithJsonSchema({"anyOf": [_WORD, {"type": "array", "items": _WORD, "maxItems": MAX_WORDS}]}),
]


class WordsRequest(Fields):
    """Words to add and words to take away, of which there must be one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"positive": ["king", "woman"], "negative": ["man"], "top_k": 5}]
        }
    )

    model: str | None = Field(default=None, description="The model's name; left out, the first.")
    positive: Words = Field(default=[], description="Words whose vectors are added.")
    negative: Words = Field(default=[], description="Words whose vectors are taken away.")
    top_k: int = Field(default=DEFAULT_TOP_K, ge=1, le=MAX_TOP_K, description="Words told.")


class NearWord(BaseModel):
    """A token without its marker, and the cosine of its vector and the sum."""

    token: str
    score: float


class Nearest(BaseModel):
    """The nearest tokens, best first, of those that read the same the best.

    Special and unused ones are left out, and the asked words with their pieces.
    """

    nearest: list[NearWord]


class WordsResponse(ResponseBody):
    """One result."""

    results: list[Nearest]


@router.post("/words", response_model=WordsResponse, responses=ERRORS, openapi_extra=HEADERS)
async def words(body: WordsRequest, ask: Ask) -> bytes:
    """Find the words nearest to a sum of words."""
    return await ask.look(
        Look(
            name="words",
            items=[*body.positive, *body.negative],
            answer=lambda pipeline, check: _answer(pipeline, body, check),
            fits=lambda _: True,
            model=body.model,
        )
    )


def _answer(pipeline: Pipeline, body: WordsRequest, check: Check) -> tuple[bytes, int]:
    nearest, tokens = pipeline.word_vectors.find_nearest(
        body.positive, body.negative, top_k=body.top_k, check=check
    )
    content = {
        "model": pipeline.manifest.name,
        "results": [{"nearest": nearest}],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return json_response(content), tokens
