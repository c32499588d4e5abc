"""Stores weights as half-precision numbers where that loses nothing.

A checkpoint in fp16 widened to fp32 holds nothing but numbers that fp16 can tell: stored as such,
the file is half as large. A Cast widens them again, once, when the session is made: a runtime
computes what is constant before the first request. Weights with any number that fp16 cannot tell
stay as they are, so the graph computes the same to the last bit either way.
"""

import numpy as np
import onnx_ir
from numpy.typing import NDArray

_SMALLEST = 1024  # numbers; below it the node costs more than the file saves


def store_halves(model: onnx_ir.Model) -> int:
    """Narrow the initializers that fp16 can tell exactly; returns how many were."""
    graph = model.graph
    narrowed = 0
    for name, value in list(graph.initializers.items()):
        if value.const_value is None or value.const_value.dtype != onnx_ir.DataType.FLOAT:
            continue
        halves = _narrow(value.const_value.numpy())
        if halves is None:
            continue
        stored = onnx_ir.Value(
            name=f"{name}.half",
            type=onnx_ir.TensorType(onnx_ir.DataType.FLOAT16),
            shape=value.shape,
            const_value=onnx_ir.tensor(halves, name=f"{name}.half"),
        )
        widen = onnx_ir.node("Cast", [stored], {"to": int(onnx_ir.DataType.FLOAT)})
        value.replace_all_uses_with(widen.outputs[0])
        del graph.initializers[name]
        widen.outputs[0].name = name
        widen.outputs[0].type, widen.outputs[0].shape = value.type, value.shape
        graph.initializers[stored.name] = stored
        graph.insert_before(graph[0], widen)
        narrowed += 1
    return narrowed


def _narrow(weights: NDArray[np.float32]) -> NDArray[np.float16] | None:
    if weights.size < _SMALLEST:
        return None
    with np.errstate(over="ignore"):
        halves = weights.astype(np.float16)
    # Bit by bit: -0.0 and NaN are told apart from what merely compares equal.
    same = np.array_equal(halves.astype(np.float32).view(np.uint32), weights.view(np.uint32))
    return halves if same else None
