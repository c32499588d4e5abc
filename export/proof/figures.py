"""What is counted while a bundle's answers are compared with the original's, and what suffices.

Single precision is held to a limit on every number. Narrower ones are held to what users see:
cosines of vectors, best answers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.bundle.manifest import HeadEntry, Parity, Pooling, split_poolings

HIDDEN_LIMIT = 1e-4
LOGITS_LIMIT = 1e-3

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Threshold:
    """The least cosines and agreements that a precision may have."""

    worst_cosine: float
    mean_cosine: float
    agreement: float


THRESHOLDS = {
    "int8": Threshold(worst_cosine=0.985, mean_cosine=0.997, agreement=0.99),
    "fp16": Threshold(worst_cosine=0.9999, mean_cosine=0.99999, agreement=0.99),
    "bf16": Threshold(worst_cosine=0.9995, mean_cosine=0.9999, agreement=0.99),
}


@dataclass(slots=True)
class Figures:
    """The figures of one head, answer by answer.

    `bound` is how far a number may be off in single precision, of the largest value above 1. Each
    answer is added, and then counted by one of the `count_` methods, which its task's row names.
    """

    entry: HeadEntry
    precision: str
    bound: float
    texts: int = 0
    tokens: int = 0
    largest_difference: float = 0.0
    largest_value: float = 0.0
    worst: int = 0
    vectors: bool = False
    cosines: list[float] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    five: list[float] = field(default_factory=list)

    def add(self, place: int, wanted: Floats, found: Floats) -> None:
        """Take in the difference of an answer: hidden states, logits or a vector, of both."""
        difference = float(np.abs(wanted - found).max())
        # NaN compares as false with everything, so it is asked for by name.
        if np.isnan(difference) or difference > self.largest_difference:
            self.largest_difference, self.worst = difference, place
        self.largest_value = max(self.largest_value, float(np.abs(wanted).max()))

    def add_vector(self, place: int, wanted: Floats, found: Floats) -> None:
        """Take in and count an answer that is a vector [D]."""
        self.vectors = True
        self.add(place, wanted, found)
        self.cosines.append(float(normalize(wanted) @ normalize(found)))

    def count_cosine(self, wanted: Floats, found: Floats) -> None:
        """Count hidden states [T, H] by the cosine of their pooled vectors."""
        one, other = (pool(hidden, self.entry.pooling) for hidden in (wanted, found))
        self.cosines.append(float(one @ other))

    def count_vectors(self, wanted: Floats, found: Floats) -> None:
        """Count vectors [1, D] by their cosine."""
        self.cosines.append(float(normalize(wanted[0]) @ normalize(found[0])))

    def count_tokens(self, wanted: Floats, found: Floats) -> None:
        """Count vectors [tokens, D] by the cosine of their mean."""
        self.cosines.append(float(pool(wanted, "mean") @ pool(found, "mean")))

    def count_labels(self, wanted: Floats, found: Floats) -> None:
        """Count logits [rows, labels] by the best label of each row, or by each label's sign."""
        if self.entry.problem_type == "multi_label_classification":
            self.labels += ((wanted > 0) == (found > 0)).ravel().astype(float).tolist()
        elif self.entry.problem_type != "regression" and wanted.shape[-1] > 1:
            self.labels += _compare_best(wanted, found)

    def count_ranking(self, wanted: Floats, found: Floats) -> None:
        """Count logits [rows, tokens] by the best token of each row, and by its five best."""
        if wanted.shape[-1] > 1:
            self.first += _compare_best(wanted, found)
        if wanted.shape[-1] > 5:
            for one, other in zip(_find_five(wanted), _find_five(found), strict=True):
                self.five.append(len(set(one) & set(other)) / 5)

    def count_ends(self, wanted: Floats, found: Floats) -> None:
        """Count logits [tokens, 2] by the token with the best start, and that with the best end."""
        self.labels += _compare_best(wanted.T, found.T)

    def conclude(self) -> Parity:
        """The figures as they stand in the manifest."""
        return Parity(
            task=self.entry.task,
            head=self.entry.name,
            precision=self.precision,
            texts=self.texts,
            tokens=self.tokens,
            largest_difference=self.largest_difference,
            largest_value=self.largest_value,
            limit=self.bound * max(1.0, self.largest_value) if self.precision == "fp32" else None,
            worst_cosine=min(self.cosines) if self.cosines else None,
            mean_cosine=_average(self.cosines),
            top1_agreement=_average(self.first),
            top5_agreement=_average(self.five),
            label_agreement=_average(self.labels),
        )


def find_fault(parity: Parity) -> str | None:
    """What a task's figures lack, in words; None where they suffice."""
    if parity.limit is not None:
        if parity.largest_difference <= parity.limit:
            return None
        return f"by {parity.largest_difference:.2e}, more than {parity.limit:.2e}"
    if np.isnan(parity.largest_difference):
        return "by numbers that are none"
    threshold = THRESHOLDS[parity.precision]
    held: list[tuple[str, float | None, float]] = [
        ("worst cosine", parity.worst_cosine, threshold.worst_cosine),
        ("mean cosine", parity.mean_cosine, threshold.mean_cosine),
        ("top-1 agreement", parity.top1_agreement, threshold.agreement),
        ("label agreement", parity.label_agreement, threshold.agreement),
    ]
    faults = [
        f"{name} {value:.4f} is below {least:g}"
        for name, value, least in held
        if value is not None and not value >= least
    ]
    return f"in {parity.precision}: {', '.join(faults)}" if faults else None


def pool(hidden: Floats, pooling: str | None) -> Floats:
    """One normalised vector from hidden states, as sentence-transformers makes it."""
    return normalize(pool_rows(hidden, pooling))


def pool_rows(hidden: Floats, pooling: str | None, ahead: int = 0) -> Floats:
    """One vector from hidden states but for the first few, not normalised."""
    hidden = hidden[ahead:]
    weights = np.arange(1.0, len(hidden) + 1) + ahead
    pooled: dict[Pooling, Callable[[], Floats]] = {
        "mean": lambda: hidden.mean(axis=0),
        "cls": lambda: hidden[0],
        "max": lambda: hidden.max(axis=0),
        "mean_sqrt_len_tokens": lambda: hidden.sum(axis=0) / math.sqrt(len(hidden)),
        "weightedmean": lambda: np.average(hidden, axis=0, weights=weights).astype(np.float32),
        "lasttoken": lambda: hidden[-1],
    }
    return np.concatenate([pooled[part]() for part in split_poolings(pooling or "mean")])


def normalize(vector: Floats) -> Floats:
    """The vector with length 1."""
    unit: Floats = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return unit


def _average(numbers: list[float]) -> float | None:
    return float(np.mean(numbers)) if numbers else None


def _compare_best(wanted: Floats, found: Floats) -> list[float]:
    """1 for each row whose best is the same, else 0."""
    same: list[float] = (wanted.argmax(-1) == found.argmax(-1)).astype(float).tolist()
    return same


def _find_five(logits: Floats) -> NDArray[np.int64]:
    return np.argsort(-logits, axis=-1, kind="stable")[:, :5]
