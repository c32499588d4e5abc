"""What pydantic finds wrong with a body, in our own words; everything else says itself what is."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from models.errors import InvalidValue
from service.errors import InvalidRequest

_CODES = {
    "extra_forbidden": "unknown_field",
    "missing": "missing_field",
}


def translate_validation(error: ValidationError, model: type[BaseModel]) -> InvalidRequest:
    """The first thing that was found in a body of that model, shaped as every other error."""
    found = error.errors(include_url=False, include_context=False)
    # A field that does not belong there explains more than one that is missing.
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    param = _name_place(first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    item = _find_item(model, first["loc"])
    if first["type"] == "extra_forbidden":
        fields = _list_fields(model if len(first["loc"]) == 1 else item)
        known = f"it takes {', '.join(fields)}" if fields else "see /docs for those it has"
        message = f"this route has no such field here; {known}"
    elif first["type"] == "missing":
        message = "the field is missing"
    elif first["type"] in ("model_type", "model_attributes_type", "dict_type"):
        fields = _list_fields(item)
        known = f"with {' and '.join(fields)}" if fields else "see /docs for the fields it has"
        message = f"an object is due here, in braces{',' if fields else ';'} {known}"
    elif first["loc"][-1:] == ("<text>",) and item is not None:
        message = f"a text is due here, or an object with {' and '.join(_list_fields(item))}"
    elif first["type"] == "too_short":
        message = "the list is empty; send at least one"
    return InvalidRequest(
        message[:1].lower() + message[1:],
        param=param,
        code=_CODES.get(first["type"], InvalidValue.code),
    )


def drop_unknown(model: type[BaseModel], parsed: Any, *, inside: bool) -> tuple[Any, list[str]]:
    """A body without the fields that the model does not know, and their names.

    With `inside` those of the objects in its lists, too: as `inputs.name`.
    """
    if not isinstance(parsed, dict):
        return parsed, []
    names = [name for name in parsed if name not in model.model_fields]
    kept = {name: value for name, value in parsed.items() if name in model.model_fields}
    for name, value in kept.items() if inside else ():
        kinds = set(_walk_models(model.model_fields[name].annotation))
        if len(kinds) != 1:
            continue
        known = kinds.pop().model_fields.keys()
        items = value if isinstance(value, list) else [value]
        found = {key for item in items if isinstance(item, dict) for key in item.keys() - known}
        if found:
            names += [f"{name}.{key}" for key in sorted(found)]
            items = [
                {key: item[key] for key in item if key in known} if isinstance(item, dict) else item
                for item in items
            ]
            kept[name] = items if isinstance(value, list) else items[0]
    return kept, names


def _name_place(location: tuple[int | str, ...]) -> str | None:
    name = ""
    for before, part in pairwise(("body", *location)):
        if isinstance(before, int) and str(part).startswith("<"):
            # Which of the shapes an item may have was tried: no part of the request.
            continue
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name or None


def _find_item(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """What an item of a list is that is an object, where there is one kind of it."""
    field = model.model_fields.get(str(location[0])) if len(location) > 1 else None
    kinds = set(_walk_models(field.annotation)) if field is not None else set()
    return kinds.pop() if len(kinds) == 1 else None


def _walk_models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _walk_models(part)


def _list_fields(model: type[BaseModel] | None) -> Sequence[str]:
    """What a body of the model may have, and first what it must."""
    if model is None:
        return []
    fields = model.model_fields
    return sorted(fields, key=lambda name: not fields[name].is_required())
