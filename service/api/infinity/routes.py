"""POST /embeddings and /classify, GET /models, each below /infinity, too, with /infinity/rerank.

At /rerank itself others ask in the same words and read another answer.
"""

from time import time
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter
from pydantic import BeforeValidator, Field

from models.heads import ClassifyOptions
from service.answering.answerer import Question
from service.api.cohere.rerank import answer_ranking
from service.api.foreign import ForeignFields, answer_cut, choose_overflow
from service.api.infinity.dialect import INFINITY, name_model
from service.api.openai.embed import EmbeddingsRequest, embed
from service.api.openai.models import describe
from service.api.openai.representations import InputType
from service.api.route import Answer, Ask, declare, json_response, write
from service.api.schemas import as_list
from service.api.tei.bodies import RerankRequest
from service.endpoint import Kind
from service.registry.loaded_model import LoadedModel
from service.scheduling.ticket import Lane

router = APIRouter(route_class=declare(Kind.WORK, INFINITY), include_in_schema=False)


# What a text is in a search, in Jina's words; of whatever else a text is for, it says nothing.
_ROLES: dict[str | None, InputType] = {
    "retrieval.query": "query",
    "retrieval.passage": "document",
}


class UnversionedRequest(EmbeddingsRequest):
    """OpenAI's, of 0 dimensions where all are meant, and Jina's."""

    dimensions: int | None = Field(default=None, ge=0)
    task: str | None = None
    # Texts that are read together would have other vectors.
    late_chunking: Literal[False] | None = None


@router.post("/embeddings", response_model=None)
@router.post("/infinity/embeddings", response_model=None)
async def embed_unversioned(body: UnversionedRequest, ask: Ask) -> bytes:
    """Embed as OpenAI's route does."""
    meant = {
        "model": name_model(body.model),
        "dimensions": body.dimensions or None,
        "input_type": body.input_type or _ROLES.get(body.task),
    }
    return await embed(body.model_copy(update=meant), ask)


class ClassifyRequest(ForeignFields):
    """Texts, as Infinity has it, and vLLM, which takes one alone."""

    input: Annotated[list[str], Field(min_length=1, fail_fast=True), BeforeValidator(as_list)]
    model: str | None = None
    raw_scores: bool = False
    truncation: bool | None = None


@router.post("/classify", response_model=None)
@router.post("/infinity/classify", response_model=None)
async def classify(body: ClassifyRequest, ask: Ask) -> Answer:
    """Classify texts: all labels of each, best first."""
    options = ClassifyOptions(
        function="none" if body.raw_scores else None,
        overflow=choose_overflow(ask, truncate=body.truncation),
    )
    question = Question(
        "classify", body.input, options, model=name_model(body.model), field="input"
    )
    reply = await ask.ask(question)
    told = {
        "id": f"infinity-{uuid4()}",
        "object": "classify",
        "created": int(time()),
        "model": reply.model,
        "data": await write(reply.answers, reply.weight),
        "usage": {"prompt_tokens": reply.tokens, "total_tokens": reply.tokens},
    }
    return answer_cut(told, reply.truncated_at)


@router.get("/models", response_model=None)
@router.get("/infinity/models", response_model=None)
async def list_models(ask: Ask) -> bytes:
    """List the loaded models, as Infinity does."""
    manager = ask.state.manager
    manager.check_loaded()
    data: list[dict[str, Any]] = [
        {
            **describe(model, manager),
            "owned_by": "infinity",
            "stats": _describe_queue(model),
            "backend": model.pipeline.choice.engine,
            "capabilities": _list_capabilities(model.heads),
        }
        for model in manager.registry
    ]
    return json_response({"object": "list", "data": data})


@router.post("/infinity/rerank", response_model=None)
async def rerank(body: RerankRequest, ask: Ask) -> bytes:
    """Rank documents as Infinity answers, which tells a document as its text."""
    meant = {"model": name_model(body.model), "raw_scores": bool(body.raw_scores)}
    return await answer_ranking(body.model_copy(update=meant), ask)


def _describe_queue(model: LoadedModel) -> dict[str, Any]:
    """How much of what may wait does, the texts that do, and the requests under way."""
    batcher, lane = model.batcher, Lane.INTERACTIVE
    return {
        "queue_fraction": batcher.queued_ms(lane) / batcher.limit_ms(lane),
        "queue_absolute": batcher.queued_texts,
        "results_pending": model.requests,
    }


def _list_capabilities(heads: Any) -> list[str]:
    words = {"embed": "embed", "classify": "classify", "rerank": "rerank"}
    return [word for task, word in words.items() if (task, None) in heads]
