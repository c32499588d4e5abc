"""The figures are those of scikit-learn and scipy."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from training.metrics import (
    find_accuracy,
    find_macro_f1,
    find_micro_f1,
    find_rank_correlation,
    mark_labels,
)


@pytest.mark.parametrize("seed", range(5))
def test_accuracy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    answers, gold = rng.integers(0, 4, (2, 60)).tolist()
    wanted = sklearn.metrics.accuracy_score(gold, answers)
    assert find_accuracy(answers, gold) == pytest.approx(wanted)


@pytest.mark.parametrize("seed", range(5))
def test_f1(seed: int) -> None:
    rng = np.random.default_rng(seed)
    answers, gold = rng.random((2, 50, 6)) < 0.3
    micro = sklearn.metrics.f1_score(gold, answers, average="micro")
    assert find_micro_f1(answers, gold) == pytest.approx(micro)
    macro = sklearn.metrics.f1_score(gold, answers, average="macro")
    assert find_macro_f1(answers, gold) == pytest.approx(macro)
    assert micro != pytest.approx(macro)


def test_f1_of_a_label_that_never_holds_is_zero() -> None:
    gold = np.array([[True, False], [True, False]])
    assert find_macro_f1(gold, gold) == 0.5
    assert find_micro_f1(gold, gold) == 1.0
    assert find_micro_f1(~gold, gold) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 6, 80).astype(float)  # with ties
    scores = gold + rng.normal(0, 2, 80)
    ranks = [scipy.stats.rankdata(side) for side in (scores, gold)]
    wanted = np.corrcoef(ranks)[0, 1]
    assert 0.2 < wanted < 0.95
    assert find_rank_correlation(scores, gold) == pytest.approx(wanted)


def test_only_the_order_counts() -> None:
    gold = np.array([0.0, 1.0, 2.0, 5.0])
    assert find_rank_correlation(np.exp(gold), gold) == pytest.approx(1)
    assert find_rank_correlation(-gold, gold) == pytest.approx(-1)


def test_labels_as_a_table() -> None:
    table = mark_labels([[0], [], [2, 1]], 3)
    assert table.tolist() == [[True, False, False], [False] * 3, [False, True, True]]
