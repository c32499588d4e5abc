import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from models import Pipeline
from tests.helpers.server import Server, change_heads, check_same, serve

ROUTE = "/v1/classify"
TEXTS = ["the queen reads a good book", "rain", "a bad night , and a long road to the sea"]
PAIR = {"text": "the market is open", "text_pair": "the shop is closed"}


def as_results(pipeline: Pipeline, items: list[Any], **options: Any) -> list[dict[str, Any]]:
    answers = pipeline.classify(items, **options)
    return [{"labels": [asdict(label) for label in labels]} for labels in answers]


def test_answers_as_the_pipeline_does(tiny: Server, classifier: Pipeline) -> None:
    answer = tiny.answer(ROUTE, {"inputs": TEXTS})
    assert answer.keys() == {"model", "results", "usage"}
    # The first model of the server that has the task, which is its second.
    assert answer["model"] == classifier.manifest.name
    check_same(answer["results"], as_results(classifier, TEXTS))
    tokens = sum(len(classifier.encoder.tokenizer.encode(text).ids) for text in TEXTS)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_answers_in_the_shape_of_the_contract(tiny: Server) -> None:
    for result in tiny.answer(ROUTE, {"inputs": TEXTS})["results"]:
        assert result.keys() == {"labels"}
        assert [label.keys() for label in result["labels"]] == [{"label", "score"}] * 3
        assert {label["label"] for label in result["labels"]} == {"negative", "neutral", "positive"}
        scores = [label["score"] for label in result["labels"]]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=1e-5)


def test_takes_texts_and_pairs(tiny: Server, classifier: Pipeline) -> None:
    answer = tiny.answer(ROUTE, {"inputs": [TEXTS[0], PAIR, {"text": TEXTS[1]}]})
    pair = (PAIR["text"], PAIR["text_pair"])
    check_same(answer["results"], as_results(classifier, [TEXTS[0], pair, TEXTS[1]]))
    null = tiny.answer(ROUTE, {"inputs": {"text": TEXTS[1], "text_pair": None}})
    check_same(null["results"], answer["results"][2:])


@pytest.mark.parametrize("item", [TEXTS[0], PAIR])
def test_takes_one_item_as_a_list_of_one(item: Any, tiny: Server) -> None:
    one = tiny.answer(ROUTE, {"inputs": item})
    assert len(one["results"]) == 1
    check_same(one, tiny.answer(ROUTE, {"inputs": [item]}))


def test_top_k_bounds_the_labels(tiny: Server) -> None:
    whole = tiny.answer(ROUTE, {"inputs": TEXTS})["results"]
    best = tiny.answer(ROUTE, {"inputs": TEXTS, "top_k": 1})["results"]
    check_same(best, [{"labels": result["labels"][:1]} for result in whole])
    check_same(tiny.answer(ROUTE, {"inputs": TEXTS, "top_k": 99})["results"], whole)


@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
def test_function_makes_the_scores(function: str, tiny: Server, classifier: Pipeline) -> None:
    answer = tiny.answer(ROUTE, {"inputs": TEXTS, "function": function})
    check_same(answer["results"], as_results(classifier, TEXTS, function=function))
    total = sum(label["score"] for label in answer["results"][0]["labels"])
    assert (total == pytest.approx(1, abs=1e-5)) is (function == "softmax")


def test_head_is_picked_by_name(tiny: Server, two_heads: Pipeline) -> None:
    name = two_heads.manifest.name
    for head in ("sentiment", "topics"):
        answer = tiny.answer(ROUTE, {"inputs": TEXTS, "model": name, "head": head})
        assert answer["model"] == name
        check_same(answer["results"], as_results(two_heads, TEXTS, head=head))
    first = tiny.answer(ROUTE, {"inputs": TEXTS, "model": name})
    check_same(first["results"], as_results(two_heads, TEXTS, head="sentiment"))


def test_an_unknown_head_is_refused_with_those_there_are(tiny: Server, two_heads: Pipeline) -> None:
    body = {"inputs": TEXTS, "model": two_heads.manifest.name, "head": "mood"}
    message = tiny.refuse(ROUTE, body, 422, "head_not_found", "head")
    assert "sentiment" in message
    assert "topics" in message


