"""The kernels' form with its products in bfloat16: the operator before one rounds its rows.

Sums, normalisations and attention stay in single precision.
"""

import ml_dtypes
import onnx_ir

from export.graphs.int8 import Floats
from export.graphs.onnx_file import drop_unused, make_constant, read_constant
from export.graphs.products import lay_out, take_in
from models.engines.library import DOMAIN


def halve_products(model: onnx_ir.Model) -> int:
    """Put the products of a graph in the kernels' form in bfloat16; how many there are.

    Those whose rows an operator of ours makes.
    """
    graph = model.graph
    count = 0
    for node in list(graph):
        weights = read_constant(node.inputs[1]) if node.op_type == "MatMul" else None
        if weights is None or weights.ndim != 2 or len(weights) % 2:
            continue
        rows = _find_halves(graph, node)
        if rows is not None:
            _replace(graph, node, rows, weights, f"bf16.{count}")
            count += 1
    drop_unused(graph)
    take_in(graph, "Half")
    drop_unused(graph)
    return count


def _find_halves(graph: onnx_ir.Graph, node: onnx_ir.Node) -> onnx_ir.Value | None:
    """What the product is given, rounded by the operator that makes it."""
    site = node.inputs[0]
    source = site.producer() if site is not None else None
    if site is None or source is None:
        return None
    if source.op_type == "AddNormHalf":
        return source.outputs[1]
    if (source.domain, source.op_type) == (DOMAIN, "AddNorm"):
        return _halve_norm(graph, source, site)
    reshape = None
    if source.op_type == "Reshape" and len(site.uses()) == 1 and source.inputs[0] is not None:
        reshape, source = source, source.inputs[0].producer()
    known = source is not None and source.domain == DOMAIN
    if source is None or not known or source.op_type not in ("Attention", "Gelu"):
        return None
    return _halve_whole(graph, source, reshape) if len(source.outputs[0].uses()) == 1 else None


def _halve_norm(graph: onnx_ir.Graph, source: onnx_ir.Node, site: onnx_ir.Value) -> onnx_ir.Value:
    """A normalisation's rows rounded, beside those that it adds to."""
    attributes = source.attributes.values()
    both = onnx_ir.Node(DOMAIN, "AddNormHalf", source.inputs, attributes=attributes, num_outputs=2)
    whole, half = both.outputs
    whole.name, whole.type, whole.shape = f"{site.name}.whole", site.type, site.shape
    half.name = f"{site.name}.half"
    graph.insert_before(source, both)
    site.replace_all_uses_with(whole, replace_graph_outputs=True)
    return half


def _halve_whole(
    graph: onnx_ir.Graph, source: onnx_ir.Node, reshape: onnx_ir.Node | None
) -> onnx_ir.Value:
    """Rows that nothing but the product reads, rounded."""
    attributes = source.attributes.values()
    halves = onnx_ir.Node(DOMAIN, f"{source.op_type}Half", source.inputs, attributes=attributes)
    halves.outputs[0].name = f"{source.outputs[0].name}.half"
    graph.insert_before(source, halves)
    if reshape is None:
        return halves.outputs[0]
    again = onnx_ir.node("Reshape", [halves.outputs[0], reshape.inputs[1]])
    again.outputs[0].name = f"{halves.outputs[0].name}.row"
    graph.insert_before(reshape, again)
    return again.outputs[0]


def _replace(
    graph: onnx_ir.Graph, node: onnx_ir.Node, rows: onnx_ir.Value, weights: Floats, name: str
) -> None:
    old = node.outputs[0]
    halves = lay_out(weights.astype(ml_dtypes.bfloat16), 2)
    panels = make_constant(graph, f"{name}.weights", halves)
    attributes = {"columns": weights.shape[1]}
    product = onnx_ir.node("ProductHalf", [rows, panels], attributes, domain=DOMAIN)
    output = product.outputs[0]
    output.name = f"{name}.product"
    graph.insert_before(node, product)
    old.replace_all_uses_with(output, replace_graph_outputs=True)
