from dataclasses import asdict
from typing import Any

import pytest

from models import Pipeline
from tests.helpers.server import Server, check_same

ROUTE = "/v1/question-answering"
PAIRS = [
    ("where is the queen", "the queen of england is in the garden and reads a letter"),
    ("who 😀 reads", "日本 The King reads.  the queen 😀 writes a word"),
]
INPUTS = [{"question": question, "context": context} for question, context in PAIRS]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 5},
        {"top_k": 3, "max_answer_tokens": 2, "impossible": True},
        {"top_k": 4, "align_to_words": False},
    ],
    ids=str,
)
def test_answers_as_the_pipeline_does(
    options: dict[str, Any], tiny: Server, reader: Pipeline
) -> None:
    answer = tiny.answer(ROUTE, {"inputs": INPUTS, **options})
    assert answer.keys() == {"model", "results", "usage"}
    assert answer["model"] == reader.manifest.name
    wanted = reader.answer_questions(PAIRS, **options)
    check_same(
        answer["results"], [{"answers": [asdict(span) for span in spans]} for spans in wanted]
    )
    for (_, context), result in zip(PAIRS, answer["results"], strict=True):
        for found in result["answers"]:
            assert found.keys() == {"answer", "score", "start", "end"}
            assert found["answer"] == context[found["start"] : found["end"]]
    tokens = sum(len(reader.encoder.tokenizer.encode(*pair).ids) for pair in PAIRS)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_a_long_context_is_read_whole(tiny: Server, reader: Pipeline) -> None:
    context = "the dog is black . " * 30 + "the queen reads a letter ."
    body = {"inputs": {"question": "who reads", "context": context}, "top_k": 200}
    (result,) = tiny.answer(ROUTE, body)["results"]
    assert max(found["end"] for found in result["answers"]) > len(context) - 30
    (wanted,) = reader.answer_questions([("who reads", context)], top_k=200)
    assert len(result["answers"]) == len(wanted)
    fewer, more = (
        tiny.answer(ROUTE, body | {"doc_stride": stride})["usage"]["total_tokens"]
        for stride in (2, 20)
    )
    assert fewer < more


def test_so_many_answers_are_not_looked_for_in_so_many_windows(tiny: Server) -> None:
    context = "the king of france lives in paris. " * 1500
    body = {"inputs": [INPUTS[0], {"question": "who", "context": context}]}
    tiny.refuse(ROUTE, body | {"top_k": 1000}, 422, "input_too_long", "inputs[1]")
    assert len(tiny.answer(ROUTE, body | {"top_k": 5})["results"][1]["answers"]) == 5


def test_a_question_that_is_too_long_is_refused_or_cut(tiny: Server) -> None:
    long = {"question": "river " * 80, "context": "the sea"}
    tiny.refuse(ROUTE, {"inputs": [INPUTS[0], long]}, 422, "input_too_long", "inputs[1]")
    body = {"inputs": [INPUTS[0], long], "overflow": "truncate"}
    whole, cut = tiny.answer(ROUTE, body)["results"]
    assert whole.keys() == {"answers"}
    assert cut["truncated"] is True
    assert cut["truncated_at"][1] is None


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"inputs": [INPUTS[0], {"question": "", "context": "a"}]}, "empty_input", "inputs[1]"),
        ({"inputs": {"question": "a", "context": " "}}, "empty_input", "inputs[0]"),
        ({"inputs": []}, "invalid_value", "inputs"),
        ({}, "missing_field", "inputs"),
        ({"inputs": "who"}, "invalid_value", "inputs[0]"),
        ({"inputs": {"question": "who"}}, "missing_field", "inputs[0].context"),
        ({"inputs": INPUTS[0] | {"id": "1"}}, "unknown_field", "inputs[0].id"),
        ({"inputs": INPUTS, "top_k": 0}, "invalid_value", "top_k"),
        ({"inputs": INPUTS, "top_k": 1001}, "invalid_value", "top_k"),
        ({"inputs": INPUTS, "max_answer_tokens": 0}, "invalid_value", "max_answer_tokens"),
        ({"inputs": INPUTS, "doc_stride": 64}, "invalid_value", "doc_stride"),
        ({"inputs": INPUTS, "impossible": 1}, "invalid_value", "impossible"),
        ({"inputs": INPUTS, "head": "x"}, "head_not_found", "head"),
        ({"inputs": INPUTS, "function": "none"}, "unknown_field", "function"),
    ],
    ids=str,
)
def test_refuses_what_it_cannot_answer(
    fields: dict[str, Any], code: str, param: str, tiny: Server
) -> None:
    tiny.refuse(ROUTE, fields, 422, code, param)


def test_refuses_a_model_without_the_task(tiny: Server, pretraining: Pipeline) -> None:
    body = {"inputs": INPUTS, "model": pretraining.manifest.name}
    message = tiny.refuse(ROUTE, body, 422, "task_unsupported", "model")
    assert "no head for answer (question answering)" in message
