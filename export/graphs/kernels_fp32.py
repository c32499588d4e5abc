"""The kernels' form with its products in single precision, one operator with what follows each.

Their weights are those of the standard graph, which stand in its file alone: panels are laid out
when the graph is loaded (models/lens/joined.py).
"""

import onnx_ir

from export.graphs.onnx_file import drop_unused, make_constant, read_constant
from export.graphs.products import PANEL, lay_out, take_in
from models.engines.library import DOMAIN


def place_products(graph: onnx_ir.Graph) -> None:
    """Put the products of a graph into operators of ours, but for those of a column too many.

    A panel that is not full would be another tensor than the standard graph has.
    """
    for node in list(graph):
        if node.op_type != "MatMul" or node.domain or node.inputs[0] is None:
            continue
        parts = _find_parts(node.inputs[1])
        matrices = [read_constant(part) for part in parts]
        if any(each is None or each.ndim != 2 or each.shape[1] % PANEL for each in matrices):
            continue
        panels = []
        for part, matrix in zip(parts, matrices, strict=True):
            assert part is not None
            assert matrix is not None
            name = f"{part.name}.panels"
            found = graph.initializers.get(name)
            panels.append(found or make_constant(graph, name, lay_out(matrix, 1)))
        weights = panels[0]
        if len(panels) > 1:
            # Folded when the graph is loaded: the parts themselves are not kept in memory.
            concat = onnx_ir.node("Concat", panels, {"axis": 0})
            (weights,) = concat.outputs
            weights.name = f"{node.outputs[0].name}.panels"
            graph.insert_before(node, concat)
        columns = sum(each.shape[1] for each in matrices if each is not None)
        product = onnx_ir.node(
            "Product", [node.inputs[0], weights], {"columns": columns}, domain=DOMAIN
        )
        output, old = product.outputs[0], node.outputs[0]
        output.name, output.type, output.shape = f"{old.name}.ours", old.type, old.shape
        graph.insert_before(node, product)
        old.replace_all_uses_with(output, replace_graph_outputs=True)
    drop_unused(graph)
    take_in(graph, "")
    drop_unused(graph)


def _find_parts(weights: onnx_ir.Value | None) -> list[onnx_ir.Value | None]:
    """What was put beside each other in a product's weights."""
    node = weights.producer() if weights is not None else None
    return list(node.inputs) if node is not None and node.op_type == "Concat" else [weights]
