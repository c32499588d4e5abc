"""What is counted while a bundle's answers are compared with the original's, and what suffices.

Single precision is held to a limit on every number. Narrower ones are held to what users see:
cosines of vectors, best answers.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.bundle.manifest import HeadEntry, Parity

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
}
# Between a text alone and the same text among strangers, whatever the precision.
COMPANY_COSINE = 0.999


@dataclass(slots=True)
class Figures:
    """The figures of one task, answer by answer."""

    entry: HeadEntry
    precision: str
    texts: int = 0
    tokens: int = 0
    largest_difference: float = 0.0
    largest_value: float = 0.0
    worst: int = 0
    vectors: bool = False
    cosines: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    five: list[float] = field(default_factory=list)

    def add(self, place: int, wanted: Floats, found: Floats) -> None:
        """Count an answer: hidden states [T, H] or logits [n, classes] of both."""
        if not wanted.size:
            return
        self._count_difference(place, wanted, found)
        if self.entry.task == "embed":
            one, other = (pool(hidden, self.entry.pooling) for hidden in (wanted, found))
            self.cosines.append(float(one @ other))
        elif self.entry.problem_type != "regression":
            self._count_best(wanted, found)

    def add_vector(self, place: int, wanted: Floats, found: Floats) -> None:
        """Count an answer that is a vector [D]."""
        self.vectors = True
        self._count_difference(place, wanted, found)
        self.cosines.append(float(normalize(wanted) @ normalize(found)))

    def _count_difference(self, place: int, wanted: Floats, found: Floats) -> None:
        difference = float(np.abs(wanted - found).max())
        # NaN compares as false with everything, so it is asked for by name.
        if np.isnan(difference) or difference > self.largest_difference:
            self.largest_difference, self.worst = difference, place
        self.largest_value = max(self.largest_value, float(np.abs(wanted).max()))

    def _count_best(self, wanted: Floats, found: Floats) -> None:
        if self.entry.problem_type == "multi_label_classification":
            self.best += ((wanted > 0) == (found > 0)).ravel().astype(float).tolist()
            return
        if wanted.shape[-1] == 1:
            return
        if self.entry.task == "answer":
            # Of each text the token with the best start, and that with the best end.
            wanted, found = wanted.T, found.T
        self.best += (wanted.argmax(-1) == found.argmax(-1)).astype(float).tolist()
        if self.entry.task == "fill-mask" and wanted.shape[-1] > 5:
            for one, other in zip(_find_five(wanted), _find_five(found), strict=True):
                self.five.append(len(set(one) & set(other)) / 5)

    def conclude(self) -> Parity:
        """The figures as they stand in the manifest."""
        bound = HIDDEN_LIMIT if self.entry.task == "embed" else LOGITS_LIMIT
        agreement = float(np.mean(self.best)) if self.best else None
        masks = self.entry.task == "fill-mask"
        return Parity(
            task=self.entry.task,
            head=self.entry.name,
            precision=self.precision,
            texts=self.texts,
            tokens=self.tokens,
            largest_difference=self.largest_difference,
            largest_value=self.largest_value,
            limit=bound * max(1.0, self.largest_value) if self.precision == "fp32" else None,
            worst_cosine=min(self.cosines) if self.cosines else None,
            mean_cosine=float(np.mean(self.cosines)) if self.cosines else None,
            top1_agreement=agreement if masks else None,
            top5_agreement=float(np.mean(self.five)) if self.five else None,
            label_agreement=None if masks else agreement,
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


def pool_rows(hidden: Floats, pooling: str | None) -> Floats:
    """One vector from hidden states, not normalised."""
    pooled: Floats = {
        "cls": lambda: hidden[0],
        "max": lambda: hidden.max(axis=0),
    }.get(pooling or "mean", lambda: hidden.mean(axis=0))()
    return pooled


def normalize(vector: Floats) -> Floats:
    """The vector with length 1."""
    unit: Floats = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return unit


def _find_five(logits: Floats) -> NDArray[np.int64]:
    return np.argsort(-logits, axis=-1, kind="stable")[:, :5]
