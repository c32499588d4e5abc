"""Rows that lie on a device, and the two small graphs that gather and pool them there.

Owns those graphs, which are written here by the fields of onnx.proto: a bundle knows no device.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.engines.output import Floats, Indices, RowPooling
from models.lens.wire import join_fields, write_field

# Of onnx.proto: an element's types, ModelProto, GraphProto, NodeProto, AttributeProto.
_FLOAT, _INT64, _INTS = 1, 7, 7
_OPSET, _IR = 17, 8
# A group's texts are at least so long, by its longest: what lies in its rectangle is mostly theirs.
_LEAST_PART = 0.75


class Gatherer:
    """Sessions that gather rows, and pool them, where they lie."""

    def __init__(self, open_graph: Callable[[bytes], Any]) -> None:
        self._take = open_graph(_write_graph("take", _GATHER, {"places": (_INT64, 1)}))
        weighted = {"places": (_INT64, 2), "weights": (_FLOAT, 3)}
        self._sum = open_graph(_write_graph("sum", _GATHER + _SUM, weighted))
        self._max = open_graph(_write_graph("max", _GATHER + _MAX, {"places": (_INT64, 2)}))

    def take(self, rows: Any, places: Indices) -> Floats:
        """The rows at these places."""
        return _run(self._take, rows, places=places)

    def sum(self, rows: Any, places: Indices, weights: Floats) -> Floats:
        """For each row of `places` [n, m] the sum of the rows there by `weights` [n, m]."""
        summed = _run(self._sum, rows, places=places, weights=weights[:, None, :])
        return summed[:, 0, :]

    def max(self, rows: Any, places: Indices) -> Floats:
        """For each row of `places` [n, m] the largest value of each column there."""
        return _run(self._max, rows, places=places)


class DeviceOutput:
    """Rows [rows, columns] in a device's memory, or in the host's where that is the device."""

    __slots__ = ("_gatherer", "_value")

    def __init__(self, value: Any, gatherer: Gatherer) -> None:
        self._value = value
        self._gatherer = gatherer

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""
        return tuple(self._value.shape())

    def take(self, places: Indices) -> Floats:
        """The rows at these places, which alone cross over."""
        if not len(places):
            return np.empty((0, *self.shape[1:]), np.float32)
        return self._gatherer.take(self._value, np.ascontiguousarray(places, np.int64))

    def pool(
        self, how: RowPooling, starts: Indices, lengths: Indices, ahead: Indices | None = None
    ) -> Floats:
        """Each stretch pooled where it lies, texts of about one length together."""
        pooled = np.empty((len(starts), *self.shape[1:]), np.float32)
        for group in _group(lengths):
            longest = int(lengths[group].max())
            column = np.arange(longest, dtype=np.int64)
            inside = column < lengths[group, None]
            # Beyond its end a stretch's own first row stands, so that no other's is seen.
            places = starts[group, None] + np.where(inside, column, 0)
            if how == "max":
                pooled[group] = self._gatherer.max(self._value, places)
                continue
            weights = inside.astype(np.float32)
            if how == "weightedmean":
                first = 1 if ahead is None else ahead[group, None] + 1
                weights *= (first + column).astype(np.float32)
            weights /= weights.sum(axis=1, keepdims=True)
            pooled[group] = self._gatherer.sum(self._value, places, weights)
        return pooled

    def whole(self) -> Floats:
        """A copy of all of it."""
        rows: Floats = self._value.numpy()
        return rows


def _group(lengths: Indices) -> Iterator[NDArray[np.intp]]:
    """The places of stretches, longest first, in groups that waste little of a rectangle."""
    order = np.argsort(-lengths, kind="stable")
    begin = 0
    while begin < len(order):
        least = _LEAST_PART * lengths[order[begin]]
        count = int(np.searchsorted(-lengths[order[begin:]], -least, side="right"))
        yield order[begin : begin + count]
        begin += count


def _run(session: Any, rows: Any, **feeds: NDArray[Any]) -> Floats:
    binding = session.io_binding()
    binding.bind_ortvalue_input("rows", rows)
    # Held until the run has ended: a binding does not.
    given = {name: np.ascontiguousarray(value) for name, value in feeds.items()}
    for name, value in given.items():
        binding.bind_cpu_input(name, value)
    binding.bind_output("result")
    session.run_with_iobinding(binding)
    found: Floats = binding.get_outputs()[0].numpy()
    return found


# Operator, inputs, output, and attributes as they are written.
_Step = tuple[str, tuple[str, ...], str, bytes]
_GATHER: list[_Step] = [("Gather", ("rows", "places"), "gathered", b"")]
_SUM: list[_Step] = [("MatMul", ("weights", "gathered"), "result", b"")]


def _write_integers(name: str, numbers: Sequence[int]) -> bytes:
    return write_field(1, name) + join_fields(8, numbers) + write_field(20, _INTS)


def _write_integer(name: str, number: int) -> bytes:
    return write_field(1, name) + write_field(3, number) + write_field(20, 2)


_MAX: list[_Step] = [
    (
        "ReduceMax",
        ("gathered",),
        "result",
        write_field(5, _write_integers("axes", [1]))
        + write_field(5, _write_integer("keepdims", 0)),
    )
]


def _write_graph(name: str, steps: Sequence[_Step], inputs: dict[str, tuple[int, int]]) -> bytes:
    """A model of these steps, the last of which gives `result`; `inputs` by type and rank."""
    steps = [*steps[:-1], (*steps[-1][:2], "result", steps[-1][3])]
    given = {"rows": (_FLOAT, 2)} | inputs
    ranks = {"take": 2, "max": 2, "sum": 3}
    graph = (
        b"".join(write_field(1, _write_node(step)) for step in steps)
        + write_field(2, name)
        + b"".join(write_field(11, _write_value(each, *kind)) for each, kind in given.items())
        + write_field(12, _write_value("result", _FLOAT, ranks[name]))
    )
    opset = write_field(1, "") + write_field(2, _OPSET)
    return write_field(1, _IR) + write_field(7, graph) + write_field(8, opset)


def _write_node(step: _Step) -> bytes:
    operator, inputs, output, attributes = step
    return join_fields(1, inputs) + write_field(2, output) + write_field(4, operator) + attributes


def _write_value(name: str, kind: int, rank: int) -> bytes:
    """A tensor of that many dimensions, all of them open."""
    shape = b"".join(write_field(1, write_field(2, f"{name}_{axis}")) for axis in range(rank))
    tensor = write_field(1, kind) + write_field(2, shape)
    return write_field(1, name) + write_field(2, write_field(1, tensor))
