"""What a run of a graph gives: rows of numbers, which lie where the engine computed them.

Owns how rows come to numpy. Knows neither texts nor tasks.
"""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

# Several rows as one: their mean, the largest value of each column, or the mean in which the first
# row of a text counts once, the second twice, and so on.
RowPooling = Literal["mean", "max", "weightedmean"]


class Output(Protocol):
    """The rows [rows, columns] of one run.

    An engine with memory of its own (a GPU's) keeps them there, and gathers and pools there too: of
    a batch only what is asked for crosses over. So a head asks once a batch and for few rows, and
    `whole` is for graphs whose every row is an answer, for probes and for comparisons. Later runs
    change nothing of it. Any thread may ask.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions, known without a copy."""

    def take(self, places: Indices) -> Floats:
        """The rows at these places, in this order: [places, columns], the caller's own."""

    def pool(
        self, how: RowPooling, starts: Indices, lengths: Indices, ahead: Indices | None = None
    ) -> Floats:
        """A row for each stretch of rows, [stretches, columns], the caller's own.

        Stretch i is the rows `starts[i] : starts[i] + lengths[i]`, at least one; `ahead[i]` rows of
        its text stand before it, which only weights by place ask about.
        """

    def whole(self) -> Floats:
        """All of it as an array that nobody may change; without a copy where it lies in numpy."""


class HostOutput:
    """Rows that numpy holds already."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Floats) -> None:
        self._rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""
        return self._rows.shape

    def take(self, places: Indices) -> Floats:
        """A copy of the rows at these places."""
        return self._rows[places]

    def pool(
        self, how: RowPooling, starts: Indices, lengths: Indices, ahead: Indices | None = None
    ) -> Floats:
        """Each stretch pooled by itself, so that it comes out the same whatever lies beside it."""
        pooled = np.empty((len(starts), *self._rows.shape[1:]), self._rows.dtype)
        for place, (start, length) in enumerate(
            zip(starts.tolist(), lengths.tolist(), strict=True)
        ):
            rows = self._rows[start : start + length]
            if how == "max":
                rows.max(axis=0, out=pooled[place])
            elif how == "weightedmean":
                first = 1 if ahead is None else int(ahead[place]) + 1
                weights = np.arange(first, first + length, dtype=self._rows.dtype)
                np.matmul(weights / weights.sum(), rows, out=pooled[place])
            else:
                # As numpy's own mean does it, without its overhead for so few rows.
                np.add.reduce(rows, axis=0, out=pooled[place])
                pooled[place] /= length
        return pooled

    def whole(self) -> Floats:
        """The array itself."""
        return self._rows
