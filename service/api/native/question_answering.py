"""POST /v1/question-answering: the parts of a context that answer a question."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from models.heads import AnswerOptions
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

# More answers are nobody's question, and each takes a look at all the others.
MOST_ANSWERS = 1000


class QuestionInContext(ItemFields):
    """A question, and the text that its answer stands in, of any length."""

    question: str = Field(json_schema_extra=NOT_EMPTY)
    context: str = Field(json_schema_extra=NOT_EMPTY)


_ITEMS = one_or_many({"$ref": "#/components/schemas/QuestionInContext"})


class QuestionAnsweringRequest(HeadRequestBody):
    """Questions, each with its context."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "inputs": [
                        {
                            "question": "Where does the king live?",
                            "context": "The king of France lives in Paris.",
                        }
                    ]
                }
            ]
        }
    )

    inputs: Annotated[
        list[QuestionInContext],
        Field(min_length=1, fail_fast=True),
        BeforeValidator(as_list),
        WithJsonSchema(_ITEMS),
    ]
    top_k: int = Field(default=1, ge=1, le=MOST_ANSWERS, description="Answers told.")
    max_answer_tokens: int = Field(
        default=15, ge=1, le=MOST_ANSWERS, description="Longer ones are none."
    )
    doc_stride: int | None = Field(
        default=None,
        ge=0,
        description="By how many tokens the windows of a long context overlap; left out, 128, or "
        "less for a model of short texts.",
    )
    impossible: bool = Field(
        default=False, description="Whether that there is no answer may be told: an empty one."
    )
    align_to_words: bool = Field(default=True, description="Tell whole words.")


class AnswerBody(BaseModel):
    """A part of the context, from start to end in its characters; empty: there is no answer.

    The score adds up over the places where the same text was found, so it may exceed 1.
    """

    answer: str
    score: float
    start: int
    end: int


class Answers(TruncatableResult):
    """The answers to one question, best first."""

    answers: list[AnswerBody]


class QuestionAnsweringResponse(ResponseBody):
    """One result a question."""

    results: list[Answers]


@router.post(
    "/question-answering",
    response_model=QuestionAnsweringResponse,
    responses=ERRORS,
    openapi_extra=HEADERS,
)
async def answer_questions(body: QuestionAnsweringRequest, ask: Ask) -> bytes:
    """Answer questions from their contexts."""
    options = AnswerOptions(
        top_k=body.top_k,
        max_answer_tokens=body.max_answer_tokens,
        doc_stride=body.doc_stride,
        impossible=body.impossible,
        align_to_words=body.align_to_words,
        overflow=ask.overflow(body),
        truncation_side=body.truncation_side,
    )
    pairs = [(item.question, item.context) for item in body.inputs]
    reply = await ask.ask(
        Question("answer", pairs, options, model=body.model, head=body.head, skip=ask.skips(body))
    )
    return await respond(
        reply, ({"answers": answers} for answers in reply.answers), {"answers": []}
    )
