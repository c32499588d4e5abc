"""A graph whose weights stand in another graph's file, put together in memory.

A runtime would map that file for as long as it runs, and fall when somebody writes into it.
"""

import math
import mmap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePath

from models.lens import wire
from models.lens.graph import Graph, Tensor, open_graph, write_tensor
from models.lens.panels import PANELS, spread_panels
from models.lens.wire import Buffer, WireError, write_field

_GRAPH, _INITIALIZER = 7, 5
# The bytes of a number of panels, by its type in ONNX: floats, signed bytes, halves.
_SIZES = {1: 4, 3: 1, 10: 2}


def join_weights(file: Path) -> bytes | None:
    """All of the graph in one message; None where none of its weights stand in another graph.

    Raises WireError for a file that is no graph, or one whose weights are not where it says, and
    OSError where one cannot be read. Only files right beside it are looked into.
    """
    with ExitStack() as stack:
        graph = stack.enter_context(open_graph(file))
        outside = {each.file for each in graph.weights.values() if each.file.endswith(".onnx")}
        if not outside:
            return None
        sources: dict[str, Buffer] = {}
        for name in sorted(outside):
            if PurePath(name).name != name:
                raise WireError(f"{file.name} has weights in {name!r}, which is not beside it")
            stream = stack.enter_context((file.parent / name).open("rb"))
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            sources[name] = stack.enter_context(mapped)
        return b"".join(_join(graph, sources))


def _join(graph: Graph, sources: dict[str, Buffer]) -> Iterator[bytes]:
    """The message in parts, which are read as one: what repeats is joined."""
    data = graph.data
    places = {tensor.span: tensor for tensor in graph.weights.values()}
    for outer in wire.list_fields(data, 0, len(data)):
        if outer.number != _GRAPH:
            yield data[outer.begin : outer.stop]
            continue
        for each in wire.list_fields(data, outer.start, outer.stop):
            tensor = places.get((each.begin, each.stop)) if each.number == _INITIALIZER else None
            if tensor is None or tensor.file not in sources:
                yield write_field(_GRAPH, data[each.begin : each.stop])
            else:
                yield write_field(_GRAPH, write_tensor(tensor, _read(tensor, sources)))


def _read(tensor: Tensor, sources: dict[str, Buffer]) -> bytes:
    source, length = sources[tensor.file], tensor.length or 0
    if tensor.start < 0 or tensor.start + length > len(source):
        raise WireError(f"the weight {tensor.name!r} is beyond the end of {tensor.file}")
    numbers = source[tensor.start : tensor.start + length]
    size = _SIZES.get(tensor.type)
    if size is not None and len(tensor.shape) == len(PANELS):
        if math.prod(tensor.shape) * size != length:
            raise WireError(f"the weight {tensor.name!r} has not the size that it says")
        return spread_panels(numbers, tensor.shape, size)
    return numbers
