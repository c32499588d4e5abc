"""What is in the file of a graph: nodes, weights by name and place; and a part of it as a graph.

Owns the fields of onnx.proto that are asked for here. The numbers of the weights are neither read
nor copied: a part says of each where in the file it stands, for a runtime to map it from there.
"""

import mmap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.lens import wire
from models.lens.wire import Buffer, Field, WireError, write_field

# Of ModelProto and GraphProto.
_GRAPH = 7
_NODE, _NAME, _INITIALIZER, _INPUT, _OUTPUT = 1, 2, 5, 11, 12
# Of NodeProto and AttributeProto.
_NODE_INPUT, _NODE_OUTPUT, _OPERATION, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_NAME, _FLOAT, _INTEGER, _SUBGRAPH, _SUBGRAPHS = 1, 2, 3, 6, 11
# Of TensorProto, and its values.
_DIMS, _TYPE, _TENSOR_NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 8, 9, 13, 14
_OUTSIDE = 1
# How many inputs a node has at least, of those whose inputs are asked for by place.
_LEAST = {"Gather": 2, "Cast": 1}
# What is smaller is copied: a runtime wants to read the numbers that shapes are made of.
_SMALL_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Tensor:
    """A weight: its name, shape and type by onnx's numbers, and where its numbers stand.

    That is `start : start + length` of the file of that name beside the graph's, of the graph's own
    where `file` is empty. Without `length` they are written some other way.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    file: str
    start: int
    length: int | None
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Node:
    """An operation, with the names of what it takes and gives.

    `inside` are the names that graphs within it may take from outside of them.
    """

    operation: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    inside: tuple[str, ...]
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Graph:
    """The graph of a file, as long as that is open: see `open_graph`."""

    name: str
    data: Buffer
    nodes: tuple[Node, ...]
    weights: dict[str, Tensor]
    makers: dict[str, Node] = field(repr=False)
    # What stands around the graph, and its inputs: to be copied.
    frame: tuple[tuple[int, int], ...]
    inputs: tuple[tuple[int, int], ...]

    def find_weight(self, name: str) -> Tensor | None:
        """The weight of that name, also where it is widened before it is used; None for none."""
        maker = self.makers.get(name)
        if maker is not None and maker.operation == "Cast":
            name = maker.inputs[0]
        return self.weights.get(name)

    def cut(self, outputs: Sequence[str]) -> bytes:
        """The part of it that these are computed by, as a graph with them as its outputs."""
        kept, taken = self._follow(outputs)
        parts = [write_field(_NAME, "cut")]
        for node in kept:
            parts += self._copy_node(node)
        parts += [self._refer(tensor) for name, tensor in self.weights.items() if name in taken]
        parts += [self.data[start:stop] for start, stop in self.inputs]
        parts += [write_field(_OUTPUT, write_field(1, name)) for name in outputs]
        frame = b"".join(self.data[start:stop] for start, stop in self.frame)
        return frame + write_field(_GRAPH, b"".join(parts))

    def _follow(self, outputs: Iterable[str]) -> tuple[list[Node], set[str]]:
        """The nodes behind these names, in their order, and all the names that they take."""
        wanted, taken, kept = list(outputs), set(outputs), set()
        while wanted:
            node = self.makers.get(wanted.pop())
            if node is None or node.span in kept:
                continue
            kept.add(node.span)
            inputs = [*node.inputs, *node.inside]
            if (halves := self._find_halves(node)) is not None:
                inputs[0] = halves
            wanted += [name for name in inputs if name not in taken]
            taken.update(inputs)
        return [node for node in self.nodes if node.span in kept], taken

    def _find_halves(self, node: Node) -> str | None:
        """What a table is widened from, of which a node takes rows."""
        maker = self.makers.get(node.inputs[0]) if node.operation == "Gather" else None
        if maker is None or maker.operation != "Cast" or maker.inputs[0] not in self.weights:
            return None
        return maker.inputs[0]

    def _copy_node(self, node: Node) -> Iterator[bytes]:
        """The node; one that takes rows of a widened table, as one that widens the rows it takes.

        Else all of the table were there twice, each time.
        """
        halves = self._find_halves(node)
        if halves is None:
            yield self.data[node.span[0] : node.span[1]]
            return
        start, stop = self._skip_tag(node.span)
        fields = list(wire.list_fields(self.data, start, stop))
        attributes = [self._copy(each) for each in fields if each.number == _ATTRIBUTE]
        rows = f"{node.outputs[0]}.halves"
        yield write_field(
            _NODE,
            wire.join_fields(_NODE_INPUT, (halves, node.inputs[1]))
            + write_field(_NODE_OUTPUT, rows)
            + write_field(_OPERATION, node.operation)
            + b"".join(attributes),
        )
        start, stop = self._skip_tag(self.makers[node.inputs[0]].span)
        fields = list(wire.list_fields(self.data, start, stop))
        attributes = [self._copy(each) for each in fields if each.number == _ATTRIBUTE]
        yield write_field(
            _NODE,
            write_field(_NODE_INPUT, rows)
            + write_field(_NODE_OUTPUT, node.outputs[0])
            + write_field(_OPERATION, "Cast")
            + b"".join(attributes),
        )

    def _refer(self, tensor: Tensor) -> bytes:
        """A weight, said to be where it is; a small one itself."""
        start, stop = tensor.span
        if tensor.length is None or tensor.file or tensor.length < _SMALL_BYTES:
            return self.data[start:stop]
        places = {"location": self.name, "offset": tensor.start, "length": tensor.length}
        entries = [write_field(1, key) + write_field(2, str(at)) for key, at in places.items()]
        return write_field(
            _INITIALIZER,
            wire.join_fields(_DIMS, tensor.shape)
            + write_field(_TYPE, tensor.type)
            + write_field(_TENSOR_NAME, tensor.name)
            + wire.join_fields(_EXTERNAL, entries)
            + write_field(_LOCATION, _OUTSIDE),
        )

    def _copy(self, each: Field) -> bytes:
        return self.data[each.begin : each.stop]

    def _skip_tag(self, span: tuple[int, int]) -> tuple[int, int]:
        (found,) = wire.list_fields(self.data, *span)
        return found.start, found.stop


def write_tensor(tensor: Tensor, numbers: bytes) -> bytes:
    """A weight with its numbers inside, as a field of a graph."""
    return write_field(
        _INITIALIZER,
        wire.join_fields(_DIMS, tensor.shape)
        + write_field(_TYPE, tensor.type)
        + write_field(_TENSOR_NAME, tensor.name)
        + write_field(_RAW, numbers),
    )


@contextmanager
def open_graph(file: Path) -> Iterator[Graph]:
    """The graph in a file, which is mapped and not read. Raises WireError for what is none."""
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield read_graph(data, file.name)


def read_graph(data: Buffer, name: str) -> Graph:
    """The graph in these bytes, which is in the file of that name. Raises WireError."""
    nodes: list[Node] = []
    weights: dict[str, Tensor] = {}
    inputs: list[tuple[int, int]] = []
    frame: list[tuple[int, int]] = []
    # A message that comes in several parts is read as one: what repeats is joined.
    for outer in wire.list_fields(data, 0, len(data)):
        if outer.number != _GRAPH:
            frame.append((outer.begin, outer.stop))
            continue
        for each in wire.list_fields(data, outer.start, outer.stop):
            if each.number == _NODE:
                nodes.append(_read_node(data, each))
            elif each.number == _INITIALIZER:
                tensor = _read_tensor(data, each)
                weights[tensor.name] = tensor
            elif each.number == _INPUT:
                inputs.append((each.begin, each.stop))
    return Graph(
        name=name,
        data=data,
        nodes=tuple(nodes),
        weights=weights,
        makers={output: node for node in nodes for output in node.outputs if output},
        frame=tuple(frame),
        inputs=tuple(inputs),
    )


def _read_node(data: Buffer, outer: Field) -> Node:
    texts: dict[int, list[str]] = {
        number: [] for number in (_NODE_INPUT, _NODE_OUTPUT, _OPERATION, _DOMAIN)
    }
    attributes: dict[str, Any] = {}
    inside: list[str] = []
    for each in wire.list_fields(data, outer.start, outer.stop):
        if each.number in texts:
            texts[each.number].append(wire.read_text(data, each))
        elif each.number == _ATTRIBUTE:
            name, value, names = _read_attribute(data, each)
            attributes[name] = value
            inside += names
    operation = "".join(texts[_OPERATION])
    if len(texts[_NODE_INPUT]) < _LEAST.get(operation, 0):
        raise WireError(f"the {operation} at {outer.begin} has too few inputs")
    return Node(
        operation=operation,
        domain="".join(texts[_DOMAIN]),
        inputs=tuple(texts[_NODE_INPUT]),
        outputs=tuple(texts[_NODE_OUTPUT]),
        attributes=attributes,
        inside=tuple(inside),
        span=(outer.begin, outer.stop),
    )


def _read_attribute(data: Buffer, outer: Field) -> tuple[str, Any, list[str]]:
    """The name and number of an attribute, and the names that graphs in it take."""
    name, value = "", None
    inside: list[str] = []
    for each in wire.list_fields(data, outer.start, outer.stop):
        if each.number == _ATTRIBUTE_NAME:
            name = wire.read_text(data, each)
        elif each.number == _FLOAT:
            value = wire.read_float(data, each)
        elif each.number == _INTEGER:
            value, _ = wire.read_number(data, each.start, each.stop)
        elif each.number in (_SUBGRAPH, _SUBGRAPHS):
            for part in wire.list_fields(data, each.start, each.stop):
                if part.number == _NODE:
                    node = _read_node(data, part)
                    inside += [*node.inputs, *node.inside]
                elif part.number == _OUTPUT:
                    inside += [
                        wire.read_text(data, one)
                        for one in wire.list_fields(data, part.start, part.stop)
                        if one.number == 1
                    ]
    return name, value, inside


def _read_tensor(data: Buffer, outer: Field) -> Tensor:
    fields = {each.number: each for each in wire.list_fields(data, outer.start, outer.stop)}

    def read_number(number: int) -> int:
        each = fields.get(number)
        return 0 if each is None else wire.read_number(data, each.start, each.stop)[0]

    name = wire.read_text(data, fields[_TENSOR_NAME]) if _TENSOR_NAME in fields else ""
    file, start, length = "", 0, None
    if read_number(_LOCATION) == _OUTSIDE:
        file, start, length = _read_place(data, outer, name)
    elif (raw := fields.get(_RAW)) is not None:
        start, length = raw.start, raw.stop - raw.start
    return Tensor(
        name=name,
        shape=tuple(
            size
            for each in wire.list_fields(data, outer.start, outer.stop)
            if each.number == _DIMS
            for size in wire.read_numbers(data, each)
        ),
        type=read_number(_TYPE),
        file=file,
        start=start,
        length=length,
        span=(outer.begin, outer.stop),
    )


def _read_place(data: Buffer, outer: Field, name: str) -> tuple[str, int, int]:
    """In which file a weight lies, where it begins there and how long it is."""
    places: dict[str, str] = {}
    for each in wire.list_fields(data, outer.start, outer.stop):
        if each.number == _EXTERNAL:
            parts = wire.list_fields(data, each.start, each.stop)
            entry = {part.number: wire.read_text(data, part) for part in parts}
            places[entry.get(1, "")] = entry.get(2, "")
    try:
        return places["location"], int(places.get("offset", 0)), int(places["length"])
    except (KeyError, ValueError) as error:
        raise WireError(f"the weight {name!r} does not say where it is") from error
