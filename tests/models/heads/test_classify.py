"""Classify: labels, scores, order and functions of transformers' own pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from models import Pipeline
from models.errors import CallerError
from tests.helpers.fixtures import Export
from tests.helpers.oracle import Exported, Original, write_pairs, write_texts

FUNCTIONS = {
    "bert": "softmax",
    "distilbert": "sigmoid",
    "roberta": "none",
    "xlm-roberta": "sigmoid",
    "camembert": "softmax",
    "electra": "sigmoid",
    "albert": "none",
    "mobilebert": "softmax",
    "mpnet": "sigmoid",
    "modernbert": "softmax",
    "deberta-v2": "softmax",
}


@pytest.fixture(params=FUNCTIONS)
def model(request: pytest.FixtureRequest, exported_head: Export) -> Exported:
    return exported_head(request.param, "ForSequenceClassification")


def ask_transformers(original: Original, text: Any, **options: Any) -> Any:
    ask = transformers.pipeline(
        "text-classification", model=original.model, tokenizer=original.tokenizer
    )
    if not isinstance(text, str):
        text = {"text": text[0], "text_pair": text[1]}
    return ask(text, **{"top_k": None, "truncation": True} | options)


def compare(found: Any, wanted: Any) -> None:
    assert [label.label for label in found] == [row["label"] for row in wanted]
    np.testing.assert_allclose(
        [label.score for label in found], [row["score"] for row in wanted], atol=2e-5
    )


def test_equal_to_the_pipeline_of_transformers(model: Exported) -> None:
    items = [*write_texts(12, seed=31), *write_pairs(12, seed=32)]
    found = model.pipeline.classify(items, overflow="truncate")
    for item, labels in zip(items, found, strict=True):
        compare(labels, ask_transformers(model.original, item))
    best = [labels[0].score for labels in found]
    assert max(best) - min(best) > 1e-2


def test_the_default_function_is_the_one_transformers_chooses(model: Exported) -> None:
    assert (
        model.pipeline.find_head("classify").entry.function
        == (FUNCTIONS[model.pipeline.manifest.family])
    )


@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
def test_functions_and_top_k(model: Exported, function: Any) -> None:
    text = "the king is a good friend"
    [found] = model.pipeline.classify([text], function=function, top_k=1)
    compare(found, ask_transformers(model.original, text, function_to_apply=function, top_k=1))
    assert len(found) == 1
    [every] = model.pipeline.classify([text], function=function, top_k=100)
    compare(every, ask_transformers(model.original, text, function_to_apply=function))


def test_heads_by_name(heads_bundle: Path, heads_source: Path) -> None:
    pipeline = Pipeline.open(heads_bundle)
    items = [*write_texts(8, seed=41), *write_pairs(8, seed=42)]
    for name, kind in (("sentiment", "softmax"), ("topics", "sigmoid")):
        original = Original.with_head(heads_source, name)
        found = pipeline.classify(items, head=name, overflow="truncate")
        for item, labels in zip(items, found, strict=True):
            compare(labels, ask_transformers(original, item))
        assert pipeline.find_head("classify", name).entry.function == kind
    first = pipeline.classify(items, overflow="truncate")
    for left, right in zip(
        first, pipeline.classify(items, head="sentiment", overflow="truncate"), strict=True
    ):
        assert left == right


def test_top_k_below_one(classifier: Exported) -> None:
    with pytest.raises(CallerError) as caught:
        classifier.pipeline.classify(["a"], top_k=0)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "top_k")


def test_equal_scores_keep_the_order_of_the_checkpoint(classifier: Exported) -> None:
    from models.heads import ClassifyOptions

    head = classifier.pipeline.find_head("classify")
    job = head.prepare("a", head.resolve(ClassifyOptions()))
    job.output = np.array([0.5, 2.0, 0.5], np.float32)
    assert [label.label for label in head.decode(job)] == ["neutral", "negative", "positive"]


def test_an_empty_text_is_named(classifier: Exported) -> None:
    for item in ("", ("a", ""), ("", "a")):
        with pytest.raises(CallerError) as caught:
            classifier.pipeline.classify(["a", "b", item])
        assert (caught.value.code, caught.value.param) == ("empty_input", "inputs[2]")
