"""Infinity's and vLLM's paths."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.helpers.server import Server, check_same, hold, serve, wait_until


def test_embeddings_are_openais(tiny: Server) -> None:
    body = {"input": ["rain", "sea"], "model": "tiny-pretraining"}
    wanted = tiny.answer("/v1/embeddings", body)
    check_same(tiny.answer("/embeddings", body | {"modality": "text"}), wanted)
    refused = tiny.post("/embeddings", {"input": [""]})
    assert refused.status_code == 400
    assert refused.json()["detail"] == refused.json()["error"]["message"]


def test_classify(tiny: Server) -> None:
    wanted = tiny.answer("/v1/classify", {"inputs": ["rain", "sea"]})
    found = tiny.answer("/classify", {"input": ["rain", "sea"], "model": wanted["model"]})
    assert found.keys() == {"id", "object", "created", "model", "data", "usage"}
    check_same(found["data"], [result["labels"] for result in wanted["results"]])
    assert len(tiny.answer("/classify", {"input": "rain"})["data"]) == 1


def test_what_is_no_text_is_named_by_its_place(tiny: Server) -> None:
    for given, param in (([], "input"), (5, "input[0]"), (["rain", 5], "input[1]")):
        refused = tiny.post("/classify", {"input": given})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_what_was_cut_is_told(tiny: Server) -> None:
    response = tiny.post("/classify", {"input": ["rain", "river " * 80]})
    assert (response.status_code, response.headers["x-truncated"]) == (200, "1")


def test_models(tiny: Server) -> None:
    found = tiny.client.get("/models").json()["data"]
    assert [model["id"] for model in found] == [model.name for model in tiny.models]
    assert {model["owned_by"] for model in found} == {"infinity"}
    assert found[1]["capabilities"] == ["embed", "classify"]


def test_a_base_of_its_own(ranking: Server) -> None:
    """At /rerank itself vLLM's clients ask in the same words, and want an object."""
    documents = ["the sea", "a king of france"]
    body = {"query": "king", "documents": documents, "model": "tiny-ranker", "top_n": 2}
    told = ranking.answer("/infinity/rerank", body | {"return_documents": True})
    assert told["object"] == "rerank"
    wanted = ranking.answer("/v1/rerank", body)["results"]
    assert [each["index"] for each in told["results"]] == [each["index"] for each in wanted]
    for each in told["results"]:
        assert each["document"] == documents[each["index"]]
    vectors = {"input": documents, "model": "tiny-pretraining"}
    check_same(
        ranking.answer("/infinity/embeddings", vectors), ranking.answer("/embeddings", vectors)
    )
    found = ranking.client.get("/infinity/models").json()["data"]
    assert {model["owned_by"] for model in found} == {"infinity"}
    refused = ranking.post("/infinity/rerank", body | {"documents": ["a", ""]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "documents[1]")


def test_models_tell_what_waits(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle) as server, ThreadPoolExecutor(1) as clients:
        (model,) = server.models
        with hold(model.pipeline, model.batcher):
            asked = clients.submit(server.answer, "/embeddings", {"input": ["rain", "sea"]})
            wait_until(lambda: model.batcher.queued_texts == 2)
            (told,) = server.client.get("/models").json()["data"]
        assert len(asked.result()["data"]) == 2
        assert told["stats"].pop("queue_fraction") > 0
        assert told["stats"] == {"queue_absolute": 2, "results_pending": 1}
        assert told["backend"] == server.models[0].pipeline.choice.engine
        (idle,) = server.client.get("/models").json()["data"]
        assert set(idle["stats"].values()) == {0}
