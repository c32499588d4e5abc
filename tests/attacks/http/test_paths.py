"""Where a request is aimed: paths, targets, headers, and which of them are the same."""

import json

import pytest

from tests.attacks.http.conftest import KNOWN
from tests.attacks.http.wire import close, post, send
from tests.helpers.server import Server, check_error

EMBED = "/v1/embeddings"
BODY = json.dumps(KNOWN[EMBED]).encode()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/embeddings;x=y",
        "/v1/%2e%2e/v1/embeddings",
        "/v1/../v1/embeddings",
        "/./v1/embeddings",
        "/v1/embeddings%00",
        "/v1/embeddings%20",
        "/V1/Embeddings",
        "/v1/embeddings%3f",
        "/v1\\embeddings",
        "/%ff%fe",
        "/%",
        "/%zz",
        "/" + "x" * 30_000,
        "/" + "../" * 5_000 + "etc/passwd",
    ],
    ids=lambda path: path[:30],
)
def test_a_path_that_is_nearly_one(path: str, tiny: Server) -> None:
    (answer,) = send(tiny, close(post(path, BODY)))
    message = answer.refuse(404, "route_not_found")
    # Told as it was read, but not all of it.
    assert len(message) < 300


@pytest.mark.parametrize(
    "path", ["//v1//embeddings", "//v1/embeddings", "/v1/embeddings/", "/v1%2fembeddings%2f"]
)
def test_a_path_with_slashes_too_many(path: str, tiny: Server) -> None:
    (answer,) = send(tiny, close(post(path, BODY)))
    assert answer.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/embeddings?",
        "/v1/embeddings?" + "x=y&" * 5_000,
        "/v1/embeddings#part",
        "/v1/embedding%73",
        "/v1%2fembeddings",
        "http://anyone:1/v1/embeddings",
        "HTTP://x/v1/embeddings?x",
    ],
    ids=lambda path: path[:30],
)
def test_a_path_that_is_one(path: str, tiny: Server) -> None:
    (answer,) = send(tiny, close(post(path, BODY)))
    assert answer.status == 200


def test_the_whole_server_has_no_options(tiny: Server) -> None:
    (answer,) = send(tiny, close(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"))
    answer.refuse(404, "route_not_found")


def test_a_path_that_is_told_whole_where_it_has_a_question_mark(tiny: Server) -> None:
    response = tiny.client.get("/rain%3fsnow%23hail")
    assert "/rain?snow#hail;" in check_error(response, 404, "route_not_found", None)


@pytest.mark.parametrize(
    "name", [b"X-Rain", b"User-Agent", b"Cookie", b"Accept", b"Range", b"If-None-Match"]
)
def test_a_header_that_nobody_asked_for(name: bytes, tiny: Server) -> None:
    (answer,) = send(tiny, close(post(EMBED, BODY, name + b": " + b"x" * 10_000)))
    assert answer.status == 200


def test_many_headers(tiny: Server) -> None:
    (answer,) = send(tiny, close(post(EMBED, BODY, *(b"X-%d: y" % place for place in range(500)))))
    assert answer.status == 200


@pytest.mark.parametrize(
    "name", ["nobody", "a/b", "a%2Fb", "%00", "%0A", "..", "x" * 10_000, "%ff"]
)
def test_a_model_that_nobody_has(name: str, tiny: Server) -> None:
    response = tiny.client.get(f"/v1/models/{name}")
    error = response.json()["error"]
    # A name with a line break or two dots is no path of the route.
    assert error["code"] in ("model_not_found", "route_not_found")
    message = check_error(response, 404, error["code"], error["param"])
    assert len(message) < 500
