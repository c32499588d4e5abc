"""Bodies that say one thing and hold another: encodings, keys, numbers, nesting, declarations."""

import gzip
import json
import zlib
from typing import Any

import pytest

from tests.attacks.http.conftest import KNOWN
from tests.helpers.server import JSON, Server, check_error, check_same, find_refusal

ROUTES = pytest.mark.parametrize("path", KNOWN)


def name_field(path: str) -> str:
    return "input" if path == "/v1/embeddings" else "inputs"


def make_item(path: str, text: str) -> Any:
    return {"first": text, "second": text} if path == "/v1/next-sentence" else text


@ROUTES
@pytest.mark.parametrize(
    "text",
    [b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"rain\xe2\x82"],
)
def test_text_that_is_not_utf_8(path: str, text: bytes, tiny: Server) -> None:
    whole = json.dumps({name_field(path): make_item(path, "@ [MASK]")}).encode()
    tiny.refuse(path, whole.replace(b"@", text), 400, "invalid_json", None)
    # In a key, where it could be dropped unseen.
    tiny.refuse(path, whole[:-1] + b', "' + text + b'": 1}', 400, "invalid_json", None)


@ROUTES
@pytest.mark.parametrize(
    "text", ["\\ud800", "\\udc00", "\\ud800\\ud800", "\\udc00\\ud800", "\\u12"]
)
def test_half_a_character(path: str, text: str, tiny: Server) -> None:
    whole = json.dumps({name_field(path): make_item(path, "@ [MASK]")})
    tiny.refuse(path, whole.replace("@", text), 400, "invalid_json", None)
    tiny.refuse(path, f'{whole[:-1]}, "{text}": 1}}', 400, "invalid_json", None)


@ROUTES
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_json_in_another_encoding(path: str, encoding: str, tiny: Server) -> None:
    whole = json.dumps({name_field(path): make_item(path, "räin [MASK]")}, ensure_ascii=False)
    tiny.refuse(path, whole.encode(encoding), 400, "invalid_json", None)


@ROUTES
def test_a_key_that_is_sent_twice(path: str, tiny: Server) -> None:
    field = name_field(path)
    item = json.dumps(make_item(path, "the [MASK]"))
    colons = json.dumps(make_item(path, 'the [MASK]: \\": a" : b\\'))
    for body in (
        f'{{"{field}": {item}, "{field}": {item}}}',
        f'{{"{field}": {item}, "{field}" \n:\t {item}}}',
        f'{{"{field}": {colons}, "{field}":{colons}}}',
        f'{{"{field}": {item}, "\\u0069{field[1:]}": {item}}}',
        f'{{"{field}": {{"x\\\\": 1, "y\\\\": 2}}, "{field}": {item}}}',
    ):
        message = tiny.refuse(path, body, 400, "duplicate_key", None)
        assert f"'{field}'" in message
        assert "once" in message
    message = tiny.refuse(
        path, f'{{"{field}": {item}, "model": "x", "model": null}}', 400, "duplicate_key", None
    )
    assert "'model'" in message
    # None of them twice, however the text looks, and however long it is.
    tiny.answer(path, f'{{"{field}" : {colons}, "model" :null}}')
    for text in (": [MASK]", "\n:[MASK]", '":[MASK]', f": [MASK] {'x' * 100_000}"):
        tiny.answer(path, {field: make_item(path, text)})
        twice = json.dumps({field: make_item(path, text), "model": None})[:-1] + ', "model": null}'
        assert "'model'" in tiny.refuse(path, twice, 400, "duplicate_key", None)


@pytest.mark.parametrize("path", ["/v1/next-sentence", "/v1/classify"])
def test_a_key_that_is_sent_twice_in_an_item(path: str, tiny: Server) -> None:
    one, other = ("first", "second") if path == "/v1/next-sentence" else ("text", "text_pair")
    twice = f'{{"{one}": "a", "{other}": "b", "{one}": "c"}}'
    for body in (
        f'{{"inputs": {twice}}}',
        f'{{"inputs": [{{"{one}": "a", "{other}": "b"}}, {twice}]}}',
    ):
        assert f"'{one}'" in tiny.refuse(path, body, 400, "duplicate_key", None)


@ROUTES
@pytest.mark.parametrize("name", ["top_k", "dimensions"])
@pytest.mark.parametrize(
    "number",
    [
        "1.0",
        "1e2",
        "1.5",
        "-0.0",
        "0",
        "-0",
        "-1",
        "true",
        '"1"',
        "[1]",
        "{}",
        "18446744073709551616",
        "1" + "0" * 10_000,
        "-" + "9" * 400,
    ],
    ids=lambda value: value[:20],
)
def test_a_number_that_is_none(path: str, name: str, number: str, tiny: Server) -> None:
    if (name == "dimensions") != (path == "/v1/embeddings") or path == "/v1/next-sentence":
        return
    body = f'{{"{name_field(path)}": "the [MASK]", "{name}": {number}}}'
    response = tiny.post(path, body)
    if len(number) > 308:
        # More than JSON's numbers are, as everyone reads them.
        check_error(response, 400, "invalid_json", None)
    else:
        check_error(response, find_refusal(path), "invalid_value", name)


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "01", "1.", ".5", "0x1", "+1"]
)
def test_a_number_that_is_not_json(number: str, tiny: Server) -> None:
    for body in (f'{{"input": [{number}]}}', f'{{"input": "a", "dimensions": {number}}}'):
        tiny.refuse("/v1/embeddings", body, 400, "invalid_json", None)


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("1.0", "invalid_value"),
        ("1e2", "invalid_value"),
        ("true", "invalid_value"),
        ("null", "invalid_value"),
        ('"1"', "invalid_value"),
        ("18446744073709551616", "invalid_value"),
        ("18446744073709551615", "invalid_token"),
        ("9223372036854775808", "invalid_token"),
        ("-9223372036854775808", "invalid_token"),
        ("-1", "invalid_token"),
        ("1000000", "invalid_token"),
    ],
)
def test_a_token_id_that_is_none(token: str, code: str, tiny: Server) -> None:
    for place in ("input[0]", "input[1]"):
        ahead = "" if place == "input[0]" else "[2, 3], "
        body = f'{{"input": [{ahead}[2, {token}, 3]]}}'
        response = tiny.post("/v1/embeddings", body)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (400, code)
        assert error["param"] == (f"{place}[1]" if code == "invalid_value" else place)
    assert tiny.post("/v1/embeddings", f'{{"input": [2, {token}, 3]}}').status_code == 400


