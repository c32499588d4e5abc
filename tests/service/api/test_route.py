"""What all routes of /v1 share: the body as JSON, its size, and the key."""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.server import (
    JSON,
    Server,
    check_error,
    check_same,
    find_refusal,
    read_times,
    serve,
)

ITEMS: dict[str, tuple[str, Any]] = {
    "/v1/embeddings": ("input", "rain"),
    "/v1/fill-mask": ("inputs", "[MASK]"),
    "/v1/next-sentence": ("inputs", {"first": "rain", "second": "snow"}),
    "/v1/classify": ("inputs", "rain"),
}
ROUTES = pytest.mark.parametrize("path", ITEMS)


@pytest.fixture(scope="module")
def locked(pretraining_bundle: Path, classify_bundle: Path) -> Iterator[Server]:
    with serve(pretraining_bundle, classify_bundle, api_keys=" first, schlüssel ,") as server:
        yield server


@ROUTES
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"input=rain",
        b'{"input": }',
        b'{"input": NaN}',
        b'{"input": [Infinity]}',
        b'{"input": 1e999}',
        b"{'input': 'rain'}",
        b'{"input": "rain"} {}',
        b'{"input": "rain",}',
        b'{"input": "\xff\xfe"}',
        b'{"input": "\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"input": "rain"}',
        b'{"input": "\\ud800"}',
        b'{"\\udfff": "rain"}',
        b"[" * 100_000,
        b'{"input": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
        b"\0",
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_body_that_is_not_json(path: str, body: bytes, tiny: Server) -> None:
    tiny.refuse(path, body, 400, "invalid_json", None)


@ROUTES
@pytest.mark.parametrize("body", [b"null", b"true", b"5", b'"rain"', b"[]", b'["rain"]'])
def test_a_body_that_is_not_an_object(path: str, body: bytes, tiny: Server) -> None:
    tiny.refuse(path, body, find_refusal(path), "invalid_value", None)


@ROUTES
@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "json", "", None],
)
def test_a_body_that_is_not_declared_as_json(path: str, kind: str | None, tiny: Server) -> None:
    field, item = ITEMS[path]
    request = tiny.client.build_request("POST", path, json={field: item})
    del request.headers["content-type"]
    if kind is not None:
        request.headers["content-type"] = kind
    message = check_error(tiny.client.send(request), 400, "invalid_content_type", None)
    assert "application/json" in message


@ROUTES
def test_no_body_at_all(path: str, tiny: Server) -> None:
    check_error(tiny.client.post(path), 400, "invalid_content_type", None)
    check_error(tiny.client.post(path, headers=JSON), 400, "invalid_json", None)


@ROUTES
def test_a_declared_charset_is_no_obstacle(path: str, tiny: Server) -> None:
    field, item = ITEMS[path]
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert tiny.client.post(path, json={field: item}, headers=headers).status_code == 200


@ROUTES
@pytest.mark.parametrize("text", ["rain\0snow [MASK]", "\u202e\ufeff [MASK] \U0010ffff\ufffe"])
def test_odd_characters_are_text(path: str, text: str, tiny: Server) -> None:
    field, _ = ITEMS[path]
    item = {"first": text, "second": text} if path == "/v1/next-sentence" else text
    tiny.answer(path, {field: item})


@ROUTES
def test_nesting_that_json_allows(path: str, tiny: Server) -> None:
    field, _ = ITEMS[path]
    body = f'{{"{field}": {"[" * 1_000}{"]" * 1_000}}}'
    response = tiny.post(path, body)
    assert response.json()["error"]["code"] == "invalid_value"
    assert response.status_code == find_refusal(path)
    response = tiny.post(path, f'{{"{"x" * 10_000}": 5}}')
    assert response.json()["error"]["code"] == "unknown_field"


@ROUTES
def test_null_is_as_good_as_left_out_where_that_is_allowed(path: str, tiny: Server) -> None:
    field, item = ITEMS[path]
    nulls = tiny.answer(path, {field: item, "model": None, "overflow": None})
    check_same(nulls, tiny.answer(path, {field: item}))


@ROUTES
def test_more_items_than_one_request_may_carry(path: str, narrow: Server) -> None:
    field, item = ITEMS[path]
    narrow.answer(path, {field: [item] * 2})
    message = narrow.refuse(path, {field: [item] * 3}, find_refusal(path), "too_many_inputs", field)
    assert "3" in message
    assert "2" in message


@ROUTES
def test_many_items_are_taken_by_default(path: str, tiny: Server) -> None:
    field, item = ITEMS[path]
    answer = tiny.answer(path, {field: [item] * 256})
    assert len(answer["data" if path == "/v1/embeddings" else "results"]) == 256


