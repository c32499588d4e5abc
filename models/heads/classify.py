"""Classification of a text or a pair: labels with scores, best first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.bundle.manifest import Function
from models.engines import Output
from models.errors import InvalidValue
from models.heads.head import PARTS_OF_A_VECTOR, Head, Indices, Job, sigmoid, softmax
from models.tasks import TASKS
from models.text.truncation import Overflow, Side


@dataclass(frozen=True, slots=True)
class ClassifyOptions:
    """`function` turns logits into scores; left out, the one the checkpoint asks for.

    `prompt` names one of the bundle's texts that go before each text, of a pair before the first;
    left out, the one that does by default, where the bundle has one, and empty, none.
    """

    top_k: int | None = None
    function: Function | None = None
    overflow: Overflow = "error"
    prompt: str | None = None
    truncation_side: Side | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """One label with its score."""

    label: str
    score: float


class ClassifyHead(Head[str | tuple[str, str], ClassifyOptions, list[Label]]):
    """Answers a text, or a pair of texts."""

    task = TASKS["classify"]
    golden_options = ClassifyOptions(prompt="")

    def resolve(self, options: ClassifyOptions) -> ClassifyOptions:
        """Fill in the head's own function."""
        if options.top_k is not None and options.top_k < 1:
            raise InvalidValue(f"{options.top_k} is not at least 1", param="top_k")
        return replace(
            options,
            function=options.function or self.entry.function or "softmax",
            prompt=self.choose_prompt(options.prompt),
        )

    def prepare(self, item: str | tuple[str, str], options: ClassifyOptions) -> Job:
        """A job for the text or the pair; without `include_prompt`, for the rows after it."""
        text, pair = (item, None) if isinstance(item, str) else item
        encoded = self.encode_prompted(
            text,
            options.prompt,
            pair,
            overflow=options.overflow,
            side=options.truncation_side,
        )
        rows = self.list_pooled(self.read_prompt(options.prompt), encoded)
        return Job(head=self, item=item, options=options, encoded=encoded, rows=rows)

    def compute(self, hidden: Output, jobs: Sequence[Job], starts: Indices) -> None:
        """The logits of each text, one for each label."""
        for job, logits in zip(jobs, self.logits(hidden, jobs, starts), strict=True):
            job.output = logits[0]

    def weigh(self, job: Job) -> int:
        """By the labels that are told."""
        told = len(self.entry.labels or ())
        return 1 + min(told, job.options.top_k or told) // PARTS_OF_A_VECTOR

    def decode(self, job: Job) -> list[Label]:
        """Labels by falling score; equal scores in the order of the checkpoint."""
        options: ClassifyOptions = job.options
        match options.function:
            case "sigmoid":
                scores = sigmoid(job.output)
            case "none":
                scores = job.output
            case _:
                scores = softmax(job.output)
        labels = self.entry.labels or tuple(str(number) for number in range(len(scores)))
        order = np.argsort(-scores, kind="stable")[: options.top_k]
        return [Label(labels[place], float(scores[place])) for place in order.tolist()]

    def difference(self, answer: list[Label], golden: Sequence[float]) -> float:
        """The largest of the labels' scores, which a golden answer has in the labels' order."""
        scores = {label.label: label.score for label in answer}
        pairs = zip(self.entry.labels or (), golden, strict=True)
        return float(np.max([abs(scores[label] - score) for label, score in pairs]))
