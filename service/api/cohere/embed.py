"""POST /v1/embed and /v2/embed: Cohere's embeddings."""

from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter
from pydantic import Field

from models.errors import EmptyInput
from models.heads import EmbedOptions, TextRole
from service.answering.answerer import Question, Reply
from service.api.cohere.dialect import COHERE
from service.api.foreign import ForeignFields, answer_cut, choose_overflow
from service.api.route import Answer, Ask, Asker, declare, write
from service.endpoint import Kind

router = APIRouter(route_class=declare(Kind.WORK, COHERE), include_in_schema=False)


class EmbedRequest(ForeignFields):
    """Cohere's request, of either version."""

    texts: Annotated[list[str], Field(fail_fast=True)]
    model: str | None = None
    input_type: str | None = None
    embedding_types: Annotated[list[Literal["float"]], Field(fail_fast=True)] | None = None
    truncate: Literal["NONE", "START", "END"] | None = None
    output_dimension: int | None = Field(default=None, ge=1)


async def _ask(body: EmbedRequest, ask: Asker) -> Reply:
    if not body.texts:
        raise EmptyInput("the list is empty; send at least one text", param="texts")
    cut = None if body.truncate is None else body.truncate != "NONE"
    options = EmbedOptions(
        dimensions=body.output_dimension,
        overflow=choose_overflow(ask, truncate=cut),
        truncation_side="left" if body.truncate == "START" else None,
        role=_find_role(body.input_type),
    )
    return await ask.ask(Question("embed", body.texts, options, model=body.model, field="texts"))


def _find_role(input_type: str | None) -> TextRole | None:
    """What a text is in a search; of whatever else it is for, a document."""
    if input_type is None:
        return None
    return "query" if input_type in ("search_query", "query") else "document"


def _describe(reply: Reply, body: EmbedRequest, version: str) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "texts": body.texts,
        "meta": {
            "api_version": {"version": version},
            "billed_units": {"input_tokens": reply.tokens},
        },
    }


@router.post("/v1/embed", response_model=None)
async def embed(body: EmbedRequest, ask: Ask) -> Answer:
    """Embed texts."""
    reply = await _ask(body, ask)
    told = _describe(reply, body, "1")
    typed = body.embedding_types is not None
    kind = "embeddings_by_type" if typed else "embeddings_floats"
    written = await write(reply.answers, reply.weight)
    vectors: Any = {"float": written} if typed else written
    told |= {"response_type": kind, "embeddings": vectors}
    return answer_cut(told, reply.truncated_at)


@router.post("/v2/embed", response_model=None)
async def embed_by_type(body: EmbedRequest, ask: Ask) -> Answer:
    """Embed texts, the vectors by their type."""
    reply = await _ask(body, ask)
    told = _describe(reply, body, "2")
    vectors = {"float": await write(reply.answers, reply.weight)}
    told |= {"response_type": "embeddings_by_type", "embeddings": vectors}
    return answer_cut(told, reply.truncated_at)
