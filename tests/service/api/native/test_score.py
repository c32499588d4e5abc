from dataclasses import asdict
from typing import Any

import pytest

from models import Pipeline
from tests.helpers.server import Server, check_same

ROUTE = "/v1/score"
TEXTS = ["The queen reads  a letter", "日本 😀 rain", "the cafe\u0301 is open"]


def test_answers_as_the_pipeline_does(tiny: Server, pretraining: Pipeline) -> None:
    answer = tiny.answer(ROUTE, {"inputs": TEXTS})
    assert answer.keys() == {"model", "results", "usage"}
    check_same(answer["results"], [as_sent(each) for each in pretraining.score(TEXTS)])
    counts = [len(pretraining.encoder.tokenizer.encode(text).ids) for text in TEXTS]
    # Each text is read once for each of its tokens.
    assert answer["usage"]["total_tokens"] == sum(count * (count - 2) for count in counts)
    for text, result in zip(TEXTS, answer["results"], strict=True):
        assert result.keys() == {"score", "perplexity", "tokens"}
        for token in result["tokens"]:
            assert token.keys() == {"text", "start", "end", "score"}
            assert token["text"] == text[token["start"] : token["end"]]
            assert token["score"] < 0


def as_sent(score: Any) -> dict[str, Any]:
    told = asdict(score)
    return told | {"tokens": list(told["tokens"])}


def test_many_texts_are_those_alone(tiny: Server) -> None:
    (alone,) = tiny.answer(ROUTE, {"inputs": TEXTS[0]})["results"]
    many = tiny.answer(ROUTE, {"inputs": TEXTS * 12})["results"]
    check_same(many[::3], [alone] * 12)


def test_too_long_is_an_error_or_cut(tiny: Server, pretraining: Pipeline) -> None:
    long = "river " * 80
    tiny.refuse(ROUTE, {"inputs": ["rain", long]}, 422, "input_too_long", "inputs[1]")
    body = {"inputs": ["rain", long], "overflow": "truncate"}
    whole, cut = tiny.answer(ROUTE, body)["results"]
    assert "truncated" not in whole
    assert cut["truncated"] is True
    assert len(cut["tokens"]) == pretraining.encoder.room
    assert cut["truncated_at"] == cut["tokens"][-1]["end"]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"inputs": ["rain", " "]}, "empty_input", "inputs[1]"),
        ({"inputs": []}, "invalid_value", "inputs"),
        ({}, "missing_field", "inputs"),
        ({"inputs": [["rain"]]}, "invalid_value", "inputs[0]"),
        ({"inputs": "rain", "head": "x"}, "head_not_found", "head"),
        ({"inputs": "rain", "top_k": 1}, "unknown_field", "top_k"),
    ],
    ids=str,
)
def test_refuses_what_it_cannot_answer(
    fields: dict[str, Any], code: str, param: str, tiny: Server
) -> None:
    tiny.refuse(ROUTE, fields, 422, code, param)


def test_refuses_a_model_without_the_task(tiny: Server, classifier: Pipeline) -> None:
    body = {"inputs": TEXTS, "model": classifier.manifest.name}
    message = tiny.refuse(ROUTE, body, 422, "task_unsupported", "model")
    assert "wants a fill-mask head" in message
