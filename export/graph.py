"""A torch module as an ONNX file: nothing in it but the graph and the weights.

Owns the call of torch's exporter, and takes out what it adds of this machine: stack traces and
paths in metadata, which would leak and make equal exports differ.
"""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir
import torch

from export.errors import UnsupportedModel
from export.halves import store_halves

# 20 is the first in which GELU is one node, not five.
OPSET = 20
# Protocol buffers end at 2 GiB; above this, weights lie beside the graph.
_LARGEST_FILE_BYTES = 2_000_000_000


def export_graph(
    module: torch.nn.Module,
    arguments: tuple[torch.Tensor, ...],
    *,
    inputs: Sequence[str],
    output: str,
    dynamic: tuple[dict[int, Any], ...],
    file: Path,
) -> onnx_ir.Model:
    """Export the module with named dynamic dimensions, write it to `file`, return the graph."""
    for name in ("torch.onnx", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module.eval(),
                arguments,
                dynamo=True,
                input_names=list(inputs),
                output_names=[output],
                dynamic_shapes=dynamic,
                opset_version=OPSET,
                verbose=False,
            )
        except Exception as error:
            raise UnsupportedModel(
                f"torch cannot export {file.stem}: {str(error).strip().splitlines()[0]}"
            ) from error
    if program is None:
        raise UnsupportedModel(f"torch gave no graph for {file.stem}")
    model: onnx_ir.Model = program.model
    store_halves(model)
    strip_metadata(model)
    save_graph(model, file)
    return model


def save_graph(model: onnx_ir.Model, file: Path) -> None:
    """Write a graph; weights that are too large for one file lie beside it, as FILE.data."""
    size = sum(value.const_value.nbytes for value in _weights(model))
    beside = f"{file.name}.data" if size > _LARGEST_FILE_BYTES else None
    onnx_ir.save(model, file, external_data=beside)


def weigh_graph(file: Path) -> int:
    """The bytes that a graph's weights take once they are loaded: halves are widened then."""
    return sum(
        value.const_value.nbytes * (2 if value.const_value.dtype == onnx_ir.DataType.FLOAT16 else 1)
        for value in _weights(onnx_ir.load(file))
    )


def strip_metadata(model: onnx_ir.Model) -> None:
    """Empty every field in which exporters leave notes."""
    model.metadata_props.clear()
    model.doc_string = None
    for graph in model.graphs():
        graph.metadata_props.clear()
        graph.doc_string = None
        values = [*graph.inputs, *graph.initializers.values()]
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None
            values += node.outputs
        for value in values:
            value.metadata_props.clear()
            value.doc_string = None


def _weights(model: onnx_ir.Model) -> list[Any]:
    return [value for value in model.graph.initializers.values() if value.const_value is not None]
