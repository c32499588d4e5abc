"""Rows that numpy holds: gathered, pooled stretch by stretch, or seen where they lie."""

import numpy as np
import pytest

from models.engines import HostOutput

ROWS = np.random.default_rng(5).normal(size=(40, 24)).astype(np.float32)
STARTS = np.array([0, 7, 8, 31])
LENGTHS = np.array([7, 1, 23, 9])


def test_what_is_taken_is_the_callers_own() -> None:
    rows = ROWS.copy()
    places = np.array([3, 3, 0, 39])
    taken = HostOutput(rows).take(places)
    np.testing.assert_array_equal(taken, ROWS[places])
    taken[:] = 0
    np.testing.assert_array_equal(rows, ROWS)


@pytest.mark.parametrize("how", ["mean", "max"])
def test_a_stretch_is_pooled_as_if_it_were_alone(how: str) -> None:
    pooled = HostOutput(ROWS).pool(how, STARTS, LENGTHS)  # type: ignore[arg-type]
    assert pooled.dtype == np.float32
    for vector, start, length in zip(pooled, STARTS, LENGTHS, strict=True):
        alone = ROWS[start : start + length].copy()
        np.testing.assert_array_equal(vector, getattr(alone, how)(axis=0))


def test_nothing_is_pooled_of_nothing() -> None:
    none = np.zeros(0, np.int64)
    assert HostOutput(ROWS).pool("mean", none, none).shape == (0, 24)
    assert HostOutput(ROWS).take(none).shape == (0, 24)


def test_the_whole_is_no_copy() -> None:
    output = HostOutput(ROWS)
    assert output.whole() is ROWS
    assert output.shape == (40, 24)
