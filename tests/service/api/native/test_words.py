from typing import Any

import pytest

from models import Pipeline
from tests.helpers.server import Server

ROUTE = "/v1/words"


def test_answers_as_the_pipeline_does(tiny: Server, pretraining: Pipeline) -> None:
    body = {"positive": ["king", "woman"], "negative": ["man"], "top_k": 7}
    answer = tiny.answer(ROUTE, body)
    assert answer.keys() == {"model", "results", "usage"}
    assert answer["model"] == pretraining.manifest.name
    wanted = pretraining.words(["king", "woman"], ["man"], top_k=7)
    (result,) = answer["results"]
    assert result == {
        "nearest": [
            {"token": one.token, "score": pytest.approx(one.score, abs=1e-6)} for one in wanted
        ]
    }
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_ten_are_told_and_one_word_is_a_list_of_one(tiny: Server) -> None:
    one = tiny.answer(ROUTE, {"positive": "king"})
    assert len(one["results"][0]["nearest"]) == 10
    assert one == tiny.answer(ROUTE, {"positive": ["king"], "negative": []})
    far = tiny.answer(ROUTE, {"negative": "king"})
    assert far["results"] != one["results"]


def test_every_model_answers(tiny: Server) -> None:
    names = [model.name for model in tiny.models]
    answers = [tiny.answer(ROUTE, {"positive": "king", "model": name}) for name in names]
    assert [answer["model"] for answer in answers] == names


def test_real_words(minilm: Server) -> None:
    (result,) = minilm.answer(ROUTE, {"positive": ["kitten", "dog"], "negative": "puppy"})[
        "results"
    ]
    assert {"cat", "cats"} <= {word["token"] for word in result["nearest"]}


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({}, "empty_input", "positive"),
        ({"positive": [], "negative": []}, "empty_input", "positive"),
        ({"positive": ["king", ""]}, "empty_input", "positive[1]"),
        ({"positive": ["king"], "negative": ["\u0e01"]}, "invalid_value", "negative[0]"),
        ({"positive": ["king"], "negative": ["king"]}, "invalid_value", "negative"),
        ({"positive": [1]}, "invalid_value", "positive[0]"),
        ({"positive": ["a"] * 1001}, "invalid_value", "positive"),
        ({"positive": ["king"], "top_k": 0}, "invalid_value", "top_k"),
        ({"positive": ["king"], "top_k": 1001}, "invalid_value", "top_k"),
        ({"positive": ["king"], "inputs": "a"}, "unknown_field", "inputs"),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_refuses_what_it_cannot_answer(
    fields: dict[str, Any], code: str, param: str, tiny: Server
) -> None:
    tiny.refuse(ROUTE, fields, 422, code, param)


def test_refuses_a_model_there_is_not(tiny: Server) -> None:
    body = {"positive": "king", "model": "none"}
    tiny.refuse(ROUTE, body, 404, "model_not_found", "model")
