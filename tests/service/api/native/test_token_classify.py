from dataclasses import asdict
from typing import Any

import pytest

from models import Pipeline
from models.heads import Aggregation, Entity
from tests.helpers.server import Server, check_same

ROUTE = "/v1/token-classify"
TEXTS = [
    "the queen reads a letter",
    "The King 😀 and  the queen of England, go to the sea!",
    "日本 the ki\u0301ng",
]


def expect(text: str, entity: Entity) -> dict[str, Any]:
    """As the pipeline has it, the word as the text spells it, no index of a group."""
    told = asdict(entity) | {"word": text[entity.start : entity.end]}
    return {name: value for name, value in told.items() if value is not None}


@pytest.mark.parametrize("aggregation", ["none", "simple", "first", "max", "average"])
def test_answers_as_the_pipeline_does(
    aggregation: Aggregation, tiny: Server, reader: Pipeline
) -> None:
    body = {"inputs": TEXTS, "aggregation": aggregation, "ignore_labels": []}
    answer = tiny.answer(ROUTE, body)
    assert answer.keys() == {"model", "results", "usage"}
    assert answer["model"] == reader.manifest.name
    wanted = reader.token_classify(TEXTS, aggregation=aggregation, ignore_labels=())
    check_same(
        answer["results"],
        [
            {"entities": [expect(text, entity) for entity in entities]}
            for text, entities in zip(TEXTS, wanted, strict=True)
        ],
    )
    assert any(result["entities"] for result in answer["results"])
    tokens = sum(len(reader.encoder.tokenizer.encode(text).ids) for text in TEXTS)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_words_are_the_texts_own(tiny: Server) -> None:
    body = {"inputs": TEXTS, "aggregation": "none", "ignore_labels": []}
    for text, result in zip(TEXTS, tiny.answer(ROUTE, body)["results"], strict=True):
        assert result["entities"]
        for entity in result["entities"]:
            assert entity.keys() == {"label", "score", "word", "start", "end", "index"}
            assert entity["word"] == text[entity["start"] : entity["end"]]
    (last,) = tiny.answer(ROUTE, body | {"inputs": "the King"})["results"]
    assert last["entities"][-1]["word"] == "King"


def test_groups_are_told_unasked_and_others_left_out(tiny: Server, reader: Pipeline) -> None:
    answer = tiny.answer(ROUTE, {"inputs": TEXTS})
    wanted = reader.token_classify(TEXTS, aggregation="simple")
    found = [
        [(entity["label"], entity["start"], entity["end"]) for entity in result["entities"]]
        for result in answer["results"]
    ]
    assert found == [[(each.label, each.start, each.end) for each in one] for one in wanted]
    body = {"inputs": TEXTS[0], "ignore_labels": ["O", "PER"]}
    assert tiny.answer(ROUTE, body)["results"] == [{"entities": []}]


def test_long_texts_are_refused_cut_or_read_in_windows(tiny: Server, reader: Pipeline) -> None:
    long = "the king goes to the sea " * 40
    body: dict[str, Any] = {"inputs": ["rain", long], "ignore_labels": []}
    tiny.refuse(ROUTE, body, 422, "input_too_long", "inputs[1]")
    whole, cut = tiny.answer(ROUTE, body | {"overflow": "truncate"})["results"]
    assert whole.keys() == {"entities"}
    assert cut["truncated"] is True
    assert cut["entities"][-1]["end"] <= cut["truncated_at"] < len(long)
    _, read = tiny.answer(ROUTE, body | {"stride": 8})["results"]
    wanted = reader.token_classify([long], aggregation="simple", ignore_labels=(), stride=8)
    check_same(read, {"entities": [expect(long, entity) for entity in wanted[0]]})
    assert read["entities"][-1]["end"] > cut["truncated_at"]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"inputs": ["rain", " "]}, "empty_input", "inputs[1]"),
        ({"inputs": []}, "invalid_value", "inputs"),
        ({}, "missing_field", "inputs"),
        ({"inputs": [["rain"]]}, "invalid_value", "inputs[0]"),
        ({"inputs": {"text": "rain"}}, "invalid_value", "inputs[0]"),
        ({"inputs": "rain", "aggregation": "most"}, "invalid_value", "aggregation"),
        ({"inputs": "rain", "ignore_labels": "O"}, "invalid_value", "ignore_labels"),
        ({"inputs": "rain", "ignore_labels": ["O"] * 1001}, "invalid_value", "ignore_labels"),
        ({"inputs": "rain", "stride": 8, "aggregation": "none"}, "invalid_value", "stride"),
        ({"inputs": "rain", "stride": 64}, "invalid_value", "stride"),
        ({"inputs": "rain", "stride": -1}, "invalid_value", "stride"),
        ({"inputs": "rain", "head": "places"}, "head_not_found", "head"),
        ({"inputs": "rain", "top_k": 1}, "unknown_field", "top_k"),
    ],
    ids=str,
)
def test_refuses_what_it_cannot_answer(
    fields: dict[str, Any], code: str, param: str, tiny: Server
) -> None:
    tiny.refuse(ROUTE, fields, 422, code, param)


def test_refuses_a_model_without_the_task(tiny: Server, pretraining: Pipeline) -> None:
    body = {"inputs": "rain", "model": pretraining.manifest.name}
    tiny.refuse(ROUTE, body, 422, "task_unsupported", "model")
