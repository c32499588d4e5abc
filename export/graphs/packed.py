"""The trunk's graph for a GPU: attention on the stream by ONNX Runtime's PackedMultiHeadAttention.

That operator of com.microsoft knows texts by their ends and sees no empty cells, so the rows, their
gathers and the mask fall away. It runs on CUDA alone: what is written here is proven there, by the
golden answers, before it serves (models/golden.py).
"""

from collections.abc import Sequence
from pathlib import Path

import onnx_ir

from export.graphs.forms import share_weights
from export.graphs.kernels import Sight, drop_rows, find_attention
from export.graphs.onnx_file import save_graph, strip_metadata
from models.engines import PACKED_ENDS, PACKED_OFFSETS

_DOMAIN = "com.microsoft"


def write_packed(narrow: Path, target: Path, sights: Sequence[Sight]) -> bool:
    """Write the trunk at `narrow`, in fp16, in the packed form; False where it has none.

    A window, and a bias by distance, are not that operator's. Its weights stay in the other's file.
    """
    if any(sight.window is not None or sight.distance is not None for sight in sights):
        return False
    model = onnx_ir.load(narrow)
    if not rewrite(model, len(sights)):
        return False
    strip_metadata(model)
    share_weights(model, [narrow])
    save_graph(model, target)
    return True


def rewrite(model: onnx_ir.Model, layers: int) -> bool:
    """Put the operator in place of attention; False where it does not fit, and it is spoiled."""
    graph = model.graph
    nodes = [node for node in graph if node.op_type == "MultiHeadAttention"]
    found = [find_attention(node) for node in nodes]
    if len(found) != layers or any(each is None for each in found):
        return False
    offsets = _add_input(graph, PACKED_OFFSETS, ["texts", "longest"])
    ends = _add_input(graph, PACKED_ENDS, ["ends"])
    for each in found:
        assert each is not None
        attributes = {
            "num_heads": each.node.attributes["num_heads"].as_int(),
            "scale": each.node.attributes["scale"].as_float(),
        }
        inputs = [*each.sides, None, offsets, ends]
        node = onnx_ir.node("PackedMultiHeadAttention", inputs, attributes, domain=_DOMAIN)
        output, instead = node.outputs[0], each.output
        output.name = f"{instead.name}.packed"
        output.type, output.shape = instead.type, instead.shape
        graph.insert_before(each.node, node)
        instead.replace_all_uses_with(output, replace_graph_outputs=True)
    return drop_rows(graph)


def _add_input(graph: onnx_ir.Graph, name: str, shape: Sequence[str]) -> onnx_ir.Value:
    value = onnx_ir.Value(
        name=name,
        type=onnx_ir.TensorType(onnx_ir.DataType.INT32),
        shape=onnx_ir.Shape(shape),
    )
    graph.inputs.append(value)
    return value
