"""How each task is proven: a row a task.

Owns which texts a task is asked about, what of an answer is counted, and how its golden answer is
written; the task's head in models/heads reads that again. Knows neither checkpoints nor bundles.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.proof.figures import (
    HIDDEN_LIMIT,
    LOGITS_LIMIT,
    Figures,
    normalize,
    pool_rows,
)
from export.proof.texts import ProofTexts
from export.reading.heads import SourceHead
from models.heads import (
    AnswerOptions,
    ClassifyOptions,
    EmbedOptions,
    FillMaskOptions,
    Head,
    NextSentenceOptions,
    SparseOptions,
    TokenClassifyOptions,
    TokensOptions,
)
from models.heads.head import sigmoid, softmax

# Texts of a task's main kind.
TEXTS = 64
_GOLDEN_CANDIDATES = 5

Floats = NDArray[np.float32]
Item = str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class Reference:
    """What the original model says of one item: its ids, and what is compared of its output.

    `output` are logits [rows, classes] of the rows that the task's head reads, or the hidden states
    [T, H] where it has no weights. `vector` [D] is what the checkpoint's projection makes of these,
    before normalising; of one without, what is pooled behind a prompt. `asked` are the options of
    this item where they are not those of its case, and `ahead` how many tokens its prompt has.
    """

    item: Item
    ids: tuple[int, ...]
    output: Floats
    vector: Floats | None = None
    asked: Any = None
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """How one task is proven.

    `singles`, `pairs` and `masked` are how many texts of each kind it is asked about, `options`
    what the bundle is asked with: cut as the original cuts. `count` adds an answer to the figures,
    wanted and found, `limit` is the largest difference in single precision, and `write_golden`
    gives the original's answer as golden.json has it.

    `whole_pairs`: a pair is one sequence in the proof, whatever the head does with it: `embed`
    takes none, and `answer` reads in several windows what is too long. `golden_pairs`: whether a
    pair can be a golden answer's input.
    """

    task: str
    options: Any
    count: Callable[[Figures, Floats, Floats], None]
    write_golden: Callable[[Head[Any, Any, Any], Reference], Any]
    singles: int = 0
    pairs: int = 0
    masked: int = 0
    limit: float = LOGITS_LIMIT
    whole_pairs: bool = False
    golden_pairs: bool = True

    @property
    def items(self) -> int:
        """How many items it is asked about."""
        return self.singles + self.pairs + self.masked

    def draw(self, texts: ProofTexts) -> list[Item]:
        """The items it is asked about."""
        drawn: list[Item] = []
        if self.masked:
            drawn += texts.masked(self.masked)
        if self.singles:
            drawn += texts.singles(self.singles)
        if self.pairs:
            drawn += texts.pairs(self.pairs)
        return drawn


def _write_vector(head: Head[Any, Any, Any], reference: Reference) -> list[float]:
    vector = reference.vector
    if vector is None:
        vector = pool_rows(reference.output, head.entry.pooling)
    return [_round(value) for value in normalize(vector[: head.entry.default_dimensions])]


def _write_candidates(_: Head[Any, Any, Any], reference: Reference) -> list[dict[str, Any]]:
    logits = reference.output
    best = np.argsort(-logits, axis=-1, kind="stable")[:, :_GOLDEN_CANDIDATES]
    scores = np.take_along_axis(softmax(logits), best, axis=-1)
    return [
        {"token_ids": ids.tolist(), "scores": [_round(score) for score in row]}
        for ids, row in zip(best, scores, strict=True)
    ]


def _write_score(_: Head[Any, Any, Any], reference: Reference) -> float:
    return _round(softmax(reference.output[0])[0])


def _write_scores(head: Head[Any, Any, Any], reference: Reference) -> list[float]:
    """By the head's own function, in the order of its labels."""
    row = reference.output[0]
    match head.entry.function:
        case "none":
            scores = row
        case "sigmoid":
            scores = sigmoid(row)
        case _:
            scores = softmax(row)
    return [_round(score) for score in scores]


def _write_parts(head: Head[Any, Any, Any], reference: Reference) -> list[dict[str, Any]]:
    """What the head reads out of the original's logits: its entities, or its spans."""
    job = head.prepare(reference.item, head.resolve(head.golden_options))
    job.output = reference.output
    return [asdict(part) | {"score": _round(part.score)} for part in head.decode(job)]


def _round(number: Any) -> float:
    return round(float(number), 7)


def _write_sparse(_: Head[Any, Any, Any], reference: Reference) -> dict[str, Any]:
    ids = np.flatnonzero(reference.output[0])
    return {
        "token_ids": ids.tolist(),
        "weights": [_round(weight) for weight in reference.output[0][ids]],
    }


def find_case(head: SourceHead) -> Case:
    """How a head is proven."""
    return CASES[head.task] if head.representation is None else _REPRESENTED[head.representation]


_REPRESENTED: dict[str, Case] = {
    "sparse": Case(
        "embed",
        SparseOptions(overflow="truncate", prompt=""),
        Figures.count_vectors,
        _write_sparse,
        singles=TEXTS,
        limit=HIDDEN_LIMIT,
    ),
    "tokens": Case(
        "embed",
        TokensOptions(role=None, overflow="truncate", prompt=""),
        Figures.count_tokens,
        lambda _, reference: [[_round(part) for part in row] for row in reference.output],
        singles=TEXTS,
        limit=HIDDEN_LIMIT,
    ),
}

CASES: dict[str, Case] = {
    case.task: case
    for case in (
        Case(
            "embed",
            EmbedOptions(overflow="truncate", prompt=""),
            Figures.count_cosine,
            _write_vector,
            singles=TEXTS,
            pairs=TEXTS // 2,
            limit=HIDDEN_LIMIT,
            whole_pairs=True,
            golden_pairs=False,
        ),
        Case(
            "fill-mask",
            FillMaskOptions(overflow="truncate"),
            Figures.count_ranking,
            _write_candidates,
            masked=TEXTS,
        ),
        Case(
            "next-sentence",
            NextSentenceOptions(overflow="truncate"),
            Figures.count_labels,
            _write_score,
            pairs=TEXTS,
        ),
        Case(
            "classify",
            ClassifyOptions(overflow="truncate", prompt=""),
            Figures.count_labels,
            _write_scores,
            singles=TEXTS,
            pairs=TEXTS // 2,
        ),
        Case(
            "token-classify",
            TokenClassifyOptions(overflow="truncate"),
            Figures.count_labels,
            _write_parts,
            singles=TEXTS,
        ),
        Case(
            "answer",
            AnswerOptions(overflow="truncate"),
            Figures.count_ends,
            _write_parts,
            pairs=TEXTS,
            whole_pairs=True,
        ),
    )
}
