"""Requests of which a part cannot be answered, or is not known: only where that was asked for."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from models.pipeline import Pipeline
from tests.helpers.server import Server, check_error, find_refusal, serve

LONG = "the king " * 4_000
# Of each route two good items with a bad one of each kind between them, and its code.
ROUTES: dict[str, tuple[str, list[Any], dict[int, str]]] = {
    "/v1/embeddings": (
        "input",
        ["rain", "", "the king", LONG, "\u200b", "rain"],
        {1: "empty_input", 3: "input_too_long", 4: "empty_input"},
    ),
    "/v1/fill-mask": (
        "inputs",
        ["the [MASK]", "no mask", "a [MASK] king", f"[MASK] {LONG}"],
        {1: "missing_mask", 3: "input_too_long"},
    ),
    "/v1/score": ("inputs", ["", "the king", "rain"], {0: "empty_input"}),
    "/v1/next-sentence": (
        "inputs",
        [
            {"first": "rain", "second": "the king"},
            {"first": "", "second": "rain"},
            {"first": "rain", "second": ""},
            {"first": "the", "second": "rain"},
        ],
        {1: "empty_input", 2: "empty_input"},
    ),
    "/v1/classify": (
        "inputs",
        ["rain", {"text": "rain", "text_pair": ""}, "", {"text": "a", "text_pair": "king"}],
        {1: "empty_input", 2: "empty_input"},
    ),
    "/v1/token-classify": ("inputs", ["the king", "", "rain"], {1: "empty_input"}),
    "/v1/question-answering": (
        "inputs",
        [
            {"question": "who", "context": "the king of rain"},
            {"question": "", "context": "rain"},
            {"question": "the", "context": "a house"},
        ],
        {1: "empty_input"},
    ),
}
TASKS = pytest.mark.parametrize("path", ROUTES)


@pytest.fixture(scope="module")
def tolerant(
    pretraining_bundle: Path, classify_bundle: Path, reader_bundle: Path
) -> Iterator[Server]:
    with serve(
        pretraining_bundle, classify_bundle, reader_bundle, on_error="skip", unknown_fields="ignore"
    ) as server:
        yield server


@pytest.fixture(scope="module")
def strict(
    pretraining_bundle: Path, classify_bundle: Path, reader_bundle: Path
) -> Iterator[Server]:
    with serve(pretraining_bundle, classify_bundle, reader_bundle) as server:
        yield server


def list_results(path: str, answer: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer["data" if path == "/v1/embeddings" else "results"]
    return found


def read_error(response: httpx.Response, status: int) -> dict[str, Any]:
    found: dict[str, Any] = response.json()["error"]
    check_error(response, status, found["code"], found["param"])
    return found


@TASKS
def test_what_cannot_be_answered_fails_alone(strict: Server, path: str) -> None:
    field, items, codes = ROUTES[path]
    sound = [item for place, item in enumerate(items) if place not in codes]
    alone = strict.answer(path, {field: sound})
    answer = strict.answer(path, {field: items, "on_error": "skip"})
    results = list_results(path, answer)
    assert len(results) == len(items)
    assert {place: one["error"]["code"] for place, one in enumerate(results) if "error" in one} == (
        codes
    )
    for place in codes:
        assert results[place]["error"]["param"].startswith(f"{field}[{place}]")
        assert results[place]["error"]["message"]
        assert results[place]["error"]["type"] == "invalid_request_error"
        empty = results[place].keys() - {"error", "object", "index"}
        assert empty
        assert all(results[place][name] in ([], None) for name in empty)
    # The others are what they are without it, and only they count.
    whole = [one for one in results if "error" not in one]
    if path == "/v1/embeddings":
        assert [one["index"] for one in results] == list(range(len(items)))
        assert all(results[place]["embedding"] == [] for place in codes)
        whole = [{**one, "index": place} for place, one in enumerate(whole)]
    assert whole == list_results(path, alone)
    assert answer["usage"] == alone["usage"]


@TASKS
def test_without_being_asked_the_first_one_fails_all(strict: Server, path: str) -> None:
    field, items, codes = ROUTES[path]
    for asked in ({}, {"on_error": "fail"}, {"on_error": None}):
        response = strict.post(path, {field: items, **asked})
        first = min(codes)
        error = read_error(response, find_refusal(path))
        assert error["code"] == codes[first]
        assert error["param"].startswith(f"{field}[{first}]")


@TASKS
def test_the_server_may_say_so_for_all(tolerant: Server, path: str) -> None:
    field, items, codes = ROUTES[path]
    results = list_results(path, tolerant.answer(path, {field: items}))
    assert [place for place, one in enumerate(results) if "error" in one] == sorted(codes)
    refused = tolerant.post(path, {field: items, "on_error": "fail"})
    assert refused.status_code == find_refusal(path)
    # One that is no item at all is no item that fails.
    assert tolerant.post(path, {field: [None]}).status_code == find_refusal(path)


def test_where_nothing_is_left_there_are_errors_alone(strict: Server) -> None:
    body = {"input": ["", " "], "on_error": "skip"}
    answer = strict.answer("/v1/embeddings", body)
    assert [one["error"]["code"] for one in answer["data"]] == ["empty_input"] * 2
    assert answer["usage"]["total_tokens"] == 0


def test_openais_client_gets_an_empty_vector(strict: Server) -> None:
    """In either form, which it asks each entry for."""
    client = openai.OpenAI(base_url=f"{strict.url}/v1", api_key="none")
    for given in ({}, {"encoding_format": "float"}):
        answer = client.embeddings.create(
            model="tiny-pretraining",
            input=["rain", "", "king"],
            extra_body={"on_error": "skip"},
            **given,  # type: ignore[arg-type]
        )
        assert [len(one.embedding) > 0 for one in answer.data] == [True, False, True]


def test_many_items_some_of_which_fail(strict: Server) -> None:
    texts = [f"the king {place}" if place % 7 else " " for place in range(2_000)]
    answer = strict.answer("/v1/embeddings", {"input": texts, "on_error": "skip"})
    failed = [one["index"] for one in answer["data"] if "error" in one]
    assert failed == list(range(0, 2_000, 7))
    one = strict.answer("/v1/embeddings", {"input": [texts[1_999]]})["data"][0]["embedding"]
    np.testing.assert_array_equal(one, answer["data"][1_999]["embedding"])


def test_items_that_fail_in_the_computation(
    strict: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are found out, told as ours, and the others computed; few such, then all fail."""
    compute = Pipeline.compute

    def fail(self: Pipeline, jobs: Any) -> Any:
        if any("poison" in str(job.item) for job in jobs):
            raise RuntimeError("a bug")
        return compute(self, jobs)

    for model in strict.models:
        graphs, computing = model.batcher._graphs, partial(fail, model.pipeline)
        monkeypatch.setattr(graphs, "compute", computing)
    texts = ["rain", "poison a", "the king", "poison b"]
    response = strict.post("/v1/embeddings", {"input": texts})
    assert read_error(response, 500)["param"] in ("input[1]", "input[3]")
    answer = strict.answer("/v1/embeddings", {"input": texts, "on_error": "skip"})
    codes = [one.get("error", {}).get("code") for one in answer["data"]]
    assert codes == [None, "internal_error", None, "internal_error"]
    # Those that could not even be read are none of these few.
    mixed = ["", " ", "rain", "", "", "poison", "", "", "king"]
    answer = strict.answer("/v1/embeddings", {"input": mixed, "on_error": "skip"})
    codes = [one.get("error", {}).get("code") for one in answer["data"]]
    assert codes.count("empty_input") == 6
    assert [codes[2], codes[5], codes[8]] == [None, "internal_error", None]
    many = ["poison"] * 9
    response = strict.post("/v1/embeddings", {"input": many, "on_error": "skip"})
    assert read_error(response, 500)["code"] == "internal_error"


