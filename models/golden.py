"""The golden answers of a bundle computed again, to see that this machine answers as it should.

A bundle carries a few dozen inputs a task with the original model's answers. They cost little, run
every kernel, and come out wrong where a kernel does (one that saturates on an old processor, a
broken build): the service computes them as its warm-up.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.bundle.bundle import GOLDEN
from models.errors import AnswersWrong, BundleDamaged, CallerError
from models.heads import (
    AnswerOptions,
    ClassifyOptions,
    EmbedOptions,
    Entity,
    FillMaskOptions,
    Head,
    NextSentenceOptions,
    Span,
    TokenClassifyOptions,
    spread,
)
from models.pipeline import Pipeline, prepare

# Of probabilities and of the parts of vectors of length 1, in fp32, between kinds of processors.
LIMIT = 1e-4
_MALFORMED = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    RecursionError,
    OverflowError,
)
# What the golden answers of tasks with many options were asked with.
GOLDEN_TOKENS = TokenClassifyOptions(ignore_labels=())
GOLDEN_SPANS = AnswerOptions(top_k=5, impossible=True)


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far one task's answers are from the golden ones, and how far they may be."""

    task: str
    head: str | None
    texts: int
    tokens: int
    largest: float
    limit: float


def check_golden(pipeline: Pipeline) -> list[Deviation]:
    """Compute the golden answers again.

    Raises AnswersWrong, or BundleDamaged for a bad file and for graphs that cannot be run.
    """
    deviations = measure_golden(pipeline, read_golden(pipeline))
    for each in deviations:
        # NaN compares as false with everything.
        if not each.largest <= each.limit:
            raise AnswersWrong(
                f"{pipeline.bundle.path} answers otherwise on this machine than where it was "
                f"proven: {each.task} differs from the golden answers by {each.largest:.2e}, more "
                f"than {each.limit:.1e}, in {pipeline.precision}; serve another precision, or "
                "export it on this machine"
            )
    return deviations


def read_golden(pipeline: Pipeline) -> Mapping[str, Any]:
    """The content of golden.json."""
    file = pipeline.bundle.file(GOLDEN)
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BundleDamaged(f"{file} cannot be read ({error}); export the bundle again") from None
    if not isinstance(content, dict):
        raise BundleDamaged(f"{file} is not a JSON object; export the bundle again")
    return content


def measure_golden(pipeline: Pipeline, content: Mapping[str, Any]) -> list[Deviation]:
    """The deviation of each task.

    Raises BundleDamaged where the content is not of its form, or a graph cannot be run.
    """
    try:
        tasks = content.get("tasks", ())
        # A task of a later version has no head here.
        known = {(head.task.name, head.entry.name): head for head in pipeline.heads}
        return [
            _measure(pipeline, head, task)
            for task in tasks
            if (head := known.get((task["task"], task["head"]))) is not None
        ]
    # Whatever it holds in another form than the exporter gives it.
    except (*_MALFORMED, CallerError) as error:
        raise BundleDamaged(
            f"{pipeline.bundle.file(GOLDEN)} is not of its form ({error!r}); "
            "export the bundle again"
        ) from None


def _measure(pipeline: Pipeline, head: Head[Any, Any, Any], task: Mapping[str, Any]) -> Deviation:
    items = [_read_item(case["input"]) for case in task["cases"]]
    jobs = prepare(head, items, head.resolve(_OPTIONS[head.task.name]))
    for batch in task["batches"]:
        together = spread(jobs[place] for place in batch)
        with pipeline.bundle.blamed():
            pipeline.compute(together)
    worst = [
        _compare(head, head.decode(job), case["answer"])
        for job, case in zip(jobs, task["cases"], strict=True)
    ]
    return Deviation(
        task=head.task.name,
        head=head.entry.name,
        texts=len(jobs),
        tokens=sum(job.tokens for job in jobs),
        largest=float(np.max(worst, initial=0.0)),
        limit=float(task.get("limits", {}).get(pipeline.precision, LIMIT)),
    )


_OPTIONS: dict[str, Any] = {
    "embed": EmbedOptions(),
    # More than are compared: a tie may put another token in.
    "fill-mask": FillMaskOptions(top_k=50),
    "next-sentence": NextSentenceOptions(),
    "classify": ClassifyOptions(),
    "token-classify": GOLDEN_TOKENS,
    "answer": GOLDEN_SPANS,
}


def _read_item(item: Any) -> Any:
    return tuple(item) if isinstance(item, list) else item


def _compare(head: Head[Any, Any, Any], answer: Any, golden: Any) -> float:
    """The largest difference of one answer's numbers; that of a token that is not there is 1."""
    match head.task.name:
        case "embed":
            return float(np.abs(answer - np.array(golden, np.float32)).max())
        case "next-sentence":
            return abs(float(answer.score) - float(golden))
        case "fill-mask":
            return _compare_masks(answer, golden)
        case "token-classify":
            return _compare_entities(answer, golden)
        case "answer":
            return _compare_spans(answer, golden)
        case _:
            scores = {label.label: label.score for label in answer}
            labels = head.entry.labels or ()
            pairs = zip(labels, golden, strict=True)
            return float(np.max([abs(scores[label] - score) for label, score in pairs]))


def _compare_masks(answer: Sequence[Any], golden: Sequence[Mapping[str, Any]]) -> float:
    differences = [0.0]
    for mask, wanted in zip(answer, golden, strict=True):
        found = {candidate.token_id: candidate.score for candidate in mask.candidates}
        for token, score in zip(wanted["token_ids"], wanted["scores"], strict=True):
            differences.append(abs(found[token] - score) if token in found else 1.0)
    return float(np.max(differences))


def _compare_entities(answer: Sequence[Entity], golden: Sequence[Mapping[str, Any]]) -> float:
    """Where a tie gave a token another label, the least that the scores of one must differ by."""
    differences = [0.0]
    for entity, wanted in zip(answer, golden, strict=True):
        place = (entity.start, entity.end, entity.word)
        if place != tuple(wanted[key] for key in ("start", "end", "word")):
            return 1.0
        score = wanted["score"]
        if entity.label == wanted["label"]:
            differences.append(abs(entity.score - score))
        else:
            differences.append(score - min(entity.score, 1.0 - entity.score))
    return float(np.max(differences))


def _compare_spans(answer: Sequence[Span], golden: Sequence[Mapping[str, Any]]) -> float:
    """A span that a tie has put out of the list counts as the last that is in it."""
    found = {(span.start, span.end): span.score for span in answer}
    last = min(found.values())
    return float(
        np.max(
            [
                abs(found.get((wanted["start"], wanted["end"]), last) - wanted["score"])
                for wanted in golden
            ]
        )
    )
