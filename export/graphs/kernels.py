"""The trunk's graph in the kernels' form: what lies between the products, as operators of our own.

The stream's texts reach attention by their starts, so the rows, their gathers and the mask fall
away; bias, residual and normalisation are one operator, bias and Gelu another (kernels/). Products
stay ONNX Runtime's own. What is not recognised stays as it was, and an attention that is not makes
the whole graph stay: it is proven like any other (export/proof), and never assumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from export.graphs.onnx_file import drop_unused, make_constant, read_constant
from models.engines.library import DOMAIN, VERSION

STARTS = "starts"
_ROWS = ("row_index", "row_sequence", "flat_index")


@dataclass(frozen=True, slots=True)
class Sight:
    """What a layer's attention sees: neighbours at most `window` away, or everything by None.

    `distance` [heads, 2 * reach + 1] is added to a score by how far the key stands from the query,
    from -reach to reach; further ones count as those.
    """

    window: int | None = None
    distance: NDArray[np.float32] | None = None


def rewrite(model: onnx_ir.Model, sights: Sequence[Sight], *, shared: bool = False) -> bool:
    """Put the operators into a flat trunk's graph; False where they do not fit, and it is spoiled.

    `sights` are those of the layers, in their order. Queries, keys and values of a layer come from
    one product. Its weights are new, or where they are to be `shared` with another graph put
    together of theirs whenever this one is loaded.
    """
    graph = model.graph
    nodes = [node for node in graph if node.op_type == "MultiHeadAttention"]
    found = [
        find_attention(node) if _is_masked(node, plain=sight.distance is None) else None
        for node, sight in zip(nodes, sights, strict=False)
    ]
    if not found or len(found) != len(sights) or any(each is None for each in found):
        return False
    model.opset_imports[DOMAIN] = VERSION
    starts = onnx_ir.Value(
        name=STARTS,
        type=onnx_ir.TensorType(onnx_ir.DataType.INT64),
        shape=onnx_ir.Shape(["starts"]),
    )
    graph.inputs.append(starts)
    writer = _Writer(graph, shared=shared)
    for attention, sight in zip(found, sights, strict=True):
        assert attention is not None
        writer.put_attention(attention, sight, starts)
    for node in list(graph):
        if node.op_type == "LayerNormalization":
            writer.put_norm(node)
        elif node.op_type == "Gelu":
            writer.put_gelu(node)
    return drop_rows(graph)


def drop_rows(graph: onnx_ir.Graph) -> bool:
    """Take the rows out of a graph's inputs; False where tokens see each other in them yet."""
    drop_unused(graph)
    rows = [value for value in graph.inputs if value.name in _ROWS]
    for value in rows:
        if not value.uses():
            graph.inputs.remove(value)
    return not any(value.uses() for value in rows)


@dataclass(frozen=True, slots=True)
class Attention:
    """The fused node; queries, keys and values of the stream, [tokens, width]; what it gives."""

    node: onnx_ir.Node
    sides: tuple[onnx_ir.Value, onnx_ir.Value, onnx_ir.Value]
    output: onnx_ir.Value


def find_attention(node: onnx_ir.Node) -> Attention | None:
    """The attention as export/graphs/trunk.py writes it, with its gathers on both sides."""
    sides = [_find_gathered(value) for value in node.inputs[:3]]
    (output,) = node.outputs
    (reshape,) = output.consumers() if len(output.consumers()) == 1 else (None,)
    if any(side is None for side in sides) or reshape is None or reshape.op_type != "Reshape":
        return None
    users = reshape.outputs[0].consumers()
    if len(users) != 1 or users[0].op_type != "Gather":
        return None
    q, k, v = sides
    assert q is not None
    assert k is not None
    assert v is not None
    return Attention(node, (q, k, v), users[0].outputs[0])


def _is_masked(node: onnx_ir.Node, *, plain: bool) -> bool:
    """Whether a mask is there; a `plain` one says nothing but which text a cell is of."""
    mask = node.inputs[5].producer() if len(node.inputs) > 5 and node.inputs[5] else None
    return mask is not None and (mask.op_type == "Where") is plain


def _find_gathered(value: onnx_ir.Value | None) -> onnx_ir.Value | None:
    """What rows were gathered from: Gather, then Reshape."""
    reshape = value.producer() if value is not None else None
    if reshape is None or reshape.op_type != "Reshape" or reshape.inputs[0] is None:
        return None
    gather = reshape.inputs[0].producer()
    return gather.inputs[0] if gather is not None and gather.op_type == "Gather" else None


@dataclass(frozen=True, slots=True)
class _Linear:
    """A product with constant weights [K, N], and the bias [N] that is added, if any."""

    input: onnx_ir.Value
    constant: onnx_ir.Value
    weights: NDArray[np.float32]
    bias: NDArray[np.float32] | None


