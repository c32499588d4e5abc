"""Hugging Face's inference API: bodies, shapes and errors as its clients have them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.helpers.server import Server, check_same, serve

PRETRAINING, READER, INFERENCE = "tiny-pretraining", "tiny-reader", "tiny-inference"


@pytest.fixture(scope="module")
def server(
    pretraining_bundle: Path, reader_bundle: Path, inference_bundle: Path
) -> Iterator[Server]:
    with serve(pretraining_bundle, reader_bundle, inference_bundle) as server:
        yield server


def ask(server: Server, task: str, inputs: Any, model: str = "", **beside: Any) -> Any:
    path = f"/models/{model}/pipeline/{task}"
    response = server.client.post(path, json={"inputs": inputs, **beside})
    assert response.status_code == 200, response.text
    return response.json()


def refuse(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    found = response.json()
    assert isinstance(found["error"], str)
    for word in words:
        assert word in found["error"]


def test_fill_mask(server: Server) -> None:
    (wanted,) = server.answer("/v1/fill-mask", {"inputs": "the [MASK] is red"})["results"]
    found = ask(server, "fill-mask", "the [MASK] is red", PRETRAINING, parameters={})
    assert [each.keys() for each in found] == [{"score", "token", "token_str", "sequence"}] * 5
    for each, candidate in zip(found, wanted["masks"][0]["candidates"], strict=True):
        assert each["token"] == candidate["token_id"]
        assert each["token_str"] == candidate["token"]
        assert each["sequence"] == candidate["sequence"]
    two = ask(server, "fill-mask", "[MASK] is [MASK]", PRETRAINING, parameters={"top_k": 2})
    assert [len(mask) for mask in two] == [2, 2]
    many = ask(server, "fill-mask", ["the [MASK]", "a [MASK]"], PRETRAINING)
    assert [len(masks) for masks in many] == [5, 5]
    aimed = ask(
        server, "fill-mask", "the [MASK]", PRETRAINING, parameters={"targets": ["king", "sea"]}
    )
    assert {each["token_str"] for each in aimed} == {"king", "sea"}
    parameters = {"targets": ["king", "sea"], "top_k": 1}
    best = ask(server, "fill-mask", "the [MASK]", PRETRAINING, parameters=parameters)
    check_same(best, aimed[:1])


def test_text_classification(server: Server) -> None:
    (wanted,) = server.answer("/v1/classify", {"inputs": "rain", "model": INFERENCE})["results"]
    for given in ("rain", {"text": "rain"}, ["rain"]):
        found = ask(server, "text-classification", given, INFERENCE, parameters={})
        check_same(found, [wanted["labels"]])
    best = ask(server, "text-classification", "rain", INFERENCE, parameters={"top_k": 1})
    check_same(best, [wanted["labels"][:1]])
    pair = ask(server, "text-classification", {"text": "rain", "text_pair": "sea"}, INFERENCE)
    body = {"inputs": {"text": "rain", "text_pair": "sea"}, "model": INFERENCE}
    check_same(pair, [server.answer("/v1/classify", body)["results"][0]["labels"]])
    raw = ask(
        server,
        "text-classification",
        "rain",
        INFERENCE,
        parameters={"function_to_apply": "none"},
    )
    assert sum(label["score"] for label in raw[0]) != pytest.approx(1)


def test_token_classification(server: Server) -> None:
    text = "The king 😀 of France"
    parameters: dict[str, Any] = {"ignore_labels": []}
    found = ask(server, "token-classification", text, READER, parameters=parameters)
    body = {"inputs": text, "ignore_labels": []}
    (wanted,) = server.answer("/v1/token-classify", body)["results"]
    assert [each["entity_group"] for each in found] == [
        each["label"] for each in wanted["entities"]
    ]
    for each in found:
        assert each.keys() == {"entity_group", "score", "word", "start", "end"}
        assert each["word"] == text[each["start"] : each["end"]]
    parameters["aggregation_strategy"] = "none"
    plain = ask(server, "token-classification", [text], READER, parameters=parameters)
    assert plain[0][0].keys() == {"entity", "score", "word", "start", "end", "index"}


def test_question_answering(server: Server) -> None:
    inputs = {"question": "who reads", "context": "the queen reads a letter"}
    found = ask(server, "question-answering", inputs, READER)
    assert found.keys() == {"answer", "score", "start", "end"}
    assert found["answer"] == inputs["context"][found["start"] : found["end"]]
    more = ask(server, "question-answering", inputs, READER, parameters={"top_k": 3})
    assert len(more) == 3
    check_same(more[0], found)
    many = ask(server, "question-answering", [inputs, inputs], READER)
    check_same(many, [found, found])


@pytest.mark.parametrize("labels", [["sea", "king"], "sea, king"])
def test_zero_shot(server: Server, labels: Any) -> None:
    body = {"inputs": "rain", "labels": ["sea", "king"]}
    wanted = server.answer("/v1/classify", body)["results"][0]["labels"]
    for inputs in ("rain", ["rain"]):
        parameters = {"candidate_labels": labels}
        found = ask(server, "zero-shot-classification", inputs, INFERENCE, parameters=parameters)
        check_same(found, wanted)


def test_similarity_and_vectors(server: Server) -> None:
    inputs = {"source_sentence": "rain", "sentences": ["the sea", "a king"]}
    found = ask(server, "sentence-similarity", inputs, PRETRAINING, parameters={})
    body = {"source": "rain", "targets": inputs["sentences"]}
    check_same(found, server.answer("/v1/similarity", body)["results"][0]["scores"])
    wanted = server.answer("/v1/embeddings", {"input": ["rain"]})["data"][0]["embedding"]
    check_same(ask(server, "feature-extraction", "rain", PRETRAINING), [wanted])
    check_same(ask(server, "feature-extraction", ["rain"], PRETRAINING), [wanted])
    long = ask(server, "feature-extraction", "rain", PRETRAINING, normalize=False, dimensions=4)
    assert np.shape(long) == (1, 4)


MEANT: list[tuple[dict[str, Any], str, str]] = [
    ({"inputs": "rain"}, PRETRAINING, "feature-extraction"),
    ({"inputs": ["rain"], "options": {"wait_for_model": True}}, PRETRAINING, "feature-extraction"),
    ({"inputs": "the [MASK]", "parameters": {}}, PRETRAINING, "fill-mask"),
    ({"inputs": {"source_sentence": "a", "sentences": ["b"]}}, PRETRAINING, "sentence-similarity"),
    ({"inputs": {"question": "a", "context": "b"}}, READER, "question-answering"),
    (
        {"inputs": "rain", "parameters": {"aggregation_strategy": "first"}},
        READER,
        "token-classification",
    ),
    (
        {"inputs": "rain", "parameters": {"candidate_labels": ["sea"]}},
        INFERENCE,
        "zero-shot-classification",
    ),
    ({"inputs": "rain", "parameters": {}}, INFERENCE, "text-classification"),
    ({"inputs": "rain"}, INFERENCE, "text-classification"),
]


@pytest.mark.parametrize(("body", "model", "task"), MEANT, ids=str)
def test_what_a_body_means(server: Server, body: dict[str, Any], model: str, task: str) -> None:
    wanted = ask(server, task, body["inputs"], model, parameters=body.get("parameters"))
    for path in (f"/models/{model}", f"/pipeline/{task}/{model}"):
        response = server.client.post(path, json=body)
        assert response.status_code == 200, response.text
        check_same(response.json(), wanted)


def test_what_was_cut_is_told_in_a_header(server: Server) -> None:
    long = "river " * 80
    body = {"inputs": ["rain", long]}
    response = server.client.post(f"/models/{PRETRAINING}", json=body)
    assert (response.status_code, response.headers["x-truncated"]) == (200, "1")
    assert (
        "x-truncated"
        not in server.client.post(f"/models/{PRETRAINING}", json={"inputs": "rain"}).headers
    )
    # Where nothing says that it is, a text that is too long is an error for the other tasks.
    path = f"/models/{INFERENCE}/pipeline/text-classification"
    refuse(server.client.post(path, json={"inputs": long}), 422, "inputs[0]", "tokens")
    body = {"inputs": long, "parameters": {"truncation": True}}
    assert server.client.post(path, json=body).status_code == 200
    body = {"inputs": long, "truncate": False}
    refuse(server.client.post(f"/models/{PRETRAINING}", json=body), 422, "tokens")


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("/models/none", {"inputs": "a"}, 404, "no model is named"),
        (f"/models/{PRETRAINING}/pipeline/colours", {"inputs": "a"}, 404, "colours"),
        (f"/models/{PRETRAINING}/pipeline/text-classification", {"inputs": "a"}, 422, "classify"),
        (f"/models/{PRETRAINING}/pipeline/fill-mask", {"inputs": "no"}, 422, "mask"),
        (f"/models/{PRETRAINING}/pipeline/fill-mask", {"inputs": [1]}, 422, "inputs[0]"),
        (f"/models/{PRETRAINING}/pipeline/fill-mask", {}, 422, "inputs"),
        (
            f"/models/{PRETRAINING}/pipeline/fill-mask",
            {"inputs": "a [MASK]", "parameters": {"top_k": 0}},
            422,
            "parameters.top_k",
        ),
        (
            f"/models/{PRETRAINING}/pipeline/fill-mask",
            {"inputs": "a [MASK]", "parameters": {"targets": []}},
            422,
            "targets",
        ),
        (
            f"/models/{INFERENCE}/pipeline/zero-shot-classification",
            {"inputs": "a", "parameters": {"candidate_labels": 5}},
            422,
            "parameters.candidate_labels: ",
        ),
        *(
            (f"/models/{model}/pipeline/{task}", {"inputs": "a", "parameters": given}, 422, "1000")
            for model, task, given in (
                (PRETRAINING, "fill-mask", {"targets": ["a"] * 1001}),
                (READER, "token-classification", {"ignore_labels": ["a"] * 1001}),
                (INFERENCE, "zero-shot-classification", {"candidate_labels": "a," * 1001}),
            )
        ),
        (
            f"/models/{INFERENCE}/pipeline/text-classification",
            {"inputs": "a", "parameters": {"truncation_direction": "up"}},
            422,
            "parameters.truncation_direction: ",
        ),
        (
            f"/models/{INFERENCE}/pipeline/zero-shot-classification",
            {"inputs": "a", "parameters": {}},
            422,
            "parameters.candidate_labels",
        ),
        (
            f"/models/{READER}/pipeline/question-answering",
            {"inputs": {"question": "a"}},
            422,
            "inputs[0]",
        ),
        (
            f"/models/{PRETRAINING}/pipeline/sentence-similarity",
            {"inputs": {"source_sentence": "a", "sentences": ["b", ""]}},
            422,
            "inputs.sentences[1]",
        ),
        (f"/models/{PRETRAINING}", {"inputs": ["a", {}]}, 422, "inputs[1]"),
        (f"/models/{PRETRAINING}", {"inputs": []}, 422, "inputs"),
        ("/models", {"inputs": "a"}, 405, ""),
        ("/pipeline/x", {"inputs": "a"}, 404, ""),
    ],
    ids=lambda value: str(value)[:60],
)
def test_errors_are_one_string(
    server: Server, path: str, body: Any, status: int, word: str
) -> None:
    response = server.client.post(path, json=body)
    if path == "/models":
        assert response.status_code == status
        return
    refuse(response, status, word)


def test_a_body_needs_no_type(server: Server) -> None:
    path = f"/models/{PRETRAINING}"
    response = server.client.post(path, content=b'{"inputs": "rain"}')
    assert response.status_code == 200
    refuse(server.client.post(path, content=b"{"), 400, "JSON")
