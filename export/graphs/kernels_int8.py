"""The kernels' form with its products in int8: the operator before a product quantizes its rows.

Each row has a step and a zero of its own, so that all of its bytes are used whichever side of zero
its numbers are on: the product takes them off again with the sums of its columns. Owns where bytes
come from; which factors even a site's channels out, and how weights become bytes, is
export/graphs/int8's.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir

from export.graphs.int8 import Floats, Inputs
from export.graphs.onnx_file import drop_unused, make_constant, read_constant
from export.graphs.products import lay_out, take_in
from models.engines.library import DOMAIN

# Of each operator of ours, where its input for factors is.
_SMOOTH = {"AddNorm": 5, "Gelu": 2, "Attention": 6}
# Bytes of a row that a kernel takes at once.
_BESIDE = 4


@dataclass(frozen=True, slots=True)
class _Bytes:
    """A site's rows as bytes, with the step and the zero of each."""

    rows: onnx_ir.Value
    steps: onnx_ir.Value


def quantize_products(model: onnx_ir.Model, inputs: Inputs) -> int:
    """Put the products of a graph in the kernels' form in int8; how many there are.

    `inputs` know what a product is given, by its weights or the first of those it was joined of.
    """
    graph = model.graph
    writer = _Writer(graph, inputs)
    count = 0
    for node in list(graph):
        weights = read_constant(node.inputs[1]) if node.op_type == "MatMul" else None
        site = node.inputs[0] if node.inputs else None
        if weights is None or weights.ndim != 2 or len(weights) % _BESIDE or site is None:
            continue
        given = _find_given(weights, inputs)
        if given is not None:
            writer.replace(node, site, weights, given)
            count += 1
    drop_unused(graph)
    take_in(graph, "Bytes")
    drop_unused(graph)
    return count


def _find_given(weights: Floats, inputs: Inputs) -> Floats | None:
    rows, columns = weights.shape
    for parts in (1, 3):
        if columns % parts == 0:
            found = inputs.find(weights[:, : columns // parts])
            if found is not None and found.shape[1] == rows:
                return found
    return None


class _Writer:
    def __init__(self, graph: onnx_ir.Graph, inputs: Inputs) -> None:
        self._graph = graph
        self._inputs = inputs
        self._count = 0

    def replace(
        self, node: onnx_ir.Node, site: onnx_ir.Value, weights: Floats, given: Floats
    ) -> None:
        name = f"int8.{self._count}"
        self._count += 1
        narrow = self._inputs.narrow(weights, given)
        smooth = None
        if narrow.factors is not None:
            inverse = (1 / narrow.factors).astype(np.float32)
            smooth = make_constant(self._graph, f"{name}.factors", inverse)
        bytes_ = self._quantize(node, site, smooth, name)
        sums = narrow.weights.sum(axis=0, dtype=np.int32)
        product = onnx_ir.node(
            "ProductBytes",
            [
                bytes_.rows,
                bytes_.steps,
                make_constant(self._graph, f"{name}.weights", lay_out(narrow.weights, _BESIDE)),
                make_constant(self._graph, f"{name}.scales", narrow.scales),
                make_constant(self._graph, f"{name}.sums", sums),
            ],
            {"columns": len(narrow.scales)},
            domain=DOMAIN,
        )
        output, old = product.outputs[0], node.outputs[0]
        output.name, output.type, output.shape = f"{name}.product", old.type, old.shape
        self._graph.insert_before(node, product)
        old.replace_all_uses_with(output, replace_graph_outputs=True)

    def _quantize(
        self, node: onnx_ir.Node, site: onnx_ir.Value, smooth: onnx_ir.Value | None, name: str
    ) -> _Bytes:
        """The site's rows as bytes, of the operator that makes them, or of one of its own."""
        source, reshape = site.producer(), None
        if source is not None and source.op_type == "Reshape" and len(site.uses()) == 1:
            reshape, source = source, source.inputs[0].producer() if source.inputs[0] else None
        kind = source.op_type if source is not None and source.domain == DOMAIN else ""
        made = source.outputs[0] if source is not None else None
        # An AddNorm gives its rows as they are, too; of the others nothing else may want them.
        alone = made is not None and len(made.uses()) == 1
        if source is None or kind not in _SMOOTH or (kind != "AddNorm" and not alone):
            return self._put("Quantize", [site, smooth], {}, node, site, name, 0)
        if kind == "AddNorm" and reshape is not None:
            return self._put("Quantize", [site, smooth], {}, node, site, name, 0)
        inputs = [*source.inputs, *[None] * (_SMOOTH[kind] - len(source.inputs))]
        inputs = [*inputs[: _SMOOTH[kind]], smooth]
        attributes = dict(source.attributes)
        found = self._put(f"{kind}Bytes", inputs, attributes, source, site, name, kind == "AddNorm")
        if reshape is not None:
            found = self._reshape(found, reshape, name)
        return found

    def _put(  # noqa: PLR0917 - all of them are of one node
        self,
        kind: str,
        inputs: list[onnx_ir.Value | None],
        attributes: dict[str, onnx_ir.Attr],
        before: onnx_ir.Node,
        site: onnx_ir.Value,
        name: str,
        first: int,
    ) -> _Bytes:
        while inputs[-1] is None:
            inputs = inputs[:-1]
        node = onnx_ir.Node(
            DOMAIN, kind, inputs, attributes=list(attributes.values()), num_outputs=2 + first
        )
        for place, output in enumerate(node.outputs):
            output.name = f"{name}.{('rows', 'bytes', 'steps')[place + 1 - first]}"
        self._graph.insert_before(before, node)
        if first:
            whole = node.outputs[0]
            whole.type, whole.shape = site.type, site.shape
            site.replace_all_uses_with(whole, replace_graph_outputs=True)
        return _Bytes(node.outputs[first], node.outputs[first + 1])

    def _reshape(self, found: _Bytes, like: onnx_ir.Node, name: str) -> _Bytes:
        """Both in one row of tokens more, as the rows were."""
        shape = make_constant(self._graph, f"{name}.shape", np.array([1, -1, 2], np.int64))
        rows = onnx_ir.node("Reshape", [found.rows, like.inputs[1]])
        steps = onnx_ir.node("Reshape", [found.steps, shape])
        rows.outputs[0].name, steps.outputs[0].name = f"{name}.bytes.row", f"{name}.steps.row"
        self._graph.insert_before(like, [rows, steps])
        return _Bytes(rows.outputs[0], steps.outputs[0])
