"""The trunk in half precision, for GPUs: weights and arithmetic in fp16, inputs and output as ever.

The conversion is ONNX Runtime's own (onnxruntime.transformers.float16). Processors without such
kernels compute it in single precision between the same rounded weights.
"""

import logging
from pathlib import Path

import onnx
import onnx_ir
from onnxruntime.transformers.float16 import convert_float_to_float16

from export.graphs.onnx_file import save_graph, strip_metadata


def narrow(source: Path, target: Path) -> None:
    """Write the graph at `source` in fp16; its output stays float."""
    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    model = onnx.load(source)
    converted = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)
    graph = onnx_ir.from_proto(converted)
    strip_metadata(graph)
    save_graph(graph, target)
