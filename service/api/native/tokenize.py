"""POST /v1/tokenize: the tokens of a text, with their ids and where they stand in it."""

from typing import Annotated

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from models.derived.tokens import MOST_TOKENS, split_text
from models.text.encoder import Encoder
from service.answering.answerer import Conversion
from service.api.openapi import ERRORS, HEADERS
from service.api.route import Ask, declare, json_response
from service.api.schemas import Fields, ResponseBody, as_list, one_or_many
from service.endpoint import Kind

router = APIRouter(prefix="/v1", tags=["tasks"], route_class=declare(Kind.WORK))

_TEXTS = one_or_many({"type": "string"})


class TokenizeRequest(Fields):
    """Texts of any length."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": ["The kittens are purring."]}]}
    )

    model: str | None = Field(default=None, description="The model's name; left out, the first.")
    inputs: Annotated[
        list[str],
        Field(min_length=1, fail_fast=True),
        BeforeValidator(as_list),
        WithJsonSchema(_TEXTS),
    ]
    special_tokens: bool = Field(
        default=True, description="Tell those, too, that the model puts around a text."
    )


class TokenBody(BaseModel):
    """A token: what the text has from start to end, in its characters, and the token's id.

    A special one is spelled by the vocabulary, and stands nowhere in the text.
    """

    text: str
    id: int
    start: int | None
    end: int | None
    special: bool


class Tokens(BaseModel):
    """The tokens of one text, in order."""

    tokens: list[TokenBody]


class TokenizeResponse(ResponseBody):
    """One result a text."""

    results: list[Tokens]


@router.post("/tokenize", response_model=TokenizeResponse, responses=ERRORS, openapi_extra=HEADERS)
async def tokenize(body: TokenizeRequest, ask: Ask) -> bytes:
    """Split texts into tokens."""

    def convert(encoder: Encoder, text: str) -> tuple[bytes, int]:
        tokens = split_text(encoder, text, special=body.special_tokens, most=MOST_TOKENS)
        return json_response({"tokens": tokens}), len(tokens)

    model, results, tokens = await ask.convert(
        Conversion("tokenize", body.inputs, convert, model=body.model)
    )
    return json_response(
        {
            "model": model,
            "results": [orjson.Fragment(result) for result in results],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )
