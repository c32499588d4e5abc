"""The kernels' products: the panels their weights lie in, and the operator that follows taken in.

`Product` and what is named after it (kernels/src/compute.h) end in the precision of what they are
given: Bytes, Half, or nothing for single.
"""

from typing import Any, TypeVar

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from models.engines.library import DOMAIN

PANEL = 64
# What a product has in common with others of its precision: so many inputs.
_OWN = {"Bytes": 5, "Half": 2, "": 2}

NumberT = TypeVar("NumberT", bound=np.generic)


def lay_out(weights: NDArray[NumberT], beside: int) -> NDArray[NumberT]:
    """Weights [K, N] in panels of 64 columns, so many of K side by side: [N / 64, K / b, 64, b].

    The last panel is filled with zeros; K is a multiple of `beside`.
    """
    inner, columns = weights.shape
    panels = -(-columns // PANEL)
    wide = np.zeros((inner, panels * PANEL), weights.dtype)
    wide[:, :columns] = weights
    parted = wide.reshape(inner // beside, beside, panels, PANEL).transpose(2, 0, 3, 1)
    return np.ascontiguousarray(parted)


def take_in(graph: onnx_ir.Graph, precision: str) -> None:
    """Let each product be one operator with the Gelu or AddNorm that alone reads its rows.

    `precision` is Bytes, Half or nothing; so are the rows that the one after gives.
    """
    for node in list(graph):
        if (node.domain, node.op_type) != (DOMAIN, f"Product{precision}"):
            continue
        users = node.outputs[0].uses()
        if len(users) != 1 or node.outputs[0].is_graph_output():
            continue
        after, place = users[0].node, users[0].idx
        kinds = {f"Gelu{precision}": "ProductGelu", f"AddNorm{precision}": "ProductNorm"}
        kind = kinds.get(after.op_type) if after.domain == DOMAIN and place == 0 else None
        if kind is not None:
            _put_both(graph, node, after, f"{kind}{precision}", _OWN[precision])


def _put_both(
    graph: onnx_ir.Graph, product: onnx_ir.Node, after: onnx_ir.Node, kind: str, own: int
) -> None:
    inputs = [*product.inputs, *[None] * (own - len(product.inputs)), *after.inputs[1:]]
    attributes: dict[str, Any] = {**product.attributes, **after.attributes}
    both = onnx_ir.Node(
        DOMAIN,
        kind,
        inputs,
        attributes=list(attributes.values()),
        num_outputs=len(after.outputs),
    )
    graph.insert_before(after, both)
    for output, old in zip(both.outputs, after.outputs, strict=True):
        output.name, output.type, output.shape = f"{old.name}.product", old.type, old.shape
        old.replace_all_uses_with(output, replace_graph_outputs=True)
