"""The kernels' form with its products in int8: the operator before a product quantizes its rows.

Owns where bytes come from and where their scales go; which factors even a site's channels out, and
how weights become bytes, is export/graphs/int8's. A product's output is numbers still to be
multiplied with the row's scale, which the operator after it does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir

from export.graphs.int8 import Floats, choose_factors, digest, quantize_columns
from export.graphs.kernels import DOMAIN
from export.graphs.onnx_file import drop_unused, make_constant, read_constant

_MICROSOFT = "com.microsoft"
# Of each operator of ours: where its input for the row's scales is, and where that for factors.
_SCALES = {"AddNorm": 1, "Gelu": 1, "Attention": 3}
_SMOOTH = {"AddNorm": 6, "Gelu": 3, "Attention": 7}


@dataclass(frozen=True, slots=True)
class _Bytes:
    """A site's rows as bytes, and their scales."""

    rows: onnx_ir.Value
    scale: onnx_ir.Value


def quantize_products(model: onnx_ir.Model, inputs: Mapping[str, Floats]) -> int:
    """Put the products of a graph in the kernels' form in int8; how many there are.

    `inputs` are rows that a product is given, by the digest of its weights, or of the first of
    those it was joined of.
    """
    graph = model.graph
    model.opset_imports.setdefault(_MICROSOFT, 1)
    writer = _Writer(graph)
    count = 0
    for node in list(graph):
        weights = read_constant(node.inputs[1]) if node.op_type == "MatMul" else None
        site = node.inputs[0] if node.inputs else None
        if weights is None or weights.ndim != 2 or site is None:
            continue
        given = _find_given(weights, inputs)
        if given is not None:
            writer.replace(node, site, weights, given)
            count += 1
    drop_unused(graph)
    return count


def _find_given(weights: Floats, inputs: Mapping[str, Floats]) -> Floats | None:
    rows, columns = weights.shape
    for parts in (1, 3):
        if columns % parts == 0:
            found = inputs.get(digest(weights[:, : columns // parts]))
            if found is not None and found.shape[1] == rows:
                return found
    return None


class _Writer:
    def __init__(self, graph: onnx_ir.Graph) -> None:
        self._graph = graph
        self._count = 0
        self._sites: dict[onnx_ir.Value, _Bytes] = {}
        self._unit = make_constant(graph, "int8.unit", np.array(1 / 127, np.float32))
        self._zero = make_constant(graph, "int8.zero", np.array(128, np.uint8))

    def replace(
        self, node: onnx_ir.Node, site: onnx_ir.Value, weights: Floats, given: Floats
    ) -> None:
        name = f"int8.{self._count}"
        self._count += 1
        factors = choose_factors(given, weights)
        smooth = None
        if factors is not None:
            inverse = (1 / factors).astype(np.float32)
            smooth = make_constant(self._graph, f"{name}.factors", inverse)
            weights = weights * factors[:, None]
        bytes_ = self._quantize(node, site, smooth, name)
        quantized, columns = quantize_columns(weights)
        product = onnx_ir.node(
            "MatMulIntegerToFloat",
            [
                bytes_.rows,
                make_constant(self._graph, f"{name}.weights", quantized),
                self._unit,
                make_constant(self._graph, f"{name}.scales", columns),
                self._zero,
            ],
            domain=_MICROSOFT,
        )
        output, old = product.outputs[0], node.outputs[0]
        output.name, output.type, output.shape = f"{name}.product", old.type, old.shape
        self._graph.insert_before(node, product)
        users = list(old.uses())
        takes = (
            users[0].node
            if len(users) == 1 and users[0].node.domain == DOMAIN and users[0].idx == 0
            else None
        )
        if takes is not None and _fits(takes):
            old.replace_all_uses_with(output)
            place = _SCALES[_kind(takes)]
            takes.resize_inputs(max(place + 1, len(takes.inputs)))
            takes.replace_input_with(place, bytes_.scale)
            return
        scaled = onnx_ir.node("Mul", [output, bytes_.scale])
        scaled.outputs[0].name = f"{name}.scaled"
        self._graph.insert_before(node, scaled)
        old.replace_all_uses_with(scaled.outputs[0], replace_graph_outputs=True)

    def _quantize(
        self, node: onnx_ir.Node, site: onnx_ir.Value, smooth: onnx_ir.Value | None, name: str
    ) -> _Bytes:
        """The site's rows as bytes, of the operator that makes them, or of one of its own."""
        source, reshape = site.producer(), None
        if source is not None and source.op_type == "Reshape" and len(site.uses()) == 1:
            reshape, source = source, source.inputs[0].producer() if source.inputs[0] else None
        kind = _kind(source) if source is not None and source.domain == DOMAIN else ""
        made = source.outputs[0] if source is not None else None
        # An AddNorm gives its rows as they are, too; of the others nothing else may want them.
        alone = made is not None and len(made.uses()) == 1
        if source is None or kind not in _SMOOTH or (kind != "AddNorm" and not alone):
            return self._put("Quantize", [site, smooth], {}, node, site, name, 0)
        if kind == "AddNorm" and (reshape is not None or source.op_type != kind):
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
            output.name = f"{name}.{('rows', 'bytes', 'scale')[place + 1 - first]}"
        self._graph.insert_before(before, node)
        if first:
            whole = node.outputs[0]
            whole.type, whole.shape = site.type, site.shape
            site.replace_all_uses_with(whole, replace_graph_outputs=True)
        return _Bytes(node.outputs[first], node.outputs[first + 1])

    def _reshape(self, found: _Bytes, like: onnx_ir.Node, name: str) -> _Bytes:
        """Both in one row of tokens more, as the rows were."""
        shape = make_constant(self._graph, f"{name}.shape", np.array([1, -1, 1], np.int64))
        rows = onnx_ir.node("Reshape", [found.rows, like.inputs[1]])
        scale = onnx_ir.node("Reshape", [found.scale, shape])
        rows.outputs[0].name, scale.outputs[0].name = f"{name}.bytes.row", f"{name}.scale.row"
        self._graph.insert_before(like, [rows, scale])
        return _Bytes(rows.outputs[0], scale.outputs[0])


def _kind(node: onnx_ir.Node) -> str:
    return str(node.op_type).removesuffix("Bytes")


def _fits(node: onnx_ir.Node) -> bool:
    """Whether an operator takes the scales of its rows, and has none yet."""
    place = _SCALES.get(_kind(node))
    joined = _kind(node) != "Attention" or node.inputs[1] is None
    there = place is not None and place < len(node.inputs) and node.inputs[place] is not None
    return place is not None and joined and not there
