"""The proof made anew, for a bundle that already exists: on another machine, after an upgrade.

Against its source the whole proof is repeated; without it, the bundle's own golden answers are
computed again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.checkpoint import load_checkpoint
from export.errors import ProofFailed, SourceError
from export.proof import ask_original, prove
from export.source import first_line
from models.bundle import GOLDEN
from models.errors import BundleDamaged, CallerError
from models.heads import ClassifyOptions, EmbedOptions, FillMaskOptions, Head
from models.heads import NextSentenceOptions as NextOptions
from models.manifest import Parity
from models.pipeline import Pipeline, prepare

# Of probabilities and of the parts of vectors of length 1, between kinds of CPUs.
GOLDEN_LIMIT = 1e-4
_MALFORMED = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    RecursionError,
    OverflowError,
)


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts of a file, a line each, in place of the proof's own."""

    lines: Sequence[str]

    @classmethod
    def read(cls, file: Path) -> "Texts":
        """The lines of a file that are not empty. Raises SourceError."""
        try:
            lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{file} cannot be read as text: {error}") from None
        found = [line for line in lines if line]
        if len(found) < 2:
            raise SourceError(f"{file} has fewer than two lines of text; give some more")
        return cls(found)


def verify_against(pipeline: Pipeline, source: str, texts: Texts | None = None) -> list[Parity]:
    """Compare a bundle with a checkpoint. Raises ProofFailed where they differ."""
    checkpoint = load_checkpoint(source)
    served = {(head.task.name, head.entry.name) for head in pipeline.heads}
    heads = [head for head in checkpoint.heads if (head.task, head.name) in served]
    missing = served - {(head.task, head.name) for head in heads} - {("embed", None)}
    if missing:
        named = ", ".join(f"{task} {name or ''}".strip() for task, name in sorted(missing, key=str))
        raise ProofFailed(f"{source} has no head for {named}, which the bundle answers")
    answers = ask_original(
        checkpoint,
        heads,
        embed=("embed", None) in served,
        progress=lambda _: None,
        lines=None if texts is None else texts.lines,
    )
    return prove(pipeline, answers, lambda _: None)


def verify_golden(pipeline: Pipeline) -> list[Parity]:
    """Compute a bundle's golden answers again. Raises ProofFailed where they come out otherwise."""
    file = pipeline.bundle.file(GOLDEN)
    try:
        figures = _compute_golden(pipeline, json.loads(file.read_bytes()).get("tasks", ()))
    # Whatever it holds in another form than the exporter gives it.
    except (*_MALFORMED, CallerError) as error:
        raise BundleDamaged(
            f"{file} does not hold golden answers ({type(error).__name__}: {first_line(error)}); "
            "export the bundle again"
        ) from None
    if not figures:
        raise BundleDamaged(f"{file} holds no answers; export the bundle again")
    return figures


def _compute_golden(pipeline: Pipeline, tasks: Any) -> list[Parity]:
    figures = []
    for task in tasks:
        head = pipeline.find_head(task["task"], task["head"])
        items = [_read_item(case["input"]) for case in task["cases"]]
        jobs = prepare(head, items, head.resolve(_OPTIONS[head.task.name]))
        for batch in task["batches"]:
            pipeline.compute([jobs[place] for place in batch])
        worst = 0.0
        for job, case in zip(jobs, task["cases"], strict=True):
            worst = max(worst, _compare(head, head.decode(job), case["answer"]))
        if not worst <= GOLDEN_LIMIT:
            raise ProofFailed(
                f"{head.task.name} differs from the golden answers by {worst:.2e}, more than "
                f"{GOLDEN_LIMIT:.0e}; do not serve this bundle on this machine"
            )
        figures.append(
            Parity(
                task=head.task.name,
                head=head.entry.name,
                precision=pipeline.precision,
                texts=len(jobs),
                tokens=sum(job.tokens for job in jobs),
                largest_difference=worst,
                largest_value=1.0,
                limit=GOLDEN_LIMIT,
            )
        )
    return figures


_OPTIONS: dict[str, Any] = {
    "embed": EmbedOptions(),
    # More than are compared: a tie may put another token in.
    "fill-mask": FillMaskOptions(top_k=50),
    "next-sentence": NextOptions(),
    "classify": ClassifyOptions(),
}


def _read_item(item: Any) -> Any:
    return tuple(item) if isinstance(item, list) else item


def _compare(head: Head[Any, Any, Any], answer: Any, golden: Any) -> float:
    """The largest difference of one answer's numbers; infinite where a token is not there."""
    match head.task.name:
        case "embed":
            return float(np.abs(answer - np.array(golden, np.float32)).max())
        case "next-sentence":
            return abs(float(answer.score) - float(golden))
        case "fill-mask":
            worst = 0.0
            for mask, wanted in zip(answer, golden, strict=True):
                found = {candidate.token_id: candidate.score for candidate in mask.candidates}
                for token, score in zip(wanted["token_ids"], wanted["scores"], strict=True):
                    worst = max(worst, abs(found.get(token, np.inf) - score))
            return worst
        case _:
            scores = {label.label: label.score for label in answer}
            labels = head.entry.labels or ()
            pairs = zip(labels, golden, strict=True)
            return float(max(abs(scores[label] - score) for label, score in pairs))
