import shutil
from pathlib import Path

import openai
import pytest

from models import Pipeline
from models.bundle.bundle import Bundle
from service.settings import Settings
from tests.helpers.checkpoints import write_json
from tests.helpers.fixtures import Export
from tests.helpers.server import Server, check_error, read_times, serve
from tests.helpers.store import Store


def test_lists_what_is_loaded_in_its_order(
    tiny: Server,
    pretraining: Pipeline,
    classifier: Pipeline,
    two_heads: Pipeline,
    reader: Pipeline,
) -> None:
    response = tiny.client.get("/v1/models")
    assert response.status_code == 200
    read_times(response)
    answer = response.json()
    assert answer.keys() == {"object", "data"}
    assert answer["object"] == "list"
    names = [pipeline.manifest.name for pipeline in (pretraining, classifier, two_heads, reader)]
    assert [model["id"] for model in answer["data"]] == names
    assert [model["tasks"] for model in answer["data"]] == [
        ["embed", "fill-mask", "next-sentence"],
        ["embed", "classify"],
        ["embed", "classify"],
        ["embed", "answer", "token-classify"],
    ]
    always = ["attention", "words", "tokenize", "detokenize"]
    assert [model["derived_tasks"] for model in answer["data"]] == [
        ["similarity", "rerank", "score", *always],
        *[["similarity", "rerank", *always]] * 3,
    ]
    for model in answer["data"]:
        assert (model["object"], model["owned_by"]) == ("model", "cloze")
        assert model["created"] > 0
        assert (model["family"], model["precision"]) == ("bert", "fp32")
        assert (model["max_tokens"], model["dimensions"]) == (64, 32)
    assert [
        (head["name"], head["labels"]) for head in answer["data"][2]["heads"] if head["name"]
    ] == [
        ("sentiment", ["bad", "good"]),
        ("topics", ["arts", "politics", "science", "sports"]),
    ]


def test_each_derived_task_is_told_and_no_other(
    tiny: Server, ranker_bundle: Path, exported: Export
) -> None:
    """What is told is answered, what is not told is refused, by a model of each kind."""
    nli = exported("deberta-v2", "ForSequenceClassification", labels=("entailed", "other"))
    asked: dict[str, tuple[str, dict[str, object]]] = {
        "similarity": ("/v1/similarity", {"source": "rain", "targets": ["snow"]}),
        "rerank": ("/v1/rerank", {"query": "rain", "documents": ["snow"]}),
        "zero-shot": ("/v1/classify", {"inputs": "rain", "labels": ["wet"]}),
        "score": ("/v1/score", {"inputs": "rain"}),
        "attention": ("/v1/attention", {"inputs": "rain"}),
        "words": ("/v1/words", {"positive": ["rain"]}),
        "tokenize": ("/v1/tokenize", {"inputs": "rain"}),
        "detokenize": ("/v1/detokenize", {"ids": [[5]]}),
    }
    with serve(ranker_bundle, nli.bundle) as server:
        for one in (server, tiny):
            for model in one.client.get("/v1/models").json()["data"]:
                for task, (path, body) in asked.items():
                    response = one.client.post(path, json={**body, "model": model["id"]})
                    told = task in model["derived_tasks"]
                    assert (response.status_code == 200) is told, (model["id"], response.text)
                    assert told or response.json()["error"]["code"] == "task_unsupported"


def test_a_fingerprint_is_that_of_the_bundle(minilm: Server) -> None:
    settings: Settings = minilm.app.state.settings
    (model,) = minilm.client.get("/v1/models").json()["data"]
    own = Bundle.open(settings.bundles[0]).fingerprint
    engine = model["engine"]
    assert model["fingerprint"] == (own if engine == "onnxruntime" else f"{own}-fp32-{engine}")
    assert model["engine_reason"]
    assert (model["max_tokens"], model["dimensions"], model["pooling"]) == (256, 384, "mean")


