"""An item that is a text or a pair of texts, as several routes take it."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema

from service.api.schemas import NOT_EMPTY, ItemFields, as_list, one_or_many


class TextPair(ItemFields):
    """A text, and the one it is judged with."""

    text: str = Field(json_schema_extra=NOT_EMPTY)
    text_pair: str | None = Field(default=None, json_schema_extra=NOT_EMPTY)


def _tag(item: Any) -> str:
    return "<pair>" if isinstance(item, dict | TextPair) else "<text>"


Item = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[TextPair, Tag("<pair>")], Discriminator(_tag)
]
_TEXTS = one_or_many(
    {"anyOf": [{"type": "string", **NOT_EMPTY}, {"$ref": "#/components/schemas/TextPair"}]}
)
TextsOrPairs = Annotated[
    list[Item],
    Field(min_length=1, fail_fast=True),
    BeforeValidator(as_list),
    WithJsonSchema(_TEXTS),
]


def read_item(item: str | TextPair) -> str | tuple[str, str]:
    """The text, or both of a pair."""
    if isinstance(item, str):
        return item
    return item.text if item.text_pair is None else (item.text, item.text_pair)
