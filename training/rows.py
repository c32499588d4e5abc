"""Texts packed side by side into rows of one width: no cell is computed for padding.

A text sees only itself (`text_ids`) and its positions start at 0, so packing changes nothing but
the time it takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.text.vocabulary import PAD

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Cells are numbered through: row * width + column.

    token_ids, token_type_ids, position_ids, text_ids [R,W]; text 0 is an empty cell.
    first_cells [N] and lengths [N]: where each text begins, and its tokens.
    """

    token_ids: Ids
    token_type_ids: Ids
    position_ids: Ids
    text_ids: Ids
    first_cells: Ids
    lengths: Ids

    @property
    def tokens(self) -> int:
        """Tokens in the rows, empty cells not counted."""
        return int(self.lengths.sum())


def pack_rows(places: Ids, lengths: Ids, width: int) -> list[list[int]]:
    """Some places of `lengths` in rows of `width` cells: best fit, longest first, each once."""
    rows: list[list[int]] = []
    open_rows: list[list[int]] = [[] for _ in range(width + 1)]  # by the cells left in them
    longest_first = places[np.argsort(-lengths[places], kind="stable")]
    for text, length in zip(longest_first.tolist(), lengths[longest_first].tolist(), strict=True):
        for left in range(length, width + 1):
            if open_rows[left]:
                row = open_rows[left].pop()
                break
        else:
            left, row = width, len(rows)
            rows.append([])
        rows[row].append(text)
        open_rows[left - length].append(row)
    return rows


def lay_out(texts: Sequence[Sequence[Ids]], plan: list[list[int]], width: int) -> Rows:
    """The texts, each of one or two segments with their special tokens, as a plan has them.

    The plan names each text once, as pack_rows makes it.
    """
    shape = (len(plan), width)
    ids = np.full(shape, PAD, np.int64)
    types, positions, text_ids = (np.zeros(shape, np.int64) for _ in range(3))
    first_cells, lengths = (np.zeros(len(texts), np.int64) for _ in range(2))
    for row, members in enumerate(plan):
        at = 0
        for number, text in enumerate(members, start=1):
            segments = texts[text]
            second = at + len(segments[0])
            end = at + sum(map(len, segments))
            ids[row, at:end] = np.concatenate(segments)
            types[row, second:end] = 1
            positions[row, at:end] = np.arange(end - at)
            text_ids[row, at:end] = number
            first_cells[text], lengths[text] = row * width + at, end - at
            at = end
    return Rows(ids, types, positions, text_ids, first_cells, lengths)


def pack_texts(texts: Sequence[Sequence[Ids]], width: int) -> Rows:
    """The texts packed and laid out; none is longer than the width."""
    lengths = np.array([sum(map(len, segments)) for segments in texts], np.int64)
    return lay_out(texts, pack_rows(np.arange(len(texts)), lengths, width), width)
