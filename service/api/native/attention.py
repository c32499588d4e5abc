"""POST /v1/attention: how the tokens of a text look at each other, in a layer of the trunk."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from models.derived.attention import AttentionMap, AttentionOptions, Included, Text
from models.errors import InvalidValue
from models.pipeline import Pipeline
from service.answering.answerer import check_count
from service.answering.looker import Check, Look
from service.api.native.texts import TextsOrPairs, read_item
from service.api.openapi import ERRORS, HEADERS
from service.api.route import Ask, declare, json_response, write_numbers
from service.api.schemas import RequestBody, ResponseBody, TruncatableResult
from service.endpoint import Kind

router = APIRouter(prefix="/v1", tags=["tasks"], route_class=declare(Kind.WORK))

# Of all attention in an answer, which takes ten bytes for each.
MAX_NUMBERS = 1 << 22
_LIMIT = "CLOZE_MAX_ATTENTION_TOKENS"


class AttentionRequest(RequestBody):
    """Texts, or pairs, and what of the trunk to look at."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "inputs": ["The dog is in the house, since it is warm."],
                    "layer": 1,
                    "head": 0,
                    "include": ["q", "k"],
                }
            ]
        }
    )

    inputs: TextsOrPairs
    layer: int = Field(default=0, ge=0, description="The layer, counted from 0.")
    head: int | None = Field(
        default=None, ge=0, description="An attention head of it, counted from 0; left out, all."
    )
    include: Annotated[list[Included], Field(max_length=2)] = Field(
        default=[], description="With a head: its queries (q) and keys (k), too."
    )


class ShownToken(BaseModel):
    """A token: its text, as it was sent, and where that stands; of a special token its name."""

    text: str
    id: int
    start: int | None
    end: int | None
    special: bool


class Attention(TruncatableResult):
    """For each head a row for each token: what it looks at, which sums to 1."""

    tokens: list[ShownToken]
    attention: list[list[list[float]]]
    q: list[list[float]] | None = Field(
        default=None, description="A row for each token; absent unless it was asked for."
    )
    k: list[list[float]] | None = Field(
        default=None, description="The same of what tokens are looked for by."
    )


class AttentionResponse(ResponseBody):
    """One result a text."""

    results: list[Attention]


@router.post(
    "/attention", response_model=AttentionResponse, responses=ERRORS, openapi_extra=HEADERS
)
async def attention(body: AttentionRequest, ask: Ask) -> bytes:
    """Show how the tokens of texts look at each other."""
    settings = ask.state.settings
    items = [read_item(item) for item in body.inputs]
    check_count(len(items), settings.max_inputs, "inputs")
    options = AttentionOptions(
        layer=body.layer,
        head=body.head,
        include=tuple(body.include),
        overflow=ask.overflow(body),
        truncation_side=body.truncation_side,
        max_tokens=settings.max_attention_tokens,
        limited_by=_LIMIT,
    )
    return await ask.look(
        Look(
            name="attention",
            items=items,
            answer=lambda pipeline, check: _answer(pipeline, items, options, check),
            fits=lambda pipeline: pipeline.lens.sees,
            model=body.model,
        )
    )


def _answer(
    pipeline: Pipeline, items: Sequence[Text], options: AttentionOptions, check: Check
) -> tuple[bytes, int]:
    lens = pipeline.lens
    options = lens.resolve(options)
    encoded = lens.encode(items, options, check)
    heads = lens.count_heads(options)
    numbers = heads * sum(len(each.ids) ** 2 for each in encoded)
    if numbers > MAX_NUMBERS:
        raise InvalidValue(
            f"the answer would have {numbers} numbers of attention, and may have {MAX_NUMBERS}; "
            "ask for one head, send shorter texts or fewer of them",
            param="inputs",
        )
    results = []
    for item, each in zip(items, encoded, strict=True):
        check()
        results.append(json_response(_describe(lens.look(item, each, options))))
    tokens = sum(len(each.ids) for each in encoded)
    content = {
        "model": pipeline.manifest.name,
        "results": [orjson.Fragment(result) for result in results],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return json_response(content), tokens


def _describe(found: AttentionMap) -> Mapping[str, Any]:
    arrays = {"attention": found.attention, "q": found.q, "k": found.k}
    cut = found.encoded.truncated_at
    return {
        "tokens": found.tokens,
        **{
            name: orjson.Fragment(write_numbers(array))
            for name, array in arrays.items()
            if array is not None
        },
        **({} if cut is None else {"truncated": True, "truncated_at": cut}),
    }
