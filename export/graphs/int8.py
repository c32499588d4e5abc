"""The trunk in int8 for CPUs: products of bytes, scaled token by token.

Every product with a constant matrix becomes `MatMulIntegerToFloat` (ONNX Runtime's com.microsoft
domain) of unsigned bytes by signed ones. Each token has a scale of its own, the largest value of
its row, so that an answer never depends on who shares the batch; each column of the weights has
its own too. The zero point is always 128: kernels of u8 x s8 with it are the fast ones.

Where a few channels of an activation are far larger than the others, a row's scale is theirs, and
the others lose digits. There the channels are evened out beforehand by factors that go into the
weights (SmoothQuant, Xiao et al. 2023, arXiv:2211.10438), with the exponent that measures best on
the site's own activations, if it pays for the pass over memory that it costs.

Attention, normalisations and embeddings stay in single precision. Owns no threshold:
export/proof/comparison compares what comes out.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import torch
from numpy.typing import NDArray

from export.graphs.onnx_file import drop_unused, make_constant, read_constant, save_graph
from export.graphs.rounding import round_columns

# Whose MatMulIntegerToFloat is.
_DOMAIN = "com.microsoft"
_EXPONENTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
# The kernels even channels out as they write them; here it costs a pass over the activations.
_WORTH = 0.9
_ROWS_OF_A_TEXT = 32
_MOST_ROWS = 2048
_MOST_BYTES = 400_000_000
_LEAST_SCALE = 1e-10

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Narrow:
    """Weights [K, N] as bytes, the scale of each column, and what channels are divided by, if."""

    weights: NDArray[np.int8]
    scales: Floats
    factors: Floats | None


class Inputs:
    """Rows [n, K] that linear layers are given, and what became of the weights by them.

    Rows are found by the digest of a layer's weights [K, N].
    """

    def __init__(self, rows: Mapping[str, Floats] | None = None) -> None:
        self._rows = dict(rows or {})
        self._made: dict[str, Narrow] = {}

    def find(self, weights: Floats) -> Floats | None:
        """The rows that these weights are multiplied with, None where they are not known."""
        return self._rows.get(digest(weights))

    def narrow(self, weights: Floats, given: Floats) -> Narrow:
        """The weights as bytes, for such rows; the same ones only once, for both forms of a graph.

        Not the caller's own.
        """
        key = digest(weights)
        if key not in self._made:
            factors = choose_factors(given, weights)
            if factors is not None:
                weights, given = weights * factors[:, None], given / factors
            self._made[key] = Narrow(*quantize_columns(weights, given), factors)
        return self._made[key]


class Watcher:
    """Collects what a model's linear layers are given: some rows of each text, by their weights."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._layers = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear)
        }
        self._rows: dict[str, list[Floats]] = {name: [] for name in self._layers}
        self._room = _MOST_BYTES

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Look on while texts are computed."""
        handles = [
            module.register_forward_pre_hook(self._make_hook(name))
            for name, module in self._layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def inputs(self) -> Inputs:
        """What was seen."""
        found: dict[str, list[Floats]] = {}
        for name, rows in self._rows.items():
            if rows:
                weights = self._layers[name].weight.detach().numpy().T
                found.setdefault(digest(weights), []).extend(rows)
        return Inputs({key: np.concatenate(rows) for key, rows in found.items()})

    def _make_hook(self, name: str) -> Any:
        def keep(_: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            rows = arguments[0].detach().reshape(-1, arguments[0].shape[-1])
            step = max(1, len(rows) // _ROWS_OF_A_TEXT)
            some: Floats = rows[::step].numpy().astype(np.float32, copy=True)
            held = sum(map(len, self._rows[name]))
            if self._room >= some.nbytes and held < _MOST_ROWS:
                self._room -= some.nbytes
                self._rows[name].append(some)

        return keep


@dataclass(frozen=True, slots=True)
class _Product:
    """A product of the graph: its node, its weights [K, N], and the bias that is added, if any."""

    node: onnx_ir.Node
    weights: Floats
    bias: Floats | None
    output: onnx_ir.Value


def quantize(source: Path, target: Path, inputs: Inputs) -> int:
    """Write the graph at `source` with its products in int8, and return how many there are.

    `inputs` are a Watcher's; products whose weights it does not know stay as they are.
    """
    model = onnx_ir.load(source)
    model.opset_imports.setdefault(_DOMAIN, 1)  # a padded trunk names none but ONNX's own
    graph = model.graph
    sites: dict[onnx_ir.Value, list[_Product]] = {}
    known: dict[onnx_ir.Value, Floats] = {}
    for node in graph:
        product = _find_product(node)
        if product is None or (given := inputs.find(product.weights)) is None:
            continue
        (site, _) = node.inputs
        if site is not None:
            sites.setdefault(site, []).append(product)
            known.setdefault(site, given)
    writer = _Writer(graph, inputs)
    for site, products in sites.items():
        writer.replace(site, products, known[site])
    drop_unused(graph)
    save_graph(model, target)
    return sum(len(products) for products in sites.values())


def _find_product(node: onnx_ir.Node) -> _Product | None:
    if node.op_type != "MatMul" or node.domain:
        return None
    weights = read_constant(node.inputs[1])
    if weights is None or weights.ndim != 2:
        return None
    output = node.outputs[0]
    users = [user for user, _ in output.uses()]
    if len(users) == 1 and users[0].op_type == "Add":
        (other,) = [value for value in users[0].inputs if value is not output]
        bias = read_constant(other)
        if bias is not None and bias.ndim == 1:
            return _Product(node, weights, bias, users[0].outputs[0])
    return _Product(node, weights, None, output)


class _Writer:
    """Puts the nodes of int8 products into a graph."""

    def __init__(self, graph: onnx_ir.Graph, inputs: Inputs) -> None:
        self._graph = graph
        self._inputs = inputs
        self._count = 0
        self._unit = self._constant("int8.unit", np.array(1 / 127, np.float32))
        self._zero = self._constant("int8.zero", np.array(128, np.uint8))
        self._least = self._constant("int8.least", np.array(_LEAST_SCALE, np.float32))
        self._last = self._constant("int8.last_axis", np.array([-1], np.int64))

    def replace(self, site: onnx_ir.Value, products: Sequence[_Product], given: Floats) -> None:
        """Let the products of one input be computed by one, and take their outputs apart again."""
        name = f"int8.{self._count}"
        self._count += 1
        first = min(
            (product.node for product in products),
            key=lambda node: list(self._graph).index(node),
        )
        weights = np.concatenate([product.weights for product in products], axis=1)
        narrow = self._inputs.narrow(weights, given)
        nodes: list[onnx_ir.Node] = []

        def put(kind: str, *inputs: onnx_ir.Value, **attributes: Any) -> onnx_ir.Value:
            domain = _DOMAIN if kind == "MatMulIntegerToFloat" else ""
            node = onnx_ir.node(kind, list(inputs), attributes, domain=domain)
            node.outputs[0].name = f"{name}.{len(nodes)}"
            nodes.append(node)
            return node.outputs[0]

        rows = site
        if narrow.factors is not None:
            inverse = self._constant(f"{name}.factors", (1 / narrow.factors).astype(np.float32))
            rows = put("Mul", site, inverse)
        scale = put("Max", put("ReduceMax", put("Abs", rows), self._last, keepdims=1), self._least)
        bytes_ = put("QuantizeLinear", put("Div", rows, scale), self._unit, self._zero)
        product = put(
            "MatMulIntegerToFloat",
            bytes_,
            self._constant(f"{name}.weights", narrow.weights),
            self._unit,
            self._constant(f"{name}.scales", narrow.scales),
            self._zero,
        )
        whole = put("Mul", product, scale)
        if any(each.bias is not None for each in products):
            biases = [
                np.zeros(each.weights.shape[1], np.float32) if each.bias is None else each.bias
                for each in products
            ]
            whole = put("Add", whole, self._constant(f"{name}.bias", np.concatenate(biases)))
        outputs = [whole]
        if len(products) > 1:
            sizes = np.array([each.weights.shape[1] for each in products], np.int64)
            split = onnx_ir.node(
                "Split",
                [whole, self._constant(f"{name}.sizes", sizes)],
                {"axis": -1},
                num_outputs=len(products),
            )
            nodes.append(split)
            outputs = list(split.outputs)
        self._graph.insert_before(first, nodes)
        for each, output in zip(products, outputs, strict=True):
            output.name = f"{name}.{each.output.name}"
            output.type, output.shape = each.output.type, each.output.shape
            each.output.replace_all_uses_with(output)

    def _constant(self, name: str, numbers: NDArray[Any]) -> onnx_ir.Value:
        return make_constant(self._graph, name, numbers)


def choose_factors(given: Floats, weights: Floats) -> Floats | None:
    """What each of the K channels is divided by, [K], or None where that would gain too little.

    `given` [n, K] are rows that the weights [K, N] are multiplied with.
    """
    wanted = given @ weights
    best = _measure_error(given, weights, wanted) * _WORTH
    chosen: Floats | None = None
    largest = np.maximum(np.abs(given).max(axis=0), 1e-5)
    heaviest = np.maximum(np.abs(weights).max(axis=1), 1e-5)
    for exponent in _EXPONENTS:
        factors = largest**exponent / heaviest ** (1 - exponent)
        factors /= np.exp(np.log(factors).mean())
        error = _measure_error(given / factors, weights * factors[:, None], wanted)
        if error < best:
            best, chosen = error, factors.astype(np.float32)
    return chosen


def quantize_columns(
    weights: Floats, given: Floats | None = None
) -> tuple[NDArray[np.int8], Floats]:
    """Weights [K, N] as signed bytes, and the scale of each column [N].

    Rounded for rows like those `given` [n, K], or to the nearest.
    """
    scales = np.maximum(np.abs(weights).max(axis=0) / 127, 1e-12).astype(np.float32)
    known = weights[:0].T if given is None else given
    return round_columns(weights, scales, known), scales


def _measure_error(given: Floats, weights: Floats, wanted: Floats) -> float:
    """The mean square of what is wrong where rows become bytes as the kernels make them."""
    low = np.minimum(given.min(axis=1, keepdims=True), 0)
    high = np.maximum(given.max(axis=1, keepdims=True), 0)
    step = np.maximum(high - low, _LEAST_SCALE) / 255
    rounded = np.round(given / step) * step
    quantized, columns = quantize_columns(weights)
    found = rounded @ (quantized * columns)
    return float(np.square(found - wanted).mean())


def digest(weights: Floats) -> str:
    """What a layer's weights are told apart by."""
    return hashlib.sha256(np.ascontiguousarray(weights).tobytes()).hexdigest()
