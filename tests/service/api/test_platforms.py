"""What platforms send that no package of theirs sends alone: their requests, and what they read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.server import Server, serve

TEXTS = ["the sea is cold", "the king of france", "a red house"]
QUERY = "who is the king"
EMBEDDER, RANKER = "tiny-pretraining", "tiny-ranker"


@pytest.fixture(scope="module")
def server(pretraining_bundle: Path, ranker_bundle: Path) -> Iterator[Server]:
    with serve(pretraining_bundle, ranker_bundle) as server:
        yield server


def post(server: Server, path: str, body: Any, **headers: str) -> Any:
    sent = {"content-type": "application/json", **headers}
    response = server.client.post(path, content=json.dumps(body), headers=sent)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture(scope="module")
def vectors(server: Server) -> list[Any]:
    entries = server.answer("/v1/embeddings", {"input": TEXTS})["data"]
    return [pytest.approx(entry["embedding"], abs=1e-5) for entry in entries]


@pytest.fixture(scope="module")
def scores(server: Server) -> list[tuple[int, Any]]:
    """Places and scores, best first."""
    found = server.answer("/v1/rerank", {"query": QUERY, "documents": TEXTS})["results"]
    return [(each["index"], pytest.approx(each["relevance_score"], abs=1e-5)) for each in found]


def read(results: list[dict[str, Any]], score: str = "relevance_score") -> list[tuple[int, Any]]:
    return [(each["index"], each[score]) for each in results]


def test_open_webui(server: Server, vectors: list[Any], scores: list[tuple[int, Any]]) -> None:
    user = {"X-OpenWebUI-User-Name": "A%20B"}
    body = {"input": TEXTS, "model": EMBEDDER}
    found = post(server, "/v1/embeddings", body, **user)["data"]
    assert [entry["embedding"] for entry in found] == vectors
    body = {"model": RANKER, "query": QUERY, "documents": TEXTS, "top_n": len(TEXTS)}
    assert read(post(server, "/v1/rerank", body, **user)["results"]) == scores


def test_dify_as_openai(server: Server, vectors: list[Any], scores: list[tuple[int, Any]]) -> None:
    body = {"input": TEXTS, "model": EMBEDDER, "encoding_format": "float"}
    # Of an empty key it sends the header without one.
    found = post(server, "/v1/embeddings", body, authorization="")
    assert [entry["embedding"] for entry in found["data"]] == vectors
    assert found["usage"]["total_tokens"] > 0
    body = {"model": RANKER, "query": QUERY, "documents": TEXTS, "top_n": 3}
    for base in ("/v1", ""):
        results = post(server, f"{base}/rerank", body | {"return_documents": True})["results"]
        assert read(results) == scores
        assert [each["document"]["text"] for each in results] == [
            TEXTS[place] for place, _ in scores
        ]


def test_dify_as_text_embeddings_inference(
    server: Server, vectors: list[Any], scores: list[tuple[int, Any]]
) -> None:
    for model, kind in ((EMBEDDER, "embedding"), (RANKER, "reranker")):
        info = server.client.get(f"/tei/{model}/info").json()
        assert kind in info["model_type"]
        assert info["max_input_length"] == 64
        assert info["max_client_batch_size"] > 0
    base = f"/tei/{EMBEDDER}"
    tokens = post(server, f"{base}/tokenize", {"inputs": TEXTS})
    assert [len(each) > 2 for each in tokens] == [True] * 3
    for path in ("/v1/embeddings", "/embeddings"):
        for named in ({}, {"model": "gpt"}):
            found = post(server, base + path, {"input": TEXTS, **named})
            assert [entry["embedding"] for entry in found["data"]] == vectors
    (long,) = post(server, f"{base}/v1/embeddings", {"input": "river " * 80})["data"]
    assert long["truncated"]
    refused = server.client.post(f"{base}/v1/embeddings", json={"input": ["rain", ""]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input[1]")
    body = {"query": QUERY, "texts": TEXTS, "return_text": True}
    results = post(server, f"/tei/{RANKER}/rerank", body)
    assert read(results, "score") == scores
    assert [each["text"] for each in results] == [TEXTS[place] for place, _ in scores]


def test_opensearch(server: Server, vectors: list[Any], scores: list[tuple[int, Any]]) -> None:
    """Its connectors by the blueprints for OpenAI and Cohere."""
    found = post(server, "/v1/embeddings", {"input": TEXTS, "model": EMBEDDER})["data"]
    assert [entry["embedding"] for entry in found] == vectors
    body = {"documents": TEXTS, "query": QUERY, "model": RANKER, "top_n": 3}
    assert read(post(server, "/v1/rerank", body)["results"]) == scores


def test_elasticsearch(server: Server, vectors: list[Any], scores: list[tuple[int, Any]]) -> None:
    """Its parser takes no field besides these, and of a ranking a bare list alone."""
    for path in (f"/models/{EMBEDDER}", "/embed", "/"):
        assert post(server, path, {"inputs": TEXTS}) == vectors
    body = {"query": QUERY, "documents": TEXTS, "return_documents": True, "top_n": 3}
    results = post(server, "/rerank", body)
    assert [each.keys() for each in results] == [{"index", "score", "text"}] * 3
    assert read(results, "score") == scores
    few = post(server, f"/tei/{RANKER}/rerank", body | {"return_documents": False, "top_n": 1})
    assert [each.keys() for each in few] == [{"index", "score"}]
