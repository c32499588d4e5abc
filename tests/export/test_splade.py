"""A SPLADE gives the sparse vectors of sentence-transformers' SparseEncoder."""

import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling

from export.__main__ import main
from export.errors import ExportError, SourceError, UnsupportedModel
from export.reading.checkpoint import load_checkpoint
from export.writing.exporter import export_bundle
from export.writing.request import ExportRequest
from export.writing.verify import verify_against, verify_golden
from models import Pipeline
from models.bundle.manifest import list_graphs
from models.errors import EmptyInput, InvalidValue, TaskUnsupported
from models.heads import sparse
from tests.helpers.checkpoints import change_json, write_json
from tests.helpers.fixtures import Export, TakeGraphs

TEXTS = ["the king of france", "a", "it is cold in paris, and the sea is far", "fox " * 80]


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_same(
    source: Path, pipeline: Pipeline, texts: Sequence[str] = TEXTS, **encode: Any
) -> None:
    """The same weights, with the same words at zero, together and alone."""
    model = SparseEncoder(str(source), device="cpu")
    wanted = model.encode(list(texts), convert_to_sparse_tensor=False, **encode).numpy()
    options = {"overflow": "truncate", "prompt": encode.get("prompt_name")}
    alone = [pipeline.embed_sparse([text], **options)[0] for text in texts]
    for found in (pipeline.embed_sparse(texts, **options), alone):
        for vector, row in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(vector.token_ids, np.flatnonzero(row))
            # Those of `sum` are as large as a text is long.
            scale = max(1.0, row.max())
            np.testing.assert_allclose(vector.weights, row[vector.token_ids], atol=1e-5 * scale)


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
@pytest.mark.parametrize("aggregation", ["max", "sum"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_equal_to_sparse_encoder(  # noqa: PLR0917 - fixtures
    exported: Export,
    take_graphs: TakeGraphs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    aggregation: Any,
    activation: Any,
) -> None:
    original = exported(family, "ForMaskedLM")
    take_graphs(original.bundle)
    encoder = Transformer(str(original.source), transformer_task="fill-mask")
    pooling = SpladePooling(aggregation, activation)
    model = SparseEncoder(
        modules=[encoder, pooling], device="cpu", prompts={"query": "find the king: "}
    )
    model.save(str(tmp_path / "saved"), create_model_card=False)
    bundle = export_bundle(ExportRequest(str(tmp_path / "saved"), tmp_path / "bundle")).bundle
    assert bundle.manifest.tasks == ("embed", "fill-mask")
    assert bundle.manifest.format_version == 2
    entry = bundle.manifest.heads[0]
    assert (entry.name, entry.representation) == ("sparse", "sparse")
    assert (entry.aggregation, entry.activation) == (aggregation, activation)
    # One graph for both tasks.
    assert [file for file in bundle.manifest.files if file.startswith("head.")] == [entry.file]
    pipeline = Pipeline(bundle)
    # In blocks of a few rows, which cross the ends of texts.
    monkeypatch.setattr(sparse, "_BLOCK", 7 * bundle.manifest.vocabulary_size)
    check_same(tmp_path / "saved", pipeline)
    check_same(tmp_path / "saved", pipeline, prompt_name="query")
    assert len(verify_golden(pipeline)) == 2
    assert {row.head for row in verify_against(pipeline, str(tmp_path / "saved"))} == {
        "sparse",
        None,
    }


def test_as_many_weights_as_the_checkpoint_gives(
    exported: Export, take_graphs: TakeGraphs, tmp_path: Path
) -> None:
    original = exported("bert", "ForMaskedLM")
    take_graphs(original.bundle)
    encoder = Transformer(str(original.source), transformer_task="fill-mask")
    model = SparseEncoder(modules=[encoder, SpladePooling("max")], device="cpu", max_active_dims=7)
    model.save(str(tmp_path / "saved"), create_model_card=False)
    result = export_bundle(ExportRequest(str(tmp_path / "saved"), tmp_path / "bundle"))
    pipeline = Pipeline(result.bundle)
    check_same(tmp_path / "saved", pipeline)
    (few,), (more,) = pipeline.embed_sparse(TEXTS[:1]), pipeline.embed_sparse(TEXTS[:1], top_k=20)
    assert (len(few.weights), len(more.weights)) == (7, 20)
    assert "the 7 largest weights are given unasked" in result.notes
    # More than there are words is all of them.
    change_json(tmp_path / "saved" / CONFIG, max_active_dims=10**30)
    result = export_bundle(ExportRequest(str(tmp_path / "saved"), tmp_path / "other"))
    check_same(tmp_path / "saved", Pipeline(result.bundle))


CONFIG = "config_sentence_transformers.json"


@pytest.fixture(scope="module")
def splade(exported: Export, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A masked LM that no file says to be a SPLADE, as naver's are."""
    out = tmp_path_factory.mktemp("splade") / "bundle"
    source = exported("bert", "ForMaskedLM").source
    assert main([str(source), str(out), "--pooling", "splade"]) == 0
    return Pipeline.open(out)


def test_one_that_was_taken_for_it_is_proven_anew(splade: Pipeline, exported: Export) -> None:
    source = exported("bert", "ForMaskedLM").source
    figures = verify_against(splade, str(source))
    assert {(row.task, row.head) for row in figures} == {("embed", "sparse"), ("fill-mask", None)}


def test_requests(splade: Pipeline) -> None:
    (whole,) = splade.embed_sparse(TEXTS[:1])
    assert (np.diff(whole.token_ids) > 0).all()
    assert (whole.weights > 0).all()
    (few,) = splade.embed_sparse(TEXTS[:1], top_k=3)
    best = np.sort(np.argsort(-whole.weights)[:3])
    np.testing.assert_array_equal(few.token_ids, whole.token_ids[best])
    np.testing.assert_array_equal(few.weights, whole.weights[best])
    assert splade.embed_sparse([]) == []
    with pytest.raises(EmptyInput):
        splade.embed_sparse([""])
    with pytest.raises(InvalidValue, match="not at least 1"):
        splade.embed_sparse(["a"], top_k=0)
    # What it has no dense vectors of it does not give.
    with pytest.raises(TaskUnsupported, match="gives no dense vectors; it gives sparse"):
        splade.embed(TEXTS)
    assert splade.fill_mask(["the [MASK] of france"])


def test_one_session_for_both_of_its_heads(splade: Pipeline) -> None:
    """Of a large vocabulary its graph is a fifth of the bundle."""
    sparse, fill_mask = splade.heads
    assert sparse._session is fill_mask._session
    graphs = list_graphs(splade.manifest, "fp32")
    assert graphs == ["trunk.fp32.onnx", "head.fill-mask.onnx"]
    splade.reopen()
    splade.stop()
    splade.probe()
    assert splade.embed_sparse(TEXTS[:1])
    assert splade.fill_mask(["the [MASK] of france"])


def test_verified_against_a_checkpoint_that_does_not_say_so(
    exported: Export, splade: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(splade.bundle.path)
    assert main(["verify", bundle, "--against", str(exported("bert", "ForMaskedLM").source)]) == 0
    assert "sparse" in capsys.readouterr().out
    assert main(["verify", bundle, "--against", str(exported("bert", "Model").source)]) == 6
    assert "has no head for embed sparse" in capsys.readouterr().err


def test_what_is_no_splade(exported: Export, minilm_source: Path) -> None:
    source = str(exported("bert", "Model").source)
    with pytest.raises(UnsupportedModel, match="has no masked-LM head"):
        load_checkpoint(source, splade=True)
    with pytest.raises(UnsupportedModel, match="pooled by mean, so it is no SPLADE"):
        load_checkpoint(str(minilm_source), splade=True)


@pytest.mark.parametrize(
    ("modules", "config", "kind", "sentence"),
    [
        (("SpladePooling",), {"pooling_strategy": "mean"}, UnsupportedModel, "strategy 'mean'"),
        (("SpladePooling",), {"activation_function": "gelu"}, UnsupportedModel, "'gelu'"),
        (("SpladePooling",), {"temperature": 2}, UnsupportedModel, "has temperature"),
        (("SpladePooling",), [], SourceError, "not a JSON object"),
        (("SpladePooling", "Normalize"), {}, UnsupportedModel, "among Transformer, SpladePooling"),
    ],
)
def test_poolings_that_are_refused(  # noqa: PLR0917 - fixtures
    exported: Export,
    tmp_path: Path,
    modules: tuple[str, ...],
    config: Any,
    kind: type[ExportError],
    sentence: str,
) -> None:
    source = Path(shutil.copytree(exported("bert", "ForMaskedLM").source, tmp_path / "source"))
    listed = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        *(
            {"idx": n, "name": str(n), "path": f"{n}_{name}", "type": f"{PACKAGE}.{name}"}
            for n, name in enumerate(modules, start=1)
        ),
    ]
    write_json(source / "modules.json", listed)
    write_json(source / "1_SpladePooling" / "config.json", config)
    with pytest.raises(kind, match=sentence):
        load_checkpoint(str(source))


PACKAGE = "sentence_transformers.sparse_encoder.models"


def test_older_saves_call_the_transformer_otherwise(
    exported: Export, take_graphs: TakeGraphs, tmp_path: Path
) -> None:
    original = exported("bert", "ForMaskedLM")
    take_graphs(original.bundle)
    encoder = MLMTransformer(str(original.source))
    model = SparseEncoder(modules=[encoder, SpladePooling("max")], device="cpu")
    source = tmp_path / "saved"
    model.save(str(source), create_model_card=False)
    (source / "sentence_bert_config.json").write_text('{"max_seq_length": 64}')
    modules = json.loads((source / "modules.json").read_text())
    modules[0]["type"] = f"{PACKAGE}.MLMTransformer"
    write_json(source / "modules.json", modules)
    bundle = export_bundle(ExportRequest(str(source), tmp_path / "bundle")).bundle
    check_same(source, Pipeline(bundle))