def test_minus_nothing_is_a_token_like_nothing(tiny: Server) -> None:
    minus = tiny.answer("/v1/embeddings", '{"input": [[2, -0, 3]]}')
    check_same(minus, tiny.answer("/v1/embeddings", {"input": [[2, 0, 3]]}))


@ROUTES
def test_more_than_there_is(path: str, tiny: Server) -> None:
    for top_k in (10_000, 2**63 - 1, 2**63, 2**64 - 1):
        if path in ("/v1/fill-mask", "/v1/classify"):
            everything = tiny.answer(path, {"inputs": "the [MASK]", "top_k": top_k})["results"][0]
            found = (
                everything["labels"]
                if "labels" in everything
                else everything["masks"][0]["candidates"]
            )
            assert len(found) == (
                3 if "labels" in everything else tiny.models[0].pipeline.manifest.vocabulary_size
            )
        elif path == "/v1/embeddings":
            body = {"input": "rain", "dimensions": top_k}
            assert "32" in tiny.refuse(path, body, 400, "invalid_value", "dimensions")


@ROUTES
@pytest.mark.parametrize(
    "coding", ["deflate", "br", "zstd", "identity, gzip", "gzip, gzip", "compress", "rain"]
)
def test_a_body_that_is_compressed(path: str, coding: str, tiny: Server) -> None:
    plain = json.dumps(KNOWN[path]).encode()
    packed = zlib.compress(plain) if coding == "deflate" else gzip.compress(plain)
    headers = JSON | {"content-encoding": coding}
    response = tiny.client.post(path, content=packed, headers=headers)
    message = check_error(response, 400, "invalid_content_encoding", None)
    assert coding in message
    assert "Content-Encoding" in message
    plainly = tiny.client.post(path, content=plain, headers=JSON | {"content-encoding": "identity"})
    assert plainly.status_code == 200


@ROUTES
@pytest.mark.parametrize(
    "kind",
    [
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "application/json;charset=",
        "application/json; boundary=x; charset=us-ascii",
        "multipart/form-data; boundary=x",
        "text/json",
        "application/problem+json",
        "application/json, text/plain",
        "application/json/",
        "*/*",
    ],
)
def test_a_body_that_is_declared_as_something_else(path: str, kind: str, tiny: Server) -> None:
    plain = json.dumps(KNOWN[path]).encode()
    response = tiny.client.post(path, content=plain, headers={"content-type": kind})
    message = check_error(response, 400, "invalid_content_type", None)
    assert "JSON" in message


@ROUTES
@pytest.mark.parametrize(
    "kind",
    [
        "APPLICATION/JSON",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/json;",
    ],
)
def test_a_body_that_is_declared_oddly_but_rightly(path: str, kind: str, tiny: Server) -> None:
    plain = json.dumps(KNOWN[path]).encode()
    response = tiny.client.post(path, content=plain, headers={"content-type": kind})
    assert response.status_code == 200


@ROUTES
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"[" * 100_000, 400, "invalid_json"),
        (b"[" * 100_000 + b"]" * 100_000, 400, "invalid_json"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "invalid_json"),
        (b'{"@": ' + b"[" * 1_000 + b"]" * 1_000 + b"}", 422, "invalid_value"),
        (b'{"@": ' + b'{"first":' * 1_000 + b"1" + b"}" * 1_000 + b"}", 422, None),
        (b'{"@": ' + b'{"a":1, "a":' * 1_000 + b"1" + b"}" * 1_000 + b"}", None, None),
        (b'{"@": [' + b"{}," * 100 + b"{}]}", 422, None),
        (b'{"@": [[[["x"]]]]}', 422, None),
        (b'{"@": []}', 422, "invalid_value"),
        (b'{"@": {}}', 422, None),
        (b'{"@": null}', 422, "invalid_value"),
        (b'{"": 1}', 422, "unknown_field"),
        (b'{"@": "a", "__proto__": 1}', 422, "unknown_field"),
        (b"{}", 422, "missing_field"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_body_of_another_build(
    path: str, body: bytes, status: int | None, code: str | None, tiny: Server
) -> None:
    response = tiny.post(path, body.replace(b"@", name_field(path).encode()))
    if status == 422:
        status = find_refusal(path)
    assert response.status_code in ({400, 422} if status is None else {status})
    error = response.json()["error"]
    assert code in (None, error["code"])
    check_error(response, response.status_code, error["code"], error["param"])


def test_null_is_as_good_as_left_out(tiny: Server) -> None:
    nulls = {"encoding_format": None, "dimensions": None, "user": None, "pooling": None}
    found = tiny.answer("/v1/embeddings", {"input": "rain", **nulls})
    check_same(found, tiny.answer("/v1/embeddings", {"input": "rain"}))
    tiny.refuse(
        "/v1/embeddings", {"input": "a", "normalize": None}, 400, "invalid_value", "normalize"
    )
