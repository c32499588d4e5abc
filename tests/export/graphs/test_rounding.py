"""Bytes that make up for each other's rounding, and the nearest ones where nothing is known."""

import numpy as np
import pytest

from export.graphs.int8 import Inputs, digest, quantize_columns
from export.graphs.rounding import round_columns


def make_rows(count: int, seed: int) -> np.ndarray:
    """Rows whose channels go together, as those of a trained model do."""
    mixing = np.random.default_rng(7).normal(size=(12, 96))
    chance = np.random.default_rng(seed)
    rows = chance.normal(size=(count, 12)) @ mixing + 0.3 * chance.normal(size=(count, 96))
    return rows.astype(np.float32)


def make_weights() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(96, 40)).astype(np.float32)


def measure(rows: np.ndarray, weights: np.ndarray, steps: np.ndarray, scales: np.ndarray) -> float:
    return float(np.square(rows @ (steps * scales) - rows @ weights).mean())


def test_rows_that_nobody_saw_come_out_nearer() -> None:
    weights, rows = make_weights(), make_rows(400, seed=2)
    near, scales = quantize_columns(weights)
    found, same = quantize_columns(weights, make_rows(1000, seed=1))
    np.testing.assert_array_equal(scales, same)
    assert found.dtype == np.int8
    assert measure(rows, weights, found, scales) < 0.6 * measure(rows, weights, near, scales)
    # None is further from its number than a few steps.
    assert np.abs(found * scales - weights).max() < 4 * scales.max()


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_rows_that_say_nothing_leave_the_nearest(value: float) -> None:
    weights = make_weights()
    near, scales = quantize_columns(weights)
    given = np.full((5, 96), value, np.float32)
    np.testing.assert_array_equal(round_columns(weights, scales, given), near)
    np.testing.assert_array_equal(near, np.clip(np.round(weights / scales), -127, 127))


def test_fewer_rows_than_channels_and_channels_that_are_never_used() -> None:
    weights, given = make_weights(), make_rows(7, seed=5)
    given[:, 20:40] = 0
    found, scales = quantize_columns(weights, given)
    assert np.isfinite(found * scales).all()
    rows = make_rows(300, seed=6)
    near, _ = quantize_columns(weights)
    # Seven rows teach little, and must not spoil the others.
    assert measure(rows, weights, found, scales) < 1.5 * measure(rows, weights, near, scales)


def test_weights_are_made_bytes_once() -> None:
    weights, given = make_weights(), make_rows(300, seed=1)
    inputs = Inputs({digest(weights): given})
    assert inputs.find(weights) is given
    assert inputs.find(weights[:, :8]) is None
    kept = weights.copy()
    first = inputs.narrow(weights, given)
    assert inputs.narrow(weights, given) is first
    np.testing.assert_array_equal(weights, kept)
