"""text-embeddings-inference's routes: its shapes, its errors, its statuses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from models import Pipeline
from tests.helpers.process import start_service
from tests.helpers.server import PATIENCE_S, Server, change_heads, check_same, copy_bundle, serve

LONG = "river " * 80
KEY = {"authorization": "Bearer right"}


@pytest.fixture(scope="module")
def server(
    pretraining_bundle: Path, classify_bundle: Path, ranker_bundle: Path
) -> Iterator[Server]:
    with serve(pretraining_bundle, classify_bundle, ranker_bundle) as server:
        yield server


def ask(server: Server, path: str, body: Any) -> Any:
    response = server.client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def refuse(response: httpx.Response, status: int, kind: str, word: str = "") -> None:
    assert response.status_code == status, response.text
    found = response.json()
    assert found.keys() == {"error", "error_type"}
    assert (found["error_type"], word in found["error"]) == (kind, True), found


@pytest.mark.parametrize("base", ["", "/tei/tiny-pretraining"])
def test_embed(server: Server, pretraining: Pipeline, base: str) -> None:
    wanted = [
        entry["embedding"]
        for entry in server.answer("/v1/embeddings", {"input": ["rain", "the sea"]})["data"]
    ]
    check_same(ask(server, f"{base}/embed", {"inputs": ["rain", "the sea"]}), wanted)
    check_same(ask(server, f"{base}/embed", {"inputs": "rain", "truncate": None}), wanted[:1])
    check_same(ask(server, f"{base}/", {"inputs": "rain", "normalize": True}), wanted[:1])
    check_same(ask(server, f"{base}/invocations", {"inputs": "rain"}), wanted[:1])
    vertex = ask(server, f"{base}/vertex", {"instances": [{"inputs": "rain"}] * 2})
    check_same(vertex, {"predictions": [wanted[:1]] * 2})
    ids = [pretraining.encoder.encode(text, overflow="error").ids for text in ("rain", "the sea")]
    sent = {"inputs": [each.tolist() for each in ids]}
    check_same(ask(server, f"{base}/embed", sent), wanted)


def test_embed_all_gives_every_token(server: Server, pretraining: Pipeline) -> None:
    (found,) = ask(server, "/embed_all", {"inputs": "the sea"})
    encoded = pretraining.encoder.encode("the sea", overflow="error")
    hidden, _ = pretraining.run_trunk([encoded])
    np.testing.assert_allclose(found, hidden.whole(), atol=1e-5)
    # All of them would be more than an answer may have.
    many = {"inputs": [LONG] * 2048, "truncate": True}
    answer = server.client.post("/embed_all", json=many)
    # Of 64 tokens with 32 numbers each these are as many as there may be.
    assert len(answer.json()) == 2048


def test_long_texts_are_cut_unless_it_says_otherwise(server: Server) -> None:
    response = server.client.post("/embed", json={"inputs": ["rain", LONG]})
    assert (response.status_code, response.headers["x-truncated"]) == (200, "1")
    left = {"inputs": LONG, "truncate": True, "truncation_direction": "Left"}
    assert server.client.post("/embed", json=left).status_code == 200
    refuse(
        server.client.post("/embed", json={"inputs": LONG, "truncate": False}),
        422,
        "Validation",
        "tokens",
    )


def test_predict(server: Server) -> None:
    body = {"inputs": ["rain", {"text": "rain", "text_pair": "sea"}]}
    alone, pair = (each["labels"] for each in server.answer("/v1/classify", body)["results"])
    check_same(ask(server, "/predict", {"inputs": "rain"}), alone)
    check_same(ask(server, "/predict", {"inputs": ["rain", "sea"]}), pair)
    check_same(ask(server, "/predict", {"inputs": [["rain"], ["rain", "sea"]]}), [alone, pair])
    raw = ask(server, "/predict", {"inputs": "rain", "raw_scores": True})
    assert sum(label["score"] for label in raw) != pytest.approx(1)
    assert ask(server, "/tei/tiny-classify/predict", {"inputs": "rain"})
    refuse(
        server.client.post("/predict", json={"inputs": [["a", "b", "c"]]}),
        422,
        "Validation",
        "inputs[0]",
    )


def test_rerank(server: Server) -> None:
    documents = ["the sea", "a king of france", "rain"]
    wanted = server.answer("/v1/rerank", {"query": "king", "documents": documents})
    assert wanted["method"] == "cross-encoder"
    found = ask(server, "/rerank", {"query": "king", "texts": documents, "return_text": True})
    assert [each["index"] for each in found] == [each["index"] for each in wanted["results"]]
    for each, other in zip(found, wanted["results"], strict=True):
        assert each["score"] == pytest.approx(other["relevance_score"], abs=1e-5)
        assert each["text"] == documents[each["index"]]
    raw = ask(server, "/rerank", {"query": "king", "texts": documents, "raw_scores": True})
    assert [each["index"] for each in raw] == [each["index"] for each in found]
    assert raw[0]["score"] != pytest.approx(found[0]["score"])
    # Elasticsearch names no model and wants a bare list, Weaviate an object of scores.
    bare = ask(server, "/rerank", {"query": "king", "documents": documents, "top_n": 2})
    assert [each["index"] for each in bare] == [each["index"] for each in found[:2]]
    body = {"query": "king", "documents": documents, "property": "text"}
    scores = ask(server, "/rerank", body)["scores"]
    assert [each["document"] for each in scores] == documents
    # vLLM's, Dify's and Infinity's name one, and read what Cohere answers.
    body = {"query": "king", "documents": documents, "model": "tiny-ranker"}
    assert ask(server, "/rerank", body)["object"] == "list"
    body |= {"raw_scores": False, "return_documents": True}
    told = ask(server, "/rerank", body)
    assert told["object"] == "rerank"
    assert isinstance(told["results"][0]["document"], str)


def test_the_path_names_the_model(server: Server) -> None:
    body = {"query": "king", "texts": ["the sea", "a king of france"]}
    wanted = ask(server, "/tei/tiny-pretraining/rerank", body)
    named = {"model": "tiny-ranker"}
    check_same(ask(server, "/tei/tiny-pretraining/rerank", body | named), wanted)
    body = {"query": "king", "documents": body["texts"], **named}
    assert ask(server, "/tei/tiny-pretraining/rerank", body)["model"] == "tiny-pretraining"
    # Infinity's client says so where it names none.
    unnamed = ask(server, "/rerank", body | {"model": "default/not-specified"})
    assert (unnamed["model"], unnamed["object"]) == ("tiny-ranker", "list")


def test_similarity(server: Server) -> None:
    inputs = {"source_sentence": "rain", "sentences": ["sea", "king"]}
    body = {"source": "rain", "targets": ["sea", "king"]}
    wanted = server.answer("/v1/similarity", body)["results"][0]["scores"]
    check_same(ask(server, "/similarity", {"inputs": inputs}), wanted)


def test_info_says_what_a_model_is(server: Server) -> None:
    info = server.client.get("/info").json()
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (info["model_id"], info["max_input_length"]) == ("tiny-pretraining", 64)
    ranker = server.client.get("/tei/tiny-ranker/info").json()
    assert ranker["model_type"] == {
        "reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    }
    assert server.client.get("/tei/none/info").status_code == 404


def test_info_is_of_the_model_that_embeds(
    pretraining_bundle: Path, minilm_bundle: Path, tmp_path: Path
) -> None:
    guessed = copy_bundle(pretraining_bundle, tmp_path)
    change_heads(guessed, "embed", pooling_source="default")
    with serve(guessed, minilm_bundle) as server:
        assert server.client.get("/info").json()["model_id"] == "all-MiniLM-L6-v2"
        assert server.post("/embed", {"inputs": "rain"}).status_code == 200


def test_errors_have_its_kinds(server: Server) -> None:
    refuse(server.client.post("/embed", json={"inputs": ["rain", ""]}), 400, "Empty", "inputs[1]")
    for path in ("/embed", "/predict", "/tokenize", "/", "/tei/tiny-ranker/"):
        refuse(server.client.post(path, json={"inputs": []}), 400, "Empty", "inputs: ")
    for path in ("/predict", "/tokenize"):
        refuse(server.client.post(path, json={"inputs": 5}), 422, "Validation", "inputs[0]: ")
    refuse(
        server.client.post("/rerank", json={"query": " ", "texts": ["a"]}), 400, "Empty", "query"
    )
    body = {"inputs": "rain"}
    refuse(server.client.post("/tei/tiny-ranker/embed", json=body), 424, "Backend", "embed")
    refuse(server.client.post("/embed_sparse", json=body), 424, "Backend", "sparse")
    refuse(server.client.post("/embed", json={"inputs": {"a": 1}}), 422, "Validation")
    refuse(server.client.post("/embed", json=body | {"dimensions": 0}), 422, "Validation")
    refuse(server.client.post("/tei/none/embed", json=body), 404, "Validation", "none")
    refuse(server.client.post("/rerank", json={"query": "a", "texts": []}), 400, "Empty", "texts")
    refuse(server.client.post("/tei/x/nothing", json=body), 404, "Validation")
    refuse(server.client.post("/embed", content=b"{"), 400, "Validation")


@pytest.mark.parametrize(
    "body", [{"inputs": 5}, {"inputs": {"a": 1}}, {"inputs": "a", "truncation_direction": "up"}]
)
@pytest.mark.parametrize("path", ["/", "/tei/tiny-ranker/", "/tei/tiny-ranker/invocations"])
def test_a_body_of_any_task_is_judged_as_that_of_its_task(
    server: Server, path: str, body: Any
) -> None:
    refuse(server.client.post(path, json=body), 422, "Validation", next(reversed(body)))


def test_vertex_names_the_instance(server: Server) -> None:
    def send(*instances: Any) -> httpx.Response:
        return server.client.post("/vertex", json={"instances": list(instances)})

    body = {"inputs": "rain"}
    refuse(send(body, {"inputs": ""}), 400, "Empty", "instances[1].inputs[0]: ")
    refuse(send(body, {}), 422, "Validation", "instances[1].inputs: ")
    refuse(send(body | {"normalize": "maybe"}), 422, "Validation", "instances[0].normalize: ")
    cut = send(body, {"inputs": [LONG]})
    assert (cut.status_code, cut.headers["x-truncated"]) == (200, "1")
    assert "x-truncated" not in send(body).headers


def test_vertex_counts_all_that_it_is_sent(pretraining_bundle: Path) -> None:
    settings = {"CLOZE_MAX_INPUTS": "4", "CLOZE_ACCESS_LOG": "all"}
    with start_service("--bundle", str(pretraining_bundle), **settings) as (process, client):
        for instances in ([{"inputs": ["rain"] * 2}] * 3, [{"inputs": "rain"}] * 5):
            response = client.post("/vertex", json={"instances": instances})
            refuse(response, 422, "Validation", "more than the 4")
        both = {"instances": [{"inputs": ["rain"] * 2}, {"inputs": "sea"}]}
        assert client.post("/vertex", json=both).status_code == 200
        process.terminate()
        _, written = process.communicate(timeout=PATIENCE_S)
    lines = [json.loads(line) for line in written.splitlines()]
    (line,) = [each for each in lines if each.get("route") == "/vertex" and each["status"] == 200]
    assert (line["items"], line["tokens"]) == (3, 9)


def test_what_looks_at_the_status_alone(server: Server) -> None:
    for path in ("/", "/health", "/ping"):
        response = server.client.get(path)
        assert (response.status_code, response.content) == (200, b"")


def test_keys_are_asked_for_but_by_probes(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle, api_keys="right") as server:
        for path in ("/embed", "/", "/models/tiny-pretraining", "/v1/rerank", "/embeddings"):
            assert server.client.post(path, json={"inputs": "a"}).status_code == 401
        assert server.client.post("/", json={"inputs": "a"}, headers=KEY).status_code == 200
        for path in ("/", "/health", "/ping", "/v2/health/live"):
            assert server.client.get(path).status_code == 200
        assert server.client.get("/info").status_code == 401


def test_dialects_can_be_switched_off(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle, dialects=("tei",)) as server:
        assert server.client.post("/embed", json={"inputs": "a"}).status_code == 200
        for path in ("/models/tiny-pretraining", "/v1/embed", "/embeddings"):
            assert server.client.post(path, json={"inputs": "a"}).status_code == 404
        assert server.client.get("/").status_code == 200
    with serve(pretraining_bundle, dialects=("huggingface",)) as server:
        assert server.client.post("/", json={"inputs": "a"}).status_code == 200
        assert server.client.get("/info").status_code == 200
        assert server.client.post("/embed", json={"inputs": "a"}).status_code == 404
    with serve(pretraining_bundle, dialects=()) as server:
        assert server.client.post("/embed", json={"inputs": "a"}).status_code == 404
        assert server.client.post("/", json={"inputs": "a"}).status_code == 405
        body = {"query": "a", "documents": ["b"]}
        assert server.client.post("/v1/rerank", json=body).status_code == 200
