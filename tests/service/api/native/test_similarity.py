from typing import Any

import numpy as np
import pytest

from models import Pipeline
from service.api.native.similarity import MOST_TEXTS
from tests.helpers.server import Server, check_same

ROUTE = "/v1/similarity"
TEXTS = ["the queen reads a letter", "日本 😀", "rain", "the market is open"]


def test_of_a_source_with_targets(tiny: Server, pretraining: Pipeline) -> None:
    answer = tiny.answer(ROUTE, {"source": TEXTS[0], "targets": TEXTS[1:]})
    assert answer.keys() == {"model", "results", "usage"}
    (result,) = answer["results"]
    wanted = pretraining.similarity(TEXTS[0], TEXTS[1:])
    assert result == {"scores": pytest.approx(wanted.tolist(), abs=1e-5)}
    tokens = sum(len(pretraining.encoder.tokenizer.encode(text).ids) for text in TEXTS)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_of_all_pairs(tiny: Server, pretraining: Pipeline) -> None:
    (result,) = tiny.answer(ROUTE, {"inputs": TEXTS})["results"]
    np.testing.assert_allclose(result["matrix"], pretraining.similarities(TEXTS), atol=1e-5)
    (first,) = tiny.answer(ROUTE, {"source": TEXTS[0], "targets": TEXTS[1:]})["results"]
    check_same(first["scores"], result["matrix"][0][1:])
    (one,) = tiny.answer(ROUTE, {"inputs": TEXTS[:1]})["results"]
    assert one == {"matrix": [[1.0]]}


def test_the_source_is_none_of_the_targets_that_are_counted(narrow: Server) -> None:
    body: dict[str, Any] = {"source": "rain", "targets": ["sea", "king"]}
    (result,) = narrow.answer(ROUTE, body)["results"]
    assert len(result["scores"]) == 2
    message = narrow.refuse(
        ROUTE, body | {"targets": ["sea"] * 3}, 422, "too_many_inputs", "targets"
    )
    assert "3 items are more than the 2" in message
    model = {"query": "rain", "documents": ["sea", "king"], "model": "tiny-pretraining"}
    assert len(narrow.answer("/v1/rerank", model)["results"]) == 2


def test_too_long_is_an_error_or_cut(tiny: Server) -> None:
    long = "river " * 80
    body: dict[str, Any] = {"source": "sea", "targets": ["rain", long]}
    tiny.refuse(ROUTE, body, 422, "input_too_long", "targets[1]")
    tiny.refuse(ROUTE, body | {"source": long}, 422, "input_too_long", "source")
    tiny.refuse(ROUTE, {"inputs": ["rain", long]}, 422, "input_too_long", "inputs[1]")
    (result,) = tiny.answer(ROUTE, body | {"overflow": "truncate"})["results"]
    assert result["truncated"] is True
    source, whole, cut = result["truncated_at"]
    assert (source, whole) == (None, None)
    assert 0 < cut < len(long)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"source": "rain", "targets": ["sea", " "]}, "empty_input", "targets[1]"),
        ({"source": "", "targets": ["sea"]}, "empty_input", "source"),
        ({"source": "rain", "targets": []}, "invalid_value", "targets"),
        ({"source": "rain", "targets": "sea"}, "invalid_value", "targets"),
        ({"source": "rain"}, "invalid_value", None),
        ({}, "invalid_value", None),
        ({"source": "rain", "targets": ["sea"], "inputs": ["a"]}, "invalid_value", None),
        ({"inputs": ["a"] * (MOST_TEXTS + 1)}, "too_many_inputs", "inputs"),
        ({"source": "a", "targets": ["a"] * 3000}, "too_many_inputs", "targets"),
        ({"inputs": [1]}, "invalid_value", "inputs[0]"),
        ({"inputs": ["a"], "head": "x"}, "unknown_field", "head"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_refuses_what_it_cannot_answer(
    fields: dict[str, Any], code: str, param: str | None, tiny: Server
) -> None:
    tiny.refuse(ROUTE, fields, 422, code, param)


def test_refuses_a_model_without_vectors(ranking: Server) -> None:
    body = {"inputs": TEXTS, "model": "tiny-ranker"}
    ranking.refuse(ROUTE, body, 422, "task_unsupported", "model")
