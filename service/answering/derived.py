"""Answers that are computed from those of heads: how alike, which first.

Whatever the dialect, its route asks here, so that all give the same numbers.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from models.bundle.manifest import Function
from models.derived.rerank import RerankOptions
from models.derived.retrieve import RetrieveOptions
from models.derived.similarity import compare, compare_all
from models.errors import ClozeError, EmptyInput, TaskUnsupported
from models.heads.head import Floats
from models.text.encoded import Cut
from models.text.truncation import Overflow, Side
from service.answering.answerer import Question, Reply

Ask = Callable[[Question], Awaitable[Reply]]
Method = Literal["cross-encoder", "embeddings"]
# What is applied to a cross-encoder's logits, by whether they are asked for; None: its own.
_FUNCTIONS: dict[bool | None, Function | None] = {None: None, False: "sigmoid", True: "none"}


@dataclass(frozen=True, slots=True)
class Ranking:
    """What each document is worth for the query, in their order, and how that was found."""

    model: str
    method: Method
    scores: Sequence[float]
    truncated_at: Sequence[Cut | None]
    tokens: int


async def compare_texts(
    ask: Ask, question: Question, *, source: str | None = None
) -> tuple[Reply, Floats]:
    """The cosines of the first item with the others, [n - 1], where it is the `source`.

    Else of all pairs, [n, n]. Errors name the first item as the source, the others by their field.
    """
    if source is None:
        reply = await ask(question)
        return reply, compare_all(np.stack(reply.answers))
    reply = await _ask_apart(ask, question, source)
    return reply, compare(reply.answers[0], np.stack(reply.answers[1:]))


async def rank(  # noqa: PLR0913 - all by name, as a request has them
    ask: Ask,
    query: str,
    documents: Sequence[str],
    *,
    model: str | None,
    overflow: Overflow,
    side: Side | None = None,
    raw: bool | None = None,
    document_tokens: int | None = None,
    field: str = "documents",
) -> Ranking:
    """Score documents by a cross-encoder where the model has one, else by its vectors.

    `raw` scores are a cross-encoder's logits, others between 0 and 1; left out, what its checkpoint
    gives. Each document is cut after `document_tokens` before anything else; the query is not.
    Raises the errors of Answerer.answer.
    """
    if not query.strip():
        # A cross-encoder would name the first document, which it is read with.
        raise EmptyInput("the text is empty; send at least one word", param="query")
    pairs = [(query, document) for document in documents]
    options = RerankOptions(
        function=_FUNCTIONS[raw],
        overflow=overflow,
        truncation_side=side,
        document_tokens=document_tokens,
    )
    question = Question("rerank", pairs, options, model=model, field=field)
    try:
        reply = await ask(question)
    except TaskUnsupported as error:
        unsure = error if error.by_name else None
    else:
        return Ranking(
            reply.model, "cross-encoder", reply.answers, reply.truncated_at, reply.tokens
        )
    question = replace(
        question,
        task="retrieve",
        items=[("query", query), *(("document", document) for document in documents)],
        options=RetrieveOptions(
            overflow=overflow, truncation_side=side, document_tokens=document_tokens
        ),
    )
    try:
        reply, cosines = await compare_texts(ask, question, source="query")
    except TaskUnsupported:
        if unsure is not None:
            raise unsure from None
        raise
    of_query, *others = (at if isinstance(at, int) else None for at in reply.truncated_at)
    cuts = [None if of_query is None and at is None else (of_query, at) for at in others]
    return Ranking(reply.model, "embeddings", cosines.tolist(), cuts, reply.tokens)


async def _ask_apart(ask: Ask, question: Question, lead: str) -> Reply:
    """Ask, where the first item has a name of its own in the request."""
    try:
        return await ask(replace(question, beside=1))
    except ClozeError as error:
        start = f"{question.field}["
        if error.param is not None and error.param.startswith(start):
            number, _, rest = error.param.removeprefix(start).partition("]")
            place = int(number) - 1
            error.param = (lead if place < 0 else f"{start}{place}]") + rest
        raise
