"""What Weaviate's modules ask of a container of models, each at the root and below /tei/{model}.

text2vec-transformers waits for it, asks what it is, and has it embed; of reranker-transformers
the ranking is at /rerank. Neither sends a Content-Type or a key.
"""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from models.errors import EmptyInput
from models.heads import EmbedOptions, TextRole
from service.answering.answerer import Question
from service.api.foreign import ForeignFields, answer_cut, choose_overflow
from service.api.route import Answer, Ask, declare
from service.api.tei.dialect import TEI
from service.api.tei.routes import find_model, info
from service.endpoint import Kind
from service.errors import InvalidRequest

router = APIRouter(route_class=declare(Kind.WORK, TEI), include_in_schema=False)
probes = APIRouter(route_class=declare(Kind.OPERATION, probe=True), include_in_schema=False)
_MODEL = "/tei/{model:path}"
_ROLES: dict[str, TextRole] = {"query": "query", "passage": "document"}


class VectorsConfig(ForeignFields):
    """What a text is in a search, and how many numbers of its vector are wanted.

    The pooling that is sent beside is another container's; a bundle knows its own.
    """

    task_type: str | None = None
    dimensions: int | None = Field(default=None, ge=1)


class VectorsRequest(ForeignFields):
    """A text, or several."""

    text: str | None = None
    texts: Annotated[list[str], Field(fail_fast=True)] | None = None
    config: VectorsConfig = VectorsConfig()


@router.post("/vectors", response_model=None)
@router.post(f"{_MODEL}/vectors", response_model=None)
async def vectors(body: VectorsRequest, ask: Ask) -> Answer:
    """Embed a text or several."""
    texts, field = body.texts, "texts"
    if texts is None:
        if body.text is None:
            raise InvalidRequest("the field is missing", param="text", code="missing_field")
        texts, field = [body.text], "text"
    elif not texts:
        raise EmptyInput("the list is empty; send at least one text", param="texts")
    options = EmbedOptions(
        dimensions=body.config.dimensions,
        overflow=choose_overflow(ask, truncate=None),
        role=_ROLES.get(body.config.task_type or ""),
    )
    reply = await ask.ask(Question("embed", texts, options, model=find_model(ask), field=field))
    told: dict[str, Any] = {"dims": len(reply.answers[0])}
    if body.texts is None:
        told |= {"text": body.text, "vector": reply.answers[0]}
    else:
        told["vectors"] = reply.answers
    return answer_cut(told, reply.truncated_at)


@router.get("/meta", response_model=None)
@router.get(f"{_MODEL}/meta", response_model=None)
async def meta(ask: Ask) -> bytes:
    """Tell what the model is."""
    return await info(ask)


@probes.get("/.well-known/ready", response_model=None)
@probes.get(f"{_MODEL}/.well-known/ready", response_model=None)
async def ready(ask: Ask) -> Answer:
    """Say that every model answers."""
    ask.state.manager.check_ready()
    return Answer(b"", b"text/plain")