def test_too_long_is_an_error_or_cut(tiny: Server, classifier: Pipeline) -> None:
    items = ["river " * 80, {"text": "river " * 5, "text_pair": "sea " * 80}, "river"]
    tiny.refuse(ROUTE, {"inputs": items}, 422, "input_too_long", "inputs[0]")
    tiny.refuse(ROUTE, {"inputs": items[1:]}, 422, "input_too_long", "inputs[0]")
    results = tiny.answer(ROUTE, {"inputs": items, "overflow": "truncate"})["results"]
    assert [result.get("truncated") for result in results] == [True, True, None]
    ends = [62 * len("river ") - 1, [None, 56 * len("sea ") - 1], None]
    assert [result.get("truncated_at") for result in results] == ends
    wanted = as_results(classifier, ["river " * 62, ("river " * 5, "sea " * 56), "river"])
    check_same([result["labels"] for result in results], [one["labels"] for one in wanted])


def test_server_may_truncate_by_default(cutting: Server) -> None:
    (result,) = cutting.answer(ROUTE, {"inputs": "river " * 80})["results"]
    assert result["truncated"] is True
    body = {"inputs": "river " * 80, "overflow": "error"}
    cutting.refuse(ROUTE, body, 422, "input_too_long", "inputs[0]")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"inputs": ["rain", ""]}, "empty_input", "inputs[1]"),
        ({"inputs": {"text": "rain", "text_pair": ""}}, "empty_input", "inputs[0]"),
        ({"inputs": []}, "invalid_value", "inputs"),
        ({}, "missing_field", "inputs"),
        ({"inputs": None}, "invalid_value", "inputs[0]"),
        ({"inputs": 5}, "invalid_value", "inputs[0]"),
        ({"inputs": ["rain", False]}, "invalid_value", "inputs[1]"),
        ({"inputs": [["rain", "snow"]]}, "invalid_value", "inputs[0]"),
        ({"inputs": {}}, "missing_field", "inputs[0].text"),
        ({"inputs": {"text_pair": "rain"}}, "missing_field", "inputs[0].text"),
        ({"inputs": ["rain", {"text": 5}]}, "invalid_value", "inputs[1].text"),
        ({"inputs": {"text": "a", "pair": "b"}}, "unknown_field", "inputs[0].pair"),
        ({"inputs": "rain", "top_k": 0}, "invalid_value", "top_k"),
        ({"inputs": "rain", "top_k": 1.5}, "invalid_value", "top_k"),
        ({"inputs": "rain", "top_k": False}, "invalid_value", "top_k"),
        ({"inputs": "rain", "function": "relu"}, "invalid_value", "function"),
        ({"inputs": "rain", "function": None, "targets": ["a"]}, "unknown_field", "targets"),
        ({"inputs": "rain", "head": "sentiment"}, "head_not_found", "head"),
        ({"inputs": "rain", "prompt_name": "query"}, "invalid_value", "prompt_name"),
        ({"inputs": "rain", "prompt_name": 5}, "invalid_value", "prompt_name"),
        ({"inputs": "rain", "multi_label": True}, "invalid_value", "multi_label"),
        ({"inputs": "rain", "hypothesis_template": "{}"}, "invalid_value", "hypothesis_template"),
    ],
    ids=str,
)
def test_refuses_what_it_cannot_answer(
    fields: dict[str, Any], code: str, param: str, tiny: Server
) -> None:
    tiny.refuse(ROUTE, fields, 422, code, param)


def test_prompts_go_by_name_and_one_unasked(classify_bundle: Path, tmp_path: Path) -> None:
    prompts = {"query": "find the king: ", "document": ""}
    bundle = Path(shutil.copytree(classify_bundle, tmp_path / "bundle"))
    change_heads(bundle, "classify", prompts=prompts, default_prompt="query")
    pipeline = Pipeline.open(bundle)
    pair = (PAIR["text"], PAIR["text_pair"])
    with serve(bundle) as server:
        for body, name in (
            ({}, "query"),
            ({"prompt_name": None}, "query"),
            ({"prompt_name": "query"}, "query"),
            ({"prompt_name": "document"}, ""),
            ({"prompt_name": ""}, ""),
        ):
            answer = server.answer(ROUTE, {"inputs": [*TEXTS, PAIR]} | body)
            check_same(answer["results"], as_results(pipeline, [*TEXTS, pair], prompt=name))
        # Where the prompt stands in a pair: before the first text.
        asked = [{"text": prompts["query"] + PAIR["text"], "text_pair": PAIR["text_pair"]}]
        by_hand = server.answer(ROUTE, {"inputs": asked, "prompt_name": ""})
        check_same(by_hand["results"], server.answer(ROUTE, {"inputs": PAIR})["results"])
        message = server.refuse(
            ROUTE, {"inputs": "a", "prompt_name": "passage"}, 422, "invalid_value", "prompt_name"
        )
        assert "'query', 'document'" in message
        for item in ("", {"text": " ", "text_pair": "a"}, {"text": "a", "text_pair": ""}):
            server.refuse(ROUTE, {"inputs": ["a", item]}, 422, "empty_input", "inputs[1]")