def test_openais_client_reads_the_list(minilm: Server) -> None:
    with openai.OpenAI(base_url=f"{minilm.url}/v1", api_key="any", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["all-MiniLM-L6-v2"]


def test_tells_of_one_model_what_the_list_does(tiny: Server) -> None:
    for model in tiny.client.get("/v1/models").json()["data"]:
        response = tiny.client.get(f"/v1/models/{model['id']}")
        assert response.status_code == 200
        read_times(response)
        assert response.json() == model


def test_a_model_whose_name_has_a_slash_is_found(pretraining_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pretraining_bundle, tmp_path / "bundle"))
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"tiny-pretraining"', '"team/tiny"'))
    with serve(folder) as server:
        for name in ("team/tiny", "team%2Ftiny"):
            assert server.client.get(f"/v1/models/{name}").json()["id"] == "team/tiny"


def test_vectors_of_another_kind_are_told(pretraining_source: Path, exports: Store) -> None:
    """By the head that gives them, and by their own size."""
    sparse = exports.export(pretraining_source, "splade", pooling="splade", tasks=("embed",))
    with serve(sparse) as server:
        (model,) = server.client.get("/v1/models").json()["data"]
        assert (model["tasks"], model["pooling"]) == (["embed"], None)
        [head] = model["heads"]
        assert (head["name"], head["representation"]) == ("sparse", "sparse")
        assert model["dimensions"] == Bundle.open(sparse).manifest.vocabulary_size
        assert model["default_dimensions"] is None
        body = {"input": "rain", "model": "splade"}
        message = server.refuse("/v1/embeddings", body, 400, "task_unsupported", "model")
        assert "it gives sparse" in message


def test_dimensions_that_go_unasked_are_told(
    pretraining_source: Path, exports: Store, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(pretraining_source, tmp_path / "source"))
    write_json(source / "config_sentence_transformers.json", {"truncate_dim": 8})
    with serve(exports.export(source, "cut", tasks=("embed",), pooling="mean")) as server:
        (model,) = server.client.get("/v1/models").json()["data"]
        assert (model["dimensions"], model["default_dimensions"]) == (32, 8)
        [answer] = server.answer("/v1/embeddings", {"input": "rain"})["data"]
        assert len(answer["embedding"]) == 8


def test_a_classifiers_own_pooling_is_not_that_of_vectors(exported: Export) -> None:
    own = {"classifier_pooling": "mean", "labels": ["bad", "good"]}
    bundle = exported("modernbert", "ForSequenceClassification", **own).bundle
    [head] = Bundle.open(bundle).manifest.heads
    assert head.pooling == "mean"
    with serve(bundle) as server:
        (model,) = server.client.get("/v1/models").json()["data"]
        assert (model["tasks"], model["pooling"]) == (["classify"], None)


def test_openais_client_retrieves_a_model(minilm: Server) -> None:
    with openai.OpenAI(base_url=f"{minilm.url}/v1", api_key="any", max_retries=0) as client:
        assert client.models.retrieve("all-MiniLM-L6-v2").id == "all-MiniLM-L6-v2"
        with pytest.raises(openai.NotFoundError, match="no model is named 'nobody'"):
            client.models.retrieve("nobody")


def test_a_model_that_is_not_loaded_is_refused(tiny: Server) -> None:
    for name in ("nobody", "x/y", "%20"):
        message = check_error(
            tiny.client.get(f"/v1/models/{name}"), 404, "model_not_found", "model"
        )
        assert all(model.name in message for model in tiny.models)


def test_an_unknown_model_is_refused_with_those_there_are(tiny: Server) -> None:
    for path, items in (
        ("/v1/embeddings", {"input": "rain"}),
        ("/v1/fill-mask", {"inputs": "[MASK]"}),
        ("/v1/next-sentence", {"inputs": {"first": "a", "second": "b"}}),
        ("/v1/classify", {"inputs": "rain"}),
    ):
        for name in ("nobody", ""):
            message = tiny.refuse(path, items | {"model": name}, 404, "model_not_found", "model")
            assert tiny.models[0].name in message


def test_a_task_that_no_model_has_is_refused(minilm: Server) -> None:
    for path, inputs in (
        ("/v1/fill-mask", "[MASK]"),
        ("/v1/next-sentence", {"first": "a", "second": "b"}),
        ("/v1/classify", "rain"),
    ):
        minilm.refuse(path, {"inputs": inputs}, 422, "task_unsupported", "model")


def test_the_list_takes_no_other_method(minilm: Server) -> None:
    response = minilm.client.post("/v1/models")
    check_error(response, 405, "method_not_allowed", None)
    assert response.headers["allow"] == "GET"
