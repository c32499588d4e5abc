"""What the schemas of all routes share: strict objects, the fields of every task, and answers."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from models.text.truncation import Overflow, Side
from service.error_response import ErrorDetail
from service.settings import OnError

# Told, not checked: the heads refuse an empty text in words of their own.
NOT_EMPTY: dict[str, JsonValue] = {"minLength": 1}


class Fields(BaseModel):
    """An object of a request: these fields and no others, of exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class ItemFields(Fields):
    """The same of an object inside a list of items."""

    @model_validator(mode="before")
    @classmethod
    def _leave_one_unknown(cls, value: Any) -> Any:
        return leave_one_unknown(cls, value)


def leave_one_unknown(model: type[BaseModel], value: Any) -> Any:
    """Keep one field that is unknown, the first: each would become an error of its own."""
    if not isinstance(value, dict) or len(value) <= len(model.model_fields):
        return value
    unknown = next(name for name in value if name not in model.model_fields)
    known = {name: value[name] for name in model.model_fields if name in value}
    return {**known, unknown: value[unknown]}


class RequestBody(Fields):
    """The fields that every task takes."""

    model: str | None = Field(
        default=None, description="The model's name; left out, the first that has the task."
    )
    overflow: Overflow | None = Field(
        default=None,
        description="What to do with a text that is too long; left out, the server's setting.",
    )
    truncation_side: Side | None = Field(
        default=None,
        description="Where a text that is too long is cut: at its end (right), or at its "
        "beginning; left out, as the model's own tokenizer does, which is right for most.",
    )


class ItemsRequestBody(RequestBody):
    """The fields of tasks that answer each item by itself."""

    on_error: OnError | None = Field(
        default=None,
        description="What becomes of the others where an item cannot be answered: none is "
        "(fail), or all are, and it has an error in its place (skip). Left out, the server's "
        "setting.",
    )


class HeadRequestBody(ItemsRequestBody):
    """The fields of tasks whose heads have weights, so that a model may have several."""

    head: str | None = Field(
        default=None, description="The head's name; left out, the model's first for the task."
    )


class Usage(BaseModel):
    """Tokens that were computed, special tokens included."""

    prompt_tokens: int
    total_tokens: int


class ResponseBody(BaseModel):
    """The fields of every answer."""

    model: str
    usage: Usage


class TruncatableResult(BaseModel):
    """A result whose text may have been cut, or with on_error skip not answered at all."""

    error: ErrorDetail | None = Field(
        default=None,
        description="With on_error skip: why the item has no answer, and its other fields are "
        "empty or null; else absent.",
    )
    truncated: bool | None = Field(
        default=None, description="True where the text was cut; else absent."
    )
    truncated_at: int | list[int | None] | None = Field(
        default=None,
        description="Where it was cut, in characters of the text as it was sent (of token ids, in "
        "ids): what was read ends there, or begins there with truncation_side left. Of a pair a "
        "list of two, null for a text that is whole. Absent where nothing was cut.",
    )


def as_list(value: Any) -> Any:
    """One item as a list of one."""
    return value if isinstance(value, list) else [value]


def one_or_many(item: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of an item, or a list of at least one."""
    return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}
