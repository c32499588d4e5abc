"""The plan of rows: every token stands in one cell, and no text sees another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text.encoded import Encoded
from models.text.packing import group_by_length, number_positions, pack, place_rows

LENGTHS = st.lists(st.integers(1, 64), min_size=1, max_size=60)


def make_text(length: int, first: int = 10) -> Encoded:
    ids = np.arange(first, first + length, dtype=np.int64)
    return Encoded(ids=ids, type_ids=ids % 2)


@given(LENGTHS)
def test_every_token_is_placed_once(lengths: list[int]) -> None:
    packed = pack([make_text(length, 100 * place) for place, length in enumerate(lengths)])
    tokens = sum(lengths)
    assert packed.lengths.tolist() == lengths
    assert packed.starts.tolist() == np.cumsum([0, *lengths[:-1]]).tolist()
    assert packed.row_index.shape == packed.row_sequence.shape
    assert packed.row_index.shape[1] == max(lengths)
    # Cells and stream point at each other, and no two tokens share a cell.
    cells = packed.row_index.reshape(-1)
    assert cells[packed.flat_index].tolist() == list(range(tokens))
    assert len(set(packed.flat_index.tolist())) == tokens
    filled = np.zeros(cells.shape, bool)
    filled[packed.flat_index] = True
    owners = packed.row_sequence.reshape(-1)
    assert (owners[filled] > 0).all()
    assert (owners[~filled] == 0).all()
    assert (cells[~filled] == 0).all()
    # Each text is whole, in one row, and its cells bear its number.
    for place, (start, length) in enumerate(zip(packed.starts, lengths, strict=True)):
        mine = packed.flat_index[start : start + length]
        assert (np.diff(mine) == 1).all()
        assert len(set((mine // max(lengths)).tolist())) == 1
        assert owners[mine].tolist() == [place + 1] * length
        assert (owners == place + 1).sum() == length
        ids = packed.input_ids[start : start + length]
        assert ids.tolist() == list(range(100 * place, 100 * place + length))
        types = packed.token_type_ids[start : start + length]
        assert types.tolist() == (ids % 2).tolist()
        assert packed.position_ids[start : start + length].tolist() == list(range(length))


@given(LENGTHS)
def test_rows_are_first_fit_decreasing(lengths: list[int]) -> None:
    places = place_rows(lengths)
    width = max(lengths)
    rows = 1 + max(row for row, _ in places)
    # Any two rows hold more than one row's width, so there are never twice as many as needed.
    least = -(-sum(lengths) // width)
    assert least <= rows <= 2 * least
    assert places[lengths.index(width)] == (0, 0)
    # No text would have fitted into an earlier row when its turn came.
    used = [0] * rows
    for text in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        row, column = places[text]
        assert column == used[row]
        assert all(used[earlier] + lengths[text] > width for earlier in range(row))
        used[row] += lengths[text]
    assert max(used) <= width


@pytest.mark.parametrize(
    ("lengths", "best"),
    [
        ([5, 5, 5], 3),
        ([6, 4, 3, 3, 2, 2], 4),
        ([10, 5, 5, 4, 3, 3, 1, 9], 4),
        ([64] + [1] * 64, 2),
        ([64] + [16] * 9, 4),
        ([1], 1),
    ],
)
def test_rows_of_known_batches(lengths: list[int], best: int) -> None:
    assert 1 + max(row for row, _ in place_rows(lengths)) == best


@given(LENGTHS)
def test_the_padded_layout_has_a_text_a_row(lengths: list[int]) -> None:
    packed = pack([make_text(length) for length in lengths], layout="padded")
    assert packed.row_index.shape == (len(lengths), max(lengths))
    for row, (start, length) in enumerate(zip(packed.starts, lengths, strict=True)):
        cells = list(range(start, start + length))
        assert packed.row_index[row].tolist() == cells + [0] * (max(lengths) - length)
        owners = [row + 1] * length + [0] * (max(lengths) - length)
        assert packed.row_sequence[row].tolist() == owners
        mine = packed.flat_index[start : start + length]
        assert mine.tolist() == [row * max(lengths) + column for column in range(length)]


@given(LENGTHS)
def test_groups_are_of_similar_length(lengths: list[int]) -> None:
    groups = group_by_length(lengths)
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    for group, after in zip(groups, [*groups[1:], None], strict=True):
        longest = lengths[group[0]]
        assert all(0.75 * longest <= lengths[place] <= longest for place in group)
        assert after is None or lengths[after[0]] < 0.75 * longest


def test_positions_start_where_the_family_says() -> None:
    packed = pack([make_text(3), make_text(2)], position_start=2)
    assert packed.position_ids.tolist() == [2, 3, 4, 2, 3]
    assert number_positions(np.array([0, 7, 8]), 0).tolist() == [0, 1, 2]


def test_padding_within_a_text_is_not_counted() -> None:
    import torch
    from transformers.models.roberta.modeling_roberta import RobertaEmbeddings

    source = np.random.default_rng(5)
    for _ in range(20):
        ids = source.integers(0, 4, size=source.integers(1, 12))
        wanted = RobertaEmbeddings.create_position_ids_from_input_ids(torch.tensor(ids)[None], 1)
        assert number_positions(ids, 2).tolist() == wanted[0].tolist()


def test_feeds_are_the_inputs_of_the_graph() -> None:
    from export.graphs.trunk import INPUTS

    feeds = pack([make_text(3), make_text(5)]).feeds
    assert tuple(feeds) == INPUTS
    assert {feed.dtype for feed in feeds.values()} == {np.dtype(np.int64)}
