"""The model in the box: small, sound, made from the checkpoint beside it, told honestly."""

import re
from pathlib import Path

import onnx
import pytest
from huggingface_hub import ModelCard

from export.writing.verify import verify_against, verify_golden
from models.bundle.bundle import Bundle
from models.engines.library import Kernels, find_kernels
from models.pipeline import Pipeline
from service.settings import DEFAULT_BUNDLE
from tests.helpers.store import Store

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "training" / "checkpoints" / DEFAULT_BUNDLE.name
TASKS = ("embed", "fill-mask", "next-sentence", "classify")


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.open(DEFAULT_BUNDLE)


def test_bundle_and_checkpoint_take_at_most_60_mb() -> None:
    files = [*DEFAULT_BUNDLE.rglob("*"), *CHECKPOINT.rglob("*")]
    assert 1e6 < sum(file.stat().st_size for file in files if file.is_file()) <= 60e6


def test_it_answers_every_task_from_one_trunk(pipeline: Pipeline) -> None:
    assert pipeline.manifest.tasks == TASKS
    heads = [head.entry for head in pipeline.heads if head.task.name == "classify"]
    assert [head.name for head in heads] == ["sentiment", "emotions", "intents"]
    assert heads[0].labels == ("negative", "positive")
    assert [len(head.labels or ()) for head in heads] == [2, 28, 150]
    assert [head.function for head in heads] == ["softmax", "sigmoid", "softmax"]


def test_its_golden_answers_come_out_again(pipeline: Pipeline) -> None:
    assert {figure.task for figure in verify_golden(pipeline)} == set(TASKS)


def test_it_equals_the_checkpoint_beside_it(pipeline: Pipeline) -> None:
    figures = verify_against(pipeline, str(CHECKPOINT))
    assert len(figures) == 6
    assert all(figure.largest_difference <= figure.limit for figure in figures)


def test_exporting_the_checkpoint_again_gives_the_same_graphs(exports: Store) -> None:
    again = Bundle.open(exports.export(CHECKPOINT, DEFAULT_BUNDLE.name))
    shipped = Bundle.open(DEFAULT_BUNDLE)
    # Golden answers are of the processor that gave them.
    same = shipped.manifest.files.keys() - {"golden.json"}
    if not isinstance(find_kernels(), Kernels):
        same = {name for name in same if "kernels" not in name}
    assert again.manifest.files.keys() - {"golden.json"} == same
    for name in same:
        assert read_without_producer(again.file(name)) == read_without_producer(shipped.file(name))


def read_without_producer(file: Path) -> bytes:
    """A file's bytes; a graph's without the producer, which was torch until graphs named ours."""
    if file.suffix != ".onnx":
        return file.read_bytes()
    model = onnx.load(file)
    model.ClearField("producer_name")
    model.ClearField("producer_version")
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def test_its_weights_are_stored_in_half_the_bytes(pipeline: Pipeline) -> None:
    manifest = pipeline.manifest
    embeddings = 4 * manifest.hidden_size * manifest.vocabulary_size
    layers = 4 * 12 * manifest.hidden_size**2 * manifest.layers
    assert manifest.files["trunk.fp32.onnx"].bytes < 0.55 * (embeddings + layers)


def test_the_card_gives_the_same_figures_to_people_and_to_programs() -> None:
    card = ModelCard.load(DEFAULT_BUNDLE / "README.md")
    assert card.data.license
    assert card.data.eval_results
    rows = dict(re.findall(r"^\| ([^|]+?) \| ([\d.]+) \|", card.text, re.MULTILINE))
    for result in card.data.eval_results:
        assert float(rows[result.metric_name]) == result.metric_value


def test_it_knows_something(pipeline: Pipeline) -> None:
    [[mask]] = pipeline.fill_mask(["He was born in [MASK] York City."], top_k=1)
    assert mask.candidates[0].token == "new"
    good, bad = pipeline.classify(["a wonderful film", "a terrible, boring film"], top_k=1)
    assert (good[0].label, bad[0].label) == ("positive", "negative")
    vectors = pipeline.embed(["A man is playing a guitar.", "A man plays the guitar.", "It rains."])
    assert vectors[0] @ vectors[1] > 0.8 > vectors[0] @ vectors[2]
