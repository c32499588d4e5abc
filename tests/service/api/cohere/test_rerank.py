"""Ranking in the words of Cohere and Jina, and Cohere's embeddings."""

import math
from pathlib import Path
from typing import Any

import pytest

from models import Pipeline
from tests.helpers.checkpoints import change_json, make_checkpoint
from tests.helpers.fixtures import MakeFolder
from tests.helpers.server import Server, check_same, serve
from tests.helpers.store import Store

ROUTE = "/v1/rerank"
DOCUMENTS = ["the sea is cold", "the king of france", "a red house"]
BODY = {"query": "who is the king", "documents": DOCUMENTS}


def test_by_a_cross_encoder_where_there_is_one(ranking: Server) -> None:
    (model,) = [model for model in ranking.models if model.name == "tiny-ranker"]
    answer = ranking.answer(ROUTE, BODY)
    keys = {"id", "object", "model", "method", "results", "usage", "meta"}
    assert answer.keys() == keys
    assert (answer["model"], answer["method"]) == ("tiny-ranker", "cross-encoder")
    scores = model.pipeline.rerank(BODY["query"], DOCUMENTS)
    order = sorted(range(3), key=lambda place: -scores[place])
    assert [each["index"] for each in answer["results"]] == order
    for each in answer["results"]:
        assert each.keys() == {"index", "relevance_score"}
        assert each["relevance_score"] == pytest.approx(scores[each["index"]], abs=1e-5)
    assert answer["usage"]["prompt_tokens"] > 0


def test_a_checkpoint_that_gives_logits_gives_them_unless_another_server_says_what_they_are(
    make_folder: MakeFolder, exports: Store
) -> None:
    source = make_checkpoint(
        make_folder("ranker"), "bert", "BertForSequenceClassification", labels=["LABEL_0"]
    )
    identity = {"activation_fn": "torch.nn.modules.linear.Identity", "version": "6.2.0"}
    change_json(source / "config.json", sentence_transformers=identity)
    bundle = exports.export(source, "ranker")
    logits = Pipeline.open(bundle).rerank(BODY["query"], DOCUMENTS)
    with serve(bundle) as server:
        for told in server.answer(ROUTE, BODY)["results"]:
            wanted = logits[told["index"]]
            assert told["relevance_score"] == pytest.approx(wanted, abs=1e-5)
        body = {"query": BODY["query"], "texts": DOCUMENTS}
        for told in server.post("/rerank", body).json():
            wanted = 1 / (1 + math.exp(-logits[told["index"]]))
            assert told["score"] == pytest.approx(wanted, abs=1e-5)
        for told in server.post("/rerank", body | {"raw_scores": True}).json():
            assert told["score"] == pytest.approx(logits[told["index"]], abs=1e-5)


def test_an_empty_query_is_named(ranking: Server) -> None:
    for model in ("tiny-ranker", "tiny-pretraining"):
        response = ranking.post(ROUTE, BODY | {"query": " ", "model": model})
        assert (response.status_code, response.json()["error"]["param"]) == (400, "query")


def test_by_vectors_where_there_is_none(tiny: Server, pretraining: Pipeline) -> None:
    answer = tiny.answer(ROUTE, BODY)
    assert (answer["model"], answer["method"]) == ("tiny-pretraining", "embeddings")
    scores = pretraining.similarity(BODY["query"], DOCUMENTS)
    for each in answer["results"]:
        assert each["relevance_score"] == pytest.approx(scores[each["index"]], abs=1e-5)
    told = [each["relevance_score"] for each in answer["results"]]
    assert told == sorted(told, reverse=True)


@pytest.mark.parametrize("path", [ROUTE, "/v2/rerank"])
def test_what_clients_send_beside(path: str, ranking: Server) -> None:
    body: dict[str, Any] = {
        **BODY,
        "documents": [DOCUMENTS[0], {"text": DOCUMENTS[1], "title": "x"}, DOCUMENTS[2]],
        "model": "tiny-ranker",
        "top_n": 9,
        "return_documents": True,
        "max_tokens_per_doc": None,
        "max_chunks_per_doc": 10,
        "rank_fields": ["text"],
    }
    answer = ranking.answer(path, body)
    assert len(answer["results"]) == 3
    for each in answer["results"]:
        assert each["document"] == {"text": DOCUMENTS[each["index"]]}
    assert len(ranking.answer(path, body | {"top_n": 2})["results"]) == 2
    assert len(ranking.answer(path, body | {"top_n": None, "top_k": 1})["results"]) == 1


@pytest.mark.parametrize("model", ["tiny-ranker", "tiny-pretraining"])
def test_long_documents_are_cut_and_say_so(model: str, ranking: Server) -> None:
    body = {"query": "king", "documents": ["rain", "river " * 80], "model": model}
    results = ranking.answer(ROUTE, body)["results"]
    assert {each["index"]: each.get("truncated") for each in results} == {0: None, 1: True}
    refused = ranking.post(ROUTE, body | {"truncation": False})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "documents[1]"
    long = body | {"query": "river " * 80, "truncation": False}
    named = "documents[0]" if model == "tiny-ranker" else "query"
    assert ranking.post(ROUTE, long).json()["error"]["param"] == named


@pytest.mark.parametrize("path", [ROUTE, "/v2/rerank", "/rerank"])
@pytest.mark.parametrize("model", ["tiny-ranker", "tiny-pretraining"])
def test_so_many_tokens_of_each_document_are_read(path: str, model: str, ranking: Server) -> None:
    body = {"query": "the king of france is cold", "model": model}
    documents = ["the sea is cold", "the sea is red", "the sea"]
    answer = ranking.answer(path, body | {"documents": documents, "max_tokens_per_doc": 2})
    (score,) = {each["relevance_score"] for each in answer["results"]}
    whole = ranking.answer(path, body | {"documents": ["the sea"]})["results"][0]
    assert score == pytest.approx(whole["relevance_score"], abs=1e-5)
    found = {each["index"]: each.get("truncated") for each in answer["results"]}
    assert found == {0: True, 1: True, 2: None}
    uncut = ranking.answer(path, body | {"documents": documents, "max_tokens_per_doc": 9000})
    assert not any("truncated" in each for each in uncut["results"])


