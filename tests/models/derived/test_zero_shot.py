"""Zero-shot: labels and scores of transformers' own pipeline."""

from typing import Any

import pytest
import transformers

from models import Pipeline
from models.derived.zero_shot import find_entailment
from models.errors import InvalidValue, TaskUnsupported
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.fixtures import Export, MakeFolder
from tests.helpers.oracle import Exported, write_texts
from tests.helpers.store import Store

LABELS = ["politics", "the sea", "a king, or a queen"]
ORDERS = [
    ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"],
    ["entailment", "neutral", "contradiction"],
    ["not_entailment", "entailment"],
]


@pytest.fixture(scope="module", params=ORDERS, ids=str)
def model(request: pytest.FixtureRequest, make_folder: MakeFolder, exports: Store) -> Exported:
    source = make_checkpoint(
        make_folder("nli"), "bert", "BertForSequenceClassification", labels=request.param
    )
    return Exported(source, exports.export(source, "nli"))


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("labels", [LABELS, LABELS[:1]], ids=len)
@pytest.mark.parametrize("template", ["This example is {}.", "{}: the text is about that."])
def test_equal_to_the_pipeline_of_transformers(
    model: Exported, labels: list[str], template: str, *, multi_label: bool
) -> None:
    original = model.original
    ask: Any = transformers.pipeline(
        "zero-shot-classification", model=original.model, tokenizer=original.tokenizer
    )
    texts = ["the king of france", *write_texts(6, longest=20, seed=5)]
    found = model.pipeline.zero_shot(texts, labels, template=template, multi_label=multi_label)
    wanted = ask(texts, labels, hypothesis_template=template, multi_label=multi_label)
    for labels_found, one in zip(found, wanted, strict=True):
        scores = dict(zip(one["labels"], one["scores"], strict=True))
        assert {each.label: each.score for each in labels_found} == pytest.approx(scores, abs=2e-5)
        told = [each.score for each in labels_found]
        assert told == sorted(told, reverse=True)


def test_a_family_without_segments(exported: Export) -> None:
    model = exported("deberta-v2", "ForSequenceClassification", labels=("entailed", "other"))
    (labels,) = model.pipeline.zero_shot(["the king"], LABELS)
    assert sum(each.score for each in labels) == pytest.approx(1)


def test_what_is_an_entailment() -> None:
    assert find_entailment(["contradiction", "neutral", "entailment"]) == 2
    assert find_entailment(["Entailed", "no"]) == 0
    for labels in (["good", "bad"], ["entailment"], ["entailment", "entailed"], [], None):
        assert find_entailment(labels) is None


@pytest.mark.parametrize(
    ("labels", "template", "param"),
    [
        ([], "{}", "labels"),
        (["a", " "], "{}", "labels"),
        (["a", "a"], "{}", "labels"),
        ([str(number) for number in range(1001)], "{}", "labels"),
        (["a"], "about it", "hypothesis_template"),
    ],
)
def test_labels_that_are_none(
    labels: list[str], template: str, param: str, model: Exported
) -> None:
    with pytest.raises(InvalidValue) as caught:
        model.pipeline.zero_shot(["rain"], labels, template=template)
    assert caught.value.param == param


def test_other_classifiers_do_not_know_what_follows(classifier_pipeline: Pipeline) -> None:
    with pytest.raises(TaskUnsupported, match="a label that begins with entail"):
        classifier_pipeline.zero_shot(["rain"], ["wet"])
