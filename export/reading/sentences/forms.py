"""The JSON files of sentence-transformers and what is built on it, each with the types of its keys.

Owns that what is read is of the kind that its key wants, asked once a file. What a value means, and
which keys are not known, is for others to say.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from export.errors import SourceError
from export.reading.files import read_object

_Size = Annotated[int, Field(gt=0)]
# What a key wants, by the kind of the error that pydantic finds.
_WANTED = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "greater_than": "a size",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "an object",
    "string_type": "a text",
}
_MOST_QUOTED = 60


class Form(BaseModel):
    """A file, or a part of one: of the keys that it has, each may be left out."""

    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=())


class Expansion(Form):
    """How a ColBERT fills its queries."""

    strategy: str | None = None
    length: _Size | None = None
    attend: bool | None = None
    token: str | None = None


class Config(Form):
    """config_sentence_transformers.json; PyLate's has at its top what a module has elsewhere."""

    model_type: str | None = None
    prompts: dict[str, str | None] | None = None
    default_prompt_name: str | None = None
    truncate_dim: _Size | None = None
    max_active_dims: _Size | None = None
    similarity_fn_name: str | None = None
    activation_fn: str | None = None
    query_prefix: str | None = None
    document_prefix: str | None = None
    query_length: _Size | None = None
    document_length: _Size | None = None
    query_expansion: Expansion | None = None
    do_query_expansion: bool | None = None
    attend_to_expansion_tokens: bool | None = None
    attend_to_mask_tokens: bool | None = None
    skiplist_words: list[str] | None = None


class _Lengths(Form):
    """Of the arguments for a tokenizer and its calls those that are honoured."""

    model_max_length: _Size | None = None
    max_length: _Size | None = None


class _Processing(Form):
    text: _Lengths | None = None
    common: _Lengths | None = None


class Settings(Form):
    """sentence_bert_config.json, under each of its names."""

    max_seq_length: _Size | None = None
    do_lower_case: bool | None = None
    transformer_task: str = ""
    module_output_name: str | None = None
    processing_kwargs: _Processing | None = None
    model_args: dict[str, Any] | None = None
    model_kwargs: dict[str, Any] | None = None
    config_args: dict[str, Any] | None = None
    config_kwargs: dict[str, Any] | None = None
    tokenizer_args: _Lengths | None = None
    processor_kwargs: _Lengths | None = None
    query_length: _Size | None = None
    document_length: _Size | None = None
    query_expansion: Expansion | None = None


class Mask(Form):
    """config.json of a MultiVectorMask."""

    skiplist_words: list[str] | None = None
    skiplist_tasks: str | list[str] | None = None
    keep_only_token_ids: list[int] | None = None


class Stanford(Form):
    """artifact.metadata of a ColBERT of Stanford's."""

    query_maxlen: _Size | None = None
    doc_maxlen: _Size | None = None
    attend_to_mask_tokens: bool | None = None
    mask_punctuation: bool | None = None
    query_token_id: str | None = None
    doc_token_id: str | None = None


class SetFit(Form):
    """config_setfit.json."""

    labels: list[str | int] | None = None
    normalize_embeddings: bool | None = None


def read_form(file: Path, form: type[Form], *, required: bool = True) -> dict[str, Any]:
    """The JSON object in a file, empty where it is not required and not there.

    Raises SourceError, which names the first key whose value is not of its kind.
    """
    content = read_object(file, required=required)
    try:
        form.model_validate(content)
    except ValidationError as error:
        found = [(_walk(content, each["loc"]), each["type"]) for each in error.errors()]
    else:
        return content
    # Of the kinds that a value may be of, the one that it is furthest into says what is wrong.
    keys, _ = max(found, key=lambda each: len(each[0]))
    wanted = [_WANTED.get(kind, kind) for others, kind in found if others == keys]
    value: Any = content
    for key in keys:
        value = value[key]
    quoted = repr(value)
    if len(quoted) > _MOST_QUOTED:
        quoted = f"{quoted[:_MOST_QUOTED]}..."
    raise SourceError(
        f"{file} has {'.'.join(map(str, keys))} {quoted}, which is not "
        + " or ".join(dict.fromkeys(wanted))
    )


def _walk(content: Any, place: Sequence[str | int]) -> tuple[str | int, ...]:
    """The keys that lead to a place in the content, without the kinds that pydantic names there."""
    keys = []
    for part in place:
        inside = isinstance(content, dict) and part in content
        if inside or (isinstance(content, list) and isinstance(part, int)):
            content = content[part]
            keys.append(part)
    return tuple(keys)
