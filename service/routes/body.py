"""A body as JSON: what is declared about it, what it holds, and nothing that parsing would hide."""

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

from models.errors import InputTooLong
from service.answering import check_count
from service.errors import (
    DuplicateKey,
    InvalidContentEncoding,
    InvalidContentType,
    InvalidJson,
)

# The fields that hold a request's items. Their size is known before each of them is looked at.
_ITEMS = ("input", "inputs")
# Of one request. Validating a million takes 70 ms, for which everyone waits.
MAX_TOKEN_IDS = 1 << 20

_KEY = re.compile(rb'"[ \t\r\n]*:')
_QUOTED = re.compile(rb'\\"[ \t\r\n]*:')


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise InvalidContentType or InvalidContentEncoding unless it is declared as plain JSON."""
    kind, *parameters = (
        part.strip().lower() for part in headers.get("content-type", "").split(";")
    )
    if kind != "application/json":
        raise InvalidContentType(
            f"the body is {kind or 'of no declared type'}; send JSON with the header "
            "Content-Type: application/json"
        )
    for parameter in parameters:
        name, _, charset = parameter.partition("=")
        if name.strip() == "charset" and charset.strip().strip('"') not in ("utf-8", "utf8"):
            raise InvalidContentType(
                f"the body is declared as {charset.strip() or 'of no charset'}; JSON is UTF-8: "
                "send it so, and leave the charset out"
            )
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise InvalidContentEncoding(
            f"the body is encoded as {encoding}; send it as it is, without Content-Encoding"
        )


def parse(body: bytes) -> Any:
    """The parsed body. Raises InvalidJson."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"the body is not JSON: {error}") from None


def check_sizes(parsed: Any, max_inputs: int) -> None:
    """Raise TooManyInputs or InputTooLong before millions of items are validated one by one."""
    if not isinstance(parsed, dict):
        return
    for field in _ITEMS:
        items = parsed.get(field)
        if not isinstance(items, list) or not items:
            continue
        if isinstance(items[0], int | float):
            tokens = len(items)
        else:
            check_count(len(items), max_inputs, field)
            tokens = sum(len(item) for item in items if isinstance(item, list))
        if tokens > MAX_TOKEN_IDS:
            raise InputTooLong(
                f"{tokens} token ids are more than the {MAX_TOKEN_IDS} one request may carry; "
                "send several requests",
                param=field,
            )


def hides_keys(body: bytes, parsed: Any) -> bool:
    """Whether the body may name a key twice, of which the parser keeps the last without a word.

    False is certain, and costs less than parsing. True is not: a text may begin with a colon, and
    objects may lie deeper than any route takes.
    """
    # A colon stands after each key, and perhaps in texts: none to spare, so none is hidden.
    if not isinstance(parsed, dict) or body.count(b":") == len(parsed):
        return False
    # A quote before a colon ends a key, or begins a text; inside of a text it follows a backslash.
    # A key that itself ends with a backslash is missed, but no route knows of one.
    written = len(_KEY.findall(body)) - len(_QUOTED.findall(body))
    return written != len(parsed) + sum(_count_keys(value) for value in parsed.values())


def check_keys(body: bytes) -> None:
    """Raise DuplicateKey, naming it, if an object of the body has a key twice. Slow."""
    try:
        json.loads(body, object_pairs_hook=_check_pairs, parse_int=_ignore, parse_float=_ignore)
    except RecursionError:
        # Deeper than any route takes: validation says what is wrong with it.
        return


def _count_keys(value: Any) -> int:
    if isinstance(value, dict):
        return len(value)
    if isinstance(value, list):
        return sum(len(item) for item in value if isinstance(item, dict))
    return 0


def _check_pairs(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise DuplicateKey(
                f"the body has {key[:100]!r} more than once in one object; send each field once"
            )
        seen.add(key)


def _ignore(_: str) -> None:
    """Numbers do not matter here, and Python refuses those of more than 4,300 digits."""
