from dataclasses import asdict
from typing import Any

import pytest

from models import Pipeline
from tests.helpers.server import Server, check_same

ROUTE = "/v1/fill-mask"
TEXTS = ["the [MASK] reads a letter", "  Rain [MASK]the [MASK]  sea . ", "[MASK]"]


def as_results(pipeline: Pipeline, texts: list[str], **options: Any) -> list[dict[str, Any]]:
    answers = pipeline.fill_mask(texts, **options)
    return [{"masks": [asdict(mask) for mask in masks]} for masks in answers]


def test_answers_as_the_pipeline_does(tiny: Server, pretraining: Pipeline) -> None:
    answer = tiny.answer(ROUTE, {"inputs": TEXTS})
    assert answer.keys() == {"model", "results", "usage"}
    assert answer["model"] == pretraining.manifest.name
    check_same(answer["results"], as_results(pretraining, TEXTS))
    tokens = sum(len(pretraining.encoder.tokenizer.encode(text).ids) for text in TEXTS)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_answers_in_the_shape_of_the_contract(tiny: Server) -> None:
    for text, result in zip(TEXTS, tiny.answer(ROUTE, {"inputs": TEXTS})["results"], strict=True):
        assert result.keys() == {"masks"}
        assert len(result["masks"]) == text.count("[MASK]")
        place = 0
        for mask in result["masks"]:
            assert mask.keys() == {"start", "end", "candidates"}
            place = text.index("[MASK]", place)
            assert (mask["start"], mask["end"]) == (place, place + 6)
            place += 6
            assert len(mask["candidates"]) == 5
            scores = [candidate["score"] for candidate in mask["candidates"]]
            assert scores == sorted(scores, reverse=True)
            for candidate in mask["candidates"]:
                assert candidate.keys() == {"token", "token_id", "score", "sequence"}
                assert 0 < candidate["score"] < 1
                assert not candidate["token"].startswith("##")
                filled = text[: mask["start"]] + candidate["token"] + text[mask["end"] :]
                assert candidate["sequence"] == filled


def test_start_and_end_count_characters_and_not_bytes(tiny: Server) -> None:
    text = "🙂 é日 [MASK] sea"
    (mask,) = tiny.answer(ROUTE, {"inputs": text})["results"][0]["masks"]
    assert text[mask["start"] : mask["end"]] == "[MASK]"


def test_takes_one_text_as_a_list_of_one(tiny: Server) -> None:
    one = tiny.answer(ROUTE, {"inputs": TEXTS[0]})
    assert len(one["results"]) == 1
    check_same(one, tiny.answer(ROUTE, {"inputs": TEXTS[:1]}))


def test_top_k_bounds_the_candidates(tiny: Server, pretraining: Pipeline) -> None:
    answer = tiny.answer(ROUTE, {"inputs": TEXTS, "top_k": 2})
    check_same(answer["results"], as_results(pretraining, TEXTS, top_k=2))
    (all_of_them,) = tiny.answer(ROUTE, {"inputs": "[MASK]", "top_k": 10**6})["results"]
    candidates = all_of_them["masks"][0]["candidates"]
    assert len(candidates) == pretraining.manifest.vocabulary_size
    assert sum(candidate["score"] for candidate in candidates) == pytest.approx(1, abs=1e-4)


def test_targets_are_scored_over_the_whole_vocabulary(tiny: Server, pretraining: Pipeline) -> None:
    answer = tiny.answer(ROUTE, {"inputs": TEXTS, "targets": ["king", "queen", "king"]})
    check_same(answer["results"], as_results(pretraining, TEXTS, targets=["king", "queen"]))
    (mask,) = answer["results"][0]["masks"]
    assert {candidate["token"] for candidate in mask["candidates"]} == {"king", "queen"}
    assert sum(candidate["score"] for candidate in mask["candidates"]) < 0.9
    best = tiny.answer(ROUTE, {"inputs": TEXTS[0], "targets": ["king", "queen"], "top_k": 1})[
        "results"
    ][0]["masks"][0]["candidates"]
    check_same(best, mask["candidates"][:1])


