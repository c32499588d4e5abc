"""POST /v1/rerank and /v2/rerank: the documents that answer a query best, first."""

from time import time
from typing import Annotated, Any, Protocol
from uuid import uuid4

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from models.errors import EmptyInput
from models.text.truncation import Overflow
from service.answering.derived import Method, Ranking, rank
from service.api.cohere.dialect import COHERE
from service.api.foreign import ForeignFields, choose_overflow, read_documents
from service.api.openapi import ERRORS, HEADERS
from service.api.route import Ask, Asker, declare, json_response
from service.api.schemas import NOT_EMPTY, Usage
from service.endpoint import Kind

router = APIRouter(route_class=declare(Kind.WORK, COHERE), tags=["tasks"])


# What Cohere reads of a document unless it is told otherwise.
_TOKENS_PER_DOCUMENT = 4096


class RerankDocument(ForeignFields):
    """A document's text."""

    text: str


_DOCUMENTS = {
    "type": "array",
    "minItems": 1,
    "items": {
        "anyOf": [
            {"type": "string", **NOT_EMPTY},
            {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        ]
    },
    "title": "Documents",
    "description": "Texts, or objects with a text.",
}


class RerankRequest(ForeignFields):
    """Cohere's and Jina's request; what else they take is not needed, and ignored."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [
                {
                    "query": "Where does the king live?",
                    "documents": ["The king lives in a castle.", "It rained all day."],
                }
            ]
        },
    )

    query: str = Field(json_schema_extra=NOT_EMPTY)
    documents: Annotated[list[Any], WithJsonSchema(_DOCUMENTS)]
    model: str | None = Field(
        default=None, description="The model's name; left out, the first that can."
    )
    top_n: int | None = Field(default=None, ge=1, description="Results told; left out, all.")
    top_k: int | None = Field(default=None, ge=1, description="The same, as Voyage has it.")
    return_documents: bool = Field(default=False, description="Tell the documents, too.")
    truncation: bool | None = Field(
        default=None, description="Cut what is too long; left out, the server's setting."
    )
    overflow: Overflow | None = Field(
        default=None, description="In our words what is done with what is too long."
    )
    max_tokens_per_doc: int | None = Field(
        default=None,
        ge=1,
        description="Read so many tokens of each document; at /v2/rerank, left out, 4096.",
    )


class RankedDocument(BaseModel):
    """A document's place in the request, and how well it answers."""

    index: int
    relevance_score: float
    document: RerankDocument | None = None
    truncated: bool | None = Field(
        default=None, description="True where query or document was cut; else absent."
    )


class RerankResponse(BaseModel):
    """The results, best first; `method` says what found them."""

    id: str
    object: str
    model: str
    method: Method
    results: list[RankedDocument]
    usage: Usage
    meta: dict[str, Any]


class Rankable(Protocol):
    """What a request to rank says, whichever dialect it is in."""

    query: str
    documents: Any
    model: str | None
    top_n: int | None
    top_k: int | None
    return_documents: bool
    truncation: bool | None
    overflow: Overflow | None
    max_tokens_per_doc: int | None


async def answer_ranking(body: Any, ask: Asker) -> bytes:
    """The same at /rerank, where Infinity's clients, which ask for raw scores or none, read it."""
    raw = body.raw_scores
    ranking, results = await rank_documents(body, ask, raw=raw)
    told = _describe(ranking, results)
    if raw is None:
        return json_response(told)
    for result in results:
        if "document" in result:
            result["document"] = result["document"]["text"]
    return json_response(told | {"object": "rerank", "created": int(time())})


async def rank_documents(
    body: Rankable, ask: Asker, *, raw: bool | None = None
) -> tuple[Ranking, list[dict[str, Any]]]:
    """The documents by falling score, as they are told."""
    documents = read_documents(body.documents)
    if not documents:
        raise EmptyInput("the list is empty; send at least one document", param="documents")
    ranking = await rank(
        ask.ask,
        body.query,
        documents,
        model=body.model,
        overflow=body.overflow or choose_overflow(ask, truncate=body.truncation),
        raw=raw,
        document_tokens=body.max_tokens_per_doc,
    )
    order = sorted(range(len(documents)), key=lambda place: -ranking.scores[place])
    results = []
    for place in order[: body.top_n or body.top_k]:
        told: dict[str, Any] = {"index": place, "relevance_score": ranking.scores[place]}
        if body.return_documents:
            told["document"] = {"text": documents[place]}
        if ranking.truncated_at[place] is not None:
            told["truncated"] = True
        results.append(told)
    return ranking, results


@router.post("/v1/rerank", response_model=RerankResponse, responses=ERRORS, openapi_extra=HEADERS)
async def rerank(body: RerankRequest, ask: Ask) -> bytes:
    """Rank documents by how well they answer a query."""
    ranking, results = await rank_documents(body, ask)
    return json_response(_describe(ranking, results))


@router.post("/v2/rerank", response_model=RerankResponse, include_in_schema=False)
async def rerank_second(body: RerankRequest, ask: Ask) -> bytes:
    """The same, as Cohere's second version has it: of long documents no more is read."""
    cuts = (body.overflow or choose_overflow(ask, truncate=body.truncation)) == "truncate"
    if body.max_tokens_per_doc is None and cuts:
        body = body.model_copy(update={"max_tokens_per_doc": _TOKENS_PER_DOCUMENT})
    return await rerank(body, ask)


def _describe(ranking: Ranking, results: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "object": "list",
        "model": ranking.model,
        "method": ranking.method,
        "results": results,
        "usage": {"prompt_tokens": ranking.tokens, "total_tokens": ranking.tokens},
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
    }
