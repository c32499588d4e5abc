"""Several texts as one stream without padding, and the rows in which attention sees them.

Owns the plan that the trunk takes as input. The linear layers see the stream; attention
gathers it into rows that hold several texts each, placed by first-fit decreasing (Johnson 1973),
and may look only at cells of the same text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.families import Layout
from models.text.encoded import Encoded

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Extent:
    """The rectangles that attention saw of a batch: how many rows, and how many cells in all."""

    rows: int
    cells: int


@dataclass(frozen=True)
class Stream:
    """A batch of texts one after another, T tokens in all.

    Text i is `starts[i] : starts[i] + lengths[i]` of the stream.
    """

    input_ids: Indices
    token_type_ids: Indices
    position_ids: Indices
    starts: Indices
    lengths: Indices

    @property
    def extent(self) -> Extent:
        """Each text by itself: nothing else is seen."""
        return Extent(len(self.starts), len(self.input_ids))

    @property
    def feeds(self) -> dict[str, Indices]:
        """The inputs of a graph that knows texts by their starts, by name; the end is the last."""
        return {
            "input_ids": self.input_ids,
            "token_type_ids": self.token_type_ids,
            "position_ids": self.position_ids,
            "starts": np.append(self.starts, len(self.input_ids)),
        }


@dataclass(frozen=True)
class Packed(Stream):
    """The same with its plan of rows: T tokens stand in R rows of W cells.

    `row_index` [R, W] says which token of the stream stands in a cell, `row_sequence` [R, W]
    which text the cell belongs to (0: none; below 0 where it sees that text and is not seen),
    `flat_index` [T] in which of the R*W cells a token stands.
    """

    row_index: Indices
    row_sequence: Indices
    flat_index: Indices

    @property
    def extent(self) -> Extent:
        """Its one rectangle."""
        return Extent(len(self.row_index), self.row_index.size)

    @property
    def feeds(self) -> dict[str, Indices]:
        """The inputs of a graph that wants rows, by name."""
        return {
            "input_ids": self.input_ids,
            "token_type_ids": self.token_type_ids,
            "position_ids": self.position_ids,
            "row_index": self.row_index,
            "row_sequence": self.row_sequence,
            "flat_index": self.flat_index,
        }


def lay_out(texts: Sequence[Encoded], position_start: int = 0) -> Stream:
    """Lay the texts one after another."""
    lengths = np.fromiter((len(text.ids) for text in texts), np.int64, len(texts))
    positions = [number_positions(text.ids, position_start) for text in texts]
    return Stream(
        input_ids=_join([text.ids for text in texts]),
        token_type_ids=_join([text.type_ids for text in texts]),
        position_ids=_join(positions),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
    )


def _join(parts: Sequence[Indices]) -> Indices:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def pack(texts: Sequence[Encoded], position_start: int = 0, layout: Layout = "flat") -> Packed:
    """Lay the texts one after another, and plan rows as wide as the longest of them.

    In the padded layout each text has a row of its own, in the order of the texts.
    """
    lengths = np.fromiter((len(text.ids) for text in texts), np.int64, len(texts))
    starts = np.cumsum(lengths) - lengths
    tokens = int(lengths.sum())
    alone = [(row, 0) for row in range(len(texts))]
    places = alone if layout == "padded" else place_rows(lengths.tolist())
    rows = 1 + max(row for row, _ in places)
    width = int(lengths.max())

    stream = np.arange(tokens, dtype=np.int64)
    position_ids = np.empty(tokens, np.int64)
    flat_index = np.empty(tokens, np.int64)
    row_index = np.zeros(rows * width, np.int64)
    row_sequence = np.zeros(rows * width, np.int64)
    for text, (row, column) in enumerate(places):
        start, length = int(starts[text]), int(lengths[text])
        tokens_of_text = slice(start, start + length)
        cell = row * width + column
        position_ids[tokens_of_text] = number_positions(texts[text].ids, position_start)
        flat_index[tokens_of_text] = stream[:length] + cell
        row_index[cell : cell + length] = stream[tokens_of_text]
        row_sequence[cell : cell + length] = text + 1
        if texts[text].aside:
            row_sequence[cell + length - texts[text].aside : cell + length] = -(text + 1)
    return Packed(
        input_ids=np.concatenate([text.ids for text in texts]),
        token_type_ids=np.concatenate([text.type_ids for text in texts]),
        position_ids=position_ids,
        row_index=row_index.reshape(rows, width),
        row_sequence=row_sequence.reshape(rows, width),
        flat_index=flat_index,
        starts=starts,
        lengths=lengths,
    )


def number_positions(ids: Indices, start: int) -> Indices:
    """The position ids of a text, from `start`.

    Where that is not 0 the ids follow padding (fairseq): padding tokens of the text itself stand
    at `start - 1` and are not counted.
    """
    if start == 0:
        return np.arange(len(ids), dtype=np.int64)
    padding = start - 1
    counted = ids != padding
    return np.where(counted, np.cumsum(counted) + padding, padding)


def group_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """The places of texts, longest first, in groups for rectangles that hold little else.

    A text joins a group while it is at least three quarters as long as its first: measured with a
    DeBERTa of 6 layers of 384 on 2 cores (batches of up to 512 tokens), a long text among short
    ones takes a tenth of the time of one rectangle, mixed lengths a third, short ones three
    quarters; groups of equal length gain no more.
    """
    groups: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if groups and 4 * lengths[place] >= 3 * lengths[groups[-1][0]]:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def place_rows(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Row and first column of each text, in rows as wide as the longest, longest texts first."""
    width = max(lengths)
    used: list[int] = []
    places: list[tuple[int, int]] = [(0, 0)] * len(lengths)
    for text in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        length = lengths[text]
        for row, filled in enumerate(used):
            if filled + length <= width:
                places[text] = (row, filled)
                used[row] = filled + length
                break
        else:
            places[text] = (len(used), 0)
            used.append(length)
    return places