def test_too_long_is_an_error_or_cut(tiny: Server) -> None:
    texts = ["[MASK] " + "river " * 80 + "[MASK]", "river " * 80 + "[MASK]", "[MASK]"]
    message = tiny.refuse(ROUTE, {"inputs": texts}, 422, "input_too_long", "inputs[0]")
    assert "64" in message
    answer = tiny.answer(ROUTE, {"inputs": texts, "overflow": "truncate"})
    both_cut, none_left, whole = answer["results"]
    assert both_cut["truncated"] is True
    end = 62 * len("river ") - 1
    assert none_left == {"masks": [], "truncated": True, "truncated_at": end}
    assert whole.keys() == {"masks"}
    # A mask that was cut away is not among the masks; the others stand where they were sent.
    (mask,) = both_cut["masks"]
    assert (mask["start"], mask["end"]) == (0, 6)
    assert mask["candidates"][0]["sequence"].endswith("river [MASK]")
    assert answer["usage"]["prompt_tokens"] == 64 + 64 + 3
    (last,) = tiny.answer(
        ROUTE, {"inputs": texts[0], "overflow": "truncate", "truncation_side": "left"}
    )["results"]
    assert last["truncated_at"] == len(texts[0]) - len("river " * 61 + "[MASK]")
    assert [(mask["start"], mask["end"]) for mask in last["masks"]] == [(487, 493)]


def test_server_may_truncate_by_default(cutting: Server) -> None:
    body = {"inputs": "river " * 80 + "[MASK]"}
    (result,) = cutting.answer(ROUTE, body)["results"]
    assert result == {"masks": [], "truncated": True, "truncated_at": 62 * len("river ") - 1}
    cutting.refuse(ROUTE, body | {"overflow": "error"}, 422, "input_too_long", "inputs[0]")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"inputs": ["[MASK]", "no mask"]}, "missing_mask", "inputs[1]"),
        ({"inputs": ["[MASK]", ""]}, "empty_input", "inputs[1]"),
        ({"inputs": "<mask>"}, "missing_mask", "inputs[0]"),
        ({"inputs": []}, "invalid_value", "inputs"),
        ({}, "missing_field", "inputs"),
        ({"inputs": None}, "invalid_value", "inputs[0]"),
        ({"inputs": 5}, "invalid_value", "inputs[0]"),
        ({"inputs": ["[MASK]", True]}, "invalid_value", "inputs[1]"),
        ({"inputs": [["[MASK]"]]}, "invalid_value", "inputs[0]"),
        ({"inputs": {"text": "[MASK]"}}, "invalid_value", "inputs[0]"),
        ({"inputs": "[MASK]", "top_k": 0}, "invalid_value", "top_k"),
        ({"inputs": "[MASK]", "top_k": -5}, "invalid_value", "top_k"),
        ({"inputs": "[MASK]", "top_k": 5.0}, "invalid_value", "top_k"),
        ({"inputs": "[MASK]", "top_k": True}, "invalid_value", "top_k"),
        ({"inputs": "[MASK]", "targets": []}, "invalid_value", "targets"),
        ({"inputs": "[MASK]", "targets": "king"}, "invalid_value", "targets"),
        ({"inputs": "[MASK]", "targets": ["king", 5]}, "invalid_value", "targets[1]"),
        ({"inputs": "[MASK]", "targets": ["king", "kings"]}, "invalid_target", "targets[1]"),
        ({"inputs": "[MASK]", "targets": ["king queen"]}, "invalid_target", "targets[0]"),
        ({"inputs": "[MASK]", "targets": ["ж"]}, "invalid_target", "targets[0]"),
        ({"inputs": "[MASK]", "targets": [""]}, "invalid_target", "targets[0]"),
        ({"inputs": "[MASK]", "head": "x"}, "head_not_found", "head"),
        ({"inputs": "[MASK]", "overflow": None, "topk": 5}, "unknown_field", "topk"),
        ({"inputs": "[MASK]", "dimensions": 5}, "unknown_field", "dimensions"),
    ],
    ids=str,
)
def test_refuses_what_it_cannot_answer(
    fields: dict[str, Any], code: str, param: str, tiny: Server
) -> None:
    tiny.refuse(ROUTE, fields, 422, code, param)


def test_refuses_a_model_without_the_task(tiny: Server, classifier: Pipeline) -> None:
    body = {"inputs": "[MASK]", "model": classifier.manifest.name}
    message = tiny.refuse(ROUTE, body, 422, "task_unsupported", "model")
    assert "classify" in message
