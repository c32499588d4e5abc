"""POST /v1/classify: labels with scores, for a text or a pair."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from models.asking import HeadName
from models.bundle.manifest import Function
from models.derived.zero_shot import MOST_LABELS, TEMPLATE, ZeroShotOptions
from models.errors import InvalidValue
from models.heads import ClassifyOptions
from service.answering.answerer import Question
from service.api.native.texts import TextsOrPairs, read_item
from service.api.openapi import ERRORS, HEADERS
from service.api.route import Ask, Asker, declare, respond
from service.api.schemas import (
    ItemsRequestBody,
    ResponseBody,
    TruncatableResult,
)
from service.endpoint import Kind

router = APIRouter(prefix="/v1", tags=["tasks"], route_class=declare(Kind.WORK))


_HEADS = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        {"type": "null"},
    ],
    "title": "Head",
    "description": "The head's name; a list of names, or * for all, answers with each of them "
    "from one run; left out, the model's first.",
}


def _read_head(value: Any) -> HeadName:
    if value == "*":
        return ("*",)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        if len(set(value)) < len(value):
            raise PydanticCustomError("twice", "a head is named twice; name each once")
        return tuple(value)
    raise PydanticCustomError("no_head", "a name, a list of names, or * for all is due here")


class ClassifyRequest(ItemsRequestBody):
    """Texts, or pairs; with labels of the caller's own, texts."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": ["A warm and funny film, beautifully acted."]}]}
    )

    inputs: TextsOrPairs
    head: Annotated[HeadName, PlainValidator(_read_head), WithJsonSchema(_HEADS)] = None
    top_k: int | None = Field(default=None, ge=1, description="Labels told; left out, all.")
    function: Function | None = Field(
        default=None, description="What makes logits scores; left out, what the head asks for."
    )
    labels: list[str] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_LABELS,
        fail_fast=True,
        description="Labels of your own, judged by a head that knows what follows from what "
        "(natural language inference).",
    )
    hypothesis_template: str = Field(
        default=TEMPLATE, description="With labels: a sentence with {} where a label goes."
    )
    multi_label: bool = Field(
        default=False, description="With labels: whether each stands for itself."
    )
    prompt_name: str | None = Field(
        default=None,
        description="Which of the model's prompts goes before each text, of a pair before the "
        "first. Left out, its default one, where it has one; empty, none.",
    )


class Label(BaseModel):
    """A label with its score."""

    label: str
    score: float


class HeadLabels(BaseModel):
    """What one head says, best first."""

    head: str | None
    labels: list[Label]


class Labels(TruncatableResult):
    """The labels of one text, best first; of several heads an entry each."""

    labels: list[Label] | None = Field(default=None, description="Absent with several heads.")
    heads: list[HeadLabels] | None = Field(
        default=None, description="With several heads: what each says; else absent."
    )


class ClassifyResponse(ResponseBody):
    """One result a text."""

    results: list[Labels]


@router.post("/classify", response_model=ClassifyResponse, responses=ERRORS, openapi_extra=HEADERS)
async def classify(body: ClassifyRequest, ask: Ask) -> bytes:
    """Classify texts or pairs."""
    items = [read_item(item) for item in body.inputs]
    if body.labels is not None:
        return await _classify_freely(body, items, ask)
    if body.multi_label or body.hypothesis_template != TEMPLATE:
        raise InvalidValue(
            "it is for labels of your own; send these, too, or leave it out",
            param="multi_label" if body.multi_label else "hypothesis_template",
        )
    options = ClassifyOptions(
        body.top_k, body.function, ask.overflow(body), body.prompt_name, body.truncation_side
    )
    reply = await ask.ask(
        Question("classify", items, options, model=body.model, head=body.head, skip=ask.skips(body))
    )
    if not isinstance(body.head, tuple):
        return await respond(
            reply, [{"labels": labels} for labels in reply.answers], {"labels": []}
        )
    return await respond(
        reply,
        (
            {"heads": [{"head": name, "labels": labels} for name, labels in answer]}
            for answer in reply.answers
        ),
        {"heads": []},
    )


async def _classify_freely(
    body: ClassifyRequest, items: Sequence[str | tuple[str, str]], ask: Asker
) -> bytes:
    """By labels of the caller's own."""
    for place, item in enumerate(items):
        if not isinstance(item, str):
            raise InvalidValue(
                "a text is due here: with labels it is judged with each of them",
                param=f"inputs[{place}]",
            )
    if body.function is not None or isinstance(body.head, tuple):
        raise InvalidValue(
            "with labels there is one head and one function; leave it out",
            param="head" if body.function is None else "function",
        )
    if body.prompt_name:
        raise InvalidValue(
            "with labels a text is judged as it was sent; leave the prompt out",
            param="prompt_name",
        )
    options = ZeroShotOptions(
        tuple(body.labels or ()),
        body.hypothesis_template,
        body.multi_label,
        body.top_k,
        ask.overflow(body),
        body.truncation_side,
    )
    reply = await ask.ask(
        Question(
            "zero-shot", items, options, model=body.model, head=body.head, skip=ask.skips(body)
        )
    )
    return await respond(reply, ({"labels": labels} for labels in reply.answers), {"labels": []})