def test_refuses_a_model_without_the_task(tiny: Server, pretraining: Pipeline) -> None:
    body = {"inputs": TEXTS, "model": pretraining.manifest.name}
    tiny.refuse(ROUTE, body, 422, "task_unsupported", "model")


def test_several_heads_answer_from_one_run(tiny: Server, two_heads: Pipeline) -> None:
    model = two_heads.manifest.name
    texts = ["the queen reads a letter", {"text": "rain", "text_pair": "the sea"}]
    asked: list[Any] = ["*", ["sentiment", "topics"], ["topics"]]
    for head in asked:
        answer = tiny.answer(ROUTE, {"inputs": texts, "head": head, "model": model, "top_k": 1})
        names = ["sentiment", "topics"] if head == "*" else head
        for result in answer["results"]:
            assert result.keys() == {"heads"}
            assert [each["head"] for each in result["heads"]] == names
        for place, name in enumerate(names):
            alone = tiny.answer(ROUTE, {"inputs": texts, "head": name, "model": model, "top_k": 1})
            check_same(
                [result["heads"][place]["labels"] for result in answer["results"]],
                [result["labels"] for result in alone["results"]],
            )
            assert alone["usage"] == answer["usage"]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"head": ["sentiment", "colours"]}, "head_not_found", "head"),
        ({"head": []}, "invalid_value", "head"),
        ({"head": ["sentiment", "sentiment"]}, "invalid_value", "head"),
        ({"head": [1]}, "invalid_value", "head"),
        ({"head": 1}, "invalid_value", "head"),
    ],
    ids=str,
)
def test_heads_that_are_none(
    fields: dict[str, Any], code: str, param: str, tiny: Server, two_heads: Pipeline
) -> None:
    body = {"inputs": "rain", "model": two_heads.manifest.name} | fields
    tiny.refuse(ROUTE, body, 422, code, param)


FREE = {"inputs": ["the queen reads a letter", "rain"], "labels": ["the sea", "a king"]}


@pytest.mark.parametrize("multi_label", [False, True])
def test_labels_of_the_callers_own(ranking: Server, *, multi_label: bool) -> None:
    (model,) = [model for model in ranking.models if model.name == "tiny-inference"]
    body = FREE | {"hypothesis_template": "It is about {}.", "multi_label": multi_label}
    answer = ranking.answer(ROUTE, body)
    # The first model that can, which is not the first that classifies nor the first of all.
    assert answer["model"] == model.name
    wanted = model.pipeline.zero_shot(
        FREE["inputs"], FREE["labels"], template="It is about {}.", multi_label=multi_label
    )
    check_same(
        answer["results"],
        [{"labels": [asdict(label) for label in labels]} for labels in wanted],
    )
    best = ranking.answer(ROUTE, body | {"top_k": 1})
    check_same(
        [result["labels"] for result in best["results"]],
        [result["labels"][:1] for result in answer["results"]],
    )


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"labels": []}, "invalid_value", "labels"),
        ({"labels": ["a"] * 1001}, "invalid_value", "labels"),
        ({"labels": ["a", "a"]}, "invalid_value", "labels"),
        ({"labels": ["a", ""]}, "invalid_value", "labels"),
        ({"labels": ["the " * 100]}, "input_too_long", "inputs[0]"),
        ({"hypothesis_template": "about"}, "invalid_value", "hypothesis_template"),
        ({"function": "softmax"}, "invalid_value", "function"),
        ({"head": "*"}, "invalid_value", "head"),
        ({"prompt_name": "query"}, "invalid_value", "prompt_name"),
        ({"head": "moods"}, "head_not_found", "head"),
        ({"inputs": [{"text": "a", "text_pair": "b"}]}, "invalid_value", "inputs[0]"),
        ({"inputs": ["rain", ""]}, "empty_input", "inputs[1]"),
        ({"model": "tiny-ranker"}, "task_unsupported", "model"),
        ({"labels": [str(n) for n in range(1000)], "inputs": ["a"] * 20}, "input_too_long", None),
    ],
    ids=lambda value: str(value)[:60],
)
def test_labels_that_are_none(
    fields: dict[str, Any], code: str, param: str | None, ranking: Server
) -> None:
    response = ranking.post(ROUTE, FREE | fields)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (422, code), error
    assert param is None or error["param"] == param
