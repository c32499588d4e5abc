"""Times are exact to a percent, however many there are and wherever they were counted."""

import random

import numpy as np
import pytest

from loadtest.timing import Histogram, read_server_timing


def test_percentiles_are_exact_to_one_percent() -> None:
    rng = random.Random(0)
    values = [rng.lognormvariate(3, 1.5) for _ in range(5000)]
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        exact = float(np.quantile(values, share, method="inverted_cdf"))
        assert histogram.find_percentile(share) == pytest.approx(exact, rel=0.006)
    assert histogram.mean_ms == pytest.approx(np.mean(values))


def test_merging_is_counting_in_one_place() -> None:
    whole, left, right = Histogram(), Histogram(), Histogram()
    for number in range(1, 200):
        whole.add(number)
        (left if number % 3 else right).add(number)
    left.merge(Histogram.load(right.dump()))
    assert left.counts == whole.counts
    assert left.total_ms == pytest.approx(whole.total_ms)


def test_nothing_counted_is_zero() -> None:
    assert Histogram().find_percentile(0.5) == 0
    assert Histogram().mean_ms == 0


def test_server_timing_is_read_as_the_standard_has_it() -> None:
    header = 'tokenize;dur=0.4, queue;desc="waiting";dur="6.5",cache;desc=hit, infer;dur=x'
    assert read_server_timing(header) == {"tokenize": 0.4, "queue": 6.5}
    assert read_server_timing(None) == {}