@ROUTES
def test_a_body_that_is_too_large(path: str, narrow: Server) -> None:
    field, item = ITEMS[path]
    whole = httpx.Request("POST", "http://x", json={field: item}).content
    assert narrow.post(path, whole.ljust(2_000)).status_code == 200
    narrow.refuse(path, whole.ljust(2_001), 413, "body_too_large", None)
    narrow.refuse(path, whole.ljust(1_000_000), 413, "body_too_large", None)

    def send_chunks(count: int) -> Iterator[bytes]:
        yield whole.ljust(1_000)
        for _ in range(count):
            yield b" " * 1_000

    # Without a content-length, only reading tells how large it is.
    for count, status in ((1, 200), (2, 413), (500, 413)):
        response = narrow.client.post(path, content=send_chunks(count), headers=JSON)
        if status == 200:
            assert response.status_code == 200
        else:
            check_error(response, 413, "body_too_large", None)


def test_more_text_than_one_request_may_carry(
    pretraining_bundle: Path, classify_bundle: Path
) -> None:
    with serve(
        pretraining_bundle, classify_bundle, max_characters=100, overflow="truncate"
    ) as server:
        for path, (field, item) in ITEMS.items():
            text = "[MASK]" + " rain" * 15
            few: Any = {"first": text, "second": "\u00e9"} if isinstance(item, dict) else [text]
            server.answer(path, {field: few})
            # Bytes are not counted, neither escapes nor blanks nor what is no text.
            server.answer(path, json.dumps({field: few}, indent=100))
            many: Any = {"first": text, "second": text} if isinstance(item, dict) else [text] * 2
            message = server.refuse(
                path, {field: many}, find_refusal(path), "too_many_characters", None
            )
            assert "100" in message
        server.answer("/v1/embeddings", {"input": [[5] * 20] * 20, "special_tokens": False})


def test_a_length_beyond_the_limit_is_refused_unread(narrow: Server) -> None:
    # Nothing but the headers is sent: the answer comes before the body.
    connection = http.client.HTTPConnection(narrow.url.removeprefix("http://"))
    connection.putrequest("POST", "/v1/embeddings")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "100000000")
    connection.endheaders()
    with closing(connection), connection.getresponse() as answer:
        assert answer.status == 413


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        *(("GET", path, "POST") for path in ITEMS),
        *(("DELETE", path, "POST") for path in ITEMS),
        ("POST", "/v1/models", "GET"),
        ("POST", "/health/live", "GET"),
        ("PUT", "/health/ready", "GET"),
        ("POST", "/metrics", "GET"),
    ],
)
def test_another_method_is_refused(method: str, path: str, allowed: str, tiny: Server) -> None:
    response = tiny.client.request(method, path)
    message = check_error(response, 405, "method_not_allowed", None)
    assert response.headers["allow"] == allowed
    assert method in message


@pytest.mark.parametrize(
    "path",
    ["/v1", "/v1/embedding", "/v1/embeddings;", "/v2/embeddings", "/v1/model", "/%00"],
)
def test_another_path_is_refused(path: str, tiny: Server) -> None:
    for method in ("GET", "POST"):
        check_error(tiny.client.request(method, path), 404, "route_not_found", None)


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        "Bearer first second",
        "Bearer firs",
        "Bearer schl\u00fcssel!",
        "Basic first",
        "first",
        "Bearer ,",
    ],
)
def test_a_key_that_is_not_known_is_refused(given: str | None, locked: Server) -> None:
    headers = {} if given is None else {b"authorization": given.encode()}
    for path, (field, item) in ITEMS.items():
        response = locked.client.post(path, json={field: item}, headers=headers)
        check_error(response, 401, "invalid_api_key", None)
        assert response.headers["www-authenticate"] == "Bearer"
        # Asked for before the body is read.
        response = locked.client.post(path, content=b"{", headers=headers)
        check_error(response, 401, "invalid_api_key", None)
    check_error(locked.client.get("/v1/models", headers=headers), 401, "invalid_api_key", None)


@pytest.mark.parametrize("given", ["Bearer first", "bearer first", "Bearer  schl\u00fcssel"])
def test_a_known_key_is_taken(given: str, locked: Server) -> None:
    headers = {b"authorization": given.encode()}
    for path, (field, item) in ITEMS.items():
        response = locked.client.post(path, json={field: item}, headers=headers)
        assert response.status_code == 200
        read_times(response)
    assert locked.client.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json"]
)
def test_what_is_not_under_v1_asks_for_no_key(path: str, locked: Server) -> None:
    assert locked.client.get(path).status_code == 200


def test_without_keys_any_is_as_good_as_none(tiny: Server) -> None:
    headers = {"authorization": "Bearer anything"}
    response = tiny.client.post("/v1/embeddings", json={"input": "rain"}, headers=headers)
    assert response.status_code == 200
