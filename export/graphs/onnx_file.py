"""A torch module as an ONNX file: nothing in it but the graph and the weights.

Owns the call of torch's exporter, and takes out what it adds of this machine: stack traces and
paths in metadata, which would leak and make equal exports differ, and the build of torch. What
made a graph is this exporter, by name and version.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import onnx_ir
import torch
from numpy.typing import NDArray

from export.errors import UnsupportedModel
from export.graphs.halves import store_halves

PRODUCER, VERSION = "cloze", "0.1.0"
# 20 is the first in which GELU is one node, not five.
OPSET = 20
# Protocol buffers end at 2 GiB; above this, weights lie beside the graph.
_LARGEST_FILE_BYTES = 2_000_000_000
# Above this, a graph is not put together in memory before it is written.
_STREAMED_BYTES = 256_000_000


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
                f"torch cannot export {file.stem}: {_find_cause(error)}"
            ) from error
    if program is None:
        raise UnsupportedModel(f"torch gave no graph for {file.stem}")
    model: onnx_ir.Model = program.model
    store_halves(model)
    strip_metadata(model)
    save_graph(model, file)
    return model


def _find_cause(error: BaseException) -> str:
    """The first line of what began it: torch's own error tells what to do for torch's sake."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def save_graph(model: onnx_ir.Model, file: Path) -> None:
    """Write a graph as ours; weights too large for one file lie beside it, as FILE.data."""
    model.producer_name, model.producer_version = PRODUCER, VERSION
    size = sum(value.const_value.nbytes for value in _weights(model))
    if size > _LARGEST_FILE_BYTES:
        onnx_ir.save(model, file, external_data=f"{file.name}.data")
    elif size > _STREAMED_BYTES:
        _stream(model, file)
    else:
        onnx_ir.save(model, file)


def _stream(model: onnx_ir.Model, file: Path) -> None:
    """Write a large graph weight by weight: at no time is all of it in memory a second time.

    A message that comes in several parts is read as one: fields that repeat, as initializers do,
    are joined (protobuf.dev, "Encoding", last one wins and merging).
    """
    initializers = model.graph.initializers
    weights = dict(initializers)
    initializers.clear()
    try:
        with file.open("wb") as stream:
            stream.write(onnx_ir.to_proto(model).SerializeToString(deterministic=True))
            for name, value in weights.items():
                part = onnx.ModelProto()
                part.graph.initializer.append(onnx_ir.to_proto(value.const_value))
                part.graph.initializer[0].name = name
                stream.write(part.SerializeToString(deterministic=True))
    finally:
        initializers.update(weights)


def weigh_graph(file: Path) -> int:
    """The bytes that a graph's weights take once they are loaded: halves are widened then.

    Reads sizes and types alone, by the wire format (protobuf.dev, "Encoding"), and steps over the
    numbers themselves.
    """
    with file.open("rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        graphs = [span for field, span in _list_fields(stream, end) if field == _GRAPH]
        tensors = [
            span
            for start, stop in graphs
            for field, span in _list_fields(stream, stop, start)
            if field == _INITIALIZER
        ]
        return sum(_weigh_tensor(stream, *span) for span in tensors)


# Of onnx.proto: ModelProto.graph, GraphProto.initializer, TensorProto.dims and data_type.
_GRAPH, _INITIALIZER, _DIMS, _TYPE = 7, 5, 1, 2


def _weigh_tensor(stream: BinaryIO, start: int, stop: int) -> int:
    count, kind = 1, 0
    for field, (first, last) in _list_fields(stream, stop, start):
        if field == _DIMS:
            stream.seek(first)
            while stream.tell() < last:
                count *= _read_number(stream)
        elif field == _TYPE:
            stream.seek(first)
            kind = _read_number(stream)
    width = onnx_ir.DataType(kind).itemsize
    return int(count * (4 if kind == onnx_ir.DataType.FLOAT16 else width))


def _list_fields(
    stream: BinaryIO, stop: int, start: int = 0
) -> Iterator[tuple[int, tuple[int, int]]]:
    """The fields of a message: their numbers, and from where to where their values stand."""
    place = start
    while place < stop:
        stream.seek(place)
        tag = _read_number(stream)
        first = stream.tell()
        match tag & 7:
            case 0:
                _read_number(stream)
                place = stream.tell()
            case 1:
                place = first + 8
            case 2:
                length = _read_number(stream)
                first = stream.tell()
                place = first + length
            case _:
                place = first + 4
        yield tag >> 3, (first, place)


def _read_number(stream: BinaryIO) -> int:
    """A number of seven bits a byte, the lowest first."""
    number = shift = 0
    while True:
        byte = stream.read(1)[0]
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number


def read_constant(value: onnx_ir.Value | None) -> NDArray[np.float32] | None:
    """The numbers of an initializer, also of one that is stored in half precision."""
    if value is None:
        return None
    producer = value.producer()
    if producer is not None and producer.op_type == "Cast":
        value = producer.inputs[0]
    if value is None or value.producer() is not None or value.const_value is None:
        return None
    numbers = value.const_value.numpy()
    if numbers.dtype not in (np.float32, np.float16):
        return None
    single: NDArray[np.float32] = numbers.astype(np.float32)
    return single


def make_constant(graph: onnx_ir.Graph, name: str, numbers: NDArray[Any]) -> onnx_ir.Value:
    """A new initializer of the graph."""
    tensor = onnx_ir.tensor(numbers, name=name)
    value = onnx_ir.Value(
        name=name,
        type=onnx_ir.TensorType(tensor.dtype),
        shape=tensor.shape,
        const_value=tensor,
    )
    graph.initializers[name] = value
    return value


def drop_unused(graph: onnx_ir.Graph) -> None:
    """Take out what no output needs any more, nodes and weights."""
    for node in reversed(list(graph)):
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


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