@pytest.mark.parametrize(
    ("path", "body", "names"),
    [
        (
            "/v1/embeddings",
            {"input": "rain", "input_typ": 1, "keep_alive": 5},
            "input_typ, keep_alive",
        ),
        ("/v1/fill-mask", {"inputs": "[MASK]", "parameters": {}}, "parameters"),
        (
            "/v1/next-sentence",
            {"inputs": [{"first": "rain", "second": "snow", "third": 1}], "a": 1},
            "a, inputs.third",
        ),
        (
            "/v1/classify",
            {"inputs": ["rain", {"text": "a", "title": 2}, {"text": "a", "x": 1}]},
            "inputs.title, inputs.x",
        ),
        ("/v1/classify", {"inputs": {"text": "a", "title": 2}}, "inputs.title"),
        ("/v1/embeddings", {"input": "rain", "a\r\nb: ü": 1, "x" * 300: 2}, f"a??b???, {'x' * 64}"),
    ],
)
def test_unknown_fields(
    tolerant: Server, strict: Server, path: str, body: dict[str, Any], names: str
) -> None:
    response = tolerant.post(path, body)
    assert response.status_code == 200, response.text
    assert response.headers["x-ignored-fields"] == names
    assert read_error(strict.post(path, body), find_refusal(path))["code"] == "unknown_field"


def test_few_of_many_unknown_fields_are_named(tolerant: Server) -> None:
    body = {"input": "rain", **{f"field{place:04}": 1 for place in range(2_000)}}
    response = tolerant.post("/v1/embeddings", body)
    assert response.headers["x-ignored-fields"].count(",") == 31
    # What is known is judged as ever, and where nothing is unknown nothing is said.
    assert tolerant.post("/v1/embeddings", {"input": "a", "dimensions": 0}).status_code == 400
    assert "x-ignored-fields" not in tolerant.post("/v1/embeddings", {"input": "a"}).headers
