from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import Pipeline
from service.api import route
from service.api.native import attention
from tests.helpers.server import Server, serve

ROUTE = "/v1/attention"
TEXT = "the king and the queen of england go to the sea"


def test_answers_as_the_pipeline_does(tiny: Server, pretraining: Pipeline) -> None:
    answer = tiny.answer(ROUTE, {"inputs": [TEXT, "rain"], "layer": 1})
    assert answer.keys() == {"model", "results", "usage"}
    assert answer["model"] == pretraining.manifest.name
    found = pretraining.attention([TEXT, "rain"], layer=1)
    for result, wanted in zip(answer["results"], found, strict=True):
        assert result.keys() == {"tokens", "attention"}
        assert np.array(result["attention"]).shape == wanted.attention.shape
        np.testing.assert_allclose(result["attention"], wanted.attention, atol=1e-6)
        np.testing.assert_allclose(np.sum(result["attention"], axis=-1), 1, atol=1e-5)
    tokens = sum(len(each.tokens) for each in found)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_answers_in_the_shape_of_the_contract(tiny: Server) -> None:
    body = {"inputs": "The  king sleeps", "head": 2, "include": ["q", "k"]}
    (result,) = tiny.answer(ROUTE, body)["results"]
    assert result.keys() == {"tokens", "attention", "q", "k"}
    first, the, *_, last = result["tokens"]
    assert first == {
        "text": "[CLS]",
        "id": first["id"],
        "start": None,
        "end": None,
        "special": True,
    }
    assert the == {"text": "The", "id": the["id"], "start": 0, "end": 3, "special": False}
    assert last["text"] == "[SEP]"
    count = len(result["tokens"])
    assert np.array(result["attention"]).shape == (1, count, count)
    assert np.array(result["q"]).shape == np.array(result["k"]).shape == (count, 8)
    scores = np.exp(np.array(result["q"]) @ np.array(result["k"]).T / np.sqrt(8))
    np.testing.assert_allclose(
        result["attention"][0], scores / scores.sum(-1, keepdims=True), atol=1e-5
    )


def test_takes_pairs(tiny: Server) -> None:
    pair = {"text": "the king", "text_pair": "a queen"}
    one = tiny.answer(ROUTE, {"inputs": pair})
    assert [token["text"] for token in one["results"][0]["tokens"]] == [
        *("[CLS]", "the", "king", "[SEP]", "a", "queen", "[SEP]")
    ]
    assert one == tiny.answer(ROUTE, {"inputs": [pair]})


def test_long_answers_are_written_whole(tiny: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tiny.answer(ROUTE, {"inputs": TEXT, "head": 1, "include": ["q"]})
    every = tiny.answer(ROUTE, {"inputs": TEXT})
    for at_once in (1, 30, 100):
        monkeypatch.setattr(route, "_AT_ONCE", at_once)
        assert tiny.answer(ROUTE, {"inputs": TEXT, "head": 1, "include": ["q"]}) == whole
        assert tiny.answer(ROUTE, {"inputs": TEXT}) == every


def test_the_setting_bounds_a_text(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle, max_attention_tokens=10) as server:
        body: dict[str, Any] = {"inputs": ["rain", "river " * 20]}
        message = server.refuse(ROUTE, body, 422, "input_too_long", "inputs[1]")
        assert "CLOZE_MAX_ATTENTION_TOKENS" in message
        whole, cut = server.answer(ROUTE, body | {"overflow": "truncate"})["results"]
        assert "truncated" not in whole
        assert (cut["truncated"], cut["truncated_at"]) == (True, 8 * len("river ") - 1)
        assert len(cut["tokens"]) == 10


def test_an_answer_has_a_bound(tiny: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = len(tiny.answer(ROUTE, {"inputs": TEXT})["results"][0]["tokens"])
    monkeypatch.setattr(attention, "MAX_NUMBERS", 4 * tokens**2)
    tiny.answer(ROUTE, {"inputs": TEXT})
    message = tiny.refuse(ROUTE, {"inputs": [TEXT, "a"]}, 422, "invalid_value", "inputs")
    assert "ask for one head" in message
    tiny.answer(ROUTE, {"inputs": [TEXT, "a"], "head": 0})


def test_server_may_truncate_by_default(cutting: Server) -> None:
    body = {"inputs": "river " * 100}
    (result,) = cutting.answer(ROUTE, body)["results"]
    assert result["truncated"] is True
    cutting.refuse(ROUTE, body | {"overflow": "error"}, 422, "input_too_long", "inputs[0]")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({}, "missing_field", "inputs"),
        ({"inputs": []}, "invalid_value", "inputs"),
        ({"inputs": ["rain", ""]}, "empty_input", "inputs[1]"),
        ({"inputs": [1]}, "invalid_value", "inputs[0]"),
        ({"inputs": {"text": "a", "other": "b"}}, "unknown_field", "inputs[0].other"),
        ({"inputs": "a", "layer": 2}, "invalid_value", "layer"),
        ({"inputs": "a", "layer": -1}, "invalid_value", "layer"),
        ({"inputs": "a", "head": 4}, "invalid_value", "head"),
        ({"inputs": "a", "head": "x"}, "invalid_value", "head"),
        ({"inputs": "a", "head": True}, "invalid_value", "head"),
        ({"inputs": "a", "include": ["q"]}, "invalid_value", "include"),
        ({"inputs": "a", "head": 0, "include": ["v"]}, "invalid_value", "include[0]"),
        ({"inputs": "a", "top_k": 1}, "unknown_field", "top_k"),
    ],
    ids=str,
)
def test_refuses_what_it_cannot_answer(
    fields: dict[str, Any], code: str, param: str, tiny: Server
) -> None:
    tiny.refuse(ROUTE, fields, 422, code, param)


def test_refuses_a_model_there_is_not(tiny: Server) -> None:
    tiny.refuse(ROUTE, {"inputs": "a", "model": "none"}, 404, "model_not_found", "model")


def test_too_many_items(narrow: Server) -> None:
    narrow.refuse(ROUTE, {"inputs": ["a"] * 3}, 422, "too_many_inputs", "inputs")
