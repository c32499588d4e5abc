"""Narrow precisions are near enough and say how near, or are not written."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.__main__ import main
from export.graphs.int8 import choose_factors, quantize_columns
from export.proof.processor import read_processor
from models import Pipeline
from models.bundle.bundle import Bundle, hash_file
from models.errors import AnswersWrong, OperatorError
from models.golden import check_golden
from tests.helpers.checkpoints import change_json
from tests.helpers.fixtures import TakeGraphs

TEXTS = ("The river rose overnight.", "Why green?", "Order no. 4,711 was shipped on 3 March.")


def find(bundle: Bundle, precision: str, engine: str = "onnxruntime") -> Any:
    rows = bundle.manifest.parity
    (row,) = [row for row in rows if (row.precision, row.engine) == (precision, engine)]
    return row


def test_a_real_model_in_every_precision(minilm_bundle: Path) -> None:
    bundle = Bundle.open(minilm_bundle)
    assert bundle.manifest.precisions == ("fp32", "int8", "fp16")
    vectors = {
        name: Pipeline(bundle, precision=name).embed(TEXTS) for name in bundle.manifest.precisions
    }
    for name, least in (("int8", 0.985), ("fp16", 0.9999)):
        assert (vectors[name] * vectors["fp32"]).sum(axis=1).min() > least
        assert not np.array_equal(vectors[name], vectors["fp32"])
        row = find(bundle, name)
        assert row.limit is None
        assert not row.lossy
        assert row.worst_cosine > least
        assert row.mean_cosine > 0.997
    assert bundle.manifest.proof is not None
    assert min(bundle.manifest.proof.company_cosine.values()) > 0.999
    sizes = {name: bundle.file(f"trunk.{name}.onnx").stat().st_size for name in vectors}
    assert sizes["fp16"] < sizes["int8"] < 0.7 * sizes["fp32"]


def test_int8_computes_every_linear_layer_in_bytes(minilm_bundle: Path) -> None:
    graph = onnx.load(minilm_bundle / "trunk.int8.onnx").graph
    kinds = [node.op_type for node in graph.node]
    # Queries, keys and values are one product.
    assert kinds.count("MatMulIntegerToFloat") == 6 * 4
    assert "MatMul" not in kinds
    assert kinds.count("MultiHeadAttention") == 6


def test_who_shares_the_batch_changes_nothing(minilm_bundle: Path) -> None:
    pipeline = Pipeline.open(minilm_bundle, precision="int8")
    repeated = pipeline.encoder.encode_ids([2003] * 256, overflow="error")
    text = pipeline.encoder.encode(TEXTS[0], overflow="error")
    alone, _ = pipeline.run_trunk([text])
    among, packed = pipeline.run_trunk([repeated, text, repeated])
    start = int(packed.starts[1])
    found = among.whole()[start : start + len(text.ids)]
    assert np.abs(found - alone.whole()).max() < 1e-4


def test_a_precision_that_misses_its_threshold_is_not_written(
    pretraining_source: Path,
    pretraining_bundle: Path,
    take_graphs: TakeGraphs,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Random weights have no best token to speak of."""
    take_graphs(pretraining_bundle)
    arguments = [str(pretraining_source), str(tmp_path / "out"), "--precision", "int8"]
    assert main(arguments) == 6
    assert "--accept-loss" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main([*arguments, "--accept-loss", "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)["manifest"]
    assert any(row["lossy"] for row in manifest["parity"])
    assert manifest["precisions"] == ["int8"]
    bundle = Bundle.open(tmp_path / "out")
    assert not bundle.file("trunk.fp32.onnx").exists()
    assert check_golden(Pipeline(bundle))
    for command in ("inspect", "verify --against SOURCE"):
        words = [str(pretraining_source) if word == "SOURCE" else word for word in command.split()]
        assert main([words[0], str(bundle.path), *words[1:]]) == 0
        assert "accepted loss" in capsys.readouterr().out


def test_a_machine_that_computes_otherwise_never_serves(
    minilm_bundle: Path, tmp_path: Path
) -> None:
    """As a kernel that saturates would: some products come out smaller than they are."""
    broken = shutil.copytree(minilm_bundle, tmp_path / "broken")
    file = broken / "trunk.int8.onnx"
    model = onnx.load(file)
    (weights,) = [each for each in model.graph.initializer if each.name == "int8.3.weights"]
    clipped = np.clip(numpy_helper.to_array(weights), -40, 40)
    weights.CopyFrom(numpy_helper.from_array(clipped, weights.name))
    onnx.save(model, file)
    files = json.loads((broken / "manifest.json").read_text())["files"]
    files[file.name] = {"sha256": hash_file(file), "bytes": file.stat().st_size}
    change_json(broken / "manifest.json", files=files)
    with pytest.raises(AnswersWrong, match="answers otherwise on this machine"):
        check_golden(Pipeline.open(broken, precision="int8"))
    assert check_golden(Pipeline.open(broken, precision="fp32"))
    assert issubclass(AnswersWrong, OperatorError)


def test_factors_even_out_channels_that_are_far_larger() -> None:
    chance = np.random.default_rng(0)
    given = chance.normal(size=(200, 64)).astype(np.float32)
    weights = chance.normal(size=(64, 32)).astype(np.float32)
    assert choose_factors(given, weights) is None
    given[:, 7] *= 60
    factors = choose_factors(given, weights)
    assert factors is not None
    assert factors.argmax() == 7


def test_columns_are_scaled_one_by_one() -> None:
    weights = np.array([[1.0, 100.0, 0.0], [-0.5, 50.0, 0.0]], np.float32)
    quantized, scales = quantize_columns(weights)
    assert quantized.tolist() == [[127, 127, 0], [-64, 64, 0]]
    assert np.allclose(quantized * scales, weights, atol=0.5)


def test_the_processor_is_described(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("model name\t: Some CPU\nflags\t\t: fpu avx2 fma avx512_vnni\n\nflags\t: x\n")
    assert read_processor(file) == ("Some CPU", ("avx2", "fma", "avx512_vnni"))
    assert read_processor(tmp_path / "nothing")[1] == ()
