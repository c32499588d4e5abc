"""A body as JSON: what is declared about it, what it holds, and nothing that parsing would hide."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson
from starlette.types import Receive, Scope

from models.errors import InputTooLong, TooManyInputs
from service.answering.answerer import check_count
from service.api.unpacking import unpack
from service.endpoint import Dialect
from service.errors import (
    BodyTooLarge,
    ClientGone,
    DuplicateKey,
    InvalidContentEncoding,
    InvalidContentType,
    InvalidJson,
    TooManyCharacters,
)
from service.scope import CLAIM
from service.settings import Settings

# Of one request. Validating a million takes 70 ms, for which everyone waits.
MAX_TOKEN_IDS = 1 << 20
# Objects, lists and fields of one body. Parsed, an empty list takes 30 times its bytes.
_MAX_PARTS = 1 << 18
# Of one item: an object, and its fields.
_PARTS_OF_AN_ITEM = 8
# Keys of more than these are counted off the event loop.
_LARGE_BYTES = 1 << 16
_PLAIN = b"application/json"
# The same under its older name (RFC 9110).
_GZIP = ("gzip", "x-gzip")


async def read_json(scope: Scope, receive: Receive, settings: Settings, dialect: Dialect) -> Any:
    """The parsed body of a request. Raises one of InvalidRequest, or ClientGone."""
    body = await _read(receive, settings.max_body_bytes)
    if check_headers(scope, declared=dialect.declared):
        body = await unpack(body, settings.max_body_bytes, scope.get(CLAIM))
    parsed = parse(body, settings.max_inputs)
    check_sizes(parsed, settings.max_inputs, dialect.items)
    # A character takes at least a byte: a body that is not longer needs no count.
    if len(body) > settings.max_characters:
        check_characters(parsed, settings.max_characters)
    if hides_keys(body, parsed):
        if len(body) > _LARGE_BYTES:
            await asyncio.to_thread(check_keys, body)
        else:
            check_keys(body)
    return parsed


async def _read(receive: Receive, limit: int) -> bytes:
    body: bytes | bytearray = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("the client left before its request was whole")
        part: bytes = message.get("body", b"")
        if len(body) + len(part) > limit:
            raise BodyTooLarge.of(limit)
        more = message.get("more_body", False)
        if body:
            body = body if isinstance(body, bytearray) else bytearray(body)
            body += part
        else:
            # One that came at once is not copied.
            body = part
    return bytes(body)


def check_headers(scope: Scope, *, declared: bool = True) -> bool:
    """Whether the body is packed with gzip.

    Raises InvalidContentType or InvalidContentEncoding unless it is JSON, plain or packed so.
    Unless it must be `declared`, a body that comes without a type is taken for JSON.
    """
    given = encoding = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            given = given or value
        elif name == b"content-encoding":
            encoding = encoding or value
    if given != _PLAIN and (given or declared):
        _check_type(given.decode("latin-1"))
    if not encoding:
        return False
    coding = encoding.decode("latin-1").strip().lower()
    if coding not in ("", "identity", *_GZIP):
        raise InvalidContentEncoding(
            f"the body is encoded as {coding}; pack it with gzip alone, or send it as it is, "
            "without Content-Encoding"
        )
    return coding in _GZIP


def _check_type(given: str) -> None:
    kind, *parameters = (part.strip().lower() for part in given.split(";"))
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


def parse(body: bytes, max_inputs: int) -> Any:
    """The parsed body. Raises InvalidJson, or TooManyInputs for more parts than items could have.

    What is refused for its parts has not been parsed.
    """
    limit = max(_MAX_PARTS, _PARTS_OF_AN_ITEM * max_inputs)
    # Texts are left out only if there are as many with what stands in them, which costs less.
    if _count_parts(body) > limit and (parts := _count_parts(_leave_out_texts(body))) > limit:
        raise TooManyInputs(
            f"{parts} objects, lists and fields are more than the {limit} one request may hold; "
            "send several requests"
        )
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"the body is not JSON: {error}") from None


def check_sizes(parsed: Any, max_inputs: int, fields: Iterable[str]) -> None:
    """Raise TooManyInputs or InputTooLong before millions of items are validated one by one.

    `fields` hold a request's items; their size is known before each of them is looked at.
    """
    if not isinstance(parsed, dict):
        return
    for field in fields:
        items = parsed.get(field)
        if isinstance(items, dict):
            _check_lists([items], max_inputs, field)
        if not isinstance(items, list) or not items:
            continue
        if isinstance(items[0], int | float):
            tokens = len(items)
        else:
            check_count(len(items), max_inputs, field)
            tokens = sum(len(item) for item in items if isinstance(item, list))
            _check_lists(items, max_inputs, field)
        if tokens > MAX_TOKEN_IDS:
            raise InputTooLong(
                f"{tokens} token ids are more than the {MAX_TOKEN_IDS} one request may carry; "
                "send several requests",
                param=field,
            )


def _check_lists(items: Iterable[Any], max_inputs: int, field: str) -> None:
    """The same of texts in objects: other servers have lists of them there."""
    for item in items:
        if isinstance(item, dict):
            for name, value in item.items():
                if isinstance(value, list) and value and not isinstance(value[0], int | float):
                    check_count(len(value), max_inputs, f"{field}.{name[:100]}")


def check_characters(parsed: Any, limit: int) -> None:
    """Raise TooManyCharacters if the texts of a request are longer, all together."""
    if not isinstance(parsed, dict):
        return
    count = _count_characters(parsed.values())
    if count > limit:
        raise TooManyCharacters(
            f"{count} characters of text are more than the {limit} one request may carry; "
            "send several requests"
        )


def hides_keys(body: bytes, parsed: Any) -> bool:
    """Whether the body may name a key twice, of which the parser keeps the last without a word.

    False is certain, and costs less than parsing. True is not: objects may lie deeper than any
    route takes.
    """
    # A colon stands after each key, and perhaps in texts: none to spare, so none is hidden.
    if not isinstance(parsed, dict) or body.count(b":") == len(parsed):
        return False
    written = _leave_out_texts(body).count(b":")
    return written != len(parsed) + sum(_count_keys(value) for value in parsed.values())


def check_keys(body: bytes) -> None:
    """Raise DuplicateKey, naming it, if an object of the body has a key twice. Slow."""
    try:
        json.loads(body, object_pairs_hook=_check_pairs, parse_int=_ignore, parse_float=_ignore)
    except RecursionError:
        # Deeper than any route takes: validation says what is wrong with it.
        return


def _leave_out_texts(body: bytes) -> bytes:
    """What of a JSON text stands outside of its strings, and the quotes that end these."""
    if b"\\" in body:
        # Of what is escaped only these two matter: the first may stand before a quote that ends.
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    codes = np.frombuffer(body, dtype=np.uint8)
    inside = np.logical_xor.accumulate(codes == ord('"'))
    return codes[~inside].tobytes()


def _count_parts(text: bytes) -> int:
    return sum(text.count(mark) for mark in (b"{", b"[", b":"))


def _count_characters(parts: Iterable[Any]) -> int:
    """Of all texts, however deep they lie: other servers' items are lists, or objects with some."""
    count = 0
    waiting = [parts]
    while waiting:
        for part in waiting.pop():
            if isinstance(part, str):
                count += len(part)
            elif isinstance(part, dict):
                waiting.append(part.values())
            elif isinstance(part, list) and len(part) <= MAX_TOKEN_IDS:
                # No field takes a longer list: validation refuses it.
                waiting.append(part)
    return count


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
