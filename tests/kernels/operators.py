"""One operator of ours in a graph of its own, and what it should give, in double precision."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.engines.library import DOMAIN, choose_instructions, require_kernels

_TYPES = {
    "float32": TensorProto.FLOAT,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bfloat16": TensorProto.BFLOAT16,
}
Arrays = Mapping[str, NDArray[Any] | None]


def open_operator(
    name: str, inputs: Arrays, outputs: Sequence[str], *, threads: int = 2, **attributes: Any
) -> Any:
    """A session with one node; of inputs that are None the operator is given nothing.

    Of `outputs` the types; bfloat16 comes out as float32, and so may go in.
    """
    given = {key: value for key, value in inputs.items() if value is not None}
    nodes, names, casts = [], [], []
    for key, value in given.items():
        if str(value.dtype) == "bfloat16":
            casts.append(helper.make_node("Cast", [f"{key}.whole"], [key], to=_TYPES["bfloat16"]))
    for place, kind in enumerate(outputs):
        names.append(f"out{place}" if kind != "bfloat16" else f"half{place}")
        if kind == "bfloat16":
            cast = helper.make_node("Cast", [f"half{place}"], [f"out{place}"], to=TensorProto.FLOAT)
            nodes.append(cast)
    node = helper.make_node(
        name,
        [key if value is not None else "" for key, value in inputs.items()],
        names,
        domain=DOMAIN,
        **attributes,
    )
    graph = helper.make_graph(
        [*casts, node, *nodes],
        "one",
        [
            helper.make_tensor_value_info(name, _TYPES[str(value.dtype)], [None] * value.ndim)
            for name, value in _widen(given).items()
        ],
        [
            helper.make_tensor_value_info(
                f"out{place}", _TYPES["float32" if kind == "bfloat16" else kind], None
            )
            for place, kind in enumerate(outputs)
        ],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)],
        ir_version=10,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.register_custom_ops_library(str(require_kernels().path))
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def run_operator(
    name: str, inputs: Arrays, outputs: Sequence[str], *, threads: int = 2, **attributes: Any
) -> list[NDArray[Any]]:
    """What the operator gives. Raises what ONNX Runtime does where it refuses its inputs."""
    session = open_operator(name, inputs, outputs, threads=threads, **attributes)
    feeds = _widen({key: value for key, value in inputs.items() if value is not None})
    found: list[NDArray[Any]] = session.run([f"out{place}" for place in range(len(outputs))], feeds)
    return found


def _widen(given: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """What a session is fed: NumPy has no bfloat16 that it would take."""
    return {
        f"{key}.whole" if str(value.dtype) == "bfloat16" else key: (
            value.astype(np.float32) if str(value.dtype) == "bfloat16" else value
        )
        for key, value in given.items()
    }


@contextmanager
def using(instructions: str) -> Iterator[None]:
    """Have the operators use those instructions meanwhile."""
    best = require_kernels().instructions
    choose_instructions(instructions)
    try:
        yield
    finally:
        choose_instructions(best)


def attend(  # noqa: PLR0917 - as the operator has them
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    starts: Sequence[int],
    heads: int,
    scale: float,
    window: int = -1,
    distance: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """Attention of each text to itself, head by head."""
    q, k, v = (side.astype(np.float64) for side in (q, k, v))
    size = q.shape[1] // heads
    out = np.zeros_like(q)
    for start, stop in pairwise(starts):
        for head in range(heads):
            part = np.s_[start:stop, head * size : (head + 1) * size]
            scores = q[part] @ k[part].T * scale
            away = np.arange(stop - start)[None, :] - np.arange(stop - start)[:, None]
            if distance is not None:
                reach = distance.shape[1] // 2
                scores += distance[head, np.clip(away, -reach, reach) + reach]
            if window >= 0:
                scores = np.where(np.abs(away) <= window, scores, -np.inf)
            if stop > start:
                weights = np.exp(scores - scores.max(axis=1, keepdims=True))
                out[part] = weights / weights.sum(axis=1, keepdims=True) @ v[part]
    return out
