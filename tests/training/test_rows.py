"""Packing loses no text, doubles none, and fills no row beyond its width."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.rows import lay_out, pack_rows, pack_texts

WIDTH = 16
LENGTHS = st.lists(st.integers(1, WIDTH), max_size=60)


@given(LENGTHS, st.data())
def test_every_text_is_in_exactly_one_row(lengths: list[int], data: st.DataObject) -> None:
    places = data.draw(st.permutations(range(len(lengths))))[: len(lengths) // 2 + 1]
    rows = pack_rows(np.array(places, np.int64), np.array(lengths, np.int64), WIDTH)
    assert sorted(text for row in rows for text in row) == sorted(places)
    assert all(row and sum(lengths[text] for text in row) <= WIDTH for row in rows)


@given(LENGTHS)
def test_a_row_is_begun_only_when_no_other_has_room(lengths: list[int]) -> None:
    rows = pack_rows(np.arange(len(lengths)), np.array(lengths, np.int64), WIDTH)
    left = [WIDTH - sum(lengths[text] for text in row) for row in rows]
    for number, row in enumerate(rows):
        for room in left[:number]:
            assert lengths[row[0]] > room


@given(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=2), min_size=1, max_size=20))
def test_cells_hold_each_text_from_position_zero(shapes: list[list[int]]) -> None:
    next_id = iter(range(5, 10_000))
    texts = [
        [np.array([next(next_id) for _ in range(size)], np.int64) for size in shape]
        for shape in shapes
    ]
    rows = pack_texts(texts, WIDTH)
    ids, types, positions, owners = (
        table.flatten()
        for table in (rows.token_ids, rows.token_type_ids, rows.position_ids, rows.text_ids)
    )
    for text, segments in enumerate(texts):
        length = sum(map(len, segments))
        cells = slice(rows.first_cells[text], rows.first_cells[text] + length)
        assert rows.lengths[text] == length
        assert ids[cells].tolist() == np.concatenate(segments).tolist()
        kinds = [kind for kind, one in enumerate(segments) for _ in one]
        assert types[cells].tolist() == kinds
        assert positions[cells].tolist() == list(range(length))
        assert len(set(owners[cells].tolist())) == 1
    assert rows.tokens == np.count_nonzero(ids) == np.count_nonzero(owners)
    for row in rows.text_ids:
        # Each text of a row has a number of its own.
        starts = np.count_nonzero(np.diff(row, prepend=0)[row > 0])
        assert len(set(row[row > 0].tolist())) == starts


def test_a_plan_is_followed() -> None:
    one, two, three = ([np.full(size, 10 + size)] for size in (1, 2, 3))
    rows = lay_out([one, two, three], [[2], [0, 1]], 4)
    assert rows.token_ids.tolist() == [[13, 13, 13, 0], [11, 12, 12, 0]]
    assert rows.text_ids.tolist() == [[1, 1, 1, 0], [1, 2, 2, 0]]
    assert rows.position_ids.tolist() == [[0, 1, 2, 0], [0, 0, 1, 0]]
    assert rows.first_cells.tolist() == [4, 5, 0]
