"""What the dialects of other servers share: lenient bodies, and what was cut told in a header."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import EmptyInput, InvalidValue
from models.text.encoded import Cut
from models.text.truncation import Overflow, Side
from service.api.route import Answer, Asker, json_response
from service.api.validation import translate_validation

# Some clients read no header of more than 8 kilobytes.
_HEADER_CHARACTERS = 4096
# Where a text is cut, as text-embeddings-inference spells it.
Direction = Annotated[str, Field(pattern="(?i)^(left|right)$")]


class ForeignFields(BaseModel):
    """An object in another server's words: unknown fields are dropped, null is as if left out."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        if isinstance(value, dict) and None in value.values():
            return {name: part for name, part in value.items() if part is not None}
        return value


BodyT = TypeVar("BodyT", bound=ForeignFields)


def read_body(kind: type[BodyT], given: Any) -> BodyT:
    """A body of that kind, found within another one. Raises InvalidRequest, naming the field."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise translate_validation(error, kind) from None


def as_list(value: Any) -> list[Any]:
    """One or many as a list. Raises EmptyInput for none."""
    items = value if isinstance(value, list) else [value]
    if not items:
        raise EmptyInput("the list is empty; send at least one text", param="inputs")
    return items


def list_inputs(value: Any) -> list[Any]:
    """Texts, or lists of token ids, of which one may stand alone. Raises InvalidValue."""
    alone = not isinstance(value, list) or (value and all(type(part) is int for part in value))
    items = as_list([value] if alone else value)
    for place, item in enumerate(items):
        ids = isinstance(item, list) and all(type(part) is int for part in item)
        if not isinstance(item, str) and not ids:
            raise InvalidValue("a text is due here, or token ids", param=f"inputs[{place}]")
    return items


def read_documents(documents: Sequence[Any] | None) -> list[str]:
    """The texts of documents: strings, or objects with a text. Raises InvalidValue."""
    texts = []
    for place, document in enumerate(documents or ()):
        text = document.get("text") if isinstance(document, dict) else document
        if not isinstance(text, str):
            raise InvalidValue(
                "a text is due here, or an object with a text", param=f"documents[{place}]"
            )
        texts.append(text)
    return texts


def choose_overflow(ask: Asker, *, truncate: bool | None) -> Overflow:
    """What is done with long texts: as the request says, else as the setting does."""
    wanted = ask.state.settings.auto_truncate if truncate is None else truncate
    return "truncate" if wanted else "error"


def choose_side(direction: str | None) -> Side | None:
    """Where texts are cut, in our words."""
    return None if direction is None else "left" if direction.lower() == "left" else "right"


def answer_cut(content: Any, truncated_at: Sequence[Cut | None]) -> Answer:
    """An answer whose shape has no place to say what was cut: a header names the items."""
    cut = ",".join(str(place) for place, at in enumerate(truncated_at) if at is not None)
    if len(cut) > _HEADER_CHARACTERS:
        cut = cut[: cut.rindex(",", 0, _HEADER_CHARACTERS)] + ",..."
    return Answer(json_response(content), headers=((b"x-truncated", cut.encode()),) if cut else ())
