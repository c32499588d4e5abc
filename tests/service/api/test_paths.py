"""Where a path leads: behind a gateway's prefix, with a slash too many, or almost right."""

import http.client
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.server import Server, check_error, serve

BODY = b'{"input": "rain"}'
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def rooted(pretraining_bundle: Path) -> Iterator[Server]:
    with serve(pretraining_bundle, root_path="/emb/x/", api_keys="right") as server:
        yield server


@pytest.fixture(scope="module")
def plain(pretraining_bundle: Path) -> Iterator[Server]:
    with serve(pretraining_bundle) as server:
        yield server


def ask(server: Server, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    """As it is written: httpx would mend it."""
    with closing(http.client.HTTPConnection(server.url.removeprefix("http://"))) as connection:
        body = BODY if method == "POST" else None
        connection.request(method, path, body, {**JSON, **headers})
        response = connection.getresponse()
        return response.status, response.read()


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/embeddings", "POST"),
        ("/v1/embeddings/", "POST"),
        ("//v1/embeddings", "POST"),
        ("/v1//embeddings//", "POST"),
        ("/embeddings", "POST"),
        ("/embeddings/", "POST"),
        ("/v1/models/", "GET"),
        ("/v1/models/tiny-pretraining/", "GET"),
        ("/health/", "GET"),
        ("/health", "GET"),
        ("/ping", "GET"),
        ("/", "GET"),
        ("/health/ready/", "HEAD"),
        ("/metrics/", "GET"),
        ("/docs/", "GET"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/emb/x"])
def test_a_path_leads_there_with_and_without_the_root(
    rooted: Server, plain: Server, path: str, method: str, prefix: str
) -> None:
    key = {"authorization": "Bearer right"}
    status, _ = ask(rooted, method, prefix + path, **key)
    assert status == 200
    if not prefix:
        assert ask(plain, method, path)[0] == 200
    else:
        assert ask(plain, method, prefix + path)[0] == 404


@pytest.mark.parametrize(
    "path", ["/emb/x/v1/embeddings", "/emb/x//v1/embeddings/", "//emb/x/v1/models", "/v1/models/"]
)
def test_another_way_to_write_a_path_asks_for_the_key_too(rooted: Server, path: str) -> None:
    for method in ("GET", "POST"):
        assert ask(rooted, method, path)[0] == 401


@pytest.mark.parametrize("path", ["/emb/xv1/embeddings", "/emb", "/emb/v1/embeddings", "/x/v1"])
def test_what_only_begins_like_the_root(rooted: Server, path: str) -> None:
    assert ask(rooted, "POST", path, authorization="Bearer right")[0] == 404


def test_the_root_by_itself_is_the_root(rooted: Server) -> None:
    for path in ("/emb/x", "/emb/x/"):
        assert ask(rooted, "GET", path)[0] == 200


def test_what_is_counted_is_the_route(rooted: Server) -> None:
    labels = {"route": "/v1/embeddings", "status": "200"}

    def count() -> float:
        text = rooted.client.get("/metrics").text
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith("cloze_requests_total{")
            and all(f'{name}="{value}"' in line for name, value in labels.items())
        )

    before = count()
    ask(rooted, "POST", "/emb/x/v1/embeddings/", authorization="Bearer right")
    assert count() == before + 1


def test_the_document_names_the_root(rooted: Server, plain: Server) -> None:
    def read(server: Server) -> Any:
        return server.client.get("/openapi.json", headers={"authorization": "Bearer right"}).json()

    assert read(rooted)["servers"] == [{"url": "/emb/x"}]
    assert "servers" not in read(plain)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/fill_mask", "/v1/fill-mask"),
        ("/v1/fillmask", "/v1/fill-mask"),
        ("/v1/embedding", "/v1/embeddings"),
        ("/v1/next_sentence", "/v1/next-sentence"),
        ("/helth", "/health"),
        ("/v1/FILL-MASK", "/v1/fill-mask"),
        ("/fill_mask", "/v1/fill-mask"),
        ("/detokenize", "/v1/detokenize"),
        ("/v1/answer", "/v1/question-answering"),
        ("/v1/NER/", "/v1/token-classify"),
        ("/v2/nothing/like/it", None),
        ("/" + "x" * 5_000, None),
    ],
)
def test_a_path_that_is_almost_right(plain: Server, path: str, meant: str | None) -> None:
    response = plain.client.post(path, content=BODY, headers=JSON)
    message = check_error(response, 404, "route_not_found", None)
    if meant:
        assert f"is {meant} meant?" in message
    else:
        assert "meant" not in message
    assert "/docs" in message


@pytest.mark.parametrize("root", ["bert", "/be rt", "/bert?x", "/../x\n"])
def test_a_root_that_is_no_path(root: str, pretraining_bundle: Path) -> None:
    with (
        pytest.raises(ValueError, match="it is no path"),
        serve(pretraining_bundle, root_path=root),
    ):
        pass
