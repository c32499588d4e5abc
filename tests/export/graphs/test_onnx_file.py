"""Graphs hold operations and weights, and nothing of the machine that made them."""

import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
import torch

import export.graphs.onnx_file
from export.errors import UnsupportedModel
from export.graphs.onnx_file import OPSET, export_graph, save_graph, strip_metadata, weigh_graph
from models.families import FAMILIES
from tests.helpers.bundles import WITHOUT_PACKED, list_trunks
from tests.helpers.checkpoints import EACH_FAMILY
from tests.helpers.fixtures import Export

VERSION = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"][
    "version"
]
LEAKS = (
    rb"site-packages",
    rb"Traceback",
    rb"\.py\b",
    rb"File \"",
    rb"pkg\.torch",
    re.escape(str(Path.cwd()).encode()),
    re.escape(sys.prefix.encode()),
    re.escape(str(Path.home()).encode() + b"/"),
)


def check_graph(file: Path) -> None:
    content = file.read_bytes()
    for leak in LEAKS:
        assert not re.search(leak, content), (file.name, leak)
    model = onnx.load(file)
    onnx.checker.check_model(model)
    assert not model.metadata_props
    assert not model.doc_string
    assert not model.graph.doc_string
    assert not model.graph.metadata_props
    assert not model.functions
    for node in model.graph.node:
        assert not node.doc_string
        assert not node.metadata_props
    values = (model.graph.input, model.graph.output, model.graph.value_info)
    for value in [one for kind in values for one in kind]:
        assert not value.doc_string
        assert not value.metadata_props
    for weight in model.graph.initializer:
        assert not weight.doc_string
        assert not weight.metadata_props
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == OPSET
    # Not torch and its build, which differs between machines.
    assert (model.producer_name, model.producer_version) == ("cloze", VERSION)


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_graphs_tell_nothing_of_the_machine(exported: Export, family: str) -> None:
    files = sorted(exported(family, "ForMaskedLM").bundle.glob("*.onnx"))
    # The head's, and the trunk's in each precision.
    trunks = list_trunks("fp32", "int8", "fp16")
    if FAMILIES[family].layout == "padded" or family == "mobilebert":
        trunks = [name for name in trunks if name.count(".") == 2]
    elif family in WITHOUT_PACKED:
        trunks.remove("trunk.fp16.packed.onnx")
    assert [file.name for file in files] == ["head.fill-mask.onnx", *trunks]
    for file in files:
        check_graph(file)


def test_graphs_of_named_heads_too(heads_bundle: Path, pretraining_bundle: Path) -> None:
    for folder in (heads_bundle, pretraining_bundle):
        for file in folder.glob("head.*.onnx"):
            check_graph(file)


def test_graphs_in_every_precision_name_their_maker(minilm_bundle: Path) -> None:
    files = sorted(minilm_bundle.glob("trunk.*.onnx"))
    assert [file.name for file in files] == list_trunks("fp32", "int8", "fp16")
    for file in files:
        model = onnx.load(file)
        assert (model.producer_name, model.producer_version) == ("cloze", VERSION)


def test_strip_reaches_every_field() -> None:
    value = onnx_ir.Value(
        name="x", shape=onnx_ir.Shape([1]), type=onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    )
    node = onnx_ir.Node("", "Relu", [value], metadata_props={"stack": "File x.py"}, doc_string="d")
    value.metadata_props["a"] = "b"
    value.doc_string = "d"
    node.outputs[0].metadata_props["a"] = "b"
    graph = onnx_ir.Graph(
        [value], [node.outputs[0]], nodes=[node], metadata_props={"a": "b"}, doc_string="d"
    )
    model = onnx_ir.Model(graph, ir_version=10, metadata_props={"a": "b"}, doc_string="d")
    strip_metadata(model)
    for part in (model, graph, node, value, node.outputs[0]):
        assert not part.metadata_props
        assert part.doc_string is None


class Doubled(torch.nn.Module):
    """A small module with a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(12.0).reshape(3, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product with the weight."""
        return x @ self.weight


def test_large_weights_lie_beside_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.engines.onnx_runtime import OnnxRuntimeSession

    monkeypatch.setattr(export.graphs.onnx_file, "_LARGEST_FILE_BYTES", 10)
    file = tmp_path / "trunk.fp32.onnx"
    x = torch.ones(2, 3)
    export_graph(
        Doubled(), (x,), inputs=["x"], output="y", dynamic=({0: torch.export.Dim("n")},), file=file
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name, f"{file.name}.data"]
    found = OnnxRuntimeSession(file, threads=1).run({"x": x.numpy()}).whole()
    assert found.tolist() == Doubled()(x).tolist()


class Unexportable(torch.nn.Module):
    """Looks at values, which no graph can."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A branch on data."""
        return x + 1 if x.sum().item() > 0 else x - 1


def test_what_torch_cannot_export_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "head.classify.onnx"
    with pytest.raises(UnsupportedModel, match=r"torch cannot export head\.classify") as caught:
        export_graph(
            Unexportable(),
            (torch.ones(2),),
            inputs=["x"],
            output="y",
            dynamic=({0: torch.export.Dim("n")},),
            file=file,
        )
    assert "\n" not in caught.value.message
    # What began it, not torch's advice on its own exporter.
    assert "data-dependent" in caught.value.message
    assert "Next steps" not in caught.value.message
    assert not file.exists()


def test_a_graph_is_weighed_as_it_is_loaded(minilm_bundle: Path, tmp_path: Path) -> None:
    for precision in ("fp32", "int8"):
        file = minilm_bundle / f"trunk.{precision}.onnx"
        wanted = sum(
            onnx.numpy_helper.to_array(each).nbytes for each in onnx.load(file).graph.initializer
        )
        assert weigh_graph(file) == wanted
    halves = minilm_bundle / "trunk.fp16.onnx"
    stored = [onnx.numpy_helper.to_array(each) for each in onnx.load(halves).graph.initializer]
    wanted = sum(each.nbytes * (2 if each.dtype == np.float16 else 1) for each in stored)
    assert weigh_graph(halves) == wanted


def test_a_graph_that_is_streamed_is_the_same(
    minilm_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = minilm_bundle / "trunk.fp32.onnx", tmp_path / "streamed.onnx"
    monkeypatch.setattr(export.graphs.onnx_file, "_STREAMED_BYTES", 1000)
    save_graph(onnx_ir.load(source), target)
    one, other = onnx.load(source), onnx.load(target)
    assert weigh_graph(target) == weigh_graph(source)
    assert list(one.graph.node) == list(other.graph.node)
    numbers = [
        {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
        for model in (one, other)
    ]
    assert numbers[0].keys() == numbers[1].keys()
    assert all(np.array_equal(numbers[0][name], numbers[1][name]) for name in numbers[0])
