"""The figures a model is judged by."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr


def find_accuracy(answers: Sequence[int], gold: Sequence[int]) -> float:
    """The part of the answers that are right."""
    return float(np.mean(np.asarray(answers) == np.asarray(gold)))


def find_micro_f1(answers: npt.NDArray[np.bool_], gold: npt.NDArray[np.bool_]) -> float:
    """F1 over all decisions [N, labels] together: 2 hits / (labels given + labels that hold)."""
    hits = int(np.count_nonzero(answers & gold))
    marked = int(np.count_nonzero(answers)) + int(np.count_nonzero(gold))
    return 2 * hits / max(1, marked)


def find_macro_f1(answers: npt.NDArray[np.bool_], gold: npt.NDArray[np.bool_]) -> float:
    """The mean over labels of each label's F1."""
    each = [find_micro_f1(answers[:, [k]], gold[:, [k]]) for k in range(gold.shape[1])]
    return float(np.mean(each))


def find_rank_correlation(
    scores: npt.NDArray[np.floating], gold: npt.NDArray[np.floating]
) -> float:
    """Spearman's correlation."""
    return float(spearmanr(scores, gold).statistic)


def mark_labels(answers: Sequence[Sequence[int]], labels: int) -> npt.NDArray[np.bool_]:
    """Numbers of labels as a table [N, labels]."""
    table = np.zeros((len(answers), labels), bool)
    for row, numbers in enumerate(answers):
        table[row, list(numbers)] = True
    return table
