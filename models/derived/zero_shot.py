"""Zero-shot classification: labels of the caller's own, judged by natural language inference.

Yin et al. 2019: a text, and a sentence that says it is about the label, are a pair; how sure the
model is that the one entails the other is the label's score. As transformers' pipeline has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.bundle.manifest import HeadEntry
from models.engines import Output
from models.errors import InputTooLong, InvalidValue
from models.heads.classify import Label
from models.heads.head import Head, Indices, Job, softmax
from models.tasks import Rows, Task
from models.text.encoded import Encoded
from models.text.truncation import Overflow, Side

TEMPLATE = "This example is {}."
MOST_LABELS = 1000
_ENTAILMENT = "entail"
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class ZeroShotOptions:
    """`template` holds {} where a label goes; with `multi_label` each label stands for itself."""

    labels: tuple[str, ...] = ()
    template: str = TEMPLATE
    multi_label: bool = False
    top_k: int | None = None
    overflow: Overflow = "error"
    truncation_side: Side | None = None


def find_entailment(entry: HeadEntry) -> int | None:
    """Which of a head's labels says that a sentence follows; None where it has no such labels."""
    labels = entry.labels or ()
    if len(labels) < 2:
        return None
    if entry.entailment is not None:
        return labels.index(entry.entailment)
    places = [place for place, label in enumerate(labels) if label.lower().startswith(_ENTAILMENT)]
    return places[0] if len(places) == 1 else None


class ZeroShotHead(Head[str, ZeroShotOptions, list[Label]]):
    """Scores labels for a text by a classify head over pairs."""

    task = Task("zero-shot", rows=Rows.FIRST, weights=False)
    golden_options = ZeroShotOptions(("rain",))
    rereads = True

    def resolve(self, options: ZeroShotOptions) -> ZeroShotOptions:
        """Raises InvalidValue for labels that are none, and a template without a place for them."""
        if not options.labels or not all(label.strip() for label in options.labels):
            raise InvalidValue("a label is empty; send at least one, each a word", param="labels")
        if len(options.labels) > MOST_LABELS:
            raise InvalidValue(
                f"{len(options.labels)} labels are more than {MOST_LABELS}", param="labels"
            )
        if len(set(options.labels)) < len(options.labels):
            raise InvalidValue("a label stands there twice; send each once", param="labels")
        if "{}" not in options.template:
            raise InvalidValue(
                f"the template has no {{}}, where a label goes; write it as in {TEMPLATE!r}",
                param="hypothesis_template",
            )
        if options.top_k is not None and options.top_k < 1:
            raise InvalidValue(f"{options.top_k} is not at least 1", param="top_k")
        return options

    def count_readings(self, options: ZeroShotOptions) -> int:
        """Once for each label."""
        return len(options.labels)

    def prepare(self, item: str, options: ZeroShotOptions) -> Job:
        """A job for the first label, which holds those of the others."""
        first, *others = (
            Job(
                head=self,
                item=item,
                options=options,
                encoded=self._encode(item, label, options),
            )
            for label in options.labels
        )
        first.more = tuple(others)
        return first

    def _encode(self, item: str, label: str, options: ZeroShotOptions) -> Encoded:
        """A text with what is said of it; where both are too long together, it says with which."""
        said = options.template.replace("{}", label)
        try:
            return self.encoder.encode(
                item, said, overflow=options.overflow, side=options.truncation_side
            )
        except InputTooLong as error:
            shown = label if len(label) <= _SHOWN else f"{label[:_SHOWN]}..."
            raise InputTooLong(f"with the label {shown!r} {error.message}") from None

    def compute(self, hidden: Output, jobs: Sequence[Job], starts: Indices) -> None:
        """The logits of each pair."""
        for job, logits in zip(jobs, self.logits(hidden, jobs, starts), strict=True):
            job.output = logits[0]

    def decode(self, job: Job) -> list[Label]:
        """The labels by falling score; of equal ones those that were sent first."""
        options: ZeroShotOptions = job.options
        entailment = find_entailment(self.entry)
        assert entailment is not None
        # As transformers finds the label that says that it does not follow.
        other = -1 if entailment == 0 else 0
        logits = np.stack([each.output for each in (job, *job.more)])
        if options.multi_label or len(options.labels) == 1:
            scores = softmax(logits[:, [other, entailment]])[:, 1]
        else:
            scores = softmax(logits[:, entailment])
        order = np.argsort(-scores, kind="stable")[: options.top_k]
        return [Label(options.labels[place], float(scores[place])) for place in order.tolist()]

    def difference(self, answer: list[Label], golden: Any) -> float:
        """The largest of the labels' scores."""
        return float(np.max([abs(each.score - golden[each.label]) for each in answer]))
