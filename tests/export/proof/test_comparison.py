"""The proof finds what is wrong, and the golden answers are the original's."""

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
from export.writing.exporter import Request, export_bundle
from models import Pipeline
from models.bundle.bundle import Bundle
from models.errors import ClozeError
from tests.conftest import Export
from tests.helpers.checkpoints import change_json, make_checkpoint

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
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    task, sentence, damage = SABOTAGE[what]
    reads = task in ("answer", "token-classify")
    source = request.getfixturevalue("reader_source" if reads else "pretraining_source")
    describe = export.writing.exporter._describe

    def describe_damaged(folder: Path, *rest: Any) -> Any:
        # The last step before the proof: the graphs are written, the hashes not yet taken.
        if not done:
            done.append(folder)
            damage(folder)
        return describe(folder, *rest)

    done: list[Path] = []
    monkeypatch.setattr(export.writing.exporter, "_describe", describe_damaged)
    with pytest.raises(ProofFailed, match=sentence) as caught:
        export_bundle(Request(str(source), tmp_path / "bundle", tasks=(task,)))
    assert done
    assert caught.value.exit_code == 6
    assert "nothing was written" in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_wrong_positions_are_found(
    exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = exported("roberta", "ForMaskedLM").source
    monkeypatch.setattr(Checkpoint, "position_start", property(lambda _: 0))
    with pytest.raises(ClozeError) as caught:
        export_bundle(Request(str(source), tmp_path / "bundle", tasks=("embed",)))
    assert isinstance(caught.value, ProofFailed)
    assert list(tmp_path.iterdir()) == []


def test_large_activations_do_not_fail_the_proof(tmp_path: Path) -> None:
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
    result = export_bundle(Request(str(source), tmp_path / "bundle"))
    [row] = result.bundle.manifest.parity
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


@pytest.mark.parametrize("name", ["pretraining", "heads", "minilm"])
def test_golden_answers_are_what_the_bundle_answers(
    request: pytest.FixtureRequest, name: str
) -> None:
    pipeline = Pipeline.open(request.getfixturevalue(f"{name}_bundle"))
    golden = json.loads(pipeline.bundle.file("golden.json").read_text())
    assert golden["format_version"] == 1
    heads = [(head.task.name, head.entry.name) for head in pipeline.heads]
    assert [(task["task"], task["head"]) for task in golden["tasks"]] == heads
    for task in golden["tasks"]:
        cases = task["cases"]
        places = [place for batch in task["batches"] for place in batch]
        assert sorted(places) == list(range(len(cases)))
        assert len(cases) == 24
        assert max(map(len, task["batches"])) > 4
        items = [case["input"] for case in cases]
        answers = [case["answer"] for case in cases]
        match task["task"]:
            case "embed":
                np.testing.assert_allclose(pipeline.embed(items), answers, atol=1e-5)
            case "fill-mask":
                for masks, wanted in zip(pipeline.fill_mask(items), answers, strict=True):
                    assert len(masks) == len(wanted)
                    for mask, row in zip(masks, wanted, strict=True):
                        found = {c.token_id: c.score for c in mask.candidates}
                        assert found == pytest.approx(
                            dict(zip(row["token_ids"], row["scores"], strict=True)), abs=1e-5
                        )
            case "next-sentence":
                found = [answer.score for answer in pipeline.next_sentence(items)]
                np.testing.assert_allclose(found, answers, atol=1e-5)
            case "classify":
                texts = [item if isinstance(item, str) else tuple(item) for item in items]
                labels = pipeline.find_head("classify", task["head"]).entry.labels or ()
                for row, wanted in zip(
                    pipeline.classify(texts, head=task["head"]), answers, strict=True
                ):
                    scores = {one.label: one.score for one in row}
                    np.testing.assert_allclose([scores[x] for x in labels], wanted, atol=1e-5)


def test_golden_entities_and_spans_are_what_the_bundle_answers(reader_bundle: Path) -> None:
    pipeline = Pipeline.open(reader_bundle)
    golden = json.loads(pipeline.bundle.file("golden.json").read_text())
    tasks = {task["task"]: task["cases"] for task in golden["tasks"]}
    assert [len(cases) for cases in tasks.values()] == [24, 24, 24]
    pairs = [tuple(case["input"]) for case in tasks["answer"]]
    texts = [case["input"] for case in tasks["token-classify"]]
    spans = pipeline.answer_questions(pairs, top_k=5, impossible=True)
    check_parts(spans, tasks["answer"], ("answer", "start", "end"))
    entities = pipeline.token_classify(texts, ignore_labels=())
    check_parts(entities, tasks["token-classify"], ("label", "word", "start", "end", "index"))


def check_parts(found: Any, cases: Any, names: tuple[str, ...]) -> None:
    for parts, rows in zip(found, [case["answer"] for case in cases], strict=True):
        assert [[getattr(part, name) for name in names] for part in parts] == [
            [row[name] for name in names] for row in rows
        ]
        np.testing.assert_allclose(
            [part.score for part in parts], [row["score"] for row in rows], atol=1e-5
        )


def test_a_checkpoint_of_short_texts_is_proven_too(tmp_path: Path) -> None:
    """Eight tokens are the longest it takes: every text of the proof is cut."""
    source = make_checkpoint(
        tmp_path / "source", "bert", "BertForPreTraining", max_position_embeddings=8
    )
    bundle = export_bundle(Request(str(source), tmp_path / "bundle")).bundle
    assert bundle.manifest.max_tokens == 8
    pipeline = Pipeline(bundle)
    assert pipeline.embed(["king " * 30], overflow="truncate").shape == (1, 32)


def test_a_copy_of_a_bundle_is_as_good(pretraining_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(pretraining_bundle, tmp_path / "copy"))
    assert Bundle.open(copy).fingerprint == Bundle.open(pretraining_bundle).fingerprint
    change_json(copy / "manifest.json", name="renamed")
    assert Bundle.open(copy).manifest.name == "renamed"
