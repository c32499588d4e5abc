"""The trunk's graph: one fused attention node a layer, or no bundle."""

import dataclasses
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from export.errors import UnsupportedModel
from export.graphs import trunk
from export.graphs.trunk import INPUTS, export_trunk
from export.reading.checkpoint import load_checkpoint
from export.writing.exporter import export_bundle
from export.writing.request import ExportRequest
from models.families import FAMILIES as ROWS
from tests.helpers.checkpoints import FAMILIES, in_turn, make_checkpoint, name_class
from tests.helpers.fixtures import Export

FLAT = [name for name in FAMILIES if ROWS[name].layout == "flat"]
# Plain, with bottlenecks, with a bias by distance, with a window, with turns; the others take their
# turn in `make test-slow`, and each is exported by another test in every run.
_EACH_KIND = ("distilbert", "mobilebert", "mpnet", "modernbert", "nomic_bert")
PADDED = [name for name in FAMILIES if ROWS[name].layout == "padded"]


@pytest.mark.parametrize("family", in_turn(FLAT, _EACH_KIND))
def test_inputs_outputs_and_fused_nodes(exported: Export, family: str) -> None:
    graph = onnx.load(exported(family, "ForMaskedLM").bundle / "trunk.fp32.onnx").graph
    fused = [node for node in graph.node if node.op_type == "MultiHeadAttention"]
    assert [node.domain for node in fused] == ["com.microsoft"] * 2
    # A graph may leave out an input that the family does not read.
    names = [value.name for value in graph.input]
    assert set(names) <= set(INPUTS)
    assert {"input_ids", "position_ids", "row_index", "row_sequence", "flat_index"} <= set(names)
    shapes = {
        value.name: [size.dim_param for size in value.type.tensor_type.shape.dim]
        for value in graph.input
    }
    assert shapes["input_ids"] == shapes["flat_index"] == ["tokens"]
    assert shapes["row_index"] == shapes["row_sequence"] == ["rows", "width"]
    assert [value.name for value in graph.output] == ["hidden"]
    # No attention is computed in pieces beside the fused nodes.
    assert not [node for node in graph.node if node.op_type == "Softmax"]


def attend_in_pieces(
    _module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _attention_mask: torch.Tensor,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Plain attention over the stream: what an export gets that is not routed."""
    scores = (query @ key.transpose(-1, -2) * scaling).softmax(-1)
    return (scores @ value).transpose(1, 2), None


def test_attention_that_is_not_routed_is_refused(
    pretraining_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trunk, "attend_flat", attend_in_pieces)
    with pytest.raises(UnsupportedModel, match="0 fused attention nodes for 2 layers"):
        export_bundle(ExportRequest(str(pretraining_source), tmp_path / "bundle", tasks=("embed",)))
    assert list(tmp_path.iterdir()) == []


def test_the_model_is_as_it_was_afterwards(pretraining_source: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(str(pretraining_source))
    before = checkpoint.trunk.config._attn_implementation
    assert export_trunk(checkpoint.trunk, tmp_path / "trunk.onnx") == 2
    assert checkpoint.trunk.config._attn_implementation == before == "sdpa"
    ids = torch.tensor([[2, 7, 3]])
    assert checkpoint.trunk(input_ids=ids).last_hidden_state.shape == (1, 3, 32)


@pytest.mark.parametrize("family", in_turn(PADDED, ("deberta-v2", "big_bird")))
def test_a_padded_trunk_has_the_same_inputs(exported: Export, family: str) -> None:
    pair = exported(family, "ForMaskedLM")
    assert pair.pipeline.manifest.layout == "padded"
    graph = onnx.load(pair.bundle / "trunk.fp32.onnx").graph
    names = {value.name for value in graph.input}
    assert {"input_ids", "row_index", "row_sequence", "flat_index"} <= names <= set(INPUTS)
    shapes = {
        value.name: [size.dim_param for size in value.type.tensor_type.shape.dim]
        for value in graph.input
    }
    assert shapes["input_ids"] == shapes["flat_index"] == ["tokens"]
    assert shapes["row_index"] == shapes["row_sequence"] == ["rows", "width"]
    assert [value.name for value in graph.output] == ["hidden"]
    # Buckets of distances are looked up: no runtime's rounding of a logarithm can choose another.
    assert not [node for node in graph.node if node.op_type == "Log"]


@pytest.mark.parametrize("family", in_turn(["bert", "mobilebert", "mpnet"], ("mpnet",)))
def test_the_padded_layout_is_as_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """What is flat could be padded: neither empty cells nor other texts are seen by a text."""
    monkeypatch.setitem(ROWS, family, dataclasses.replace(ROWS[family], layout="padded"))
    source = make_checkpoint(tmp_path / "source", family, name_class(family, "Model"))
    result = export_bundle(ExportRequest(str(source), tmp_path / "bundle"))
    assert result.bundle.manifest.layout == "padded"
    [figures] = result.bundle.manifest.parity
    assert figures.largest_difference <= 1e-5 * figures.largest_value
