"""Single nodes in ONNX Runtime, beside what they were chosen instead of: docs/architecture.md.

Each pair computes the same values from the same inputs, which is checked before it is timed; the
shapes are those of a batch of about 512 tokens of MiniLM, with three to four texts a row.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

TOKENS, HIDDEN, INNER, HEADS = 512, 384, 1536, 12
ROWS, WIDTH = 5, 120
_ROUNDS, _RUNS = 5, 40
_OURS = {"session.set_denormal_as_zero": "1", "session.intra_op.spin_duration_us": "200"}

Arrays = Mapping[str, NDArray[Any]]


def main() -> None:
    """Print microseconds a node for each choice and its alternative."""
    table = Table(title="microseconds a node, 2 threads, best of rounds")
    for column in ("choice", "µs", "instead of", "µs", "ratio"):
        table.add_column(column)
    for name, ours, other_name, other in (_attention(), _normalisation(), _gelu()):
        same = np.abs(_run_once(ours) - _run_once(other)).max()
        if not same < 1e-4:
            raise SystemExit(f"{name} and {other_name} differ by {same}")
        mine, theirs = _time([ours, other])
        ratio = f"{theirs / mine:.2f}"
        table.add_row(name, f"{mine:.0f}", other_name, f"{theirs:.0f}", ratio)
    Console().print(table)


Case = tuple[onnxruntime.InferenceSession, Arrays]


def _attention() -> tuple[str, Case, str, Case]:
    random = np.random.default_rng(0)
    sides = {key: random.standard_normal((ROWS, WIDTH, HIDDEN)).astype(np.float32) for key in "qkv"}
    texts = np.sort(random.integers(1, 5, (ROWS, WIDTH)), axis=1)
    same = texts[:, None, :, None] == texts[:, None, None, :]
    feeds = {**sides, "bias": np.where(same, 0, np.finfo(np.float32).min).astype(np.float32)}
    nodes = [
        helper.make_node(
            "MultiHeadAttention",
            ["q", "k", "v", "", "", "bias"],
            ["y"],
            domain="com.microsoft",
            num_heads=HEADS,
        )
    ]
    default = {**_OURS, "session.set_denormal_as_zero": "0"}
    return (
        "attention, denormals as zero",
        (_session(nodes, feeds, {}), feeds),
        "denormals kept",
        (_session(nodes, feeds, {}, config=default), feeds),
    )


def _normalisation() -> tuple[str, Case, str, Case]:
    random = np.random.default_rng(0)
    feeds = {key: random.standard_normal((1, TOKENS, HIDDEN)).astype(np.float32) for key in "xr"}
    weights = {key: random.standard_normal(HIDDEN).astype(np.float32) for key in "gb"}
    plain = [
        helper.make_node("Add", ["x", "r"], ["s"]),
        helper.make_node("LayerNormalization", ["s", "g", "b"], ["y"], epsilon=1e-12),
    ]
    fused = [
        helper.make_node(
            "SkipLayerNormalization",
            ["x", "r", "g", "b"],
            ["y"],
            domain="com.microsoft",
            epsilon=1e-12,
        )
    ]
    return (
        "Add, LayerNormalization",
        (_session(plain, feeds, weights, disabled=["SkipLayerNormFusion"]), feeds),
        "SkipLayerNormalization",
        (_session(fused, feeds, weights), feeds),
    )


def _gelu() -> tuple[str, Case, str, Case]:
    random = np.random.default_rng(0)
    feeds = {"x": random.standard_normal((TOKENS, INNER)).astype(np.float32)}
    weights = {"b": random.standard_normal(INNER).astype(np.float32)}
    one_node = [
        helper.make_node("Add", ["x", "b"], ["s"]),
        helper.make_node("Gelu", ["s"], ["y"]),
    ]
    constants = {name: np.float32(value) for name, value in (("r", 2**0.5), ("o", 1), ("h", 0.5))}
    five_nodes = [
        helper.make_node("Add", ["x", "b"], ["s"]),
        helper.make_node("Div", ["s", "r"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "o"], ["e1"]),
        helper.make_node("Mul", ["h", "e1"], ["m"]),
        helper.make_node("Mul", ["s", "m"], ["y"]),
    ]
    return (
        "Add, Gelu",
        (_session(one_node, feeds, weights), feeds),
        "Add, Div, Erf, Add, Mul, Mul",
        (_session(five_nodes, feeds, {**weights, **constants}), feeds),
    )


def _session(
    nodes: Sequence[NodeProto],
    feeds: Arrays,
    weights: Mapping[str, Any],
    *,
    config: Mapping[str, str] = _OURS,
    disabled: Sequence[str] = (),
) -> onnxruntime.InferenceSession:
    graph = helper.make_graph(
        nodes,
        "kernels",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * value.ndim)
            for name, value in feeds.items()
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    for key, value in config.items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(
        model.SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=list(disabled),
    )


def _run_once(case: Case) -> NDArray[np.float32]:
    session, feeds = case
    output: NDArray[np.float32] = session.run(None, dict(feeds))[0]
    return output


def _time(cases: Sequence[Case]) -> list[float]:
    """Microseconds of one run of each case: the best of interleaved rounds."""
    best = [float("inf")] * len(cases)
    for _ in range(_ROUNDS):
        for place, case in enumerate(cases):
            _run_once(case)
            began = time.perf_counter()
            for _ in range(_RUNS):
                _run_once(case)
            best[place] = min(best[place], (time.perf_counter() - began) / _RUNS * 1e6)
    return best


if __name__ == "__main__":
    main()