class _Writer:
    """Puts the operators into a graph."""

    def __init__(self, graph: onnx_ir.Graph, *, shared: bool) -> None:
        self._graph = graph
        self._shared = shared
        self._count = 0

    def put_attention(self, found: Attention, sight: Sight, starts: onnx_ir.Value) -> None:
        attributes = {
            "num_heads": found.node.attributes["num_heads"].as_int(),
            "scale": found.node.attributes["scale"].as_float(),
            "window": -1 if sight.window is None else sight.window,
        }
        name = self._name("attention")
        linears = [each for each in map(_find_linear, found.sides) if each is not None]
        if len(linears) < 3 or any(each.input is not linears[0].input for each in linears):
            inputs = [*found.sides, None, starts, self._distance(sight)]
        else:
            product = self._multiply(linears, found.node, name)
            bias = self._add(linears, name)
            inputs = [product, None, None, bias, starts, self._distance(sight)]
        self._put("Attention", inputs, attributes, found.node, found.output, name)

    def _distance(self, sight: Sight) -> onnx_ir.Value | None:
        """The table of distances, which layers share."""
        if sight.distance is None:
            return None
        found = self._graph.initializers.get("kernels.distance")
        return found or make_constant(self._graph, "kernels.distance", sight.distance)

    def _multiply(
        self, linears: Sequence[_Linear], before: onnx_ir.Node, name: str
    ) -> onnx_ir.Value:
        """Several products of one input as one, their columns beside each other."""
        if self._shared:
            # Folded when the graph is loaded: the three themselves are not kept in memory.
            concat = onnx_ir.node("Concat", [each.constant for each in linears], {"axis": 1})
            (constant,) = concat.outputs
            constant.name = f"{name}.weights"
            self._graph.insert_before(before, concat)
        else:
            weights = np.concatenate([each.weights for each in linears], axis=1)
            constant = make_constant(self._graph, f"{name}.weights", weights)
        product = onnx_ir.node("MatMul", [linears[0].input, constant])
        product.outputs[0].name = f"{name}.product"
        self._graph.insert_before(before, product)
        return product.outputs[0]

    def _add(self, linears: Sequence[_Linear], name: str) -> onnx_ir.Value | None:
        """Their biases beside each other, None where there is none."""
        if all(each.bias is None for each in linears):
            return None
        biases = [
            np.zeros(each.weights.shape[1], np.float32) if each.bias is None else each.bias
            for each in linears
        ]
        return make_constant(self._graph, f"{name}.bias", np.concatenate(biases))

    def put_norm(self, node: onnx_ir.Node) -> None:
        """Take the addition before a normalisation in, where nothing else reads its sum."""
        total = node.inputs[0]
        addition = total.producer() if total is not None else None
        if total is None or addition is None or addition.op_type != "Add":
            return
        if len(total.uses()) != 1 or total.is_graph_output() or len(node.outputs) != 1:
            return
        sides = list(addition.inputs)
        if any(side is None or read_constant(side) is not None for side in sides):
            return
        bias = None
        for place, side in enumerate(sides):
            if (inner := _find_biased(side)) is not None:
                bias, sides[place] = inner[1], inner[0]
                sides = [sides[place], sides[1 - place]]
                break
        gamma, beta = (*node.inputs, None)[1:3]
        inputs = [sides[0], bias, sides[1], gamma, beta]
        epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
        name = self._name("norm")
        self._put("AddNorm", inputs, {"epsilon": epsilon}, node, node.outputs[0], name)

    def put_gelu(self, node: onnx_ir.Node) -> None:
        """Take the bias before a Gelu in."""
        given = node.inputs[0]
        inner = _find_biased(given)
        y, bias = inner if inner is not None else (given, None)
        told = node.attributes.get("approximate")
        tanh = told is not None and told.as_string() == "tanh"
        name = self._name("gelu")
        self._put("Gelu", [y, bias], {"approximate": int(tanh)}, node, node.outputs[0], name)

    def _put(  # noqa: PLR0917 - all of them are of one node
        self,
        kind: str,
        inputs: Sequence[onnx_ir.Value | None],
        attributes: dict[str, Any],
        before: onnx_ir.Node,
        instead: onnx_ir.Value,
        name: str,
    ) -> None:
        while inputs[-1] is None:
            inputs = inputs[:-1]
        node = onnx_ir.node(kind, list(inputs), attributes, domain=DOMAIN)
        output = node.outputs[0]
        output.name, output.type, output.shape = name, instead.type, instead.shape
        self._graph.insert_before(before, node)
        instead.replace_all_uses_with(output, replace_graph_outputs=True)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"kernels.{kind}.{self._count}"


def _find_biased(value: onnx_ir.Value | None) -> tuple[onnx_ir.Value, onnx_ir.Value] | None:
    """A sum of something and a constant row, which nothing else reads: both of them."""
    node = value.producer() if value is not None else None
    if value is None or node is None or node.op_type != "Add" or len(value.uses()) != 1:
        return None
    for one, other in (node.inputs, reversed(node.inputs)):
        numbers = read_constant(other)
        if one is not None and other is not None and numbers is not None and numbers.ndim == 1:
            return one, other
    return None


def _find_linear(value: onnx_ir.Value | None) -> _Linear | None:
    """What a side of attention is a linear layer of, through the reshapes between them."""
    node = _find_alone(value)
    while node is not None and node.op_type == "Reshape":
        value = node.inputs[0]
        node = _find_alone(value)
    biased = _find_biased(value)
    bias = None
    if biased is not None:
        value, row = biased
        bias = read_constant(row)
        node = _find_alone(value)
    if value is None or node is None or node.op_type != "MatMul" or node.inputs[0] is None:
        return None
    constant = node.inputs[1]
    weights = read_constant(constant)
    if constant is None or weights is None or weights.ndim != 2:
        return None
    return _Linear(node.inputs[0], constant, weights, bias)


def _find_alone(value: onnx_ir.Value | None) -> onnx_ir.Node | None:
    """What makes a value that one node reads."""
    return value.producer() if value is not None and len(value.uses()) == 1 else None