def test_the_second_version_reads_4096_unless_told_otherwise(
    make_folder: MakeFolder, exports: Store
) -> None:
    config: dict[str, Any] = {"labels": ["LABEL_0"], "max_position_embeddings": 4500}
    source = make_checkpoint(
        make_folder("long-ranker"), "bert", "BertForSequenceClassification", **config
    )
    body: dict[str, Any] = {"query": "king", "documents": ["river " * 4200, "river " * 4096]}
    with serve(exports.export(source, "long-ranker"), max_batch_tokens=4500) as server:
        for path, beside, cut in (
            ("/v2/rerank", {}, True),
            ("/v2/rerank", {"truncation": False}, None),
            ("/v2/rerank", {"max_tokens_per_doc": 4200}, None),
            (ROUTE, {}, None),
        ):
            results = server.answer(path, body | beside)["results"]
            found = {each["index"]: each.get("truncated") for each in results}
            assert found == {0: cut, 1: None}


def test_of_a_long_document_what_was_asked_for_is_no_error(ranking: Server) -> None:
    body = {"query": "king", "documents": ["river " * 80], "truncation": False}
    assert ranking.post("/v2/rerank", body).status_code == 400
    assert ranking.post("/v2/rerank", body | {"max_tokens_per_doc": 9}).status_code == 200
    none = ranking.post("/v2/rerank", body | {"max_tokens_per_doc": 0})
    assert none.json()["error"]["param"] == "max_tokens_per_doc"


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"documents": []}, 400, "empty_input", "documents"),
        ({"documents": ["rain", ""]}, 400, "empty_input", "documents[1]"),
        ({"query": ""}, 400, "empty_input", None),
        ({"documents": [{"title": "a"}]}, 400, "invalid_value", "documents[0]"),
        ({"documents": ["a", 1]}, 400, "invalid_value", "documents[1]"),
        ({"query": None}, 400, "missing_field", "query"),
        ({"model": "gpt"}, 404, "model_not_found", "model"),
        ({"model": "tiny-inference"}, 400, "task_unsupported", "model"),
        ({"documents": ["a"] * 3000}, 400, "too_many_inputs", "documents"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_errors_that_every_client_reads(
    fields: dict[str, Any], status: int, code: str, param: str | None, ranking: Server
) -> None:
    response = ranking.post(ROUTE, BODY | fields)
    found = response.json()
    assert (response.status_code, found["error"]["code"]) == (status, code), found
    assert param is None or found["error"]["param"] == param
    assert found["message"] == found["detail"] == found["error"]["message"]


def test_embeddings(tiny: Server) -> None:
    wanted = [
        entry["embedding"]
        for entry in tiny.answer("/v1/embeddings", {"input": ["rain", "sea"]})["data"]
    ]
    body: dict[str, Any] = {"texts": ["rain", "sea"], "model": "tiny-pretraining"}
    body |= {"input_type": "search_document", "truncate": "END"}
    first = tiny.answer("/v1/embed", body)
    assert first["response_type"] == "embeddings_floats"
    check_same(first["embeddings"], wanted)
    typed = tiny.answer("/v1/embed", body | {"embedding_types": ["float"]})
    check_same(typed["embeddings"], {"float": wanted})
    second = tiny.answer("/v2/embed", body)
    assert second["response_type"] == "embeddings_by_type"
    check_same(second["embeddings"], {"float": wanted})
    assert tiny.post("/v2/embed", body | {"texts": []}).status_code == 400
    for path in ("/v1/embed", "/v2/embed"):
        cut = tiny.post(path, body | {"texts": ["river " * 80, "rain"]})
        assert (cut.status_code, cut.headers["x-truncated"]) == (200, "0")
    long = body | {"texts": ["river " * 80], "truncate": "NONE"}
    assert tiny.post("/v2/embed", long).json()["error"]["param"] == "texts[0]"


def test_one_label_with_a_name_is_no_cross_encoder_unasked(
    pretraining_bundle: Path, make_folder: MakeFolder, exports: Store
) -> None:
    source = make_checkpoint(
        make_folder("toxic"), "bert", "BertForSequenceClassification", labels=["toxic"]
    )
    toxic = exports.export(source, "toxic")
    with serve(toxic) as server:
        for path, body in ((ROUTE, BODY), ("/rerank", {"query": "a", "texts": DOCUMENTS})):
            response = server.post(path, body)
            assert response.status_code in {400, 422, 424}
            assert "has one label, 'toxic', and may be no cross-encoder" in response.text
        assert server.answer(ROUTE, BODY | {"model": "toxic"})["method"] == "cross-encoder"
        assert "classifier" in server.client.get("/info").json()["model_type"]
    with serve(toxic, pretraining_bundle) as server:
        answer = server.answer(ROUTE, BODY)
        assert (answer["model"], answer["method"]) == ("tiny-pretraining", "embeddings")


def test_what_is_done_with_long_texts_may_be_said_in_our_words(ranking: Server) -> None:
    long = BODY | {"documents": ["the king " * 400]}
    assert ranking.answer(ROUTE, long | {"overflow": "truncate"})["results"][0]["truncated"]
    for path in (ROUTE, "/v2/rerank"):
        response = ranking.post(path, long | {"overflow": "error"})
        assert response.status_code == 400
        assert "maximum context length" in response.text
