"""What pydantic finds wrong with a body, in our own words; everything else says itself what is."""

from collections.abc import Sequence
from itertools import pairwise

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
    if first["type"] == "extra_forbidden":
        fields = _list_fields(model) if len(first["loc"]) == 1 else []
        known = f"it takes {', '.join(fields)}" if fields else "see /docs for those it has"
        message = f"this route has no such field here; {known}"
    elif first["type"] == "missing":
        message = "the field is missing"
    elif first["type"] in ("model_type", "model_attributes_type", "dict_type"):
        message = "an object is due here, in braces; see /docs for the fields it has"
    elif first["type"] == "too_short":
        message = "the list is empty; send at least one"
    return InvalidRequest(
        message[:1].lower() + message[1:],
        param=param,
        code=_CODES.get(first["type"], InvalidValue.code),
    )


def _name_place(location: tuple[int | str, ...]) -> str | None:
    name = ""
    for before, part in pairwise(("body", *location)):
        if isinstance(before, int) and str(part).startswith("<"):
            # Which of the shapes an item may have was tried: no part of the request.
            continue
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name or None


def _list_fields(model: type[BaseModel]) -> Sequence[str]:
    """What a body of the model may have, and first what it must."""
    fields = model.model_fields
    return sorted(fields, key=lambda name: not fields[name].is_required())
