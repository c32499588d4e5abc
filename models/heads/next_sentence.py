"""Next-sentence prediction: does the second text follow the first (Devlin et al. 2018)."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.engines import Output
from models.heads.head import Head, Indices, Job, softmax
from models.tasks import TASKS
from models.text.listing import read_pair
from models.text.truncation import Overflow, Side


@dataclass(frozen=True, slots=True)
class NextSentenceOptions:
    """Only what to do with pairs that are too long."""

    overflow: Overflow = "error"
    truncation_side: Side | None = None


@dataclass(frozen=True, slots=True)
class NextSentence:
    """`score` is the probability that second follows first."""

    is_next: bool
    score: float


class NextSentenceHead(Head[tuple[str, str], NextSentenceOptions, NextSentence]):
    """Answers pairs (first, second)."""

    task = TASKS["next-sentence"]
    golden_options = NextSentenceOptions()

    def prepare(self, item: tuple[str, str], options: NextSentenceOptions) -> Job:
        """A job for the pair, each text in its own segment."""
        first, second = read_pair(item)
        encoded = self.encoder.encode(
            first, second, overflow=options.overflow, side=options.truncation_side
        )
        return Job(head=self, item=item, options=options, encoded=encoded)

    def compute(self, hidden: Output, jobs: Sequence[Job], starts: Indices) -> None:
        """Both logits of each pair: first that it follows, then that it does not."""
        for job, logits in zip(jobs, self.logits(hidden, jobs, starts), strict=True):
            job.output = logits[0]

    def decode(self, job: Job) -> NextSentence:
        """The probability, and whether it is at least one half."""
        score = float(softmax(job.output)[0])
        return NextSentence(is_next=score >= 0.5, score=score)

    def difference(self, answer: NextSentence, golden: float) -> float:
        """That of the scores."""
        return abs(float(answer.score) - float(golden))
