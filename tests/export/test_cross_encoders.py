"""Cross-encoders answer as sentence-transformers' CrossEncoder.predict does."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from export.writing.exporter import export_bundle
from export.writing.request import ExportRequest
from models import Pipeline
from models.bundle.bundle import Bundle
from models.errors import EmptyInput, InvalidValue
from tests.helpers.checkpoints import change_json, make_checkpoint
from tests.helpers.fixtures import TakeGraphs
from tests.helpers.store import Store

PAIRS = [("the king of france", "a red house"), ("a", "it is cold"), ("the sea", "fox " * 80)]
ACTIVATIONS: dict[str, Any] = {
    "identity": torch.nn.Identity,
    "sigmoid": torch.nn.Sigmoid,
    "softmax": lambda: torch.nn.Softmax(-1),
}


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def ranker_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with one label over pairs."""
    folder = tmp_path_factory.mktemp("ranker")
    return make_checkpoint(folder, "bert", "BertForSequenceClassification", labels=["LABEL_0"])


def check_scores(source: Path, bundle: Bundle, prompt: str | None = None) -> None:
    model = CrossEncoder(str(source), device="cpu")
    wanted = np.asarray(model.predict(PAIRS, prompt_name=prompt)).reshape(len(PAIRS), -1)
    pipeline = Pipeline(bundle)
    head = pipeline.find_head("classify")
    answers = pipeline.classify(PAIRS, overflow="truncate", prompt=prompt)
    for scores, labels in zip(wanted, answers, strict=True):
        named = {label.label: label.score for label in labels}
        found = [named[label] for label in head.entry.labels or ()]
        np.testing.assert_allclose(found, scores, atol=1e-5)


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("activation", [None, "identity", "sigmoid", "softmax"])
def test_cross_encoders(  # noqa: PLR0917 - fixtures
    classify_source: Path,
    ranker_source: Path,
    exports: Store,
    take_graphs: TakeGraphs,
    tmp_path: Path,
    labels: int,
    activation: str | None,
) -> None:
    if (labels, activation) == (1, "softmax"):
        pytest.skip("of one label it is always 1")
    original = ranker_source if labels == 1 else classify_source
    take_graphs(exports.export(original, "graphs"))
    chosen = ACTIVATIONS[activation]() if activation else None
    model = CrossEncoder(str(original), device="cpu", activation_fn=chosen)
    model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    result = export_bundle(ExportRequest(str(tmp_path / "saved"), tmp_path / "bundle"))
    # What was trained to score pairs embeds nothing unasked.
    assert result.bundle.manifest.tasks == ("classify",)
    if activation != "softmax":  # the library takes it over all scores of a batch there
        check_scores(tmp_path / "saved", result.bundle)
    wanted = {"identity": "none", None: "sigmoid" if labels == 1 else "none"}
    assert result.bundle.manifest.heads[0].function == wanted.get(activation, activation)


@pytest.mark.parametrize(
    "config",
    [
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
    ],
    ids=lambda config: next(iter(config)),
)
def test_activations_of_older_saves(
    ranker_source: Path,
    exports: Store,
    take_graphs: TakeGraphs,
    tmp_path: Path,
    config: dict[str, Any],
) -> None:
    take_graphs(exports.export(ranker_source, "graphs"))
    source = Path(shutil.copytree(ranker_source, tmp_path / "source"))
    change_json(source / "config.json", **config)
    result = export_bundle(ExportRequest(str(source), tmp_path / "bundle"))
    check_scores(source, result.bundle)
    assert result.bundle.manifest.heads[0].function == "none"


def test_prompts_of_a_cross_encoder(
    ranker_source: Path, exports: Store, take_graphs: TakeGraphs, tmp_path: Path
) -> None:
    take_graphs(exports.export(ranker_source, "graphs"))
    prompts = {"question": "find the king: "}
    model = CrossEncoder(str(ranker_source), device="cpu", prompts=prompts)
    model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    result = export_bundle(ExportRequest(str(tmp_path / "saved"), tmp_path / "bundle"))
    assert "prompts by name: question" in result.notes
    check_scores(tmp_path / "saved", result.bundle)
    check_scores(tmp_path / "saved", result.bundle, "question")


def test_a_default_prompt_of_a_cross_encoder(
    ranker_source: Path, exports: Store, take_graphs: TakeGraphs, tmp_path: Path
) -> None:
    take_graphs(exports.export(ranker_source, "graphs"))
    model = CrossEncoder(
        str(ranker_source),
        device="cpu",
        prompts={"question": "find the king: "},
        default_prompt_name="question",
    )
    model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    result = export_bundle(ExportRequest(str(tmp_path / "saved"), tmp_path / "bundle"))
    assert "prompts by name: question; 'question' goes unasked" in result.notes
    check_scores(tmp_path / "saved", result.bundle)
    pipeline = Pipeline(result.bundle)
    [[plain]] = pipeline.classify(PAIRS[:1], prompt="")
    assert plain.score == pytest.approx(float(model.predict(PAIRS[:1], prompt="")[0]), abs=1e-5)
    # A prompt makes no text of what is none, whatever stands beside it.
    for pair in (("", "a dog"), (" ", "a dog"), ("a dog", ""), ("\0", "a dog"), ""):
        with pytest.raises(EmptyInput):
            pipeline.classify([pair])
    with pytest.raises(InvalidValue, match="no prompt 'answer'; it has 'question'"):
        pipeline.classify(PAIRS[:1], prompt="answer")
