"""A real graph whose run lasts as long as it is let: a loop of small products."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save_model

from models.errors import ClozeError
from tests.helpers.server import PATIENCE_S

_WIDTH = 8
_SHAPE = [_WIDTH, _WIDTH]


def make_endless(file: Path, *, counted: bool = False) -> Path:
    """Write it: without an input and without an end or, `counted`, of the steps in `count`."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("MatMul", ["state", "turn"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, _SHAPE),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, _SHAPE),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["count" if counted else "", "on", "turn"], ["end"], body=body)],
        "endless",
        [helper.make_tensor_value_info("count", TensorProto.INT64, [])] if counted else [],
        [helper.make_tensor_value_info("end", TensorProto.FLOAT, _SHAPE)],
        [
            numpy_helper.from_array(np.eye(_WIDTH, dtype=np.float32), "turn"),
            numpy_helper.from_array(np.array(True), "on"),  # noqa: FBT003
        ],
    )
    opsets = [helper.make_opsetid("", 20)]
    save_model(helper.make_model(graph, opset_imports=opsets, ir_version=10), file)
    return file


def run_until_stopped(run: Callable[[], Any], stop: Callable[[], None]) -> ClozeError:
    """The error with which an endless `run` ends in a thread of its own, once it is stopped.

    Stops again and again: when the run begins cannot be told from outside.
    """
    raised: list[ClozeError] = []

    def catch() -> None:
        try:
            run()
        except ClozeError as error:
            raised.append(error)

    thread = threading.Thread(target=catch, daemon=True)
    thread.start()
    for _ in range(round(PATIENCE_S / 0.01)):
        stop()
        thread.join(0.01)
        if not thread.is_alive():
            (error,) = raised
            return error
    raise AssertionError("not stopped within a minute")
