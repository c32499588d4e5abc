"""What Weaviate's modules send, as their Go marshals it: without a Content-Type, zeros included."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.server import Server, check_same, serve

TEXTS = ["rain", "the sea"]


@pytest.fixture(scope="module")
def server(pretraining_bundle: Path, ranker_bundle: Path) -> Iterator[Server]:
    with serve(pretraining_bundle, ranker_bundle) as server:
        yield server


def post(server: Server, path: str, body: Any, status: int = 200) -> Any:
    response = server.client.post(path, content=json.dumps(body).encode())
    assert response.status_code == status, response.text
    return response.json()


def single(text: str, **config: Any) -> dict[str, Any]:
    config = {"pooling_strategy": "masked_mean", "task_type": "passage", **config}
    return {"text": text, "dims": 0, "vector": None, "error": "", "config": config}


@pytest.mark.parametrize("base", ["", "/tei/tiny-pretraining"])
def test_vectors(base: str, server: Server) -> None:
    answer = server.answer("/v1/embeddings", {"input": TEXTS, "input_type": "document"})
    wanted = [entry["embedding"] for entry in answer["data"]]
    found = post(server, f"{base}/vectors", single("rain"))
    check_same(found, {"text": "rain", "dims": 32, "vector": wanted[0]})
    few = post(server, f"{base}/vectors", single("rain", task_type="query", dimensions=4))
    assert (few["dims"], len(few["vector"])) == (4, 4)
    many = post(server, f"{base}/vectors", {"texts": TEXTS, "config": {"task_type": "passage"}})
    check_same(many, {"vectors": wanted, "dims": 32})


def test_what_was_cut_is_told_in_a_header(server: Server) -> None:
    response = server.client.post("/vectors", json={"texts": ["rain", "river " * 80]})
    assert (response.status_code, response.headers["x-truncated"]) == (200, "1")


def test_errors_are_strings(server: Server) -> None:
    """Its parser refuses an answer whose error is anything else, before it looks at the status."""
    assert "text[0]" in post(server, "/vectors", single(""), 400)["error"]
    assert "empty" in post(server, "/vectors", {"texts": []}, 400)["error"]
    assert "text" in post(server, "/vectors", {"config": {}}, 422)["error"]
    post(server, "/tei/tiny-ranker/vectors", single("rain"), 424)
    post(server, "/tei/none/vectors", single("rain"), 404)


@pytest.mark.parametrize("base", ["", "/tei/tiny-ranker"])
def test_ranking(base: str, server: Server) -> None:
    body = {"query": "king", "documents": TEXTS, "property": ""}
    found = post(server, f"{base}/rerank", body)
    wanted = server.answer("/v1/rerank", {"query": "king", "documents": TEXTS})["results"]
    scores = {TEXTS[each["index"]]: each["relevance_score"] for each in wanted}
    assert [each["document"] for each in found["scores"]] == TEXTS
    for each in found["scores"]:
        assert each["score"] == pytest.approx(scores[each["document"]], abs=1e-5)


@pytest.mark.parametrize("base", ["", "/tei/tiny-ranker"])
def test_it_waits_and_asks_what_there_is(base: str, server: Server) -> None:
    assert server.client.get(f"{base}/.well-known/ready").status_code == 200
    assert server.client.get(f"{base}/meta").json()["model_type"]


def test_keys_are_asked_for_but_by_probes(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle, api_keys="right") as server:
        assert server.client.get("/.well-known/ready").status_code == 200
        assert server.client.get("/meta").status_code == 401
        assert server.client.post("/vectors", json={"text": "a"}).status_code == 401
