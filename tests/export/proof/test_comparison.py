"""The proof finds what is wrong, and nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import export.writing.exporter
from export.errors import ProofFailed
from export.proof.figures import HIDDEN_LIMIT, LOGITS_LIMIT
from export.reading.checkpoint import Checkpoint
from export.writing.exporter import export_bundle
from export.writing.request import ExportRequest
from models import Pipeline
from models.bundle.bundle import Bundle
from models.errors import ClozeError
from tests.helpers.checkpoints import change_json, make_checkpoint
from tests.helpers.fixtures import Export, TakeGraphs
from tests.helpers.store import Store

Sabotage = Callable[[Path], None]


def change_weight(file: Path, change: Callable[[Any], Any]) -> None:
    """Rewrite the largest matrix of a graph."""
    model = onnx.load(file)
    weight = max(model.graph.initializer, key=lambda one: int(np.prod(one.dims)))
    weight.CopyFrom(
        numpy_helper.from_array(change(numpy_helper.to_array(weight).copy()), weight.name)
    )
    onnx.save(model, file)


def nudge(matrix: Any) -> Any:
    """Not the same for all: the norms would take it out again."""
    matrix[:, ::2] += 0.05
    return matrix


def forget_lower_case(folder: Path) -> None:
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    content["normalizer"]["lowercase"] = False
    file.write_text(json.dumps(content))


SABOTAGE: dict[str, tuple[str, str, Sabotage]] = {
    "another weight": (
        "embed",
        "embed differs from the original by",
        lambda folder: change_weight(folder / "trunk.fp32.onnx", nudge),
    ),
    "not a number": (
        "embed",
        "embed differs from the original by nan",
        lambda folder: change_weight(folder / "trunk.fp32.onnx", lambda matrix: matrix * np.nan),
    ),
    "another head": (
        "next-sentence",
        "next-sentence differs",
        lambda folder: change_weight(folder / "head.next-sentence.onnx", nudge),
    ),
    "another answer": (
        "answer",
        "answer differs",
        lambda folder: change_weight(folder / "head.answer.onnx", nudge),
    ),
    "other entities": (
        "token-classify",
        "token-classify differs",
        lambda folder: change_weight(folder / "head.token-classify.people.onnx", nudge),
    ),
    "another tokenizer": ("embed", "the tokenizer gives other ids", forget_lower_case),
}


@pytest.mark.parametrize("what", SABOTAGE)
def test_sabotage_is_found(
    request: pytest.FixtureRequest,
    take_graphs: TakeGraphs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    task, sentence, damage = SABOTAGE[what]
    name = "reader" if task in ("answer", "token-classify") else "pretraining"
    source = request.getfixturevalue(f"{name}_source")
    take_graphs(request.getfixturevalue(f"{name}_bundle"))
    describe = export.writing.exporter.describe_bundle

    def describe_damaged(folder: Path, *rest: Any) -> Any:
        # The last step before the proof: the graphs are written, the hashes not yet taken.
        if not done:
            done.append(folder)
            damage(folder)
        return describe(folder, *rest)

    done: list[Path] = []
    monkeypatch.setattr(export.writing.exporter, "describe_bundle", describe_damaged)
    with pytest.raises(ProofFailed, match=sentence) as caught:
        export_bundle(ExportRequest(str(source), tmp_path / "bundle", tasks=(task,)))
    assert done
    assert caught.value.exit_code == 6
    assert "nothing was written" in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_wrong_positions_are_found(
    exported: Export, take_graphs: TakeGraphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph is given its positions, so it is the same."""
    source = exported("roberta", "ForMaskedLM").source
    take_graphs(exported("roberta", "ForMaskedLM").bundle)
    monkeypatch.setattr(Checkpoint, "position_start", property(lambda _: 0))
    with pytest.raises(ClozeError) as caught:
        export_bundle(ExportRequest(str(source), tmp_path / "bundle", tasks=("embed",)))
    assert isinstance(caught.value, ProofFailed)
    assert list(tmp_path.iterdir()) == []


def test_large_activations_do_not_fail_the_proof(tmp_path: Path, exports: Store) -> None:
    """Limits are relative to the largest value: an absolute one refuses sound checkpoints."""
    import torch
    from safetensors.torch import load_file, save_file

    source = make_checkpoint(tmp_path / "source", "bert", "BertModel")
    weights = load_file(source / "model.safetensors")
    norm = weights["encoder.layer.1.output.LayerNorm.weight"]
    weights["encoder.layer.1.output.LayerNorm.weight"] = torch.where(
        torch.arange(len(norm)) == 3, norm * 5000, norm
    )
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    for row in Bundle.open(exports.export(source, "bundle")).manifest.parity:
        assert row.largest_value > 1000
        assert row.limit == pytest.approx(HIDDEN_LIMIT * row.largest_value)
        assert row.largest_difference <= row.limit


def test_figures_of_the_proof(pretraining_bundle: Path) -> None:
    rows = {row.task: row for row in Bundle.open(pretraining_bundle).manifest.parity}
    assert list(rows) == ["embed", "fill-mask", "next-sentence"]
    for task, row in rows.items():
        bound = HIDDEN_LIMIT if task == "embed" else LOGITS_LIMIT
        assert row.limit == pytest.approx(bound * max(1.0, row.largest_value))
        assert 0 < row.largest_difference < 1e-4
        assert row.texts >= 64
        assert row.tokens > 10 * row.texts
        assert row.precision == "fp32"


def test_a_checkpoint_of_short_texts_is_proven_too(tmp_path: Path, exports: Store) -> None:
    """Eight tokens are the longest it takes: every text of the proof is cut."""
    source = make_checkpoint(
        tmp_path / "source", "bert", "BertForPreTraining", max_position_embeddings=8
    )
    bundle = Bundle.open(exports.export(source, "bundle"))
    assert bundle.manifest.max_tokens == 8
    pipeline = Pipeline(bundle)
    assert pipeline.embed(["king " * 30], overflow="truncate").shape == (1, 32)


def test_a_copy_of_a_bundle_is_as_good(pretraining_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(pretraining_bundle, tmp_path / "copy"))
    assert Bundle.open(copy).fingerprint == Bundle.open(pretraining_bundle).fingerprint
    change_json(copy / "manifest.json", name="renamed")
    assert Bundle.open(copy).manifest.name == "renamed"
