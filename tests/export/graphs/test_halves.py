"""Half-precision weights are stored as such, and no answer changes by a bit."""

import sys
from pathlib import Path

import numpy as np
import onnx_ir
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

import export.graphs.halves
from export.graphs.halves import store_halves
from export.writing.exporter import export_bundle
from export.writing.request import ExportRequest
from models import Pipeline
from models.engines.onnx_runtime import OnnxRuntimeSession
from tests.helpers.checkpoints import change_json, make_checkpoint
from tests.helpers.oracle import write_texts
from tests.helpers.store import Store


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in fp16, large enough for its weights to be most of its files."""
    folder = tmp_path_factory.mktemp("half") / "source"
    size = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 1}
    make_checkpoint(folder, "bert", "BertForMaskedLM", **size)
    weights = load_file(folder / "model.safetensors")
    halves = {name: weight.half() for name, weight in weights.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    change_json(folder / "config.json", dtype="float16")
    return folder


@pytest.fixture(scope="module")
def halved(source: Path, exports: Store) -> Path:
    """Its bundle."""
    return exports.export(source, "bundle")


@pytest.fixture(scope="module")
def widened(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with the same weights stored in fp32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export.graphs.halves, "_SMALLEST", sys.maxsize)
        out = tmp_path_factory.mktemp("widened") / "bundle"
        return export_bundle(ExportRequest(str(source), out)).bundle.path


def test_files_are_about_half_as_large(halved: Path, widened: Path) -> None:
    for name in ("trunk.fp32.onnx", "head.fill-mask.onnx"):
        sizes = [(folder / name).stat().st_size for folder in (halved, widened)]
        assert sizes[0] < 0.6 * sizes[1], name


def test_answers_are_the_same_to_the_last_bit(halved: Path, widened: Path) -> None:
    one, other = (Pipeline.open(folder, threads=1) for folder in (halved, widened))
    texts = write_texts(12, longest=30)
    assert np.array_equal(one.embed(texts), other.embed(texts))
    masked = [f"{text} [MASK]" for text in texts[:4]]
    assert one.fill_mask(masked) == other.fill_mask(masked)


def make_graph(weights: NDArray[np.float32]) -> onnx_ir.Model:
    """The input times the weights, plus the weights' first row."""
    x = onnx_ir.Value(
        name="x", shape=onnx_ir.Shape([2, len(weights)]), type=onnx_ir.TensorType(FLOAT)
    )
    w = onnx_ir.Value(
        name="w",
        shape=onnx_ir.Shape(weights.shape),
        type=onnx_ir.TensorType(FLOAT),
        const_value=onnx_ir.tensor(weights, name="w"),
    )
    product = onnx_ir.node("MatMul", [x, w])
    twice = onnx_ir.node("MatMul", [product.outputs[0], w])
    y = twice.outputs[0]
    y.name, y.shape = "y", onnx_ir.Shape([2, weights.shape[1]])
    y.type = onnx_ir.TensorType(FLOAT)
    graph = onnx_ir.Graph(
        [x], [y], nodes=[product, twice], initializers=[w], opset_imports={"": 20}, name="g"
    )
    return onnx_ir.Model(graph, ir_version=10)


FLOAT = onnx_ir.DataType.FLOAT
EXACT = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float16).astype(np.float32)


def with_one(value: float) -> NDArray[np.float32]:
    changed = EXACT.copy()
    changed[3, 5] = value
    return changed


@pytest.mark.parametrize("value", [0.0, -0.0, 65504.0, 6e-8, float("inf")])
def test_numbers_that_half_precision_can_tell(value: float) -> None:
    weights = with_one(float(np.float16(value)))
    model = make_graph(weights)
    assert store_halves(model) == 1
    (stored,) = model.graph.initializers.values()
    assert stored.dtype == onnx_ir.DataType.FLOAT16
    assert stored.const_value is not None
    back = stored.const_value.numpy().astype(np.float32)
    assert np.array_equal(back.view(np.uint32), weights.view(np.uint32))


@pytest.mark.parametrize("value", [1.0001, 70000.0, 1e-9, 65505.0, float(np.float32(1 / 3))])
def test_one_number_that_it_cannot_tell_keeps_all(value: float) -> None:
    model = make_graph(with_one(value))
    assert store_halves(model) == 0
    (stored,) = model.graph.initializers.values()
    assert (stored.name, stored.dtype) == ("w", FLOAT)
    assert len(list(model.graph)) == 2


def test_small_weights_stay() -> None:
    assert store_halves(make_graph(EXACT[:31, :31])) == 0


def test_a_weight_used_twice_is_widened_once(tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(2, 32)).astype(np.float32)
    answers = []
    for name, change in (("before", lambda _: 0), ("after", store_halves)):
        model = make_graph(EXACT)
        change(model)
        onnx_ir.save(model, tmp_path / f"{name}.onnx")
        session = OnnxRuntimeSession(tmp_path / f"{name}.onnx", threads=1)
        answers.append(session.run({"x": x}).whole())
    assert [node.op_type for node in model.graph].count("Cast") == 1
    assert np.array_equal(*answers)
