"""Voyage AI's routes, below a base of their own: /voyage/v1/rerank and /voyage/v1/embeddings.

What its clients send to rerank looks as Cohere's does, but they read another answer.
"""

from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BeforeValidator, Field

from service.api.cohere.dialect import COHERE
from service.api.cohere.rerank import RerankRequest, rank_documents
from service.api.foreign import ForeignFields, choose_overflow
from service.api.openai.embed import EmbeddingsRequest, embed
from service.api.route import Ask, declare, json_response
from service.api.schemas import as_list
from service.endpoint import Kind

VOYAGE = replace(COHERE, name="voyage", prefixes=("/voyage",), items=("documents", "input"))
router = APIRouter(
    prefix="/voyage/v1", route_class=declare(Kind.WORK, VOYAGE), include_in_schema=False
)


class VoyageEmbeddingsRequest(ForeignFields):
    """Texts, what they are in a search, and how they are wanted."""

    input: Annotated[list[str], Field(min_length=1, fail_fast=True), BeforeValidator(as_list)]
    model: str | None = None
    input_type: Literal["query", "document"] | None = None
    truncation: bool | None = None
    output_dimension: int | None = Field(default=None, ge=1)
    output_dtype: Literal["float"] | None = None
    encoding_format: Literal["float", "base64"] | None = None


@router.post("/rerank", response_model=None)
async def rerank(body: RerankRequest, ask: Ask) -> bytes:
    """Rank documents: the results are called data, and a document is its text."""
    ranking, results = await rank_documents(body, ask)
    for result in results:
        if "document" in result:
            result["document"] = result["document"]["text"]
    usage = {"total_tokens": ranking.tokens}
    told = {"object": "list", "data": results, "model": ranking.model, "usage": usage}
    return json_response(told)


@router.post("/embeddings", response_model=None)
async def embed_texts(body: VoyageEmbeddingsRequest, ask: Ask) -> bytes:
    """Embed as OpenAI's route does, asked in other words."""
    return await embed(
        EmbeddingsRequest(
            input=[*body.input],
            model=body.model,
            input_type=body.input_type,
            overflow=choose_overflow(ask, truncate=body.truncation),
            dimensions=body.output_dimension,
            encoding_format=body.encoding_format,
        ),
        ask,
    )
