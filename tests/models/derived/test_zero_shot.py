"""Zero-shot: labels and scores of transformers' own pipeline."""

from pathlib import Path
from typing import Any

import pytest
import transformers

from export.errors import UnsupportedModel
from export.writing.exporter import export_bundle
from export.writing.request import ExportRequest
from export.writing.verify import verify_against
from models import Pipeline
from models.bundle.bundle import Bundle
from models.bundle.manifest import HeadEntry
from models.derived.zero_shot import find_entailment
from models.errors import InputTooLong, InvalidValue, TaskUnsupported
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


def test_a_label_that_is_too_long_is_named(model: Exported) -> None:
    with pytest.raises(
        InputTooLong, match=r"with the label 'rain rain .*\.\.\.' the text has"
    ) as told:
        model.pipeline.zero_shot(["the king", "a queen"], ["sea", "rain " * 400])
    assert told.value.param == "inputs[0]"


def test_a_family_without_segments(exported: Export) -> None:
    model = exported("deberta-v2", "ForSequenceClassification", labels=("entailed", "other"))
    (labels,) = model.pipeline.zero_shot(["the king"], LABELS)
    assert sum(each.score for each in labels) == pytest.approx(1)


def test_what_is_an_entailment() -> None:
    def find(labels: list[str] | None, named: str | None = None) -> int | None:
        told = tuple(labels) if labels else None
        return find_entailment(HeadEntry(task="classify", labels=told, entailment=named))

    assert find(["contradiction", "neutral", "entailment"]) == 2
    assert find(["Entailed", "no"]) == 0
    for labels in (["good", "bad"], ["entailment"], ["entailment", "entailed"], [], None):
        assert find(labels) is None
    assert find(["LABEL_0", "LABEL_1"], "LABEL_1") == 1
    assert find(["entailment", "entailed"], "entailed") == 1
    with pytest.raises(ValueError, match="'yes' is not among the labels"):
        find(["good", "bad"], "yes")


def test_labels_that_do_not_say_it_are_named_at_export(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    labels = ["LABEL_0", "LABEL_1", "LABEL_2"]
    source = make_checkpoint(
        make_folder("nli-unnamed"), "bert", "BertForSequenceClassification", labels=labels
    )
    out = tmp_path / "nli"
    export_bundle(ExportRequest(str(source), out, entailment="LABEL_2"))
    pipeline = Pipeline(Bundle.open(out))
    verify_against(pipeline, str(source))
    original = Exported(source, out).original
    # Of labels that none begins with entail transformers takes the last.
    ask: Any = transformers.pipeline(
        "zero-shot-classification", model=original.model, tokenizer=original.tokenizer
    )
    wanted = ask("the king of france", LABELS)
    (found,) = pipeline.zero_shot(["the king of france"], LABELS)
    scores = dict(zip(wanted["labels"], wanted["scores"], strict=True))
    assert {each.label: each.score for each in found} == pytest.approx(scores, abs=2e-5)


def test_a_label_that_is_not_there_is_refused_before_any_work(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    source = make_checkpoint(make_folder("nli-other"), "bert", "BertForSequenceClassification")
    with pytest.raises(UnsupportedModel, match="has no label 'yes'"):
        export_bundle(ExportRequest(str(source), tmp_path / "out", entailment="yes"))
    assert not (tmp_path / "out").exists()


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
