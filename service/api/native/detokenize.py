"""POST /v1/detokenize: the text that token ids spell."""

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from models.derived.tokens import MOST_TOKENS, join_tokens
from models.text.encoder import Encoder
from service.answering.answerer import Conversion
from service.api.openapi import ERRORS, HEADERS
from service.api.route import Ask, declare, json_response
from service.api.schemas import Fields, ResponseBody
from service.endpoint import Dialect, Kind

DETOKENIZE = Dialect("native", prefixes=("/v1/detokenize",), items=("ids",))
router = APIRouter(prefix="/v1", tags=["tasks"], route_class=declare(Kind.WORK, DETOKENIZE))

_TOKENS = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_IDS = {
    "anyOf": [_TOKENS, {"type": "array", "items": _TOKENS, "minItems": 1}],
    "title": "Ids",
    "description": "The token ids of a text, or of several.",
}


def _as_lists(value: Any) -> Any:
    """One list of ids as a list of one."""
    alone = isinstance(value, list) and all(isinstance(part, int | float) for part in value)
    return [value] if alone else value


class DetokenizeRequest(Fields):
    """Token ids."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ids": [[7, 8, 9]]}]})

    model: str | None = Field(default=None, description="The model's name; left out, the first.")
    ids: Annotated[
        list[Annotated[list[int], Field(fail_fast=True)]],
        Field(min_length=1, fail_fast=True),
        BeforeValidator(_as_lists),
        WithJsonSchema(_IDS),
    ]
    special_tokens: bool = Field(default=False, description="Spell special ones, too.")


class Spelled(BaseModel):
    """A text."""

    text: str


class DetokenizeResponse(ResponseBody):
    """One result a list of ids."""

    results: list[Spelled]


@router.post(
    "/detokenize", response_model=DetokenizeResponse, responses=ERRORS, openapi_extra=HEADERS
)
async def detokenize(body: DetokenizeRequest, ask: Ask) -> bytes:
    """Spell token ids."""

    def convert(encoder: Encoder, ids: Sequence[int]) -> tuple[bytes, int]:
        skip = not body.special_tokens
        text = join_tokens(encoder, ids, skip_special=skip, most=MOST_TOKENS)
        return json_response({"text": text}), len(ids)

    model, results, tokens = await ask.convert(
        Conversion("detokenize", body.ids, convert, model=body.model, field="ids")
    )
    return json_response(
        {
            "model": model,
            "results": [orjson.Fragment(result) for result in results],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )
