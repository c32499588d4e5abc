"""POST /v1/classify: labels with scores, for a text or a pair."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
)

from models.bundle.manifest import Function
from models.heads import ClassifyOptions
from service.answering.answerer import Question
from service.api.openapi import ERRORS, HEADERS
from service.api.route import Ask, declare, respond
from service.api.schemas import (
    NOT_EMPTY,
    HeadRequestBody,
    ItemFields,
    ResponseBody,
    TruncatableResult,
    as_list,
    one_or_many,
)
from service.endpoint import Kind

router = APIRouter(prefix="/v1", tags=["tasks"], route_class=declare(Kind.WORK))


class TextPair(ItemFields):
    """A text, and the one it is judged with."""

    text: str = Field(json_schema_extra=NOT_EMPTY)
    text_pair: str | None = Field(default=None, json_schema_extra=NOT_EMPTY)


_TEXTS = one_or_many(
    {"anyOf": [{"type": "string", **NOT_EMPTY}, {"$ref": "#/components/schemas/TextPair"}]}
)


def _tag(item: Any) -> str:
    return "<pair>" if isinstance(item, dict | TextPair) else "<text>"


Item = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[TextPair, Tag("<pair>")], Discriminator(_tag)
]


class ClassifyRequest(HeadRequestBody):
    """Texts, or pairs."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": ["A warm and funny film, beautifully acted."]}]}
    )

    inputs: Annotated[
        list[Item],
        Field(min_length=1, fail_fast=True),
        BeforeValidator(as_list),
        WithJsonSchema(_TEXTS),
    ]
    top_k: int | None = Field(default=None, ge=1, description="Labels told; left out, all.")
    function: Function | None = Field(
        default=None, description="What makes logits scores; left out, what the head asks for."
    )


class Label(BaseModel):
    """A label with its score."""

    label: str
    score: float


class Labels(TruncatableResult):
    """The labels of one text, best first."""

    labels: list[Label]


class ClassifyResponse(ResponseBody):
    """One result a text."""

    results: list[Labels]


@router.post("/classify", response_model=ClassifyResponse, responses=ERRORS, openapi_extra=HEADERS)
async def classify(body: ClassifyRequest, ask: Ask) -> bytes:
    """Classify texts or pairs."""
    options = ClassifyOptions(
        body.top_k, body.function, ask.overflow(body), truncation_side=body.truncation_side
    )
    items = [_read(item) for item in body.inputs]
    reply = await ask.ask(Question("classify", items, options, model=body.model, head=body.head))
    return await respond(reply, [{"labels": labels} for labels in reply.answers])


def _read(item: str | TextPair) -> str | tuple[str, str]:
    if isinstance(item, str):
        return item
    return item.text if item.text_pair is None else (item.text, item.text_pair)
