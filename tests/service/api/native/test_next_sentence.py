from dataclasses import asdict
from typing import Any

import pytest

from models import Pipeline
from tests.helpers.server import Server, check_same

ROUTE = "/v1/next-sentence"
PAIRS = [
    ("the queen reads a letter", "she writes a word"),
    ("rain", "the king and the queen of england go to the sea"),
    ("the market is open", "the dog is black ."),
    ("she writes a word", "the queen reads a letter"),
]
INPUTS = [{"first": first, "second": second} for first, second in PAIRS]


def test_answers_as_the_pipeline_does(tiny: Server, pretraining: Pipeline) -> None:
    answer = tiny.answer(ROUTE, {"inputs": INPUTS})
    assert answer.keys() == {"model", "results", "usage"}
    assert answer["model"] == pretraining.manifest.name
    check_same(answer["results"], [asdict(one) for one in pretraining.next_sentence(PAIRS)])
    tokens = sum(len(pretraining.encoder.tokenizer.encode(*pair).ids) for pair in PAIRS)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_answers_in_the_shape_of_the_contract(tiny: Server) -> None:
    results = tiny.answer(ROUTE, {"inputs": INPUTS})["results"]
    for result in results:
        assert result.keys() == {"is_next", "score"}
        assert 0 <= result["score"] <= 1
        assert result["is_next"] is (result["score"] >= 0.5)
    # Order matters: the last pair is the first one turned round.
    assert abs(results[0]["score"] - results[3]["score"]) > 1e-4


def test_takes_one_pair_as_a_list_of_one(tiny: Server) -> None:
    one = tiny.answer(ROUTE, {"inputs": INPUTS[0]})
    assert len(one["results"]) == 1
    check_same(one, tiny.answer(ROUTE, {"inputs": INPUTS[:1]}))


def test_too_long_is_an_error_or_cut(tiny: Server, pretraining: Pipeline) -> None:
    long = {"first": "river " * 50, "second": "sea " * 20}
    tiny.refuse(ROUTE, {"inputs": [INPUTS[0], long]}, 422, "input_too_long", "inputs[1]")
    answer = tiny.answer(ROUTE, {"inputs": [INPUTS[0], long], "overflow": "truncate"})
    whole, cut = answer["results"]
    assert whole.keys() == {"is_next", "score"}
    assert cut["truncated"] is True
    # Of 64 tokens 3 are special, and the shorter text keeps its 20: 41 are left for the longer.
    (wanted,) = pretraining.next_sentence([("river " * 41, "sea " * 20)])
    assert cut["score"] == pytest.approx(wanted.score, abs=1e-5)


def test_server_may_truncate_by_default(cutting: Server) -> None:
    body = {"inputs": {"first": "river " * 50, "second": "sea " * 50}}
    (result,) = cutting.answer(ROUTE, body)["results"]
    assert result["truncated"] is True
    cutting.refuse(ROUTE, body | {"overflow": "error"}, 422, "input_too_long", "inputs[0]")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"inputs": [INPUTS[0], {"first": "a", "second": ""}]}, "empty_input", "inputs[1]"),
        ({"inputs": {"first": " ", "second": "a"}}, "empty_input", "inputs[0]"),
        ({"inputs": []}, "invalid_value", "inputs"),
        ({}, "missing_field", "inputs"),
        ({"inputs": None}, "invalid_value", "inputs[0]"),
        ({"inputs": "a"}, "invalid_value", "inputs[0]"),
        ({"inputs": ["a", "b"]}, "invalid_value", "inputs[0]"),
        ({"inputs": [["a", "b"]]}, "invalid_value", "inputs[0]"),
        ({"inputs": [INPUTS[0], {"first": "a"}]}, "missing_field", "inputs[1].second"),
        ({"inputs": {"first": "a", "second": None}}, "invalid_value", "inputs[0].second"),
        ({"inputs": {"first": 1, "second": "a"}}, "invalid_value", "inputs[0].first"),
        (
            {"inputs": {"first": "a", "second": "b", "third": "c"}},
            "unknown_field",
            "inputs[0].third",
        ),
        ({"inputs": INPUTS, "top_k": 1}, "unknown_field", "top_k"),
        ({"inputs": INPUTS, "head": "x"}, "head_not_found", "head"),
        ({"inputs": INPUTS, "head": 5}, "invalid_value", "head"),
    ],
    ids=str,
)
def test_refuses_what_it_cannot_answer(
    fields: dict[str, Any], code: str, param: str, tiny: Server
) -> None:
    tiny.refuse(ROUTE, fields, 422, code, param)


def test_refuses_a_model_without_the_task(tiny: Server, classifier: Pipeline) -> None:
    body = {"inputs": INPUTS, "model": classifier.manifest.name}
    tiny.refuse(ROUTE, body, 422, "task_unsupported", "model")
